"""When losses fall: cases whose rows are known."""

import pytest
import torch

from explorer.analysis.phases import Fall, falls, scaled, smooth

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
    assert fall.width == 80
    assert 110 < fall.steepest <= 190


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.8])
def test_a_step_is_found_as_late_as_the_average_lags(beta):
    losses = torch.cat([torch.full((100,), 2.0), torch.zeros(100)])
    fall = only(losses, beta)
    # Of the way, beta^k is left after k rows of zeros, of which row 100 is the first.
    onset, ends = {0.0: (100, 100), 0.5: (100, 103), 0.8: (103, 110)}[beta]
    assert fall == Fall(onset, steepest=100, begins=99, ends=ends)


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
    assert only(torch.tensor([1.5, 1.4, 0.9, 0.7])).width is None


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
    left = scaled(losses, torch.tensor([2.0, NAN, 3.0]), torch.tensor([1.0, 0.0, 3.0]), 0.0)
    assert left.dtype == torch.float64
    assert left[:, 0].tolist() == [3.0, 1.0, 0.0]
    assert left[:, 1:].isnan().all()
    half = scaled(losses, torch.tensor([2.0] * 3), torch.tensor([0.0] * 3), 0.5)
    torch.testing.assert_close(half, smooth(losses, 0.5) / 2)
