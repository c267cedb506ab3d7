"""Snapshots that cannot be computed with: named once, a gap in every film, and everything else as without them."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explorer.cli.main import main
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels import KINDS
from explorer.film.panels.bars import Bars
from explorer.film.panels.columns import Columns
from explorer.film.panels.curves import Curves, Line
from explorer.film.panels.diagram import Diagram
from explorer.film.panels.graph import Graph
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.panel import GAP, Panel
from explorer.film.panels.plane import Plane
from explorer.film.panels.raster import Raster
from explorer.film.panels.scatter import Scatter
from explorer.film.panels.strip import Strip
from explorer.film.panels.text import Text
from explorer.film.panels.tokens import Tokens
from explorer.options import resolve
from explorer.runs import Run, Runs, recorder
from explorer.views import compare
from explorer.views.subject import Subject
from tests.conftest import MODEL, RUN_VIEWS, TASK, TRAINING
from tests.films import of, plane, strip
from tests.pages import INSIDE, PAGES, header, healthy, opening, warnings
from tests.spoilt import HOW, every_way, rewrite, spoil, without

MOVING = {  # what differs between frames
    Bars: ("values", "predicted"),
    Columns: ("values",),
    Heatmaps: ("values",),
    Plane: ("values",),
    Scatter: ("x", "y"),
    Diagram: ("attention", "added", "probability"),
    Graph: ("values", "kept"),
    Tokens: ("answers", "probabilities"),
    Text: ("blocks",),
    Strip: (),
}


def in_frame(panel: Panel, frame: int) -> list[Any]:
    """What a panel shows in one frame and in no other."""
    if isinstance(panel, Curves):
        values = [(line.steps[frame], line.values[frame]) for line in panel.lines] if panel.by_frame else []
        return values if panel.at is None else [*values, panel.at[frame]]
    if isinstance(panel, Raster):
        return [panel.steps[frame], panel.values[:, frame]] if panel.by_frame else []
    moving = [getattr(panel, name) for name in MOVING[type(panel)]]
    return [values[frame] for values in moving if len(values) > 1]


def in_all_frames(panel: Panel) -> Any:
    """What a panel shows in every frame."""
    constant = {field.name: getattr(panel, field.name) for field in dataclasses.fields(panel)}
    del constant["gaps"]
    constant.pop("at", None)
    if isinstance(panel, Curves) and panel.by_frame:
        constant["lines"] = [{**vars(line), "steps": None, "values": None, "interval": None} for line in panel.lines]
    if isinstance(panel, Raster) and panel.by_frame:
        del constant["steps"], constant["values"]
    for name in MOVING.get(type(panel), ()):
        if len(constant[name]) != 1:
            del constant[name]
    return constant


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    elif dataclasses.is_dataclass(one):
        assert_same(vars(one), vars(other))
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    else:
        assert one == other or (one != one and other != other)


def is_empty(panel: Panel, frame: int) -> bool:
    """Whether a panel has no value in a frame, and says so."""
    assert frame in panel.gaps
    match panel:
        case Text():
            return panel.blocks[frame] == GAP
        case Tokens():
            return bool((panel.answers[frame] == -1).all() and np.isnan(panel.probabilities[frame]).all())
        case Bars():
            assert not panel.predicted or set(panel.predicted[frame]) == {""}
            return bool(np.isnan(panel.values[frame]).all())
        case Curves():
            return all(np.isnan(line.values[frame]) for line in panel.lines)
        case Raster():
            return bool(np.isnan(panel.values[:, frame]).all())
        case _:
            return all(np.isnan(values).all() for values in in_frame(panel, frame))


NOT_OPENED = {"plane", "strip", "pairs"}  # kinds of sweeps, the same in all frames, or of measures that these runs lack
FEW_WAYS = ("infinite", "logits overflow")  # of which each view is opened in its first way only


@pytest.fixture
def two(small, copies, tmp_path) -> Runs:
    """A folder with a run of addition, with MLPs, and one of induction, without, that may be spoilt."""
    for run in (small, copies.run):
        shutil.copytree(run.folder, tmp_path / "spoilt" / run.name)
    return Runs(tmp_path / "spoilt")


@pytest.mark.parametrize(
    ("name", "how", "step"),
    [
        ("small", "nan", 0),
        ("copies", "infinite", 20),
        ("small", "logits overflow", 40),
        ("copies", "norms overflow", 10),
    ],
)
def test_a_bad_snapshot_is_a_gap_and_every_film_is_otherwise_that_of_the_run_without_it(two, name, how, step, tmp_path):
    run = two.open(name)
    reference = Subject.load(without(run, step, tmp_path / "reference"))
    spoil(run, step, how)
    subject = Subject.load(run)
    assert subject.gaps == (step,)
    assert subject.frames == (0, 10, 20, 30, 40)
    assert subject.steps == reference.steps
    partner = Subject.load(two.open({"small": "copies", "copies": "small"}[name]))
    shown, opened = set(), set()
    for view, options in every_way(subject):
        if how in FEW_WAYS and view.name in opened:
            continue
        if view.unavailable(subject, subject.first_example, options):
            continue
        opened.add(view.name)
        second = partner if view.second_run(options) else None
        film, expected = (view.whole_film(one, one.first_example, options, second) for one in (subject, reference))
        gap = film.steps.index(step)
        kept = [frame for frame in range(len(film.steps)) if frame != gap]
        assert [film.steps[frame] for frame in kept] == list(expected.steps)
        for panel, whole in zip(film.panels, expected.panels, strict=True):
            assert_same(in_all_frames(panel), in_all_frames(whole))
            for frame, there in zip(kept, range(len(expected.steps)), strict=True):
                assert_same(in_frame(panel, frame), in_frame(whole, there))
            if in_frame(panel, gap) and panel.id != "where" and not panel.id.endswith("-beside"):  # another run's
                assert is_empty(panel, gap), (view.name, panel.id)
                if panel.kind not in shown and panel.has_figure:
                    assert film.figure(panel.id, step).data
                shown.add(panel.kind)
            else:
                assert not panel.gaps
        assert film.packed  # strict JSON
    assert how in FEW_WAYS or shown == set(KINDS) - NOT_OPENED


def test_a_second_run_has_its_own_gaps(two):
    one, other = two.open("small"), two.open("copies")
    spoil(one, 10, "nan")
    spoil(other, 30, "nan")
    whole = compare.film(*(Subject.load(run) for run in (one, other)), "48+76", "step")
    assert whole.steps == (0, 10, 20, 30, 40)
    gaps = {panel.id: list(panel.gaps) for panel in whole.panels if isinstance(panel, Tokens | Heatmaps)}
    assert gaps == {"answers": [1], "patterns": [1], "answers-beside": [3], "patterns-beside": [3]}
    (where,) = of(Text, whole)
    assert where.blocks[1] == f"small at step 10 ({GAP})    copies at step 10"
    assert where.blocks[3] == f"small at step 30    copies at step 30 ({GAP})"
    assert whole.panels[3].at.tolist() == [0, 10, 20, 30, 40]  # losses are recorded while training: they have no gap


@pytest.mark.parametrize("how", HOW)
def test_bad_snapshots_are_named_in_one_sentence(copied, how):
    for step in (10, 40):
        spoil(copied, step, how)
    (problem,) = Subject.load(copied).problems
    assert problem.startswith("small has gaps at steps 10 and 40: weights there are not finite or too large")
    assert "\n" not in problem


def test_one_bad_weight_spoils_a_snapshot(copied):
    def change(name, weight):
        weight.view(-1)[-1] = torch.inf if name == "blocks.1.mlp.b_out" else weight.view(-1)[-1]
        return weight

    rewrite(copied.snapshot_file(20), change)
    assert Subject.load(copied).gaps == (20,)


def test_large_weights_that_can_be_computed_with_are_shown(copied):
    rewrite(copied.snapshot_file(20), lambda name, weight: weight * 10)
    subject = Subject.load(copied)
    assert subject.gaps == ()
    assert subject.problems == ()


def test_a_run_without_a_good_snapshot_is_refused_in_one_sentence(copied):
    for step in copied.steps():
        spoil(copied, step, "logits overflow")
    with pytest.raises(UserError, match=r"^No snapshot of small can be computed with: .*; restore the files, or"):
        Subject.load(copied)


def test_a_run_that_is_being_trained_is_checked_once(tmp_path):
    run = recorder.create(Runs(tmp_path), "growing", TASK, MODEL, TRAINING)
    seen: list[Any] = []
    recorder.train(run, on_update=seen.append, should_stop=lambda: len(seen) == 25)
    spoil(run, 10, "nan")
    before = Subject.load(run)
    assert (before.steps, before.gaps) == ((0, 20), (10,))
    before.ensemble.weights["embed.W_E"][1, 0, 0] = torch.inf  # would be a gap if it were checked again
    recorder.train(run)
    spoil(run, 30, "nan")
    after = Subject.load(run, before)
    assert (after.steps, after.gaps) == ((0, 20, 40), (10, 30))
    assert after.ensemble.weights["embed.W_E"][1, 0, 0] == torch.inf
    assert [problem.split(":")[0] for problem in after.problems] == ["growing has gaps at steps 10 and 30"]
    whole = run.ensemble([0, 20, 40])
    np.testing.assert_array_equal(after.ensemble.weights["blocks.1.attn.W_V"], whole.weights["blocks.1.attn.W_V"])
    again = Subject.load(run, after)
    assert again.ensemble is after.ensemble
    assert again.frames == (0, 10, 20, 30, 40)


# --- Snapshots with the same weights ---


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ((10, 20), "The snapshots of small at steps 10 and 20 have the same weights."),
        ((0, 20, 40), "The snapshots of small at steps 0, 20 and 40 have the same weights."),
        ((0, 10, 20, 30, 40), "All 5 snapshots of small have the same weights."),
    ],
)
def test_snapshots_with_the_same_weights_are_named(copied, steps, sentence):
    weights = copied.snapshot(steps[0])
    for step in steps[1:]:
        rewrite(copied.snapshot_file(step), lambda name, weight: weights[name].contiguous())
    assert Subject.load(copied).problems == (sentence,)


def test_two_groups_get_a_sentence_each_and_equal_samples_do_not_count(copied):
    for one, other in ((0, 30), (10, 20)):
        weights = copied.snapshot(one)
        rewrite(copied.snapshot_file(other), lambda name, weight, weights=weights: weights[name].contiguous())
    assert [problem.split(" have")[0] for problem in Subject.load(copied).problems] == [
        "The snapshots of small at steps 0 and 30",
        "The snapshots of small at steps 10 and 20",
    ]

    def change(name, weight):
        weight.view(-1)[-1] += name == "embed.W_E"
        return weight

    rewrite(copied.snapshot_file(30), change)
    assert len(Subject.load(copied).problems) == 1


def test_warm_up_begins_with_an_update_that_changes_nothing(tmp_path):
    training = dataclasses.replace(TRAINING, steps=3, snapshot_every=1, warmup=2)
    run = recorder.create(Runs(tmp_path), "warm", TASK, MODEL, training)
    recorder.train(run)
    weights = run.ensemble().weights["embed.W_E"]
    assert (weights[0] == weights[1]).all()
    assert Subject.load(run).problems == ()


# --- Panels ---


def test_curves_of_another_run_keep_their_place_in_gaps():
    line = Line("all", np.arange(9), np.arange(9.0), 0)
    curves = Curves("loss", "loss", [line], at=np.array([2, 5]))
    film = Film((1, 8), [curves]).with_gaps([0, 4, 9])
    assert film.steps == [0, 1, 4, 8, 9]
    assert film.panels[0].at.tolist() == [2, 2, 2, 5, 5]
    assert not film.panels[0].gaps


def test_a_plane_has_a_gap_and_a_strip_none():
    shown, steps = plane(3)
    film = Film(steps, [shown, strip()]).with_gaps([7])
    cells, marks = film.panels
    assert isinstance(cells, Plane)
    assert is_empty(cells, 1)
    assert not cells.agree[1].any()
    np.testing.assert_array_equal(cells.values[[0, 2, 3]], shown.values)
    np.testing.assert_array_equal(cells.curves, shown.curves)
    assert not marks.gaps
    assert film.figure("plane", 7).data
    assert film.figure("falls", 7).data
    assert film.packed


def test_a_film_without_gaps_is_the_same_film(subject):
    (view, options), *_ = every_way(subject)
    film = view.film(subject, subject.first_example, options)
    assert film.with_gaps(()) is film
    assert film.with_gaps(film.steps[:2]) is film


def test_a_figure_of_a_gap_says_so():
    maps = Heatmaps("m", "Maps", [""], np.ones((1, 1, 2, 2)), ["a", "b"], ["a", "b"], "r", "c", 0.0, 1.0)
    film = Film((10,), [maps]).with_gaps([20])
    assert film.figure("m", 20).layout.title.text == f"Maps, step 20: {GAP}"
    assert film.figure("m", 10).layout.title.text == "Maps, step 10"


# --- Pages and commands ---


@pytest.fixture
def spoilt(two, monkeypatch) -> Run:
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(two.root))
    run = two.open("small")
    spoil(run, 20, "nan")
    return run


@pytest.mark.parametrize("page", [*PAGES.values(), *INSIDE])
def test_every_page_names_the_snapshot_once_and_has_a_gap(spoilt, page):
    app = opening(page, run="small", step="20")
    assert healthy(app)
    assert re.findall(r"has a gap at step \d+", warnings(app)) == ["has a gap at step 20"]
    film = header(app)
    assert film["steps"] == [0, 10, 20, 30, 40]
    assert film["start"] == 20
    gaps = [panel["gaps"] for panel in film["panels"]]
    assert all(gap in ([], [2]) for gap in gaps)
    assert [2] in gaps or page == "losses"
    app.toggle(key="still").set_value(True).run()
    assert healthy(app)


def test_compare_names_the_snapshot_of_the_second_run(spoilt):
    app = opening("compare", run="copies", beside="small")
    assert healthy(app)
    assert warnings(app).startswith("small has a gap at step 20: ")
    assert header(app)["panels"][0]["blocks"][2] == f"copies at step 20    small at step 20 ({GAP})"


@pytest.mark.parametrize("page", ["overview", "circuits", "compare"])
def test_pages_of_a_run_without_a_good_snapshot_say_why(spoilt, page):
    for step in spoilt.steps():
        spoil(spoilt, step, "nan")
    app = opening(page, run="small")
    assert not app.exception
    assert all("No snapshot of small can be computed with" in error.value for error in app.error)
    assert app.error


def test_predict_says_that_there_is_no_answer(spoilt, capsys):
    folder = ["--checkpoints", str(spoilt.folder.parent)]
    assert main(["predict", "small", "48+76=", "--step", "20", "--json", *folder]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out, parse_constant=pytest.fail) == {
        "step": 20,
        "answer": None,
        "correct": None,
        "digits": [],
    }
    assert printed.err.startswith("small gives no answer at step 20: the probabilities there are not finite;")
    assert main(["predict", "small", "48+76=", "--all-steps", *folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("no answer") for line in lines] == [False, False, True, False, False]


def test_an_exported_film_has_the_gap(spoilt, tmp_path, capsys):
    subject = Subject.load(spoilt)
    for view in RUN_VIEWS.values():
        options, _ = resolve(view.options_type, subject, subject.first_example, {})
        if view.unavailable(subject, subject.first_example, options):
            continue
        path = tmp_path / f"{view.name}.html"
        scene = f"{view.name}?run=small&step=20"
        assert main(["film", scene, "-o", str(path), "--checkpoints", str(spoilt.folder.parent)]) == 0
        assert path.stat().st_size > 10_000


def test_runs_with_a_loss_that_is_not_finite_are_listed_in_strict_json(copied, capsys):
    def change(name, values):
        values[-1] = torch.nan
        return values

    rewrite(Path(copied.metrics_file), change)
    assert main(["runs", "--json", "--checkpoints", str(copied.folder.parent)]) == 0
    (row,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert row["final_loss"] is None
