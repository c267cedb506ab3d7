"""The fast forward pass is the hooked one: the same logits, losses, gradients and patterns."""

from dataclasses import replace

import pytest
import torch

from explorer.model.architectures import new_model
from explorer.model.fast_forward import _by_place, _by_source, _Lookups, _shortcut, _times, logits_at
from explorer.settings import TrainingConfig
from explorer.tasks import TASKS
from explorer.tasks.addition import Addition
from explorer.tasks.induction import Induction
from explorer.tasks.modular_addition import ModularAddition
from explorer.tasks.skip_trigram import PATTERN, SkipTrigram

PRESETS = [(kind, name) for kind in TASKS.values() for name in kind.presets]
EVERY_PRESET = pytest.mark.parametrize(("kind", "name"), PRESETS, ids=lambda of: of if type(of) is str else of.name)
ADDITION = Addition(3)
WIDTHS = {"d_model": 24, "n_heads": 2, "d_head": 12, "d_mlp": 48}
SHAPES = {
    "one block": {},
    "two blocks": {"n_layers": 2},
    "three blocks of attention": {"n_layers": 3, "attn_only": True},
    "norms": {"n_layers": 2, "layer_norm": True},
    "fixed positions": {"positions": "sinusoidal"},
    "no positions": {"positions": "none"},
    "gain": {"n_layers": 2, "residual_gain": 2.0},
    "gelu": {"act_fn": "gelu"},
    "heads narrower than the vocabulary": {"d_head": 2},
}


def compare(model, task, batch, tolerance=1e-5):
    """See that both forward passes have the same loss and gradients, up to a relative tolerance."""
    found = []
    for logits in (
        batch.at_answers(model(batch.tokens)),
        logits_at(model, batch.tokens, batch.positions),
    ):
        loss = task.losses(logits, batch).mean()
        found.append((loss.item(), torch.autograd.grad(loss, list(model.parameters()))))
    (plain, plain_gradients), (fast, fast_gradients) = found
    assert fast == pytest.approx(plain, rel=tolerance)
    for (name, _), expected, got in zip(model.named_parameters(), plain_gradients, fast_gradients, strict=True):
        # A gradient that is nothing but rounding (of W_Q where all keys are alike) has no relative error.
        assert (got - expected).norm() <= tolerance * expected.norm() + 1e-9, name


def assert_close_at(model, tokens, positions):
    expected = model(tokens)[torch.arange(len(tokens))[:, None], positions]
    torch.testing.assert_close(logits_at(model, tokens, positions), expected, rtol=1e-5, atol=1e-5)


@EVERY_PRESET
def test_loss_and_gradients_are_those_of_the_hooked_forward_pass(kind, name):
    """For every task, with finite and infinite data, at every size that a preset has; also after some training."""
    preset = kind.presets[name]
    task = kind(**preset.task)
    model = new_model(task.model_config(**preset.model), seed=1).double()  # wide models sum up too much rounding
    training = replace(preset.training, batch_size=32)
    batch = task.train_stream(training).next().rows(slice(0, 400))
    compare(model, task, batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(5):
        optimiser.zero_grad()
        task.losses(logits_at(model, batch.tokens, batch.positions), batch).mean().backward()
        optimiser.step()
    compare(model, task, batch)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("n", [3, 60], ids=["fewer queries than there can be", "more"])
def test_every_model_configuration_is_supported(shape, n):
    model = new_model(ADDITION.model_config(**{**WIDTHS, **shape}), seed=0)
    compare(model, ADDITION, ADDITION.sample(n, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("shortcut", [_by_source, _by_place])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("asked", ["some", "every"])
def test_shortcuts_give_the_residual_stream_after_attention_and_its_gradients(shortcut, shape, asked):
    """In float64, whether or not it is the cheapest way, with examples shorter than what the model reads."""
    cfg = ADDITION.model_config(**{**WIDTHS, "attn_only": True, "init": "d_head", **shape, "n_layers": 1})
    if cfg.layer_norm and shortcut is _by_source:
        assert _shortcut(new_model(cfg), torch.zeros(1, 3).long(), torch.zeros(1, 1).long()) is not _by_source
        return
    model, rng = new_model(cfg, seed=0).double(), torch.Generator().manual_seed(0)
    tokens = torch.randint(0, cfg.d_vocab, (7, cfg.n_ctx - 2), generator=rng)
    every = torch.arange(tokens.shape[1]).expand_as(tokens)
    positions = every if asked == "every" else torch.randint(0, tokens.shape[1], (7, 3), generator=rng)
    rows, seen = torch.arange(7)[:, None], {}
    name = f"blocks.0.hook_resid_{'post' if cfg.attn_only else 'mid'}"
    with model.hooks(forward={name: lambda x, at: seen.update({at: x})}):
        model(tokens)
    expected = seen[name][rows, positions].flatten(0, 1)
    got = _times(*shortcut(model, tokens, positions))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    weights = dict(model.blocks[0].attn.named_parameters()) | dict(model.embed.named_parameters())
    if cfg.positions == "learned":
        weights |= dict(model.pos_embed.named_parameters())
    at = torch.randn(expected.shape, generator=rng, dtype=torch.float64)
    pairs = (torch.autograd.grad(x, list(weights.values()), at) for x in (got, expected))
    for weight, (fast, plain) in zip(weights, zip(*pairs, strict=True), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-10, msg=weight)


def test_the_shortcut_of_fewest_multiplications_is_used():
    """Few sources: addition. Few places and many rows: modular addition. Neither: induction."""
    expected = {"addition": _by_source, "skip-trigram": _by_source, "modular-addition": _by_place, "induction": None}
    for name, way in expected.items():
        kind = TASKS[name]
        preset = kind.presets["notebook"]
        task = kind(**preset.task)
        batch = task.train_stream(preset.training).next()
        model = new_model(task.model_config(**preset.model))
        n_asked = batch.tokens if model.cfg.n_layers > 1 else batch.positions
        assert _shortcut(model, batch.tokens, n_asked) is way, name


def test_look_ups_have_the_right_gradients():
    """Also where an entry is in a sum twice, and in none."""
    rng = torch.Generator().manual_seed(0)
    table = torch.randn(5, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    entry = torch.tensor([[0, 4, 0], [2, 2, 4]])
    weight = torch.randn(2, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    expected = (table[entry] * weight[..., None]).sum(1)
    torch.testing.assert_close(_Lookups(entry, weight, 5) @ table, expected)
    assert torch.autograd.gradcheck(lambda table, weight: _Lookups(entry, weight, 5) @ table, (table, weight))


@pytest.mark.parametrize(
    ("task", "n_layers", "way"),
    [(ADDITION, 1, _by_source), (ModularAddition(37), 1, _by_place), (Induction(stretch=4, interval=6), 2, None)],
    ids=["multiplied by a table", "looked up in a table", "as they are"],
)
def test_the_mlp_may_be_computed_in_pieces(task, n_layers, way, monkeypatch):
    monkeypatch.setattr("explorer.model.fast_forward.PIECE", 7)
    batch = task.train_stream(TrainingConfig(batch_size=40)).next()
    model = new_model(task.model_config(**{**WIDTHS, "n_layers": n_layers}), seed=0)
    assert _shortcut(model, batch.tokens, batch.positions if n_layers == 1 else batch.tokens) is way
    compare(model, task, batch)


def test_tokens_after_the_last_query_are_ignored():
    model, rng = new_model(ADDITION.model_config(**{**WIDTHS, "n_layers": 2}), seed=0), torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 12, (5, ADDITION.n_ctx), generator=rng)
    positions = torch.tensor([[3, 1]]).repeat(5, 1)
    assert_close_at(model, tokens, positions)
    tokens_after = torch.cat([tokens[:, :4], torch.full((5, 3), 10**6)], 1)  # there is no such token
    torch.testing.assert_close(logits_at(model, tokens_after, positions), logits_at(model, tokens, positions))


def test_the_transpose_of_look_ups_is_right_also_with_many_columns():
    rng, n_columns = torch.Generator().manual_seed(0), 40_000
    column = torch.randint(0, n_columns, (30, 4), generator=rng)
    weight, x = torch.randn(30, 4, generator=rng), torch.randn(30, 3, generator=rng)
    dense = torch.zeros(30, n_columns).scatter_add_(1, column, weight)
    torch.testing.assert_close(_Lookups(column, weight, n_columns).transposed_times(x), dense.T @ x)


def test_positions_may_differ_from_example_to_example():
    task = Induction(stretch=4, interval=6)
    rng = torch.Generator().manual_seed(0)
    for n_layers in (1, 2):
        model = new_model(task.model_config(**{**WIDTHS, "n_layers": n_layers, "d_head": 64}), seed=0)
        batch = task.endless_stream(5, 0).next()
        assert len({tuple(row) for row in batch.positions.tolist()}) > 1
        compare(model, task, batch)
        everywhere = torch.stack([torch.randperm(task.n_ctx, generator=rng) for _ in range(5)])
        assert_close_at(model, batch.tokens, everywhere)
        shuffled = batch.positions[:, torch.randperm(batch.positions.shape[1], generator=rng)]
        assert_close_at(model, batch.tokens, shuffled)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_hooks_at_attention_patterns_get_the_rows_of_the_queries(n_layers):
    task = SkipTrigram()
    model = new_model(task.model_config(**{**task.presets["quick"].model, "n_layers": n_layers}), seed=0)
    batch = task.sample(6, torch.Generator().manual_seed(0))
    seen = {}
    for block in range(n_layers):
        name = f"blocks.{block}.attn.hook_pattern"
        _, cache = model.run_with_cache(
            batch.tokens, [name], lambda logits: task.losses(batch.at_answers(logits), batch).mean()
        )
        hooks = {name: lambda x, at: seen.update({at: x})}
        with model.hooks(forward=hooks, backward={name: lambda x, at: seen.update({f"{at}_grad": x})}):
            task.losses(logits_at(model, batch.tokens, batch.positions), batch).mean().backward()
        for key in (name, f"{name}_grad"):
            expected = cache[key] if block < n_layers - 1 else cache[key][:, :, -1:]
            torch.testing.assert_close(seen[key], expected, rtol=1e-5, atol=1e-8)


def test_a_hook_at_another_hook_point_is_called():
    model = new_model(ADDITION.model_config(**WIDTHS), seed=0)
    batch = ADDITION.sample(4, torch.Generator().manual_seed(0))
    plain = logits_at(model, batch.tokens, batch.positions)
    with model.hooks(forward={"blocks.0.hook_mlp_out": lambda x, name: torch.zeros_like(x)}):
        ablated = logits_at(model, batch.tokens, batch.positions)
        torch.testing.assert_close(ablated, batch.at_answers(model(batch.tokens)))
    assert not torch.allclose(ablated, plain)
    with model.hooks(forward={PATTERN: lambda x, name: torch.full_like(x, 0.1)}):
        replaced = logits_at(model, batch.tokens, batch.positions)
        torch.testing.assert_close(replaced, batch.at_answers(model(batch.tokens)), rtol=1e-5, atol=1e-5)
