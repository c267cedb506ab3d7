"""When losses fall: cases whose rows are known."""

import math

import pytest
import torch

from explorer.analysis.phases import Fall, falls, remaining_share, smooth, smooth_both_ways

UNIFORM, BEST = torch.tensor([2.0]), torch.tensor([0.0])
NAN = float("nan")


def only(losses: torch.Tensor, beta: float = 0.0) -> Fall:
    (fall,) = falls(losses[:, None], UNIFORM, BEST, beta)
    return fall


def test_a_ramp_falls_where_it_crosses():
    """From 2 at row 100 to 0 at row 200, linearly: 90 % are left at 110, half at 150, 10 % at 190."""
    rows = torch.arange(300, dtype=torch.float64)
    fall = only((2 - (rows - 100) / 50).clamp(0, 2))
    assert (fall.begins, fall.onset, fall.ends) == (110, 150, 190)
    assert 110 < fall.steepest <= 190


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.8, 0.95])
def test_a_step_is_found_where_it_is_however_much_is_smoothed(beta):
    losses = torch.cat([torch.full((200,), 2.0), torch.zeros(200)])
    fall = only(losses, beta)
    assert 199 <= fall.onset <= 201
    assert 199 <= fall.steepest <= 201
    # Before and after it, what is left is off by beta^k / (1 + beta) after k rows.
    reach = math.log(0.1 * (1 + beta)) / math.log(beta) if beta else 0
    assert fall.begins == pytest.approx(199 - reach, abs=1.5)
    assert fall.ends == pytest.approx(200 + reach, abs=1.5)


def test_the_steepest_row_is_the_largest_drop_between_begin_and_end():
    fall = only(torch.tensor([3.9, 2.1, 2.0, 1.9, 1.7, 0.8, 0.6, 0.1, 0.05]))
    assert fall == Fall(onset=5, steepest=5, begins=3, ends=7)


def test_a_loss_that_rises_again_falls_the_last_time():
    losses = torch.tensor([2.0, 0.5, 2.0, 0.5, 2.0, 0.5, 0.5, 0.1])
    assert only(losses) == Fall(onset=5, steepest=5, begins=4, ends=7)


def test_a_loss_that_climbed_above_a_uniform_guess_falls_from_there():
    """As that of unseen data does before they are understood."""
    fall = only(torch.tensor([2.0, 1.9, 8.0, 9.0, 1.85, 0.9, 0.3, 0.1]))
    assert fall == Fall(onset=5, steepest=5, begins=4, ends=7)


def test_begin_and_end_may_be_missing():
    assert only(torch.tensor([1.5, 1.4, 0.9, 0.7])) == Fall(onset=2, steepest=2, begins=None, ends=None)


@pytest.mark.parametrize(
    "losses",
    [
        [2.0] * 20,  # never falls
        [0.5] * 20,  # never was high
        [2.0] * 10 + [0.5] * 9 + [1.5],  # does not stay
        [NAN] * 20,
        [NAN] * 10 + [0.5] * 10,  # never was high where it is known
        [],
    ],
)
def test_what_does_not_fall_has_no_onset(losses):
    assert only(torch.tensor(losses)) == Fall()


def test_gaps_are_passed_over():
    losses = torch.tensor([NAN, 2.0, NAN, 2.0, 0.0, NAN, 0.0])
    assert only(losses) == Fall(onset=4, steepest=4, begins=3, ends=4)


def test_each_token_has_a_fall_of_its_own_between_its_own_references():
    losses = torch.full((60, 4), 2.0)
    losses[20:, 0] = 0.0
    losses[30:, 1] = 1.0  # half of the way from 2 to 0 is no fall if the best possible is 0.9
    losses[40:, 2] = 0.0
    found = falls(losses, torch.tensor([2.0, 2.0, NAN, 2.0]), torch.tensor([0.0, 0.9, 0.0, 2.0]), 0.0)
    assert [fall.onset for fall in found] == [20, 30, None, None]


def test_scaled_is_what_is_left_of_the_way():
    losses = torch.tensor([[4.0, 1.0, 3.0], [2.0, 2.0, 3.0], [1.0, 0.0, 3.0]])
    left = remaining_share(losses, torch.tensor([2.0, NAN, 3.0]), torch.tensor([1.0, 0.0, 3.0]), 0.0)
    assert left.dtype == torch.float64
    assert left[:, 0].tolist() == [3.0, 1.0, 0.0]
    assert left[:, 1:].isnan().all()
    half = remaining_share(losses, torch.tensor([2.0] * 3), torch.tensor([0.0] * 3), 0.5)
    torch.testing.assert_close(half, smooth_both_ways(losses, 0.5) / 2)


def test_what_is_settled_is_smooth_both_ways():
    losses = torch.tensor([[NAN], [4.0], [0.0], [2.0]])
    forwards = torch.tensor([4.0, 2.0, 2.0])
    assert smooth(losses, 0.5)[1:, 0].tolist() == forwards.tolist()
    assert smooth_both_ways(losses, 0.5)[1:, 0].tolist() == [3.0, 2.0, 2.0]
    assert smooth_both_ways(losses, 0.5)[0].isnan()
    assert smooth_both_ways(losses[1:].flip(0), 0.0)[:, 0].tolist() == [2.0, 0.0, 4.0]
