"""Projections of activations, on points whose principal components are known and on activations read one by one."""

import math

import pytest
import torch

from explorer.analysis.projections import Direction, coordinates, points_at, principal_directions, unit_direction
from explorer.model.transformer import ModelConfig
from tests.conftest import random_ensemble

CFG = ModelConfig(12, 10, 9, 2, 16, 2, 8, 32)


def losses(logits: torch.Tensor) -> torch.Tensor:
    """A loss of each example, (snapshot batch)."""
    return logits.square().mean((-2, -1))


def test_components_of_points_on_two_axes():
    """Three times as far along (0.6, 0, 0.8) as along (0, -1, 0), around (1, 2, 3)."""
    across, up, mean = torch.tensor([0.6, 0.0, 0.8]), torch.tensor([0.0, -1.0, 0.0]), torch.tensor([1.0, 2.0, 3.0])
    points = mean + torch.stack([3 * across, -3 * across, up, -up])
    first, second, third = principal_directions(points, 3)
    torch.testing.assert_close(first.weights, across)
    torch.testing.assert_close(second.weights, -up)  # the largest weight is positive
    assert [one.explained for one in (first, second, third)] == pytest.approx([0.9, 0.1, 0], abs=1e-6)
    along = points @ first.weights - first.origin
    torch.testing.assert_close(along, torch.tensor([3.0, -3.0, 0.0, 0.0]), atol=1e-5, rtol=0)


def test_equal_points_have_components_that_explain_nothing():
    found = principal_directions(torch.ones(2, 5), 3)
    assert len(found) == 3
    assert [one.explained for one in found] == [0, 0, 0]
    for one in found:
        assert torch.ones(5) @ one.weights - one.origin == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_mid", "blocks.1.attn.hook_v", "blocks.1.attn.hook_pattern"])
def test_coordinates_along_units_are_the_activations(tokens, hook, gradient):
    ensemble, heads, positions = random_ensemble(CFG), [1], [5, 2]
    found, measured, directions = coordinates(
        ensemble,
        tokens,
        hook,
        heads,
        positions,
        lambda last: [unit_direction(last.shape[-1], unit) for unit in (2, 0)],
        losses,
        gradient,
    )
    logits, cache = ensemble.run(tokens, [hook], losses if gradient else None)
    values = cache[f"{hook}_grad" if gradient else hook]
    if hook.endswith("pattern"):
        expected = values[:, :, 1, positions][..., [2, 0]]
        assert found.shape == (3, 1, 10, 2)
    else:
        expected = (values[:, :, :, 1] if hook.endswith("v") else values)[:, :, positions][..., [2, 0]]
    torch.testing.assert_close(found[:, 0], expected.flatten(1, 2), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(measured, losses(logits).double(), rtol=1e-4, atol=1e-6)
    assert len(directions) == 1


def test_components_are_those_of_the_last_snapshot_in_every_pass(tokens, monkeypatch):
    """Each head has components of its own, and passes of one snapshot give the same."""
    ensemble, hook = random_ensemble(CFG), "blocks.0.attn.hook_z"

    def components(last):
        return principal_directions(last, 2)

    whole, _, directions = coordinates(ensemble, tokens, hook, [0, 1], range(9), components, losses)
    _, cache = ensemble.run(tokens, [hook])
    points = points_at(cache[hook], hook, [0, 1], range(9))  # (snapshot head point unit)
    for head, of_head in enumerate(directions):
        centred = points[-1, head] - points[-1, head].mean(0)
        share = whole[-1, head].square().sum(0) / centred.square().sum()
        assert share.tolist() == pytest.approx([one.explained for one in of_head], rel=1e-3)
        for d, one in enumerate(of_head):
            torch.testing.assert_close(whole[0, head, :, d], points[0, head] @ one.weights - one.origin)
    monkeypatch.setattr("explorer.model.ensemble.activation_bytes", lambda cfg, n_pos: 2**60)
    one_by_one, _, _ = coordinates(ensemble, tokens, hook, [0, 1], range(9), components, losses)
    torch.testing.assert_close(one_by_one, whole, rtol=1e-4, atol=1e-5)


def test_keys_that_a_query_does_not_see_are_zero(tokens):
    ensemble, hook = random_ensemble(CFG), "blocks.0.attn.hook_attn_scores"
    keep = [Direction(torch.ones(9))]
    found, _, _ = coordinates(ensemble, tokens, hook, [0], [0, 8], lambda last: keep, losses)
    _, cache = ensemble.run(tokens, [hook])
    assert found.isfinite().all()
    torch.testing.assert_close(found[:, 0, ::2, 0], cache[hook][:, :, 0, 0, 0], rtol=1e-4, atol=1e-6)
    assert math.isclose(float(found[0, 0, 1, 0]), float(cache[hook][0, 0, 0, 8].sum()), rel_tol=1e-4)
