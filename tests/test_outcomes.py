"""How trainings turn out: phases, medians, orders, and the losses of sweeps at common steps."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binom, quantile_test

from explorer.analysis.outcomes import (
    COMPREHENSION,
    CONFUSION,
    DELAY,
    GROKKING,
    MEMORISATION,
    agreeing,
    middle,
    order,
    phases,
    reached_at,
)
from explorer.errors import UserError
from explorer.runs import Run, Runs, recorder
from explorer.runs.sweeps import OUTCOMES, Sweep
from explorer.sweeps import outcomes as how
from explorer.sweeps.outcomes import Collected, measured, points_of, read_outcomes
from tests.conftest import FINITE, MODEL, TASK, TRAINING
from tests.sweeping import assert_close, made, tiny

STEPS = np.array([0, 500, 1000, 1500, 2000])
C, M, G, U = CONFUSION, MEMORISATION, GROKKING, COMPREHENSION
NAN = math.nan

# --- Phases ---


@pytest.mark.parametrize(
    ("train", "unseen", "expected"),
    [
        ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [C, C, C, C, C]),
        ([0, 1, 1, 1, 1], [0, 0, 0, 0, 0], [C, M, M, M, M]),
        ([0, 1, 1, 1, 1], [0, 0, 1, 1, 1], [C, M, U, U, U]),  # 500 steps later
        ([0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [C, U, U, U, U]),  # at once
        ([0, 1, 1, 1, 1], [0, 0, 0, 1, 1], [C, M, M, G, G]),  # exactly at the delay
        ([0, 1, 1, 1, 1], [0, 0, 0, 0, 1], [C, M, M, M, G]),
        ([1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [M, M, M, M, M]),
        ([0, 0.9, 0.9, 0.9, 0.9], [0, 0, 0.9, 0.9, 0.9], [C, M, U, U, U]),  # exactly the share
        ([0, 0.8999, 1, 1, 1], [0, 0, 0.8999, 0.8999, 1], [C, C, M, M, G]),
        ([0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [C, M, M, C, M]),  # forgets again
        ([0, 1, 1, 1, 1], [0, 0, 0, 1, 0], [C, M, M, G, M]),
        ([0, 1, 1, 1, 0], [0, 0, 1, 1, 0], [C, M, U, U, C]),
        ([0, 0, 1, 1, 1], [0, 1, 1, 1, 1], [C, U, U, U, U]),  # unseen data before training data
        ([0, 0, 0, 0, 0], [0, 1, 1, 1, 1], [C, U, U, U, U]),
        ([0, 1, 1, 0, 1], [0, 0, 0, 1, 1], [C, M, M, U, G]),  # forgets what it was trained on
        ([0, 1, NAN, 1, 1], [0, 0, 0, NAN, 1], [C, M, -1, -1, G]),
        ([NAN] * 5, [NAN] * 5, [-1] * 5),
        ([0, 1, 1, NAN, NAN], [0, 0, 0, NAN, NAN], [C, M, M, -1, -1]),  # still trained
    ],
)
def test_each_point_of_a_curve_has_its_phase(train, unseen, expected):
    assert phases(np.array([train], float), np.array([unseen], float), STEPS)[0].tolist() == expected


def test_the_share_and_the_delay_may_be_others():
    train, unseen = np.array([[0, 0.6, 0.6, 1, 1]]), np.array([[0, 0, 0.5, 0.6, 1]])
    assert phases(train, unseen, STEPS)[0].tolist() == [C, C, C, M, U]
    assert phases(train, unseen, STEPS, reached=0.6)[0].tolist() == [C, M, M, G, G]
    assert phases(train, unseen, STEPS, reached=0.6, delay=1001)[0].tolist() == [C, M, M, U, U]
    assert phases(train, unseen, STEPS, reached=0.5, delay=500)[0].tolist() == [C, M, G, G, G]
    assert DELAY == 1000


def test_runs_do_not_touch_each_other():
    rng = np.random.default_rng(0)
    train, unseen = rng.random((2, 30, 5))
    together = phases(train, unseen, STEPS, 0.5)
    assert set(together.flatten()) == {C, M, G, U}
    for i in range(30):
        np.testing.assert_array_equal(phases(train[i : i + 1], unseen[i : i + 1], STEPS, 0.5)[0], together[i])


def test_a_share_is_reached_at_the_first_step_that_has_it():
    right = np.array([[0, 0.5, 0.9, 0.3, 1], [0, 0, 0, 0, 0.89], [1, 0, 0, 0, 0], [NAN, NAN, 0.95, 1, 1], [NAN] * 5])
    np.testing.assert_array_equal(reached_at(right, STEPS), [1000, NAN, 0, 1000, NAN])
    np.testing.assert_array_equal(reached_at(right, STEPS, 0.5), [500, 2000, 0, 1000, NAN])


# --- The median over seeds ---


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 8, 9, 10, 20, 31, 100])
def test_the_median_and_its_interval_are_those_of_scipy(n, confidence):
    values = np.random.default_rng(n).normal(size=n)
    found = middle(values, confidence)
    assert found.median == pytest.approx(np.median(values))
    expected = quantile_test(values, p=0.5).confidence_interval(confidence)
    np.testing.assert_array_equal([found.low, found.high], [expected.low, expected.high])


def test_the_interval_of_ten_seeds_is_from_the_second_to_the_ninth():
    found = middle(np.arange(10.0)[::-1])
    assert (found.median, found.low, found.high) == (4.5, 1, 8)
    assert binom.cdf(1, 10, 0.5) <= 0.025 < binom.cdf(2, 10, 0.5)
    five = middle(np.arange(5.0))
    assert five.median == 2
    assert np.isnan([five.low, five.high]).all()  # no interval of five holds with 95 %


@pytest.mark.parametrize(
    ("n_never", "median", "low", "high"),
    [(0, 4.5, 1, 8), (1, 4.5, 1, 8), (2, 4.5, 1, NAN), (4, 4.5, 1, NAN), (5, NAN, 1, NAN), (9, NAN, NAN, NAN)],
)
def test_seeds_that_never_get_there_are_later_than_all_others(n_never, median, low, high):
    values = np.arange(10.0)
    values[10 - n_never :] = NAN
    found = middle(np.random.default_rng(0).permutation(values))
    np.testing.assert_array_equal([found.median, found.low, found.high], [median, low, high])


def test_each_column_has_its_own_median():
    values = np.random.default_rng(0).random((9, 3, 4))
    values[:6, 1, 2] = NAN
    found = middle(values)
    for at in np.ndindex(3, 4):
        one = middle(values[:, *at])
        np.testing.assert_array_equal(
            [found.median[at], found.low[at], found.high[at]], [one.median, one.low, one.high]
        )
    assert np.isnan(found.median[1, 2])


@pytest.mark.parametrize("n", [6, 10, 20])
def test_the_interval_holds_the_median_as_often_as_it_says(n):
    """Of a skewed distribution, in which some never get there."""
    rng = np.random.default_rng(1)
    times = rng.exponential(size=(n, 20_000))
    times = np.where(times > 2.5, NAN, times)
    found = middle(times)
    low, high = np.nan_to_num(found.low, nan=-np.inf), np.nan_to_num(found.high, nan=np.inf)
    holds = ((low <= math.log(2)) & (math.log(2) <= high)).mean()
    below = next(k for k in range(n) if binom.cdf(k, n, 0.5) > 0.025)
    assert holds == pytest.approx(1 - 2 * binom.cdf(below - 1, n, 0.5), abs=0.006)
    assert holds > 0.945


# --- Orders, and what most seeds agree on ---


def wilson(before: int, n: int) -> tuple[float, float]:
    z, share = 1.959963984540054, before / n
    centre = share + z**2 / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (centre - reach) / (1 + z**2 / n), (centre + reach) / (1 + z**2 / n)


@pytest.mark.parametrize(
    ("one", "other", "before", "n"),
    [
        ([1, 2, 3], [2, 3, 4], 3, 3),
        ([1, 5, 3], [2, 3, 4], 2, 3),
        ([1, 2, 3], [1, 2, 4], 1, 1),  # equal steps do not count
        ([1, NAN, 3, NAN], [NAN, 2, NAN, NAN], 2, 3),  # later than any that comes; neither comes
        ([9, 9, 9], [1, 1, 1], 0, 3),
        (list(range(20)), [10.5] * 20, 11, 20),
    ],
)
def test_the_order_of_falls_is_counted_with_a_wilson_interval(one, other, before, n):
    found = order(np.array(one, dtype=float), np.array(other, dtype=float))
    assert (found.before, found.n) == (before, n)
    assert (found.low, found.high) == pytest.approx(wilson(before, n), abs=1e-12)


def test_where_nothing_falls_nothing_is_known_of_the_order():
    found = order(np.array([NAN, 5.0]), np.array([NAN, 5.0]))
    assert (found.before, found.n, found.low, found.high) == (0, 0, 0.0, 1.0)


def test_the_most_frequent_kind_and_how_many_agree():
    kinds = np.array([[0, 1, -1, 2], [0, 2, -1, -1], [1, 1, -1, 2], [3, 2, -1, 0]])
    most, n = agreeing(kinds, 4)
    assert most.tolist() == [0, 1, -1, 2]  # the first of equally frequent ones
    assert n.tolist() == [2, 2, 0, 2]


# --- The losses of runs at common steps ---


def by_hand(values: np.ndarray, steps: list[int], points: list[int], done: int, is_over: bool) -> list[float]:
    found: list[float] = []
    for i, point in enumerate(points):
        after = points[i - 1] if i else -1
        some = [v for v, step in zip(values, steps, strict=True) if after < step <= point and not math.isnan(v)]
        before = found[-1] if found else NAN
        found.append(sum(some) / len(some) if some else before)
    return found if is_over else [v if point <= done else NAN for v, point in zip(found, points, strict=True)]


def trained(folder, training, steps: int | None = None) -> Run:
    run = recorder.create(Runs(folder), "run", TASK, MODEL, training, threads=1)
    left = iter([False] * ((steps or 10**9) - 1) + [True]) if steps else None
    recorder.train(run, should_stop=(lambda: next(left)) if left else (lambda: False))
    return run


@pytest.mark.parametrize(
    ("training", "stop", "points"),
    [
        (TRAINING, None, [0, 10, 20, 30, 40]),
        (TRAINING, None, [0, 1, 2, 3, 40]),
        (TRAINING, None, [0, 50, 100]),  # ends earlier than others
        (TRAINING, 17, [0, 5, 10, 15, 17, 20, 40]),  # still trained
        (FINITE, None, [0, 3, 7, 13, 30]),
        (replace(FINITE, test_every=9), None, [0, 2, 4, 8, 9, 10, 20, 30, 60]),  # some points without a test
        (replace(FINITE, test_every=9), 12, [0, 2, 9, 12, 13, 30]),
        (replace(FINITE, stop_below=50), None, [0, 1, 2, 30]),  # ended below a loss
        (replace(TRAINING, keep="losses", steps=1), None, [0, 1]),
    ],
)
def test_values_at_common_steps_are_means_since_the_step_before(training, stop, points, tmp_path):
    run = trained(tmp_path, training, stop)
    info, metrics = run.info(), run.metrics()
    found = measured(run, np.array(points))
    over = info.status == "done"
    assert (int(found["steps_done"]), bool(found["ended"])) == (info.steps_done, over)
    kinds = ["train", "test"] if training.finite else ["train"]
    assert {name.partition("_")[0] for name in found} == {*kinds, "steps", "ended"}
    for kind in kinds:
        test = "test_" if kind == "test" else ""
        steps = metrics["test_step"].tolist() if test else list(range(info.steps_done))
        for name, values in (("loss", metrics[f"{kind}_loss"]), ("right", metrics[f"{test}accuracy"][:, 0])):
            expected = by_hand(values.double().numpy(), steps, points, info.steps_done, over)
            np.testing.assert_allclose(found[f"{kind}_{name}"].numpy(), expected, rtol=1e-6)
        for token in range(len(TASK.loss_names)):
            values = metrics[f"{kind}_loss_per_token"][:, token].double().numpy()
            expected = by_hand(values, steps, points, info.steps_done, over)
            np.testing.assert_allclose(found[f"{kind}_per_token"][:, token].numpy(), expected, rtol=1e-3)
        assert found[f"{kind}_fall"].shape == (len(TASK.loss_names),)


def test_a_run_that_was_only_created_has_no_losses(tmp_path):
    run = recorder.create(Runs(tmp_path), "run", TASK, MODEL, TRAINING)
    found = measured(run, np.array([0, 40]))
    assert {name: value.item() for name, value in found.items()} == {"steps_done": 0, "ended": False}


def test_a_run_that_goes_on_beyond_the_last_common_step_is_looked_at_up_to_there(tmp_path):
    run = trained(tmp_path, TRAINING)
    before = measured(run, np.array([0, 20, 40]))
    recorder.extend(run, 60)
    recorder.train(run)
    after = measured(run, np.array([0, 20, 40]))
    for name in ("train_loss", "train_right", "train_per_token"):
        torch.testing.assert_close(after[name][:2], before[name][:2], rtol=0, atol=0)
        assert after[name].isfinite().all()


def test_the_step_of_a_fall_is_that_of_the_phases_of_the_run():
    """A made-up loss that falls at step 300."""
    steps = torch.arange(1000)
    losses = (2.3 / (1 + ((steps - 300) / 10).exp()))[:, None].expand(-1, len(TASK.loss_names))
    falls = how._falls(TASK, losses.float(), steps)
    assert falls.tolist() == pytest.approx([300] * len(TASK.loss_names), abs=5)
    apart = how._falls(TASK, losses[::10].float(), steps[::10])
    assert apart.tolist() == pytest.approx([300] * len(TASK.loss_names), abs=15)
    assert how._falls(TASK, torch.full((100, 3), 2.0), torch.arange(100)).isnan().all()
    assert how._falls(TASK, torch.full((1, 3), 2.0), torch.arange(1)).isnan().all()


def test_common_steps_reach_to_the_end_of_the_longest_run(tmp_path):
    assert points_of(made(tmp_path, tiny(60), name="short").info()).tolist() == list(range(61))
    long = points_of(made(tmp_path, tiny(60, over=["warmup=1,2"]), name="same").info())
    assert long.tolist() == list(range(61))
    swept = made(tmp_path, tiny(1, over=["finite=10,20"]), name="one").info()
    assert points_of(swept).tolist() == [0, 1]
    many = points_of(made(tmp_path, tiny(100_000), name="long").info())
    assert (len(many), many[0], many[1], many[-1]) == (201, 0, 500, 100_000)


# --- Files ---


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Sweep:
    """A sweep with made-up outcomes."""
    sweep = made(tmp_path_factory.mktemp("written"), tiny(50, "finite=20"))
    collected, rng = Collected(sweep), torch.Generator().manual_seed(0)
    for cell in sweep.info().cells[:4]:
        n_tokens = len(cell.plan.task.loss_names)
        found = {"steps_done": torch.tensor(50), "ended": torch.tensor(True)}
        for kind in ("train", "test"):
            found |= {f"{kind}_{name}": torch.rand(51, generator=rng) for name in ("loss", "right")}
            found[f"{kind}_per_token"] = torch.rand(51, n_tokens, generator=rng).half()
            found[f"{kind}_fall"] = torch.rand(n_tokens, generator=rng)
        collected.add(cell.name, found)
    collected.problems = {sweep.info().cells[4].name: "It failed."}
    with sweep.alone() as check:
        collected.write(check)
    return sweep


@pytest.fixture
def spoilt(written, tmp_path) -> Sweep:
    """A copy that may be spoilt."""
    shutil.copytree(written.folder, tmp_path / "sweep")
    return Sweep(Runs(tmp_path), "sweep")


def test_outcomes_come_back_as_they_were_written(written):
    known, cells = read_outcomes(written), written.info().cells
    assert known.ended.tolist() == [True] * 4 + [False] * 2
    assert known.steps_done.tolist() == [50] * 4 + [0] * 2
    assert dict(known.problems) == {cells[4].name: "It failed."}
    stored = load_file(written.folder / OUTCOMES)
    for kind, outcome in known.of.items():
        for name in how.ARRAYS:
            np.testing.assert_array_equal(getattr(outcome, name), stored[f"{kind}_{name}"].float().numpy())
        assert np.isnan(outcome.loss[4:]).all()
    assert known.unseen is known.of["test"]
    assert Collected(written).missing == [cell.name for cell in cells[4:]]
    with written.alone() as check:
        Collected(written).write(check)
    assert_close(load_file(written.folder / OUTCOMES), stored, 0.0)


def test_nothing_is_known_of_a_sweep_without_outcomes(tmp_path):
    assert read_outcomes(made(tmp_path, tiny(50))) is None


CHANGES = {
    "a run fewer": lambda t: {name: x if name == "points" else x[:-1] for name, x in t.items()},
    "a point fewer": lambda t: {**t, "train_loss": t["train_loss"][:, :-1]},
    "other points": lambda t: {**t, "points": t["points"] + 1},
    "another type": lambda t: {**t, "train_loss": t["train_loss"].double()},
    "numbers for truths": lambda t: {**t, "ended": t["ended"].long()},
    "nothing of the ends": lambda t: {name: x for name, x in t.items() if name != "ended"},
    "no shares": lambda t: {name: x for name, x in t.items() if name != "test_right"},
    "no losses": lambda t: {name: x for name, x in t.items() if name != "test_loss"},
    "a strange name": lambda t: {**t, "strange": torch.zeros(1)},
    "fewer axes": lambda t: {**t, "train_per_token": t["train_per_token"][..., 0]},
    "nothing of it": lambda t: {"weights": torch.zeros(3)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_outcomes_of_something_else_get_one_sentence(change, spoilt):
    path = spoilt.folder / OUTCOMES
    save_file({name: x.contiguous() for name, x in change(load_file(path)).items()}, path, {"problems": "{}"})
    for read in (read_outcomes, Collected):
        with pytest.raises(UserError, match=r"^sweep/outcomes.safetensors does not hold the outcomes of this sweep; "):
            read(spoilt)


@pytest.mark.parametrize("problems", ["{", "[]", "null", "7", '{"a":' * 100_000], ids=lambda text: text[:6])
def test_problems_that_are_none_get_one_sentence(problems, spoilt):
    path = spoilt.folder / OUTCOMES
    save_file(load_file(path), path, {"problems": problems})
    with pytest.raises(UserError, match="does not hold the outcomes of this sweep"):
        read_outcomes(spoilt)


def test_problems_are_shown_as_text_and_only_those_of_its_runs(spoilt):
    path, name = spoilt.folder / OUTCOMES, spoilt.info().cells[5].name
    told = {name: "\x1b[2J" + "x" * 10_000, "stranger": "hello", spoilt.info().cells[0].name: {"a": [1]}}
    save_file(load_file(path), path, {"problems": json.dumps(told)})
    known = read_outcomes(spoilt).problems
    assert set(known) == {name, spoilt.info().cells[0].name}
    assert len(known[name]) <= 500
    assert all(text.isprintable() for text in known.values())


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 100, b"\x08" + b"\0" * 7 + b"{}nonsen"])
def test_damaged_outcomes_get_one_sentence(content, spoilt):
    (spoilt.folder / OUTCOMES).write_bytes(content)
    with pytest.raises(UserError, match=r"outcomes.safetensors") as refused:
        read_outcomes(spoilt)
    assert str(refused.value).count("\n") == 0


def test_truncated_outcomes_get_one_sentence(spoilt):
    path = spoilt.folder / OUTCOMES
    whole = path.read_bytes()
    for n in (1, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(UserError, match=r"outcomes.safetensors"):
            read_outcomes(spoilt)
