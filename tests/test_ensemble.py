"""The stack of snapshots gives what each snapshot gives alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from explorer.model.ensemble import Ensemble
from explorer.model.transformer import ModelConfig, Transformer

CONFIGS = [
    ModelConfig(12, 10, 9, 2, 16, 2, 8, 32),
    ModelConfig(12, 10, 9, 2, 16, 2, 8, attn_only=True, residual_gain=2, init="d_head", positions="sinusoidal"),
    ModelConfig(12, 10, 9, 1, 16, 2, 8, 32, layer_norm=True, act_fn="gelu", positions="none"),
]


@pytest.fixture(params=CONFIGS, ids=["plain", "attention only", "layer norm"])
def models(request) -> list[Transformer]:
    return [Transformer(request.param, seed=seed) for seed in range(5)]


@pytest.fixture
def ensemble(models) -> Ensemble:
    states = [model.state_dict() for model in models]
    return Ensemble(models[0].cfg, range(5), {name: torch.stack([s[name] for s in states]) for name in states[0]})


def loss(logits: torch.Tensor) -> torch.Tensor:
    return logits.logsumexp(-1).mean((-2, -1))


@pytest.mark.parametrize("budget", [1, 10**9], ids=["one by one", "at once"])
def test_every_activation_and_gradient_is_that_of_the_snapshot_alone(models, ensemble, tokens, budget):
    names = models[0].hook_names
    logits, cache = ensemble.run(tokens, names, loss, budget)
    for i, model in enumerate(models):
        alone_logits, alone = model.run_with_cache(tokens, names, loss)
        torch.testing.assert_close(logits[i], alone_logits, rtol=1e-4, atol=1e-5)
        assert alone.keys() == cache.keys()
        for name in alone:
            torch.testing.assert_close(cache[name][i], alone[name], rtol=1e-4, atol=1e-5, msg=name)


def test_each_snapshot_may_read_tokens_of_its_own(models, ensemble, tokens):
    own = torch.stack([(tokens + i) % 12 for i in range(5)])
    logits, _ = ensemble.run(own, budget=1)
    for i, model in enumerate(models):
        torch.testing.assert_close(logits[i], model(own[i]), rtol=1e-4, atol=1e-5)


def test_only_what_was_asked_for_comes_back(ensemble, tokens):
    _, cache = ensemble.run(tokens, ["blocks.0.attn.hook_pattern"])
    assert list(cache) == ["blocks.0.attn.hook_pattern"]


def test_a_hook_reaches_every_snapshot(ensemble, tokens):
    model = ensemble.model()
    with model.hooks(forward={"blocks.0.hook_resid_post": lambda x, name: torch.zeros_like(x)}):
        hooked = model(tokens)
    assert hooked.shape[0] == 5
    assert not torch.allclose(hooked, ensemble.run(tokens)[0])
    torch.testing.assert_close(ensemble.run(tokens)[0], ensemble.model()(tokens))


@pytest.mark.parametrize("budget", [1, 10**9], ids=["one by one", "at once"])
def test_each_snapshot_may_have_hooks_of_its_own(models, ensemble, tokens, budget):
    place, factors = "blocks.0.hook_resid_post", torch.arange(5.0)

    def hooks(snapshots):
        return {place: lambda x, name: x * factors[snapshots, None, None, None]}

    logits, cache = ensemble.run(tokens, [place], budget=budget, hooks=hooks)
    for i, model in enumerate(models):
        with model.hooks(forward={place: lambda x, name, i=i: x * factors[i]}):
            alone, seen = model.run_with_cache(tokens, [place])
        torch.testing.assert_close(logits[i], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(cache[place][i], seen[place], rtol=1e-4, atol=1e-5)


def test_models_share_the_memory_of_the_stack(ensemble):
    model = ensemble.model(slice(1, 3))
    assert model.embed.W_E.data_ptr() == ensemble.weights["embed.W_E"][1].data_ptr()
    assert not model.embed.W_E.requires_grad


def test_a_selection_keeps_steps_and_weights_together(ensemble, tokens):
    some = ensemble.select(slice(1, None, 2))
    assert some.steps == (1, 3)
    torch.testing.assert_close(some.run(tokens)[0], ensemble.run(tokens)[0][1::2])


def cut(ensemble: Ensemble, start: int, end: int) -> Ensemble:
    """Some snapshots, in memory of their own."""
    weights = {name: weight[start:end].clone() for name, weight in ensemble.weights.items()}
    return Ensemble(ensemble.cfg, ensemble.steps[start:end], weights)


def addresses(ensemble: Ensemble) -> list[int]:
    return [weight.data_ptr() for weight in ensemble.weights.values()]


def test_an_ensemble_that_grows_copies_nothing_while_there_is_room(ensemble, tokens):
    two = cut(ensemble, 0, 1).followed_by(cut(ensemble, 1, 2))  # with room for two more
    three = two.followed_by(cut(ensemble, 2, 3))
    four = three.followed_by(cut(ensemble, 3, 4))
    assert addresses(two) == addresses(three) == addresses(four)
    five = four.followed_by(cut(ensemble, 4, 5))
    assert set(addresses(five)).isdisjoint(addresses(four))
    for n, grown in enumerate((two, three, four, five), 2):
        assert grown.steps == ensemble.steps[:n]
        assert all(torch.equal(weight, ensemble.weights[name][:n]) for name, weight in grown.weights.items())
        assert torch.equal(grown.run(tokens)[0], cut(ensemble, 0, n).run(tokens)[0])


def test_an_ensemble_that_grows_two_ways_keeps_them_apart(ensemble):
    two = cut(ensemble, 0, 1).followed_by(cut(ensemble, 1, 2))
    third, fourth = (two.followed_by(cut(ensemble, i, i + 1)) for i in (2, 3))
    for grown, last in ((third, 2), (fourth, 3)):
        assert grown.steps == (0, 1, last)
        expected = torch.tensor([0, 1, last])
        assert all(torch.equal(weight, ensemble.weights[name][expected]) for name, weight in grown.weights.items())


def test_an_ensemble_may_grow_in_several_threads(ensemble):
    two, last = cut(ensemble, 0, 1).followed_by(cut(ensemble, 1, 2)), cut(ensemble, 2, 3)
    with ThreadPoolExecutor(8) as threads:
        grown = list(threads.map(lambda _: two.followed_by(last), range(40)))
    for one in grown:
        assert all(torch.equal(weight, ensemble.weights[name][:3]) for name, weight in one.weights.items())


def test_the_heads_of_an_ensemble_that_grew_are_one_matrix(ensemble):
    grown = cut(ensemble, 0, 2).followed_by(cut(ensemble, 2, 5))
    for name, weight in grown.weights.items():
        in_memory = weight.transpose(1, 2) if name.endswith(("W_Q", "W_K", "W_V")) else weight
        assert in_memory.is_contiguous(), name


def test_an_ensemble_says_what_memory_it_takes(small):
    stack = small.ensemble()
    assert stack.nbytes == small.info().stack_bytes(5) == sum(weight.nbytes for weight in stack.weights.values())
    grown = cut(stack, 0, 3).followed_by(cut(stack, 3, 5))
    assert grown.nbytes == 2 * stack.nbytes
    assert stack.select(slice(1, 2)).nbytes == stack.nbytes


def test_logits_at_some_positions_are_those_of_a_pass(ensemble):
    tokens = torch.randint(0, 12, (6, 9), generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([[2, 5, 8], [0, 1, 2], [8, 7, 6], [3, 3, 4], [1, 4, 7], [0, 5, 6]])
    logits, _ = ensemble.run(tokens)
    expected = logits[:, torch.arange(6)[:, None], positions]
    torch.testing.assert_close(ensemble.logits_at(tokens, positions), expected, rtol=1e-4, atol=1e-5)
