"""The stack of snapshots gives what each snapshot gives alone."""

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
