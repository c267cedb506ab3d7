"""Averages of loss curves, on curves whose averages are known and on random ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.analysis.smoothing import centred_average, filled, running_median, smooth, smooth_robustly, spread

NAN = float("nan")
CURVES = st.lists(st.floats(0, 8), min_size=1, max_size=40).map(
    lambda losses: torch.tensor(losses, dtype=torch.float64)
)
BETAS = st.floats(0, 0.99)


def test_smoothing_keeps_a_constant_and_skips_nan():
    losses = torch.tensor([[3.0], [NAN], [3.0], [0.0]])
    torch.testing.assert_close(smooth(losses, 0.9)[:, 0], torch.tensor([3.0, 3.0, 3.0, 2.7]).double())


def test_smoothing_may_start_from_a_given_average():
    assert smooth(torch.tensor([4.0, 0.0]), 0.5, start=2.0).tolist() == [3.0, 1.5]


def test_the_centred_average_has_the_same_weights_on_both_sides():
    """Of a single 1, row i gets beta^distance; rows near the ends look no farther than to the nearer end."""
    losses = np.zeros((101, 1))
    losses[50] = 1
    averages = centred_average(losses, 0.5)[:, 0]
    weights = 0.5 ** np.abs(np.arange(101) - 50) / 3  # (1 - beta) / (1 + beta) is a third
    np.testing.assert_allclose(averages[40:61], weights[40:61], rtol=1e-6)
    assert averages[:25].tolist() == pytest.approx([0] * 25, abs=1e-12)  # their windows do not hold row 50
    straight = np.arange(20.0)[:, None]
    np.testing.assert_allclose(centred_average(straight, 0.9), straight, atol=1e-12)  # to the very ends


@pytest.mark.parametrize("beta", [0.5, 0.8, 0.9, 0.99])
def test_a_sudden_fall_is_spread_as_said(beta):
    losses = torch.cat([torch.ones(2000), torch.zeros(2000)])
    drawn = smooth_robustly(losses, beta)
    between = ((drawn < 0.9) & (drawn > 0.1)).sum()
    assert float(between) == pytest.approx(spread(beta), abs=2)
    assert float(drawn[1999:2001].mean()) == pytest.approx(0.5)  # and stays where it is


@pytest.mark.parametrize("length", [1, 10])
def test_a_short_spike_leaves_no_trace(length):
    losses = torch.full((300, 2), 1.0)
    losses[100 : 100 + length] = 6.0
    torch.testing.assert_close(smooth_robustly(losses, 0.9), torch.ones(300, 2).double())


def test_a_lasting_rise_is_seen():
    losses = torch.full((300,), 1.0)
    losses[100:200] = 3.0
    assert smooth_robustly(losses, 0.9)[140:160] == pytest.approx(3.0, abs=0.05)


def test_a_running_median_keeps_every_edge_of_a_curve_that_only_falls():
    losses = np.repeat([5.0, 4.0, 4.0, 1.0, 0.0], [1, 3, 20, 2, 40])[:, None]
    np.testing.assert_array_equal(running_median(losses, 30), losses)


def test_what_is_missing_is_filled_in_and_a_start_without_losses_stays_missing():
    losses = torch.tensor([[NAN, NAN], [4.0, NAN], [NAN, NAN], [2.0, NAN], [float("inf"), NAN]])
    assert filled(losses.double().numpy())[:, 0].tolist() == [4.0, 4.0, 3.0, 2.0, 2.0]
    averages = smooth_robustly(losses, 0.0)
    assert averages[0].isnan().all()
    assert averages[1:, 0].tolist() == [4.0, 3.0, 2.0, 2.0]
    assert averages[:, 1].isnan().all()
    assert smooth_robustly(torch.empty(0, 3)).shape == (0, 3)


@settings(deadline=None)
@given(CURVES, BETAS, st.sampled_from([smooth, smooth_robustly]))
def test_averages_stay_between_the_smallest_and_the_largest_loss(losses, beta, average):
    means = average(losses, beta)
    assert means.min() >= losses.min() - 1e-9
    assert means.max() <= losses.max() + 1e-9
    torch.testing.assert_close(average(losses, 0.0), losses)


@settings(deadline=None)
@given(CURVES, BETAS, st.sampled_from([smooth, smooth_robustly]), st.floats(-10, 10), st.floats(-10, 10))
def test_averages_follow_the_unit_of_the_losses(losses, beta, average, scale, shift):
    torch.testing.assert_close(average(scale * losses + shift, beta), scale * average(losses, beta) + shift)


@settings(deadline=None)
@given(CURVES, BETAS)
def test_robust_averages_look_alike_in_both_directions(losses, beta):
    torch.testing.assert_close(smooth_robustly(losses.flip(0), beta).flip(0), smooth_robustly(losses, beta))
