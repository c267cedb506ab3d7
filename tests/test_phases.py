"""When losses fall, on curves whose rows are known and on random ones."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.analysis.phases import Fall, falls, first_fall, remaining_share, smooth, smooth_both_ways

UNIFORM, BEST = torch.tensor([2.0]), torch.tensor([0.0])
NAN = float("nan")
CURVES = st.lists(st.floats(0, 8), min_size=1, max_size=40).map(
    lambda losses: torch.tensor(losses, dtype=torch.float64)
)
BETAS = st.floats(0, 0.99)


def only(losses: torch.Tensor, beta: float = 0.0) -> Fall:
    (fall,) = falls(losses[:, None], UNIFORM, BEST, beta)
    return fall


def test_a_linear_fall_has_its_onset_where_it_crosses_one_half():
    """From 2 at row 100 to 0 at row 200, linearly: 90 % remain at 110, half at 150, 10 % at 190."""
    rows = torch.arange(300, dtype=torch.float64)
    fall = only((2 - (rows - 100) / 50).clamp(0, 2))
    assert (fall.begins, fall.onset, fall.ends) == (110, 150, 190)
    assert 110 < fall.steepest <= 190


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.8, 0.95])
def test_smoothing_does_not_move_a_sudden_fall(beta):
    losses = torch.cat([torch.full((200,), 2.0), torch.zeros(200)])
    fall = only(losses, beta)
    assert 199 <= fall.onset <= 201
    assert 199 <= fall.steepest <= 201
    # k rows before and after it, the remaining share is off by beta^k / (1 + beta).
    reach = math.log(0.1 * (1 + beta)) / math.log(beta) if beta else 0
    assert fall.begins == pytest.approx(199 - reach, abs=1.5)
    assert fall.ends == pytest.approx(200 + reach, abs=1.5)


def test_the_steepest_row_is_the_largest_drop_between_begin_and_end():
    fall = only(torch.tensor([3.9, 2.1, 2.0, 1.9, 1.7, 0.8, 0.6, 0.1, 0.05]))
    assert fall == Fall(onset=5, steepest=5, begins=3, ends=7)


def test_the_onset_is_that_of_the_last_fall():
    losses = torch.tensor([2.0, 0.5, 2.0, 0.5, 2.0, 0.5, 0.5, 0.1])
    assert only(losses) == Fall(onset=5, steepest=5, begins=4, ends=7)


def test_a_loss_above_a_uniform_guess_begins_to_fall_there():
    """As the test loss does before grokking."""
    fall = only(torch.tensor([2.0, 1.9, 8.0, 9.0, 1.85, 0.9, 0.3, 0.1]))
    assert fall == Fall(onset=5, steepest=5, begins=4, ends=7)


def test_a_loss_that_starts_and_ends_half_way_has_no_begin_and_no_end():
    assert only(torch.tensor([1.5, 1.4, 0.9, 0.7])) == Fall(onset=2, steepest=2, begins=None, ends=None)


@pytest.mark.parametrize(
    "losses",
    [
        [2.0] * 20,  # never falls
        [0.5] * 20,  # low from the start
        [2.0] * 10 + [0.5] * 9 + [1.5],  # rises again
        [NAN] * 20,
        [NAN] * 10 + [0.5] * 10,  # low from the first number on
        [],
    ],
)
def test_a_loss_that_does_not_fall_has_no_onset(losses):
    assert only(torch.tensor(losses)) == Fall()


def test_nan_is_skipped():
    losses = torch.tensor([NAN, 2.0, NAN, 2.0, 0.0, NAN, 0.0])
    assert only(losses) == Fall(onset=4, steepest=4, begins=3, ends=4)


def test_each_token_is_measured_between_its_own_references():
    losses = torch.full((60, 4), 2.0)
    losses[20:, 0] = 0.0
    losses[30:, 1] = 1.0  # 1.0 is more than half way from 2 to the best possible, 0.9
    losses[40:, 2] = 0.0
    found = falls(losses, torch.tensor([2.0, 2.0, NAN, 2.0]), torch.tensor([0.0, 0.9, 0.0, 2.0]), 0.0)
    assert [fall.onset for fall in found] == [20, 30, None, None]


def test_remaining_share_is_one_at_a_uniform_guess_and_zero_at_the_best_loss():
    losses = torch.tensor([[4.0, 1.0, 3.0], [2.0, 2.0, 3.0], [1.0, 0.0, 3.0]])
    share = remaining_share(losses, torch.tensor([2.0, NAN, 3.0]), torch.tensor([1.0, 0.0, 3.0]), 0.0)
    assert share.dtype == torch.float64
    assert share[:, 0].tolist() == [3.0, 1.0, 0.0]
    assert share[:, 1:].isnan().all()
    half = remaining_share(losses, torch.tensor([2.0] * 3), torch.tensor([0.0] * 3), 0.5)
    torch.testing.assert_close(half, smooth_both_ways(losses, 0.5) / 2)


def test_smoothing_both_ways_smooths_forwards_and_then_backwards():
    losses = torch.tensor([[NAN], [4.0], [0.0], [2.0]])
    forwards = torch.tensor([4.0, 2.0, 2.0])
    assert smooth(losses, 0.5)[1:, 0].tolist() == forwards.tolist()
    assert smooth_both_ways(losses, 0.5)[1:, 0].tolist() == [3.0, 2.0, 2.0]
    assert smooth_both_ways(losses, 0.5)[0].isnan()
    assert smooth_both_ways(losses[1:].flip(0), 0.0)[:, 0].tolist() == [2.0, 0.0, 4.0]


def test_first_fall_is_where_the_plateau_ends():
    uniform, best = torch.tensor([2.0, 2.0]), torch.tensor([0.0, 0.0])
    losses = torch.full((300, 2), 2.0)
    losses[100:, 0] = 0.0
    losses[200:, 1] = 0.0
    # One row late, because the exponential average lags.
    assert first_fall(losses, uniform, best) == 100
    assert first_fall(losses[:, 1:], uniform[1:], best[1:]) == 200


@pytest.mark.parametrize("level", [2.0, 0.5])
def test_first_fall_is_none_where_no_loss_falls(level):
    """A loss that stays on its plateau, and one that is low from the start."""
    assert first_fall(torch.full((50, 1), level), torch.tensor([2.0]), torch.tensor([0.0])) is None


def test_smoothing_keeps_a_constant_and_skips_nan():
    losses = torch.tensor([[3.0], [float("nan")], [3.0], [0.0]])
    torch.testing.assert_close(smooth(losses, 0.9)[:, 0], torch.tensor([3.0, 3.0, 3.0, 2.7]).double())


@settings(deadline=None)
@given(CURVES, BETAS, st.sampled_from([smooth, smooth_both_ways]))
def test_averages_stay_between_the_smallest_and_the_largest_loss(losses, beta, average):
    means = average(losses, beta)
    assert means.min() >= losses.min() - 1e-9
    assert means.max() <= losses.max() + 1e-9
    torch.testing.assert_close(average(losses, 0.0), losses)


@settings(deadline=None)
@given(CURVES, BETAS, st.sampled_from([smooth, smooth_both_ways]), st.floats(-10, 10), st.floats(-10, 10))
def test_averages_are_linear_in_the_losses(losses, beta, average, scale, shift):
    torch.testing.assert_close(average(scale * losses + shift, beta), scale * average(losses, beta) + shift)


@settings(deadline=None)
@given(CURVES, BETAS)
def test_the_rows_of_a_fall_are_in_order_and_at_their_thresholds(losses, beta):
    fall = only(losses, beta)
    remaining = remaining_share(losses[:, None], UNIFORM, BEST, beta)[:, 0]
    if fall.onset is None:
        assert fall == Fall()
        assert remaining[-1] > 0.5 or (remaining <= 0.5).all()
        return
    assert remaining[fall.onset - 1] > 0.5
    assert (remaining[fall.onset :] <= 0.5).all()
    begins, ends = fall.begins or 0, len(losses) - 1 if fall.ends is None else fall.ends
    assert begins < fall.onset <= ends
    assert begins < fall.steepest <= ends
    drops = -remaining.diff()
    assert drops[fall.steepest - 1] == drops[begins:ends].max()
    if fall.begins is not None:
        assert remaining[fall.begins] >= 0.9
        assert (remaining[fall.begins + 1 : fall.onset] < 0.9).all()
    if fall.ends is not None:
        assert remaining[fall.ends] <= 0.1
        assert (remaining[fall.onset : fall.ends] > 0.1).all()


@settings(deadline=None)
@given(CURVES, st.integers(-8, 8))
def test_a_fall_does_not_depend_on_the_unit_of_the_losses(losses, exponent):
    unit = 2.0**exponent  # a power of two, so that nothing is rounded
    (scaled,) = falls(unit * losses[:, None], unit * UNIFORM, unit * BEST, 0.0)
    assert scaled == only(losses)


@settings(deadline=None)
@given(CURVES, st.integers(1, 30))
def test_a_longer_plateau_delays_the_onset(losses, rows):
    fall, later = only(losses), only(torch.cat([torch.full((rows,), 2.0, dtype=torch.float64), losses]))
    if fall.onset is not None:
        assert later.onset == fall.onset + rows
