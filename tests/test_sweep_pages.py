"""Sweeps in the app: opened like runs, listed as one thing, started from the page Train."""

import math
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from explorer.analysis.outcomes import COMPREHENSION, CONFUSION, PHASES, middle, reached_at
from explorer.cli.main import main
from explorer.errors import UserError
from explorer.film.panels.plane import Plane
from explorer.runs import Runs
from explorer.runs.sweeps import SweepInfo, create_sweep, open_sweep, sweep_names
from explorer.sweeps.engine import train_sweep
from explorer.sweeps.outcomes import read_outcomes
from explorer.tasks.skip_trigram import SkipTrigram
from explorer.training.sweep import parsed
from explorer.views import get_view
from explorer.views.opening import open_scene
from explorer.views.phase_diagram import COLOURS
from explorer.views.swept import Swept, named, seen
from tests.conftest import until
from tests.pages import address, go_to, header, healthy, opening, press, stop_at, warnings

TINY = ["n_letters=16", "n_triggers=4", "steps=40", "batch_size=32", "test_batch_size=16", "d_model=8", "warmup=0"]


def train(folder, name, over, seeds, keep):
    plan = parsed(SkipTrigram, "quick", [*TINY, f"keep={keep}"], over, seeds)
    sweep = create_sweep(Runs(folder), name, SweepInfo(plan, 2))
    train_sweep(sweep, lambda: ThreadPoolExecutor(1), 1)
    return sweep


@pytest.fixture(scope="module")
def sweeps(root, tmp_path_factory):
    """A plane whose runs keep their first and last weights, seeds that keep losses only, and a run."""
    folder = tmp_path_factory.mktemp("sweeps")
    shutil.copytree(root / "small", folder / "small")
    train(folder, "plane", ["lr=0.01,0.0001", "weight_decay=0.1,1,10"], "0-1", "ends")
    train(folder, "seeds", [], "0-4", "losses")
    return folder


@pytest.fixture
def at(sweeps, monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(sweeps))
    return opening


def subject(folder, name) -> Swept:
    found = seen(named(Runs(folder), name))
    assert isinstance(found, Swept)
    return found


def test_a_sweep_is_opened_like_a_run_at_its_end_with_the_views_of_sweeps(at):
    app = at("overview", run="plane")
    assert healthy(app)
    assert address(app).view == "phase-diagram"
    assert header(app)["panels"][0]["kind"] == "plane"
    assert app.session_state.step == 40
    assert app.selectbox(key="choice.run").options == ["small", "plane", "seeds"]
    labels = [link.proto.label for link in app.get("page_link")]
    assert labels[-3:] == ["Phase diagram", "Seeds", "Leads over seeds"]
    app.selectbox(key="choice.run").set_value("seeds").run()
    assert (address(app).view, address(app).run) == ("seeds", "seeds")
    app.selectbox(key="choice.run").set_value("small").run()
    assert (address(app).view, address(app).run) == ("overview", "small")
    assert healthy(app)


def test_a_click_on_a_cell_opens_its_run_at_that_step(at):
    app = at("phase-diagram", run="plane")
    stop_at(app, 40)
    (name,) = {name for row in header(app)["panels"][0]["runs"] for name in row if "lr-0.01_weight_decay-1.0" in name}
    app.session_state["player"] = {"asked": {"what": f"open {name}", "at": 1}}
    app.run()
    assert healthy(app)
    scene = address(app)
    assert (scene.view, scene.run, scene.step) == ("overview", name, 40)
    assert app.selectbox(key="choice.run").options[0] == name
    again = at("overview", run=name, step="0")
    assert healthy(again)
    assert address(again).run == name


def test_a_run_whose_weights_were_not_kept_says_so(at):
    app = at("seeds", run="seeds")
    app.session_state["player"] = {"asked": {"what": "open seeds/seed-3", "at": 1}}
    app.run()
    assert "Only losses were kept of seeds/seed-3; train its sweep with --keep all" in warnings(app)
    app.session_state["player"] = {"asked": {"what": "open seeds/../small", "at": 2}}
    app.run()
    assert "There is no folder of the run seeds/../small;" in warnings(app)
    assert address(app).run == "seeds"


def test_the_plane_shows_the_phase_that_most_seeds_are_in(sweeps):
    found = subject(sweeps, "plane")
    panel = open_scene("phase-diagram?run=plane", Runs(sweeps)).film().panels[0]
    assert isinstance(panel, Plane)
    assert (panel.rows.labels, panel.columns.labels) == (["0.1", "1.0", "10.0"], ["0.0001", "0.01"])
    assert (panel.rows.log, panel.columns.log) == (True, True)
    assert panel.kinds == PHASES
    right = found.outcomes.unseen.right
    for r, decay in enumerate((0.1, 1.0, 10.0)):
        for c, lr in enumerate((0.0001, 0.01)):
            runs = [i for i, cell in enumerate(found.cells) if cell.values == (lr, decay)]
            assert len(runs) == 2
            learnt = [right[i, -1] >= 0.9 for i in runs]
            expected = COMPREHENSION if all(learnt) else CONFUSION
            assert panel.values[-1, r, c] == expected or sum(learnt) == 1
            assert panel.agree[-1, r, c] == max(sum(learnt), 2 - sum(learnt))
            assert panel.curves[r, c, 0] == pytest.approx(np.median(right[runs], axis=0), nan_ok=True)
    assert (panel.values[0] == CONFUSION).all()  # at step 0 nothing is learnt


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_of_the_plane_is_the_median_of_its_runs(sweeps, colour):
    found = subject(sweeps, "plane")
    panel = open_scene(f"phase-diagram?run=plane&colour={colour}&reached=0.5", Runs(sweeps)).film().panels[0]
    outcome = found.outcomes.unseen
    steps = reached_at(outcome.right, found.outcomes.points, 0.5)
    if colour == "phase":
        assert set(np.unique(panel.values[np.isfinite(panel.values)])) <= {CONFUSION, COMPREHENSION}
        return
    for r in range(3):
        for c in range(2):
            runs = [next(i for i, cell in enumerate(found.cells) if f"plane/{cell.name}" == panel.runs[r][c])]
            runs = [i for i, cell in enumerate(found.cells) if cell.values == found.cells[runs[0]].values]
            of = {"loss": outcome.loss[runs, -1], "delay": steps[runs] * 0}.get(colour, steps[runs])
            expected = np.nan if np.isnan(of).sum() > len(of) / 2 else middle(of[:, None]).median[0]
            assert panel.values[-1, r, c] == pytest.approx(expected, nan_ok=True)


def test_the_axes_of_the_plane_can_be_exchanged(sweeps):
    panel = open_scene("phase-diagram?run=plane&across=weight_decay", Runs(sweeps)).film().panels[0]
    assert (panel.rows.name, panel.columns.name) == ("learning rate", "weight decay")


def test_seeds_shows_the_fall_of_every_loss_of_every_seed(sweeps):
    found, film = subject(sweeps, "seeds"), open_scene("seeds?run=seeds", Runs(sweeps)).film()
    _, strip, raster = film.panels
    falls = found.outcomes.of["train"].fall
    for r, name in enumerate(strip.rows):
        token = found.task.loss_names.index(name)
        assert strip.marks[0, r] == pytest.approx(falls[:, token], nan_ok=True)
    medians = [math.inf if math.isnan(value) else value for value in strip.median[0].tolist()]
    assert medians == sorted(medians)
    assert strip.names == [[f"seed {seed}" for seed in range(5)]]
    assert len(raster.rows) == 4 * 5


def test_two_sweeps_are_compared_in_one_strip(sweeps, at):
    app = at("seeds", run="seeds", beside="plane")
    assert healthy(app)
    assert header(app)["panels"][1]["groups"] == ["seeds", "plane"]
    opened = open_scene("seeds?run=seeds&beside=plane", Runs(sweeps))
    strip = opened.film().panels[1]
    assert strip.groups == ["seeds", "plane"]
    assert strip.names[1] == ["seed 0", "seed 1", "", "", ""]


def test_a_view_of_runs_does_not_open_a_sweep_and_the_reverse(sweeps):
    for line, message in (
        ("overview?run=plane", "The view overview shows runs, and plane is a sweep; its views: phase-diagram, seeds, "),
        ("seeds?run=small", "The view seeds shows sweeps, and small is a run; its views: overview, "),
        ("phase-diagram?run=seeds", "The runs of seeds differ in nothing but their seeds"),
    ):
        with pytest.raises(UserError, match=message.replace(".", r"\.")):
            open_scene(line, Runs(sweeps)).film()


def test_a_sweep_is_exported_and_its_figures_are_drawn(sweeps, tmp_path, capsys):
    for view in ("phase-diagram", "seeds"):
        path = tmp_path / f"{view}.html"
        assert main(["film", f"{view}?run=plane", "-o", str(path), "--checkpoints", str(sweeps)]) == 0
        assert path.stat().st_size > 10_000
        film = open_scene(f"{view}?run=plane", Runs(sweeps)).film()
        for panel in film.figures():
            film.figure(panel, 40).to_dict()
    capsys.readouterr()


def test_runs_lists_a_sweep_as_one_thing_and_deletes_it_with_undo(sweeps, tmp_path, monkeypatch):
    shutil.copytree(sweeps, tmp_path / "runs")
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path / "runs"))
    runs, app = Runs(tmp_path / "runs"), opening("runs", run="plane")
    assert healthy(app)
    assert not app.warning
    text = " ".join(element.value for element in app.markdown).replace("\\", "")
    assert "a sweep · skip trigrams · 2 values of learning rate × 3 values of weight decay · 2 seeds · 12 runs" in text
    app.button(key="Delete.plane").click().run()
    assert healthy(app)
    assert (sweep_names(runs), app.session_state.run) == (["seeds"], "small")
    app.button(key="undo.plane").click().run()
    assert sweep_names(runs) == ["plane", "seeds"]
    app.button(key="Explore.plane").click().run()
    assert healthy(app)
    assert address(app).view == "phase-diagram"


def test_an_unfinished_sweep_goes_on_from_the_page_runs(tmp_path, monkeypatch):
    plan = parsed(SkipTrigram, "quick", [*TINY, "keep=losses"], [], "0-1")
    sweep = create_sweep(Runs(tmp_path), "begun", SweepInfo(plan, 2))
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    app = opening("seeds", run="begun")
    assert not app.exception
    assert "No run of this sweep has measured anything yet" in app.info[0].value
    go_to(app, "runs")
    assert "0 of 80 updates" in app.get("progress")[0].proto.text
    app.button(key="Go on.begun").click().run()
    assert healthy(app)
    until(lambda: not sweep.is_training())
    assert read_outcomes(sweep).ended.all()
    assert healthy(go_to(app, "seeds"))


def test_a_sweep_is_estimated_and_started_from_the_page_train(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    app = opening("train")
    app.selectbox(key="train.task").set_value("skip-trigram").run()
    app.number_input(key="train.skip-trigram.quick.Training.steps").set_value(30).run()
    app.text_input(key="train.sweep.over").set_value("lr=0.01,nope").run()
    assert "lr is 'nope'; it must be a number" in app.error[0].value.replace("\\", "")
    app.text_input(key="train.sweep.over").set_value("lr=0.01,0.001 batch_size=8,16").run()
    app.text_input(key="train.sweep.seeds").set_value("3-4").run()
    press(app, "What would it take?")
    assert healthy(app)
    assert app.info[0].value.startswith("8 runs")
    press(app, "Start 8 runs")
    assert healthy(app)
    sweep = open_sweep(Runs(tmp_path), "skip-trigram-by-lr-batch_size")
    until(lambda: not sweep.is_training())
    info = sweep.info()
    assert info.plan.given == {"steps": 30, "keep": "losses"}
    assert info.plan.over == {"lr": (0.01, 0.001), "batch_size": (8, 16)}
    assert info.plan.seeds == (3, 4)
    assert read_outcomes(sweep).ended.all()


def test_a_sweep_that_cannot_be_read_is_told_and_hides_nothing_else(sweeps, tmp_path, monkeypatch):
    shutil.copytree(sweeps, tmp_path / "runs")
    (tmp_path / "runs" / "plane" / "sweep.json").write_text("{")
    (tmp_path / "runs" / "seeds" / "outcomes.safetensors").write_bytes(b"nothing")
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path / "runs"))
    app = opening("runs")
    assert not app.exception
    told = " ".join(error.value for error in app.error).replace("\\", "")
    assert "plane/sweep.json cannot be read" in told
    assert "seeds/outcomes.safetensors" in told
    assert healthy(opening("overview", run="small"))
    assert get_view("seeds").of_sweeps
