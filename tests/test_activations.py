"""Measures of activations, on values whose result is known."""

import pytest
import torch

from explorer.analysis.activations import histogram, mean_absolute_change, root_mean_square
from explorer.errors import UserError
from explorer.model.transformer import ModelConfig
from tests.conftest import random_ensemble

CFG = ModelConfig(12, 10, 9, 2, 16, 2, 8, 32)


def test_histogram_gives_shares_in_bins_common_to_all_snapshots():
    values = torch.tensor([[[0.0, 0.0, 1.0, 3.9]], [[4.0, -torch.inf, 2.0, 2.0]]])
    edges, shares = histogram(values, bins=4)
    torch.testing.assert_close(edges, torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]).double())
    expected = torch.tensor([[[0.5, 0.25, 0.0, 0.25]], [[0.0, 0.0, 2 / 3, 1 / 3]]]).double()
    torch.testing.assert_close(shares, expected)


@pytest.mark.parametrize("value", [0.0, 2.5, torch.nan])
def test_histogram_of_a_constant_has_one_full_bin_and_of_nan_none(value):
    edges, shares = histogram(torch.full((2, 1, 3), value), bins=5)
    assert (edges.diff() > 0).all()
    assert shares.sum(-1).tolist() == [[0.0 if value != value else 1.0]] * 2


def test_root_mean_square_ignores_values_that_are_not_finite():
    values = torch.tensor([[3.0, 4.0, -torch.inf], [-torch.inf] * 3])
    torch.testing.assert_close(root_mean_square(values), torch.tensor([12.5**0.5, 0.0]).double())


@pytest.mark.parametrize(("hook", "shape"), [("blocks.0.mlp.hook_post", (32,)), ("blocks.1.attn.hook_v", (2, 8))])
def test_only_the_unit_with_changed_weights_changes(tokens, hook, shape):
    """Of two equal snapshots, the second has the weights of one unit ablated."""
    ensemble = random_ensemble(CFG, n=1)
    both = ensemble.followed_by(ensemble)
    assert mean_absolute_change(both, tokens, hook).abs().max() < 1e-5
    if "mlp" in hook:
        both.weights["blocks.0.mlp.W_in"][1, :, 5] = 0
        both.weights["blocks.0.mlp.b_in"][1, 5] = -1
    else:
        both.weights["blocks.1.attn.W_V"][1, 1, :, 3] = 0
    change = mean_absolute_change(both, tokens, hook)
    assert change.shape == shape
    assert (change > 1e-4).nonzero().tolist() == ([[5]] if "mlp" in hook else [[1, 3]])
    _, cache = ensemble.run(tokens, [hook])
    own = cache[hook][0, :, :, 5] if "mlp" in hook else cache[hook][0, :, :, 1, 3]
    torch.testing.assert_close(change.max(), own.abs().mean(), rtol=1e-4, atol=1e-5)


def test_attention_patterns_have_no_units(tokens):
    ensemble = random_ensemble(CFG, n=2)
    with pytest.raises(UserError, match="hook_pattern has no neurons; choose"):
        mean_absolute_change(ensemble, tokens, "blocks.0.attn.hook_pattern")
    with pytest.raises(ValueError, match="Two snapshots"):
        mean_absolute_change(ensemble.select(slice(0, 1)), tokens, "blocks.0.mlp.hook_post")
