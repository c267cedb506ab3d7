"""What led a fall: on measures whose leads are known, and in a shipped run."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from explorer.analysis.heads import head_scores, repeated_tokens
from explorer.analysis.leads import DatedChange, Lead, Measure, dated_changes, deepest_fall, leads, over_seeds
from explorer.runs import Runs
from explorer.views.subject import Subject
from tests.conftest import SHIPPED

NAN = math.nan
U = 2.3
ROWS = np.arange(0, 3000, 5)  # at which losses are measured
EVEN = np.arange(0, 3000, 150)  # snapshots


def sigmoid(centre: float, width: float, steps: np.ndarray) -> np.ndarray:
    """From 1 to 0, with a slope of more than a tenth of the steepest over ``width`` steps."""
    return (1 - np.tanh(7.27 * (steps - centre) / (2 * width))) / 2


def drawn(sd: float, steps: np.ndarray, seed: int) -> np.ndarray:
    return sd * np.random.default_rng(seed).normal(size=len(steps))


def measure(steps: np.ndarray, values: np.ndarray, error: float | None = None, **more) -> Measure:
    errors = None if error is None else torch.full((len(steps),), error)
    return Measure("measure", torch.tensor(steps), torch.tensor(values), errors, **more)


def loss(centre: float = 1500, width: float = 200, sd: float = 0.1, seed: int = 0) -> Measure:
    return measure(ROWS, U * sigmoid(centre, width, ROWS) + drawn(sd, ROWS, seed), span=U)


def snapshots(seed: int) -> np.ndarray:
    """Unevenly spaced: now and then, and more often around step 1500."""
    rng = np.random.default_rng(seed)
    return np.unique([*EVEN, *(1100 + 40 * np.arange(20) + rng.integers(0, 30, 20)), 2999])


FALL = DatedChange(1400.0, 1500.0, 1495.0, 1505.0, 1600.0, U, 0.0, 1.0)


def lag(of: Measure, **more) -> Lead:
    (found,) = leads(FALL, [of], **more)
    return found


# --- When a measure changed ---


@pytest.mark.parametrize("sign", [1, -1], ids=["fall", "rise"])
@pytest.mark.parametrize("width", [60, 400, 1500])
@pytest.mark.parametrize("steps", [ROWS, EVEN, snapshots(0)], ids=["losses", "snapshots", "uneven snapshots"])
def test_a_change_is_dated_between_the_rows_where_it_is(steps, width, sign):
    (found,) = dated_changes(measure(steps, 5 * sign * sigmoid(1500, width, steps) + 3))
    gap = np.diff(steps)[max(0, np.searchsorted(steps, 1500) - 3) :][:5].max().item()
    assert found.low <= 1500 <= found.high
    assert found.steepest == pytest.approx(1500, abs=gap)
    rows = 14 if len(steps) > 200 else 5  # losses are averaged
    assert 3 * np.diff(steps).min() <= found.high - found.low <= rows * gap
    assert found.begins < found.steepest < found.ends
    assert found.is_fall == (sign > 0)
    assert found.before - found.after == pytest.approx(5 * sign, abs=1.1)
    assert found.share == pytest.approx(0.9, abs=0.13)


def test_a_rise_is_dated_as_the_fall_that_it_mirrors():
    for steps in (ROWS, snapshots(1)):
        values = sigmoid(1500, 300, steps)
        (fall,) = dated_changes(measure(steps, values))
        (rise,) = dated_changes(measure(steps, 1 - values))
        assert (fall.steepest, fall.begins, fall.ends) == (rise.steepest, rise.begins, rise.ends)
        assert (fall.low, fall.high) == (rise.low, rise.high)


def test_the_interval_holds_the_steepest_step_wherever_the_snapshots_are():
    """Without noise nearly always, although a short gap beside a long one that holds it looks steeper."""
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        steps = np.unique([0, *rng.integers(0, 3000, 40), 3000])
        centre, width = rng.uniform(1200, 1800), rng.uniform(150, 800)
        (found,) = dated_changes(measure(steps, sigmoid(centre, width, steps)))
        held += found.low <= centre <= found.high
    assert held >= 97


@pytest.mark.parametrize("n", [1, 2, 8, 20, 58])
def test_what_does_not_move_does_not_change(n):
    steps = np.sort(np.random.default_rng(0).choice(6000, n, replace=False))
    for value in (0.0, 3.0, NAN):
        assert dated_changes(measure(steps, np.full(n, value))) == []


def test_noise_alone_is_no_change():
    for n in (8, 20, 58, 300):
        told = 0
        for seed in range(25):
            steps = np.sort(np.random.default_rng(seed).choice(6000, n, replace=False))
            told += bool(dated_changes(measure(steps, drawn(1, steps, seed))))
        assert told <= 2, n
    assert dated_changes(measure(ROWS, drawn(1, ROWS, 0))) == []
    # Of fewer rows, noise can be told from change only where the error is known.
    assert not any(dated_changes(measure(EVEN[:6], drawn(1, EVEN[:6], seed), 1.0)) for seed in range(50))


def test_missing_values_are_passed_over_and_widen_the_interval():
    for steps in (ROWS, snapshots(0)):
        values = sigmoid(1500, 200, steps)
        (whole,) = dated_changes(measure(steps, values))
        some = np.where(np.random.default_rng(0).random(len(steps)) < 0.2, NAN, values)
        (found,) = dated_changes(measure(steps, some))
        assert found.low <= 1500 <= found.high
        (found,) = dated_changes(measure(steps, np.where(abs(steps - 1500) < 60, NAN, values)))
        assert found.low <= 1440
        assert found.high >= 1560
        assert found.high - found.low > whole.high - whole.low
        beyond = measure(steps, np.where((steps < 700) | (steps > 2200), np.inf, values))
        (found,) = dated_changes(beyond)
        assert found.low <= 1500 <= found.high


def test_a_known_error_widens_the_interval():
    steps = snapshots(0)
    values = sigmoid(1500, 600, steps)
    widths = []
    for error in (None, 0.0, 0.03, 0.06):
        (found,) = dated_changes(measure(steps, values, error))
        widths.append(found.high - found.low)
    assert widths[0] == widths[1] <= widths[2] < widths[3]
    assert dated_changes(measure(steps, values, 0.5)) == []
    partly = dataclasses.replace(measure(steps, values), error=torch.full((len(steps),), NAN))
    (found,) = dated_changes(partly)
    assert found.high - found.low == widths[0]


def test_the_steepest_step_of_a_loss_is_that_of_its_flag():
    subject = Subject.load(Runs(SHIPPED).open("induction"))
    (losses,) = subject.losses()
    for token in (0, 5, 20):
        one = Measure(losses.names[token], losses.steps, losses.values[:, token], span=float(losses.uniform[token]))
        fall, flag = deepest_fall(one), losses.deepest[token]
        assert fall.steepest == losses.step(flag.steepest)
        assert fall.low < fall.steepest < fall.high
    assert deepest_fall(measure(ROWS, -sigmoid(1500, 200, ROWS))) is None


# --- What led ---


@pytest.mark.parametrize(("width", "sd", "true"), [(600, 0.05, -150), (600, 0.05, 0), (300, 0.05, 200)])
def test_the_interval_holds_the_true_lag_as_often_as_it_says(width, sd, true):
    """Both curves are drawn with noise: the loss at every fifth step, the measure at uneven snapshots."""
    falls = [deepest_fall(loss(seed=seed)) for seed in range(10)]
    held, found = 0, []
    for seed in range(100):
        steps = snapshots(seed)
        rising = measure(steps, 1 - sigmoid(1500 + true, width, steps) + drawn(sd, steps, 1000 + seed))
        (lead,) = leads(falls[seed % 10], [rising])
        if lead.change is not None:
            found.append(lead)
            held += lead.low <= true <= lead.high
    assert len(found) >= 90
    assert held >= 0.95 * len(found)
    wrong = {"led": 1, "followed": -1, "not told apart": 0}
    assert sum(np.sign(true) * wrong[lead.verdict] > 0 for lead in found) == 0
    if not true:
        assert sum(lead.verdict == "not told apart" for lead in found) >= 0.95 * len(found)


def test_a_lead_is_told_unless_spacing_or_noise_hides_it():
    dense, coarse = np.arange(0, 3000, 20), np.arange(0, 3000, 150)
    for true, verdict in ((-120, "led"), (120, "followed")):
        for steps, sd, expected in ((dense, 0, verdict), (coarse, 0, "not told apart"), (dense, 0.1, "not told apart")):
            values = sigmoid(1500 + true, 800, steps) + drawn(sd, steps, 0)
            lead = lag(measure(steps, values), window=1000.0)
            assert lead.verdict == expected
            assert lead.low <= true <= lead.high
            assert lead.lag == pytest.approx(true, abs=10 if expected == verdict else 150)


def test_measures_are_told_in_the_order_of_their_changes():
    steps = snapshots(0)
    curves = {
        "late": sigmoid(1800, 100, steps),
        "never": np.ones(len(steps)),
        "early": 1 - sigmoid(1200, 100, steps),
        "at once": sigmoid(1500, 100, steps),
        "elsewhere": sigmoid(300, 100, steps),
    }
    measures = [dataclasses.replace(measure(steps, values), name=name) for name, values in curves.items()]
    table = leads(FALL, measures)
    assert [(lead.measure, lead.verdict) for lead in table] == [
        ("early", "led"),
        ("at once", "not told apart"),
        ("late", "followed"),
        ("never", "no change"),
        ("elsewhere", "no change"),
    ]
    assert table[0].lag == pytest.approx(-300, abs=30)
    assert table[0].lag == table[0].change.steepest - FALL.steepest
    assert (table[0].low, table[0].high) == (table[0].change.low - FALL.high, table[0].change.high - FALL.low)
    assert table[3].change is None
    assert math.isnan(table[3].lag)
    assert table == leads(FALL, measures)
    assert leads(FALL, measures, window=2000.0)[0].measure == "elsewhere"


def test_of_several_changes_the_largest_that_is_near_counts():
    steps = np.arange(0, 3000, 20)
    values = 0.3 * sigmoid(1450, 60, steps) + 0.6 * sigmoid(1700, 100, steps) + 3 * sigmoid(2700, 100, steps)
    assert len(dated_changes(measure(steps, values))) == 3
    assert lag(measure(steps, values)).lag == pytest.approx(200, abs=20)
    assert lag(measure(steps, values), window=100.0).lag == pytest.approx(-50, abs=20)
    assert lag(measure(steps, values), window=1500.0).lag == pytest.approx(1200, abs=20)


# --- Over seeds ---


def told(name: str, lag: float, verdict: str) -> Lead:
    change = None if verdict == "no change" else FALL
    return Lead(name, change, lag, lag - 10, lag + 10, verdict)


def test_over_seeds_the_median_lag_and_how_often_it_led():
    lags = [-90, -80, -70, -60, -50, -40, -30, -5, 20, NAN]
    verdicts = [*["led"] * 7, "not told apart", "followed", "no change"]
    tables = [
        [told("scores", one, verdict), told("norm", 40.0 + seed, "followed"), told("never", NAN, "no change")]
        for seed, (one, verdict) in enumerate(zip(lags, verdicts, strict=True))
    ]
    scores, norm, never = over_seeds(tables)
    assert [one.measure for one in (scores, norm, never)] == ["scores", "norm", "never"]
    assert (scores.led.before, scores.led.n, scores.n_untold, scores.n_seeds) == (7, 9, 1, 10)
    assert scores.lag.median == -45
    assert (scores.lag.low, scores.lag.high) == (-80, 20)  # the second and the ninth; one that never comes is the last
    assert (scores.led.low, scores.led.high) == (pytest.approx(0.453, abs=1e-3), pytest.approx(0.937, abs=1e-3))
    assert (norm.led.before, norm.led.n, norm.lag.median) == (0, 10, 44.5)
    assert (never.led.before, never.n_untold, never.n_seeds) == (0, 0, 10)
    assert np.isnan(never.lag.median)
    assert over_seeds([]) == []


# --- In a shipped run ---


def test_induction_scores_rise_while_the_losses_fall():
    subject = Subject.load(Runs(SHIPPED).open("induction"))
    (losses,) = subject.losses()
    of_copy = losses.of(range(15, 30), "second copy")
    span = float(of_copy.uniform[0])
    fall = deepest_fall(Measure("second copy", of_copy.steps, of_copy.values[:, 0], span=span))
    assert 740 < fall.steepest < 950
    assert fall.high - fall.low < 60
    tokens = repeated_tokens(subject.info.model.d_vocab, 30, 8)
    scores = head_scores(subject.ensemble, tokens)["prefix matching"].mean(-1)  # (snapshot head)
    steps = torch.tensor(subject.steps)
    table = leads(fall, [Measure(f"{i}", steps, scores[:, i], span=1.0) for i in range(8)])
    rising = [lead for lead in table if lead.change is not None]
    assert {lead.measure for lead in rising} == {"4", "5", "6", "7"}  # the heads of the second layer
    for lead in rising:
        assert not lead.change.is_fall
        assert lead.low < 0 < lead.high < 60
        assert (lead.lag, lead.verdict) == (pytest.approx(0, abs=30), "not told apart")
