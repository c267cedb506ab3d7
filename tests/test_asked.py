"""The fast forward pass is the hooked one: the same logits, losses, gradients and patterns."""

from dataclasses import replace

import pytest
import torch

from explorer.asked import asked_logits
from explorer.models import new_model
from explorer.tasks import TASKS
from explorer.tasks.addition import Addition
from explorer.tasks.induction import Induction
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
    """Loss and gradients of both ways, relative."""
    found = []
    for logits in (
        batch.asked(model(batch.tokens)),
        asked_logits(model, batch.tokens, batch.positions),
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
    torch.testing.assert_close(asked_logits(model, tokens, positions), expected, rtol=1e-5, atol=1e-5)


@EVERY_PRESET
def test_loss_and_gradients_are_those_of_the_hooked_forward_pass(kind, name):
    """For every task, with finite and infinite data, at every size that a preset has; also once it has learnt a bit."""
    preset = kind.presets[name]
    task = kind(**preset.task)
    model = new_model(task.model_config(**preset.model), seed=1)
    training = replace(preset.training, batch_size=32)
    batch = task.train_stream(training).next().rows(slice(0, 400))
    compare(model, task, batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(5):
        optimiser.zero_grad()
        task.losses(asked_logits(model, batch.tokens, batch.positions), batch).mean().backward()
        optimiser.step()
    compare(model, task, batch)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("n", [3, 60], ids=["fewer queries than there can be", "more"])
def test_every_shape_of_model_is_served(shape, n):
    model = new_model(ADDITION.model_config(**{**WIDTHS, **shape}), seed=0)
    compare(model, ADDITION, ADDITION.sample(n, torch.Generator().manual_seed(0)))


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
def test_hooks_at_patterns_see_the_rows_of_asked_queries(n_layers):
    task = SkipTrigram()
    model = new_model(task.model_config(**{**task.presets["quick"].model, "n_layers": n_layers}), seed=0)
    batch = task.sample(6, torch.Generator().manual_seed(0))
    seen = {}
    for block in range(n_layers):
        name = f"blocks.{block}.attn.hook_pattern"
        _, cache = model.run_with_cache(
            batch.tokens, [name], lambda logits: task.losses(batch.asked(logits), batch).mean()
        )
        hooks = {name: lambda x, at: seen.update({at: x})}
        with model.hooks(forward=hooks, backward={name: lambda x, at: seen.update({f"{at}_grad": x})}):
            task.losses(asked_logits(model, batch.tokens, batch.positions), batch).mean().backward()
        for key in (name, f"{name}_grad"):
            expected = cache[key] if block < n_layers - 1 else cache[key][:, :, -1:]
            torch.testing.assert_close(seen[key], expected, rtol=1e-5, atol=1e-8)


def test_a_hook_elsewhere_is_not_passed_over():
    model = new_model(ADDITION.model_config(**WIDTHS), seed=0)
    batch = ADDITION.sample(4, torch.Generator().manual_seed(0))
    plain = asked_logits(model, batch.tokens, batch.positions)
    with model.hooks(forward={"blocks.0.hook_mlp_out": lambda x, name: torch.zeros_like(x)}):
        ablated = asked_logits(model, batch.tokens, batch.positions)
        torch.testing.assert_close(ablated, batch.asked(model(batch.tokens)))
    assert not torch.allclose(ablated, plain)
    with model.hooks(forward={PATTERN: lambda x, name: torch.full_like(x, 0.1)}):
        replaced = asked_logits(model, batch.tokens, batch.positions)
        torch.testing.assert_close(replaced, batch.asked(model(batch.tokens)), rtol=1e-5, atol=1e-5)
