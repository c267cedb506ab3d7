"""When losses fall and rise: on curves that were made to, and in the shipped runs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.analysis.phases import Change, changes, deepest, remaining_share, resolution
from explorer.analysis.smoothing import smooth_robustly
from explorer.runs import Runs
from explorer.views.subject import Subject
from tests.conftest import SHIPPED

NAN = float("nan")
U = 2.3
ROWS = np.arange(3000)


def sigmoid(centre: float, width: float, rows: np.ndarray = ROWS) -> np.ndarray:
    """From 1 to 0, with a slope of more than a tenth of the steepest over ``width`` rows."""
    scale = width / 7.27  # 4 p (1 - p) = 0.1 at 3.64 scales on either side
    return (1 - np.tanh((rows - centre) / (2 * scale))) / 2


def noise(sd: float, n: int = 3000, seed: int = 0) -> np.ndarray:
    return sd * np.random.default_rng(seed).normal(size=n)


def found(losses: np.ndarray, spacing: float = 1.0, uniform: float = U) -> list[Change]:
    (of_token,) = changes(torch.tensor(losses)[:, None], torch.tensor([uniform]), torch.tensor([0.0]), spacing)
    return of_token


def kinds(of_token: list[Change]) -> str:
    return "".join("v" if change.is_fall else "^" for change in of_token)


@pytest.mark.parametrize("width", [20, 100, 400, 1500])
@pytest.mark.parametrize("sd", [0, 0.05, 0.2])
def test_a_fall_is_found_where_it_is_and_as_wide_as_it_is(width, sd):
    (fall,) = found(U * sigmoid(1500, width) + noise(sd))
    assert fall.steepest == pytest.approx(1500, abs=2 + 0.15 * width * min(1, 20 * sd))
    assert fall.ends - fall.begins == pytest.approx(width, rel=0.3 + 2 * sd, abs=resolution())
    assert fall.begins < fall.steepest < fall.ends
    assert fall.depth == pytest.approx(U, abs=0.1 * U + 2 * sd)
    assert fall.before - fall.after == fall.depth


@pytest.mark.parametrize("sd", [0, 0.05, 0.2])
@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ([(1.2, 500, 60), (1.1, 1500, 300)], "vv"),
        ([(0.8, 300, 30), (0.8, 900, 100), (0.7, 2000, 600)], "vvv"),
        ([(-3, 700, 300), (5.3, 2000, 300)], "^v"),  # climbs before it falls, as where a model memorises
        ([(2, 300, 50), (-1.5, 800, 400), (1.8, 1600, 100)], "v^v"),
    ],
)
def test_every_fall_and_rise_of_a_curve_is_told(parts, kind, sd):
    of_token = found(sum(depth * sigmoid(centre, width) for depth, centre, width in parts) + noise(sd))
    assert kinds(of_token) == kind
    for change, (depth, centre, width) in zip(of_token, parts, strict=True):
        assert change.steepest == pytest.approx(centre, abs=3 + 0.25 * width * min(1, 10 * sd))
        assert change.depth == pytest.approx(depth, abs=0.15 * abs(depth) + 2 * sd)


def test_the_deepest_fall_is_the_first_of_equal_ones_and_never_a_rise():
    one, two, three = (Change(0, 1, 2, *losses) for losses in ((2.0, 1.0), (1.0, 0.0), (0.0, 4.0)))
    assert deepest([three, one, two]) is one
    assert deepest([three]) is None
    assert deepest([]) is None


@pytest.mark.parametrize("uniform", [U, NAN])
@pytest.mark.parametrize("sd", [0.02, 0.3])
def test_noise_alone_is_no_change(sd, uniform):
    rng = np.random.default_rng(0)
    for n in (100, 1000, 6000):
        white, heavy = rng.normal(size=(n, 40)), np.exp(rng.normal(size=(n, 40)))  # the latter has many spikes
        for losses in (U + sd * white, sd * heavy):
            tokens = torch.tensor(losses)
            of_tokens = changes(tokens, torch.full((40,), uniform), torch.zeros(40))
            assert sum(bool(of_token) for of_token in of_tokens) <= 2, n


@pytest.mark.parametrize("losses", [np.full(3000, U), np.full(3000, NAN), np.zeros(0), np.ones(1)])
def test_a_loss_that_does_not_move_does_not_change(losses):
    assert found(losses) == []


@pytest.mark.parametrize("sd", [0, 0.05])
@pytest.mark.parametrize("at", [200, 2000])
@pytest.mark.parametrize("length", [1, 10, 60])
def test_a_spike_away_from_a_fall_neither_moves_nor_erases_it(length, at, sd):
    losses = U * sigmoid(1000, 200) + noise(sd)
    plain = deepest(found(losses))
    losses[at : at + length] += 3
    spiky = deepest(found(losses))
    assert (spiky.begins, spiky.ends) == (plain.begins, plain.ends)
    assert spiky.steepest == pytest.approx(plain.steepest, abs=5)
    assert spiky.depth == pytest.approx(plain.depth, abs=0.02)


@pytest.mark.parametrize("at", [950, 990, 1040])
@pytest.mark.parametrize(("length", "moved"), [(1, 5), (10, 25), (60, 110)])
def test_a_spike_within_a_fall_moves_it_by_no_more_than_hides_it(length, moved, at):
    losses = U * sigmoid(1000, 200) + noise(0.05)
    losses[at : at + length] += 3
    fall = deepest(found(losses))
    assert fall.steepest == pytest.approx(1000, abs=moved)
    assert fall.depth > 0.5 * U


def test_a_rise_that_lasts_is_no_spike():
    losses = U * sigmoid(500, 100)
    losses[1500:1700] += 3
    assert kinds(found(losses)) == "v^v"


@pytest.mark.parametrize("sd", [0, 0.05, 0.2])
def test_a_slow_tail_neither_extends_a_fall_nor_becomes_many(sd):
    tail = 0.8 * np.exp(-np.maximum(ROWS - 500, 0) / 800)
    of_token = found(1.5 * sigmoid(500, 60) + tail + noise(sd))
    assert kinds(of_token) in {"v", "vv"}
    assert of_token[0].steepest == pytest.approx(500, abs=10)
    assert of_token[0].ends < 560


@pytest.mark.parametrize("spacing", [1, 5, 10])
def test_losses_measured_every_few_steps_fall_in_the_same_steps(spacing):
    (fall,) = found((U * sigmoid(1000, 300) + noise(0.05))[::spacing], spacing)
    assert spacing * fall.steepest == pytest.approx(1000, abs=15)
    assert spacing * fall.begins == pytest.approx(850, abs=20 + resolution(spacing) / 2)
    assert spacing * fall.ends == pytest.approx(1150, abs=20 + resolution(spacing) / 2)
    assert fall.depth == pytest.approx(U, abs=0.25)


def test_missing_losses_are_passed_over():
    losses = U * sigmoid(1000, 200) + noise(0.05)
    (plain,) = found(losses)
    losses[np.random.default_rng(1).random(3000) < 0.3] = NAN
    (fall,) = found(losses)
    assert fall.steepest == pytest.approx(plain.steepest, abs=10)
    losses[:400] = NAN  # and the start of the training
    losses[1500:] = NAN  # and all that comes after
    (fall,) = found(losses)
    assert fall.steepest == pytest.approx(plain.steepest, abs=10)


@pytest.mark.parametrize("width", [150, 600])
def test_unevenly_spaced_losses_fall_in_their_steps_and_not_in_their_rows(width):
    """Most rows lie in the slow tail."""
    steps = np.unique([*range(0, 1100, 100), *range(900, 1110, 15), *range(1100, 3000, 20)])
    losses = torch.tensor(U * (0.9 * sigmoid(1000, width, steps) + 0.1 * np.exp(-steps / 3000)))[:, None]
    for error in (None, torch.full_like(losses, 0.01)):
        (of_token,) = changes(losses, torch.tensor([U]), torch.zeros(1), 30.0, torch.tensor(steps), error)
        fall = deepest(of_token)
        assert steps[fall.steepest] == pytest.approx(1000, abs=30)
        assert steps[fall.begins] == pytest.approx(1000 - width / 2, abs=100)
        assert steps[fall.ends] == pytest.approx(1000 + width / 2, abs=100)
    (of_token,) = changes(losses, torch.tensor([U]), torch.zeros(1), error=torch.full_like(losses, 0.5))
    assert of_token == []


@pytest.mark.parametrize("value", [0.1, 2.3, -7.0])
def test_rounding_is_no_change_where_only_the_range_of_the_curve_is_known(value):
    assert found(np.full(500, value), uniform=NAN) == []
    assert found(value + 1e-12 * sigmoid(200, 50, np.arange(500)), uniform=NAN) == []


@pytest.mark.parametrize(
    ("losses", "kind"),
    [([2.3, 1.0, 0.1], "v"), ([2.3, 0.1], "v"), ([0.1, 2.3, 2.3], "^"), ([2.3, 2.3, 1.2, 0.1, 0.0, 0.0], "v")],
)
def test_of_a_few_losses_is_told_what_can_be(losses, kind):
    of_token = found(np.array(losses), 100.0)
    assert kinds(of_token) == kind
    assert abs(of_token[0].depth) == pytest.approx(2.3, abs=0.25)


def test_a_small_change_is_told_where_the_best_is_near():
    """0.1 nats are less than a twentieth of 2.3, and more of 0.5; where U is unknown the range of the curve counts."""
    losses = 0.1 * sigmoid(1500, 100)
    assert found(losses) == []
    assert kinds(found(losses, uniform=0.5)) == kinds(found(losses, uniform=NAN)) == "v"


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 8), min_size=2, max_size=60), st.sampled_from([0.25, 4.0]))
def test_changes_are_in_order_and_do_not_depend_on_the_unit(losses, unit):
    losses = np.array(losses)
    of_token = found(losses)
    rows = [row for change in of_token for row in (change.begins, change.steepest, change.ends)]
    assert all(0 <= row < len(losses) for row in rows)
    for change in of_token:
        assert change.begins <= change.steepest <= change.ends
        assert change.begins < change.ends
        assert change.depth != 0
    assert [change.begins for change in of_token] == sorted(change.begins for change in of_token)
    scaled = found(unit * losses, uniform=unit * U)
    assert [(change.begins, change.steepest, change.ends) for change in scaled] == [
        (change.begins, change.steepest, change.ends) for change in of_token
    ]


def test_remaining_share_is_one_at_a_uniform_guess_and_zero_at_the_best_loss():
    losses = torch.tensor([[4.0, 1.0, 3.0], [2.0, 2.0, 3.0], [1.0, 0.0, 3.0]])
    share = remaining_share(losses, torch.tensor([2.0, NAN, 3.0]), torch.tensor([1.0, 0.0, 3.0]), 0.0)
    assert share.dtype == torch.float64
    assert share[:, 0].tolist() == [3.0, 1.0, 0.0]
    assert share[:, 1:].isnan().all()
    half = remaining_share(losses, torch.tensor([2.0] * 3), torch.tensor([0.0] * 3), 0.5)
    torch.testing.assert_close(half, smooth_robustly(losses, 0.5) / 2)


# --- The shipped runs. The figures were read off a plot of each curve. ---


def of_run(name: str, kind: str) -> dict[str, list[Change]]:
    """Token -> its changes; losses of these runs are measured at every step, except where a test says so."""
    subject = Subject.load(Runs(SHIPPED).open(name))
    (losses,) = (losses for losses in subject.losses() if losses.kind == kind)
    return dict(zip(losses.names, losses.changes, strict=True))


def test_addition_first_learns_which_leading_digits_there_are_and_then_which_it_is():
    first, second = of_run("addition", "")["100k"]
    assert (first.begins, first.ends) == (0, pytest.approx(16, abs=5))
    assert first.after == pytest.approx(np.log(2), abs=0.1)
    assert 60 < second.steepest < 110
    assert second.before == pytest.approx(np.log(2), abs=0.1)
    assert second.after < 0.15


def test_digits_of_addition_fall_one_after_another():
    steepest = {name: deepest(of_token).steepest for name, of_token in of_run("addition", "").items()}
    assert list(dict(sorted(steepest.items(), key=lambda pair: pair[1]))) == [
        *("100k", "10k", "tens", "thousands", "units", "hundreds")
    ]
    assert steepest["tens"] == pytest.approx(375, abs=20)
    assert steepest["hundreds"] == pytest.approx(1053, abs=10)


def test_the_upper_digits_of_unseen_sums_are_understood_together_and_late():
    """At steps 1,500 to 1,700, and once more at 2,300. What follows moves neither begin nor steepest."""
    unseen = of_run("addition-finite", "test")
    for name in ("10k", "thousands", "hundreds", "tens"):
        late = [change for change in unseen[name] if change.is_fall and 1450 < change.steepest < 1650]
        assert len(late) == 1, name
        assert late[0].begins > 1400
        assert late[0].ends < 1800
    for name in ("thousands", "hundreds"):
        assert 1450 < deepest(unseen[name]).steepest < 1650
    # Before that the loss of the hundreds climbs, falls a little as they are memorised, and climbs again.
    assert kinds(unseen["hundreds"]) == "^v^vv"
    assert unseen["hundreds"][1].steepest == pytest.approx(264, abs=10)


def test_a_spike_of_the_training_loss_is_no_change():
    """That of addition-finite spikes at steps 1,535 and 2,277."""
    assert max(change.ends for of_token in of_run("addition-finite", "train").values() for change in of_token) < 400


def test_the_test_loss_of_modular_addition_climbs_and_then_falls():
    rise, fall = of_run("modular-addition", "test")["answer"]
    assert (rise.is_fall, fall.is_fall) == (False, True)
    assert rise.before == pytest.approx(np.log(59), abs=0.2)
    assert 150 <= fall.begins <= 165  # rows, each of ten steps
    assert 520 < fall.steepest < 600
    assert 640 < fall.ends < 720
    assert fall.depth == pytest.approx(27.5, abs=0.3)


def test_some_tokens_of_induction_fall_twice():
    tokens = of_run("induction", "")
    assert all(740 < deepest(of_token).steepest < 950 for of_token in tokens.values())
    late = {name for name, of_token in tokens.items() if any(2200 < change.steepest < 2450 for change in of_token)}
    assert {"copy 1, token 2", "copy 1, token 3", "copy 2, token 2", "copy 2, token 3"} == late
