"""The model: golden first losses, hooks, cache, gradients."""

import copy
import math
import random
import threading

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from explorer.errors import UserError
from explorer.model.architectures import model_from_weights, new_model, weight_shapes
from explorer.model.hooks import DIRECTIONS, hook_axes
from explorer.model.transformer import ModelConfig, Transformer
from explorer.tasks.addition import Addition

CONFIGS = {
    "plain": ModelConfig(d_vocab=12, d_vocab_out=10, n_ctx=9, n_layers=2, d_model=16, n_heads=2, d_head=8, d_mlp=32),
    "attention only": ModelConfig(12, 10, 9, 2, 16, 2, 8, attn_only=True, residual_gain=2, init="d_head"),
    "layer norm, gelu": ModelConfig(12, 10, 9, 1, 16, 2, 8, 32, act_fn="gelu", layer_norm=True),
    "sinusoidal": ModelConfig(12, 10, 9, 1, 16, 2, 8, 32, positions="sinusoidal"),
    "no positions": ModelConfig(12, 10, 9, 1, 16, 2, 8, 32, positions="none"),
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def model(request) -> Transformer:
    return Transformer(request.param, seed=0)


@pytest.fixture
def plain() -> Transformer:
    return Transformer(CONFIGS["plain"], seed=0)


def test_addition_starts_at_its_golden_loss():
    task = Addition(5)
    model = Transformer(task.model_config(d_model=512, n_heads=4, d_head=128, d_mlp=2048), seed=129000)
    batch = task.sample(64, torch.Generator().manual_seed(129000))
    loss = task.losses(batch.at_answers(model(batch.tokens)), batch).mean().item()
    assert loss == pytest.approx(2.5933517134842354, rel=1e-6)


def test_skip_trigrams_start_at_their_golden_loss():
    model = Transformer(ModelConfig(22, 10, 42, 1, 32, 1, 8, attn_only=True), seed=6798)
    rng = torch.Generator().manual_seed(6798)
    tokens = torch.zeros(256, 42, dtype=torch.int64)
    tokens[:, 1:41] = torch.randint(2, 12, (256, 40), generator=rng)
    tokens[:, 41] = 1
    trigger = torch.randint(0, 10, (256,), generator=rng)
    tokens[torch.arange(256), torch.randint(1, 41, (256,), generator=rng)] = 12 + trigger
    loss = cross_entropy(model(tokens)[:, -1].double(), trigger).item()
    assert loss == pytest.approx(2.3461269241836282, rel=1e-6)


def test_induction_starts_at_its_golden_loss():
    """Gain 2, flat W_O and the d_head scale. The logged figure is 85/84 of the mean over masked positions."""
    cfg = ModelConfig(128, 128, 85, 2, 48, 4, 12, attn_only=True, residual_gain=2, init="d_head")
    model, rng = Transformer(cfg, seed=123), np.random.RandomState(123)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        tokens, mask = rng.randint(1, 128, (128, 85)), np.zeros((128, 85), dtype=bool)
        tokens[:, 0] = 0
        starts = [rng.randint(1 + 28 * i, 1 + 28 * (i + 1) - 15, (128,)) for i in range(3)]
        for row in range(128):
            source = starts[0][row]
            for copied in (starts[1][row], starts[2][row]):
                tokens[row, copied : copied + 16] = tokens[row, source : source + 16]
                mask[row, copied : copied + 15] = True
        return torch.tensor(tokens), torch.tensor(mask)

    first, _ = batch()
    assert first[0, :12].tolist() == [0, 110, 127, 67, 93, 99, 103, 18, 84, 107, 124, 58]
    tokens, mask = batch()  # the logged run looked at one batch before it began
    losses = cross_entropy(model(tokens)[:, :-1].double().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    loss = losses.view(128, 84)[mask[:, :-1]].mean().item()
    assert loss * 85 / 84 == pytest.approx(5.070853039892095, rel=1e-6)


def test_modular_addition_starts_at_its_first_losses():
    model = Transformer(ModelConfig(114, 113, 3, 1, 128, 4, 32, 512), seed=0)
    pairs = [(x, y, 113) for x in range(113) for y in range(113)]
    random.Random(0).shuffle(pairs)
    tokens = torch.tensor(pairs)
    losses = cross_entropy(model(tokens)[:, -1].double(), (tokens[:, 0] + tokens[:, 1]) % 113, reduction="none")
    n_train = int(0.3 * len(pairs))
    assert losses[:n_train].mean().item() == pytest.approx(4.75599139, rel=1e-6)
    assert losses[n_train:].mean().item() == pytest.approx(4.76419632, rel=1e-6)


def test_sinusoidal_positions_are_sines_and_cosines():
    model = Transformer(CONFIGS["sinusoidal"], seed=0)
    waves = model.pos_embed.W_pos * math.sqrt(16)
    assert waves[0].tolist() == [1, 0] * 8
    assert waves[3, 4].item() == pytest.approx(math.cos(3 / 10_000 ** (2 / 16)))
    assert waves[3, 5].item() == pytest.approx(math.sin(3 / 10_000 ** (2 / 16)))
    assert "pos_embed.W_pos" in model.state_dict()
    assert "pos_embed.W_pos" not in dict(model.named_parameters())


def test_layer_norm_uses_the_unbiased_standard_deviation():
    model = Transformer(CONFIGS["layer norm, gelu"], seed=0)
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    expected = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-4)
    torch.testing.assert_close(model.blocks[0].ln1(x), expected)


def test_weights_have_the_names_and_layouts_of_transformer_lens(plain):
    shapes = weight_shapes(plain.cfg)
    assert shapes["embed.W_E"] == (12, 16)
    assert shapes["pos_embed.W_pos"] == (9, 16)
    assert shapes["blocks.1.attn.W_Q"] == (2, 16, 8)
    assert shapes["blocks.1.attn.W_O"] == (2, 8, 16)
    assert shapes["blocks.1.mlp.W_in"] == (16, 32)
    assert shapes["unembed.W_U"] == (16, 10)


def test_residual_stream_adds_up(model, tokens):
    _, cache = model.run_with_cache(tokens)
    gain = model.cfg.residual_gain
    stream = cache["hook_embed"] + cache.get("hook_pos_embed", 0)
    for layer in range(model.cfg.n_layers):
        block = f"blocks.{layer}"
        torch.testing.assert_close(cache[f"{block}.hook_resid_pre"], stream)
        stream = gain * stream + cache[f"{block}.hook_attn_out"]
        if not model.cfg.attn_only:
            torch.testing.assert_close(cache[f"{block}.hook_resid_mid"], stream)
            stream = stream + cache[f"{block}.hook_mlp_out"]
        torch.testing.assert_close(cache[f"{block}.hook_resid_post"], stream)


def test_activations_are_what_their_names_say(model, tokens):
    _, cache = model.run_with_cache(tokens)
    assert set(cache) == set(model.hook_names)
    for layer in range(model.cfg.n_layers):
        attn = f"blocks.{layer}.attn"
        pattern = cache[f"{attn}.hook_pattern"]
        assert pattern.shape == (5, 2, 9, 9)
        torch.testing.assert_close(pattern.sum(-1), torch.ones(5, 2, 9))
        assert (pattern.triu(1) == 0).all()
        torch.testing.assert_close(pattern, cache[f"{attn}.hook_attn_scores"].softmax(-1))
        torch.testing.assert_close(cache[f"{attn}.hook_result"].sum(2), cache[f"blocks.{layer}.hook_attn_out"])


def test_no_activation_depends_on_later_tokens(model, tokens):
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 12
    torch.testing.assert_close(model(tokens)[:, :6], model(changed)[:, :6])


def test_axes_name_every_axis(model, tokens):
    sizes = {"pos": 9, "query": 9, "key": 9, "head": 2, "d_head": 8, "d_model": 16, "d_mlp": 32, "one": 1}
    _, cache = model.run_with_cache(tokens)
    for name, activation in cache.items():
        assert tuple(activation.shape[1:]) == tuple(sizes[axis] for axis in hook_axes(name)), name


def test_result_hook_does_not_change_the_output(plain, tokens):
    """With a hook there, the output is computed by another product."""
    with plain.hooks(forward={"blocks.0.attn.hook_result": lambda x, name: None}):
        torch.testing.assert_close(plain(tokens), plain(tokens.clone()))
        with_results = plain(tokens)
    torch.testing.assert_close(with_results, plain(tokens))


def test_forward_hook_replaces_the_activation(plain, tokens):
    with plain.hooks(forward={"blocks.0.hook_attn_out": lambda x, name: torch.zeros_like(x)}):
        _, cache = plain.run_with_cache(tokens)
    assert (cache["blocks.0.hook_attn_out"] == 0).all()
    torch.testing.assert_close(cache["blocks.0.hook_resid_mid"], cache["blocks.0.hook_resid_pre"])


def test_backward_hook_replaces_the_gradient(plain, tokens):
    with plain.hooks(backward={"blocks.1.hook_resid_pre": lambda grad, name: torch.zeros_like(grad)}):
        plain(tokens).sum().backward()
    assert (plain.embed.W_E.grad == 0).all()
    assert (plain.unembed.W_U.grad != 0).any()


def test_backward_hooks_on_one_tensor_run_in_the_order_of_the_backward_pass(plain, tokens):
    """resid_post of block 0 and resid_pre of block 1 are one tensor; the gradient reaches the later point first."""
    seen = []
    names = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_pre")
    with plain.hooks(backward={name: lambda grad, name: seen.append(name) for name in names}):
        plain(tokens).sum().backward()
    assert seen == list(reversed(names))


def test_hooks_are_removed_one_by_one_and_all_at_once(plain, tokens):
    calls = []
    first = plain.add_hook("hook_embed", lambda x, name: calls.append("first"))
    plain.add_hook("hook_embed", lambda x, name: calls.append("second"))
    plain(tokens)
    first.remove()
    first.remove()
    plain(tokens)
    plain.remove_hooks()
    plain(tokens)
    assert calls == ["first", "second", "second"]


SITES = [(name, direction) for name in ("hook_embed", "blocks.0.hook_resid_post") for direction in DIRECTIONS]


@pytest.mark.parametrize("direction", [None, *DIRECTIONS])
@pytest.mark.parametrize("name", [None, "hook_embed"])
def test_only_hooks_at_the_named_point_and_of_the_named_direction_are_removed(plain, tokens, name, direction):
    calls = []
    for site in SITES:
        plain.add_hook(site[0], lambda x, _, site=site: calls.append(site), site[1])
    plain.remove_hooks(name, direction)
    plain(tokens).sum().backward()
    kept = [site for site in SITES if name not in (None, site[0]) or direction not in (None, site[1])]
    assert sorted(calls) == sorted(kept)
    assert set(plain.listening) == {point for point, _ in kept}
    plain.remove_hooks()
    assert plain.listening == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "hook_embedd"}, "no hook point 'hook_embedd' in this model; did you mean 'hook_embed'"),
        ({"direction": "sideways"}, "'forward' or 'backward', not 'sideways'"),
        ({"name": "hook_embed", "direction": ""}, "'forward' or 'backward', not ''"),
    ],
)
def test_hooks_at_an_unknown_place_are_not_removed(plain, arguments, message, unchecked):
    plain.add_hook("hook_embed", lambda x, name: None)
    with pytest.raises(UserError, match=message):
        plain.remove_hooks(**arguments)
    assert plain.listening == ("hook_embed",)
    plain.remove_hooks("hook_embed", "backward")
    assert plain.listening == ("hook_embed",)


def test_removing_hooks_leaves_those_of_other_threads(plain, tokens):
    calls = []

    def run_with_a_hook():
        plain.add_hook("hook_embed", lambda x, name: calls.append(name))
        added.wait()  # until this hook is there, and
        removed.wait()  # until the main thread has removed all hooks that it knows of
        plain(tokens)

    added, removed = threading.Barrier(2), threading.Barrier(2)
    thread = threading.Thread(target=run_with_a_hook)
    thread.start()
    added.wait()
    plain.remove_hooks()
    plain.remove_hooks("hook_embed", "forward")
    removed.wait()
    thread.join()
    assert calls == ["hook_embed"]


def test_hooks_are_gone_after_an_error(plain, tokens):
    def fail(x, name):
        raise RuntimeError("from the hook")

    with pytest.raises(RuntimeError, match="from the hook"), plain.hooks(forward={"hook_embed": fail}):
        plain(tokens)
    assert plain(tokens).shape == (5, 9, 10)


def test_a_wrong_name_among_right_ones_leaves_no_hook_behind(plain, tokens):
    expected = plain(tokens)
    with pytest.raises(UserError), plain.hooks(forward={"hook_embed": lambda x, name: x * 0, "nope": print}):
        pass
    assert torch.equal(plain(tokens), expected)


def test_a_hook_may_remove_itself(plain, tokens):
    calls = []
    handles = []
    handles.append(plain.add_hook("hook_embed", lambda x, name: handles[0].remove()))
    plain.add_hook("hook_embed", lambda x, name: calls.append(name))
    plain(tokens)
    plain.remove_hooks()
    assert calls == ["hook_embed"]


HOOKED = {**CONFIGS, "table": ModelConfig(12, 10, 9, n_heads=1, architecture="table")}


@pytest.mark.parametrize("stacked", [False, True], ids=["one model", "a stack"])
@pytest.mark.parametrize("cfg", HOOKED.values(), ids=HOOKED)
def test_an_in_place_hook_does_not_change_the_weights(cfg, stacked, tokens):
    one = new_model(cfg, seed=0).state_dict()
    weights = {name: torch.stack([weight, weight + 1]) if stacked else weight for name, weight in one.items()}
    model = model_from_weights(cfg, {name: weight.clone() for name, weight in weights.items()})
    for name in model.hook_names:
        with model.hooks(forward={name: lambda x, name: x.fill_(0)}):
            model(tokens)
        after = model.state_dict()
        assert all(torch.equal(after[weight], weights[weight]) for weight in weights), name


def test_positions_have_the_batch_axis_of_the_tokens(model, tokens):
    if model.cfg.positions == "none":
        return
    _, cache = model.run_with_cache(tokens, loss=lambda logits: logits.square().sum())
    assert cache["hook_pos_embed"].shape == cache["hook_embed"].shape == cache["hook_pos_embed_grad"].shape
    assert torch.equal(cache["hook_pos_embed_grad"], cache["hook_embed_grad"])


def test_backward_hooks_work_on_weights_that_require_no_gradient(plain, tokens):
    """In float64, since the two backward passes round differently."""
    plain = plain.double()
    frozen = Transformer.from_weights(plain.cfg, plain.state_dict())
    seen = {}
    with frozen.hooks(backward={"blocks.0.hook_resid_pre": lambda grad, name: seen.update({name: grad})}):
        frozen(tokens).square().sum().backward()
    _, cache = plain.run_with_cache(tokens, loss=lambda logits: logits.square().sum())
    torch.testing.assert_close(seen["blocks.0.hook_resid_pre"], cache["blocks.0.hook_resid_pre_grad"])


def test_hooks_of_one_thread_do_not_reach_another(plain, tokens):
    expected = plain(tokens)
    other = {}
    with plain.hooks(forward={"hook_embed": lambda x, name: torch.zeros_like(x)}):
        thread = threading.Thread(target=lambda: other.update(logits=plain(tokens)))
        thread.start()
        thread.join()
        assert not torch.equal(plain(tokens), expected)
    assert torch.equal(other["logits"], expected)


def test_a_copy_of_a_model_has_no_hooks(plain, tokens):
    with plain.hooks(forward={"hook_embed": lambda x, name: torch.zeros_like(x)}):
        clone = copy.deepcopy(plain)
        assert not torch.equal(clone(tokens), plain(tokens))
    assert torch.equal(clone(tokens), plain(tokens))


def test_gradients_in_the_cache_are_those_of_autograd(model, tokens):
    """Moving one number of an activation by a little moves the loss by its gradient."""
    model.double()

    def loss(logits):
        return logits[:, -1].logsumexp(-1).mean()

    logits, cache = model.run_with_cache(tokens, loss=loss)
    for name in model.hook_names:
        if name.endswith("hook_attn_scores"):
            continue  # minus infinity in the future
        place = tuple(0 if axis != "pos" else 3 for axis in ("batch", *hook_axes(name)))

        def nudge(x, name, place=place):
            x = x.clone()
            x[place] += 1e-6
            return x

        with model.hooks(forward={name: nudge}):
            moved = (loss(model(tokens)) - loss(logits)).item() / 1e-6
        assert moved == pytest.approx(cache[f"{name}_grad"][place].item(), rel=1e-3, abs=1e-8), name


def test_run_with_cache_does_not_change_the_grad_of_weights(plain, tokens):
    plain.run_with_cache(tokens, loss=lambda logits: logits.sum())
    assert all(weight.grad is None for weight in plain.parameters())


def test_gradients_in_the_cache_need_no_weights_that_require_them(plain, tokens):
    frozen = Transformer.from_weights(plain.cfg, plain.state_dict())
    _, expected = plain.run_with_cache(tokens, loss=lambda logits: logits.square().sum())
    _, found = frozen.run_with_cache(tokens, loss=lambda logits: logits.square().sum())
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"act_fn": "tanh"}, "act_fn is 'tanh'"),
        ({"n_layers": 0}, "n_layers is 0"),
        ({"d_model": 15, "positions": "sinusoidal"}, "even d_model"),
        ({"residual_gain": math.inf}, "between -100 and 100"),
    ],
)
def test_impossible_shapes_are_refused(change, said):
    with pytest.raises(UserError, match=said):
        ModelConfig(**{"d_vocab": 12, "d_vocab_out": 10, "n_ctx": 9, **change})


@pytest.mark.usefixtures("unchecked")
def test_wrong_names_are_refused_with_the_nearest(plain, tokens):
    with pytest.raises(UserError, match=r"did you mean 'blocks.0.attn.hook_pattern'"):
        plain.run_with_cache(tokens, ["blocks.0.attn.hook_patern"])
    with pytest.raises(UserError, match="not 'sideways'"):
        plain.add_hook("hook_embed", lambda x, name: None, "sideways")


def test_too_long_an_input_is_refused(plain):
    with pytest.raises(UserError, match="at most 9"):
        plain(torch.zeros(1, 10, dtype=torch.int64))


def test_weights_that_do_not_fit_are_refused(plain):
    weights = plain.state_dict()
    foreign = dict(weights, extra=torch.zeros(1))
    del foreign["embed.W_E"]
    with pytest.raises(UserError, match=r"missing: 'embed.W_E'; unexpected: 'extra'"):
        Transformer.from_weights(plain.cfg, foreign)
    with pytest.raises(UserError, match=r"embed.W_E has shape \(3, 16\)"):
        Transformer.from_weights(plain.cfg, {**weights, "embed.W_E": torch.zeros(3, 16)})
    with pytest.raises(UserError, match=r"embed.W_E holds torch.int64"):
        Transformer.from_weights(plain.cfg, {**weights, "embed.W_E": weights["embed.W_E"].long()})
    with pytest.raises(UserError, match="same number of snapshots"):
        Transformer.from_weights(plain.cfg, {**weights, "embed.W_E": torch.zeros(3, 12, 16)})


def test_weight_shapes_cannot_be_changed(plain):
    shapes = weight_shapes(plain.cfg)
    with pytest.raises(TypeError):
        shapes["embed.W_E"] = (1, 1)
    assert weight_shapes(plain.cfg) == {name: tuple(weight.shape) for name, weight in plain.state_dict().items()}
