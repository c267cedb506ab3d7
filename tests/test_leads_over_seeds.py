"""What led the fall over the seeds of a sweep: on runs whose weights and losses change at known steps."""

import math
import re
import shlex
from itertools import count

import numpy as np
import pytest
import torch

from explorer.analysis.attribution import direct_logit_attribution
from explorer.analysis.leads import SweptLead, leads, over_seeds
from explorer.analysis.outcomes import Middle, Order
from explorer.cli.main import main
from explorer.film.panels.curves import Curves
from explorer.film.panels.strip import Strip
from explorer.options import resolve
from explorer.runs import Runs
from explorer.tasks.induction import Induction
from explorer.training.sweep import command, parsed
from explorer.views import get_view, leads_over_seeds
from explorer.views.leads import fall_of
from explorer.views.leads_over_seeds import Options
from explorer.views.opening import open_scene
from explorer.views.over_training import N_PARTS, falls, families
from explorer.views.subject import Subject
from explorer.views.swept import Swept, named, seen
from explorer.views.view import Links, Note, Table
from tests.leading import FALLS, LAGS, NAME, NORM, known_sweep, trained
from tests.pages import address, grown, header, healthy, opening


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """Seven seeds with known falls; the loss never falls in an eighth; and three without snapshots."""
    folder = tmp_path_factory.mktemp("leads")
    known_sweep(folder, 7)
    trained(folder, "losses", 20, "losses", "0-2")
    return folder


@pytest.fixture
def known(sweeps) -> Swept:
    found = seen(named(Runs(sweeps), "known"))
    assert isinstance(found, Swept)
    return found


def options(fall: str = NAME, cell: str = "seed-0") -> Options:
    return Options(fall, cell)


VIEW = get_view("leads-over-seeds")


# --- The view ---


def test_known_leads_are_found_in_every_seed(known):
    film = VIEW.whole_film(known, "", options())
    curves, strip = film.panels
    assert isinstance(strip, Strip)
    assert strip.names == [[f"seed {i}" for i in range(7)]]
    row, fall = strip.rows.index(NORM), strip.rows.index(f"the fall: loss of {NAME}")
    at = strip.median[0, fall]
    assert at == pytest.approx(np.median(FALLS), abs=8)
    assert (strip.marks[0, fall] == at).all()
    np.testing.assert_allclose(strip.marks[0, row] - at, LAGS, atol=12)
    assert strip.median[0, row] - at == pytest.approx(-60, abs=12)
    assert strip.low[0, row] < strip.median[0, row] < strip.high[0, row]
    # All losses, shifted, fall at the same step.
    assert isinstance(curves, Curves)
    for i, line in enumerate(curves.lines):
        steepest = fall_of(Subject.load(known.sweep.run(f"seed-{i}")), NAME).steepest
        assert steepest == pytest.approx(FALLS[i], abs=8)
        assert np.isin((line.steps - at + steepest).round(6), known.known.points).all()
        assert 0 <= line.steps[0] < line.steps[-1] <= film.steps[-1]
    assert len(film.look) == len(film.steps)


def test_the_sentence_the_table_and_the_picture_say_the_same(known):
    strip = VIEW.whole_film(known, "", options()).panels[1]
    items = VIEW.below(known, "", options())
    (table,) = [item for item in items if isinstance(item, Table)]
    columns = {name: dict(zip(table.columns["measure"], cells, strict=True)) for name, cells in table.columns.items()}
    row, fall = strip.rows.index(NORM), strip.rows.index(f"the fall: loss of {NAME}")
    low, median, high = (
        round(getattr(strip, name)[0, row] - strip.median[0, fall]) for name in ("low", "median", "high")
    )
    assert [columns[name][NORM] for name in ("median lag", "lag from", "lag to")] == [median, low, high]
    # Five of seven led: of the others one cannot be told apart, and one followed.
    assert columns["led"][NORM] == "5 of 6"
    assert columns["not told apart"][NORM] == 1
    said = [item.text for item in items if isinstance(item, Note) and item.is_line]
    interval = f"{-high} to {-low}"
    expected = f"The {NORM} led the fall by {-median} steps ({interval}) in 5 of 7 seeds; it followed in 1 and cannot"
    assert said[[NORM in sentence for sentence in said].index(True)].startswith(expected)
    told = " ".join(item.text for item in items if isinstance(item, Note) and item.is_caption)
    assert f"The loss of {NAME} never falls in seed 7." in told
    assert "need not be the cause" in told


def test_it_is_what_each_run_says_alone(known):
    tables = []
    for i in range(7):
        one = Subject.load(known.sweep.run(f"seed-{i}"))
        of_all = [family.of_any_model() for found in families(one, NAME) for family in found]
        tables.append(leads(fall_of(one, NAME), [measure for measure in of_all if measure]))
    expected = {one.measure: one for one in over_seeds(tables)}
    (table,) = [item for item in VIEW.below(known, "", options()) if isinstance(item, Table)]
    for name, led, untold in zip(*(table.columns[key] for key in ("measure", "led", "not told apart")), strict=True):
        assert led == f"{expected[name].led.before} of {expected[name].led.n}"
        assert untold == expected[name].n_untold


def test_the_film_grows_run_by_run_to_what_it_is_at_once(known):
    films = list(VIEW.films(known, "", options()))
    assert [share for _, share in films] == pytest.approx([n / 8 for n in range(9)])
    assert [len(film.panels[1].names[0]) for film, _ in films] == [0, 1, 2, 3, 4, 5, 6, 7, 7]
    at_once = VIEW.film(known, "", options())
    np.testing.assert_array_equal(films[-1][0].panels[1].marks, at_once.panels[1].marks)


def test_a_loss_that_falls_in_no_seed_is_told_and_nothing_breaks(known):
    quiet = options("A → 0")
    film = VIEW.whole_film(known, "", quiet)
    losses, strip = film.panels
    assert len(losses.lines) == 8  # of all runs, as they are
    assert strip.rows == ["the fall: loss of A → 0"]
    assert np.isnan(strip.median).all()
    assert film.packed
    (note, *_) = VIEW.below(known, "", quiet)
    assert note.text.startswith("The loss of A → 0 never falls in seed 0, seed 1")


def test_a_run_that_cannot_be_read_is_named_and_the_others_are_shown(sweeps, known, tmp_path):
    path = known.sweep.run("seed-2").folder
    moved = [(one, tmp_path / one.name) for one in sorted((path / "snapshots").iterdir())]
    for one, there in moved:
        one.rename(there)
        one.write_bytes(b"nothing")
    try:
        again = seen(named(Runs(sweeps), "known"))
        assert len(VIEW.film(again, "", options()).panels[1].names[0]) == 6
        told = [item.text for item in VIEW.below(again, "", options()) if isinstance(item, Note) and item.is_error]
        assert len(told) == 1
        assert told[0].startswith("seed 2: ")
    finally:
        for one, there in moved:
            there.rename(one)


def test_without_snapshots_it_says_which_command_keeps_them(sweeps, capsys):
    swept = seen(named(Runs(sweeps), "losses"))
    said = VIEW.unavailable(swept, "", options())
    again = re.fullmatch(r"The snapshots of losses were not kept, .*; keep them with: python -m explorer (.+)", said)[1]
    words = shlex.split(again)
    assert words[-4:] == ["--keep", "all", "--name", "losses-all"]
    assert main([*words, "--dry-run", "--checkpoints", str(sweeps)]) == 0
    assert "losses-all: 3 runs" in capsys.readouterr().out


@pytest.mark.parametrize("seeds", ["0-9", "0,2,3", "7"])
def test_the_command_of_a_plan_trains_this_plan(seeds):
    plan = parsed(Induction, "quick", ["steps=30", "answers=all", "keep=all"], ["lr=0.001,0.01"], seeds)
    words = shlex.split(command(plan, "again", "all"))
    assert words[:7] == ["python", "-m", "explorer", "sweep", "induction", "--preset", "quick"]
    pairs = list(zip(words[5::2], words[6::2], strict=True))
    values = {key: [value for name, value in pairs if name == key] for key, _ in pairs}
    again = parsed(Induction, "quick", [*values["--set"], "keep=all"], values["--over"], *values["--seeds"])
    assert again == plan


# --- Sentences ---


def told(led: int, followed: int, untold: int, still: int, median: float, low: float, high: float) -> str:
    lag = Middle(*(np.array(float(value)) for value in (median, low, high)))
    n = led + followed + untold + still
    one = SweptLead("induction score", lag, Order(led, n - untold, 0.0, 1.0), followed, untold, n)
    return leads_over_seeds._sentence(one)


def test_the_sentence_says_what_most_seeds_do():
    assert told(18, 0, 2, 0, -40, -70, -20) == (
        "The induction score led the fall by 40 steps (20 to 70) in 18 of 20 seeds; it cannot be told apart in 2."
    )
    assert told(0, 7, 0, 1, 1.2, -3, 9) == (
        "The induction score followed the fall by 1 step (-3 to 9) in 7 of 8 seeds; it does not change near it in 1."
    )
    assert told(2, 0, 0, 0, -8, math.nan, math.nan) == "The induction score led the fall by 8 steps in 2 of 2 seeds."
    assert told(1, 1, 3, 0, 2, -9, 9) == (
        "The induction score cannot be told from the fall in 3 of 5 seeds; it led in 1 and followed in 1."
    )
    assert told(1, 0, 0, 4, math.nan, -9, math.nan) == (
        "The induction score does not change near the fall in 4 of 5 seeds; it led in 1."
    )


# --- Measures of a run ---


def test_attributions_are_means_over_examples_and_the_largest_of_all_parts_is_compared(copies):
    for fall, tokens in list(falls(copies.task).items())[:3]:
        found = [family for part in families(copies, fall) for family in part if family.name.startswith("attribution")]
        (heads,) = found
        batch = copies.unseen()
        whole = 0
        for row in range(len(batch.tokens)):
            example = copies.task.encode(copies.first_example)
            one = batch.rows(slice(row, row + 1))
            as_example = type(example)("", one.tokens[0], 0, one.positions[0], one.targets[0], example.places)
            whole += direct_logit_attribution(copies.ensemble, as_example, centred=True).values / len(batch.tokens)
        names = direct_logit_attribution(copies.ensemble, copies.task.encode(copies.first_example)).components
        places = [names.index(part) for (part,) in heads.parts]
        expected = whole[:, tokens].mean(1)[:, places]
        torch.testing.assert_close(heads.values, expected.double(), rtol=1e-4, atol=1e-5)
        best = heads.of_any_model()
        assert best.name == "largest attribution of a head"
        torch.testing.assert_close(best.values, expected.amax(1).double(), rtol=1e-4, atol=1e-5)


def test_only_parts_that_become_prominent_are_told_one_by_one(copies):
    for family in (family for part in families(copies, "copy 1") for family in part):
        shown = list(family.each())
        if family.name.startswith("K-composition"):
            assert len(shown) == 3
        elif "score" in family.name:
            largest = dict(zip(family.parts, family.values.amax(0).tolist(), strict=True))
            assert {curve.parts for curve in shown} == {parts for parts, value in largest.items() if value >= 0.2}
        for curve in shown:
            assert all(part in curve.measure.name for part in curve.parts)


def test_measures_are_worked_out_once_and_each_token_has_a_fall(copies):
    one, again = (list(families(copies, "copy 2")) for _ in range(2))
    assert len(one) == N_PARTS
    assert all(a is b for mine, other in zip(one, again, strict=True) for a, b in zip(mine, other, strict=True))
    assert list(falls(copies.task))[:3] == ["copy 1", "copy 2", "copy 1, token 2"]
    assert len(falls(copies.task)) == 2 + len(copies.task.loss_names)
    counted = count()
    assert [copies.once(lambda subject, n: next(counted), 5) for _ in range(2)] == [0, 1]  # two functions
    assert [copies.once(_counted, i) for i in (1, 1, 2)] == [(copies.name, 1), (copies.name, 1), (copies.name, 2)]


def _counted(subject, n: int) -> tuple[str, int]:
    return subject.name, n


# --- Pages ---


def test_it_opens_in_parts_and_leads_to_a_run_in_which_it_can_be_tested(sweeps, monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(sweeps))
    app = opening("leads-over-seeds", run="known", fall=NAME)
    assert not app.exception
    assert not app.dataframe  # what is below the film comes when it is whole
    grown(app)
    assert healthy(app)
    assert [panel["kind"] for panel in header(app)["panels"]] == ["curves", "strip"]
    (button,) = [one for one in app.button if one.label == "seed 3"]
    button.click().run()
    scene = address(app)
    assert (scene.view, scene.run, dict(scene.options)["fall"]) == ("leads", "known/seed-3", NAME)


def test_a_sweep_without_snapshots_says_so_on_the_page(sweeps, monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(sweeps))
    app = opening("leads-over-seeds", run="losses")
    assert not app.exception
    assert "python -m explorer sweep skip-trigram --preset quick" in app.info[0].value.replace("\\", "")


def test_the_scene_opens_on_the_command_line(sweeps):
    opened = open_scene(f"leads-over-seeds?run=known&fall={NAME}", Runs(sweeps))
    assert opened.options == resolve(Options, opened.subject, "", {"fall": NAME})[0]
    assert [panel.id for panel in opened.film().panels] == ["losses", "changes-over-seeds"]
    assert not [item for item in opened.view.below(opened.subject, "", opened.options) if isinstance(item, Links)][1:]
