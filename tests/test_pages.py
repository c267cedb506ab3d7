"""Every page, run by Streamlit without a browser."""

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from explorer.pages import shared
from explorer.runs import Run, Runs, jobs, recorder
from explorer.tasks.skip_trigram import SkipTrigram
from tests.conftest import FINITE, MODEL, SHIPPED, TASK
from tests.test_jobs import LONG, until
from tests.test_runs import HOW, spoil

PAGES = {"Watch": "", "Phase changes": "phase-changes", "Attention": "attention", "Activations": "activations"}
PAGES |= {"Try it": "try"}
INSIDE = ("attribution", "circuits", "weights", "interventions", "fourier", "compare")
EXAMPLES = ("choice.named", "interventions.partner")  # what is chosen there is not how something is shown
APP = str(SHIPPED.parent / "streamlit_app.py")


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory):
    """The small run and one on finite data. Not to be changed."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(root / "small", folder / "small")
    recorder.train(recorder.create(Runs(folder), "finite", TASK, MODEL, FINITE))
    return folder


def opening(page: str = "", **query: str) -> AppTest:
    """Opens a page as a new session: ``opening("attention", run="small")``."""
    app = AppTest.from_file(APP, default_timeout=120)
    for name, value in query.items():
        app.query_params[name] = value
    return go_to(app, page)


@pytest.fixture
def opened(folder, monkeypatch):
    """`opening`, on the small runs."""
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(folder))
    return opening


@pytest.fixture
def training(tmp_path, monkeypatch):
    """A folder to train in, whose runs are stopped after the test."""
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    runs = Runs(tmp_path)
    yield runs
    for name in jobs.in_training(runs):
        recorder.request_stop(Run(runs.root / name))
    until(lambda: not jobs.in_training(runs))


def go_to(app: AppTest, page: str) -> AppTest:
    """Change to the page at this place of the URL."""
    app._page_hash = calc_hash(page)
    return app.run()


def header(app: AppTest) -> dict:
    """What the player was given: the JSON header of its film."""
    (player,) = app.get("bidi_component")
    message = player.proto.bytes
    return json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])


def stop_at(app: AppTest, step: int) -> AppTest:
    """What happens when somebody lets go of the player at a step."""
    app.session_state["player"] = {"stopped": {"step": step, "at": step}}
    return app.run()


def healthy(app: AppTest) -> bool:
    return not app.exception and not app.error


@pytest.mark.parametrize("run", ["small", "finite"])
@pytest.mark.parametrize("page", [*PAGES.values(), *INSIDE])
def test_every_page_shows_a_film_of_every_run(opened, folder, page, run):
    app = opened(page, run=run)
    assert healthy(app)
    film = header(app)
    assert tuple(film["steps"]) == Runs(folder).open(run).steps()
    assert "curves" in [panel["kind"] for panel in film["panels"]]


@pytest.mark.parametrize("run", Runs(SHIPPED).names())
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_every_page_shows_every_shipped_run_and_all_its_examples(monkeypatch, page, run):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(SHIPPED))
    app = opening(page, run=run)
    assert healthy(app)
    assert not app.warning
    info = Runs(SHIPPED).open(run).info()
    film = header(app)
    assert tuple(film["steps"]) == info.snapshots
    assert film["panels"][0]["kind"] in ("tokens", "curves")
    for text in info.task.examples.values():
        app.text_input(key="choice.example").set_value(text).run()
        assert healthy(app), text
        assert app.session_state.example == text
        assert header(app)["steps"] == film["steps"]


@pytest.mark.parametrize("run", Runs(SHIPPED).names())
@pytest.mark.parametrize("page", [*INSIDE, "phase-changes", "attention"])
def test_everything_that_can_be_shown_is_shown_of_every_shipped_run(monkeypatch, page, run):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(SHIPPED))
    app = opening(page, run=run)
    steps = list(Runs(SHIPPED).open(run).info().snapshots)
    if page == "fourier" and "addition" not in run:
        assert "no numbers that go around" in app.info[0].value
        return
    seen = set()
    for _ in every_choice(app):
        assert healthy(app)
        film = header(app)
        assert film["steps"] == steps
        shown = str([(panel["title"], panel.get("maps"), panel.get("series")) for panel in film["panels"]])
        assert shown not in seen
        seen.add(shown)


def every_choice(app: AppTest, above: int = 0) -> Iterator[None]:
    """Choose everything that there is to choose between, one after another; what there is may depend on it."""
    groups = [group for group in app.get("button_group") if group.key not in EXAMPLES][above:]
    if not groups:
        yield
        return
    for option in groups[0].options:
        (group,) = [group for group in app.get("button_group") if group.key == groups[0].key]
        if group.value != option:
            group.set_value(option).run()
        yield from every_choice(app, above + 1)


def test_a_shipped_run_of_another_task_brings_its_own_example(monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(SHIPPED))
    app = opening("", run="addition", example="12345+67890")
    app.text_input(key="choice.example").set_value("no sum").run()
    assert app.error
    for name in [*Runs(SHIPPED).names()[1:], "addition"]:
        app.selectbox(key="choice.run").set_value(name).run()
        assert healthy(app)
        assert not app.warning
        header(app)


def test_finite_runs_show_train_and_test(opened):
    lines = header(opened("phase-changes", run="finite"))["panels"][0]["lines"]
    assert [line["label"] for line in lines[:4]] == ["all, train", "all, test", "hundreds", "hundreds, train"]
    assert [line["dashed"] for line in lines[:4]] == [True, False, False, True]


def test_run_step_and_example_stand_in_the_url_and_survive_a_change_of_page(opened):
    app = opened("", run="small", step="20", example="48+76")
    assert header(app)["start"] == 20
    stop_at(app, 30)
    for page in [*PAGES.values(), *INSIDE]:
        go_to(app, page)
        assert healthy(app)
        assert header(app)["start"] == 30
        query = {name: app.query_params[name] for name in ("run", "step", "example")}
        assert query == {"run": "small", "step": "30", "example": "48+76"}


def test_a_stop_of_the_player_does_not_send_the_film_again(opened):
    app = opened("", run="small", step="0")
    before = app.get("bidi_component")[0].proto.bytes
    stop_at(app, 30)
    assert app.get("bidi_component")[0].proto.bytes == before
    assert app.selectbox(key="choice.step").value == 30


def test_the_sidebar_moves_the_player_and_the_player_the_sidebar(opened):
    app = opened("", run="small", step="0")
    stop_at(app, 30)
    app.selectbox(key="choice.step").set_value(10).run()
    assert header(app)["start"] == 10
    app.session_state["player"] = {"stopped": {"step": 30, "at": 2}}  # back to where it was before
    app.run()
    assert app.selectbox(key="choice.step").value == 30


def test_another_run_starts_at_its_own_step_and_keeps_the_example(opened):
    app = opened("", run="small", step="20", example="48+76")
    app.selectbox(key="choice.run").set_value("finite").run()
    assert healthy(app)
    assert tuple(header(app)["steps"]) == (0, 10, 20, 30)
    assert app.query_params["run"] == "finite"
    assert app.session_state.example == "48+76"


def test_two_sessions_do_not_disturb_each_other(opened):
    one, other = opened("", run="small", step="10", example="1+1"), opened("try", run="small", step="20", example="9+9")
    stop_at(one, 40)
    other.run()
    assert (one.session_state.step, one.session_state.example) == (40, "1+1")
    assert (other.session_state.step, other.session_state.example) == (20, "9+9")
    assert header(other)["start"] == 20


@pytest.mark.parametrize("typed", ["abc", "", "123+1", "9" * 100_000, "![x](y) $x$ <b>"])
@pytest.mark.parametrize("page", ["", "try"])
def test_bad_input_gets_one_sentence_and_breaks_nothing(opened, page, typed):
    app = opened(page, run="small")
    app.text_input(key="choice.example").set_value(typed).run()
    assert not app.exception
    assert len(app.error) == 1
    assert "such as 45\\+90" in app.error[0].value
    assert len(app.selectbox(key="choice.run").options) == 2
    app.text_input(key="choice.example").set_value("1+2").run()
    assert healthy(app)
    header(app)


@pytest.mark.parametrize(
    ("query", "said"),
    [({"run": "nope"}, "no run"), ({"run": "**x**](y)"}, r"\*\*x\*\*"), ({"run": "small", "step": "abc"}, "")],
    ids=["unknown run", "markdown", "bad step"],
)
def test_a_bad_url_still_opens(opened, query, said):
    app = opened("", **query)
    assert healthy(app)
    assert [said in warning.value for warning in app.warning] == [True] * bool(said)
    header(app)


def test_a_step_between_snapshots_opens_at_the_nearest(opened):
    assert header(opened("", run="small", step="19"))["start"] == 20


def test_try_shows_answers_and_offers_harder_siblings(opened):
    app = opened("try", run="small", example="48+76=100")
    assert [panel["kind"] for panel in header(app)["panels"]] == ["tokens", "text", "bars", "curves"]
    assert "is wrong" in app.info[0].value
    table = app.dataframe[0].value
    assert table["digit"].tolist() == ["hundreds", "tens", "units"]
    assert table["right answer"].tolist() == ["1", "2", "4"]
    app.button(key="sibling.one carry through nines").click().run()
    assert app.session_state.example == "48+52"
    assert healthy(app)


def test_examples_can_be_picked(opened):
    app = opened("", run="small")
    app.get("button_group")[0].set_value("99+01").run()
    assert app.session_state.example == "99+01"
    assert "".join(header(app)["panels"][0]["prompt"]) == "99+01="


def test_activations_shows_every_hook_point_forward_and_gradient(opened):
    app = opened("activations", run="small")
    names = app.selectbox(key="activations.hook").options
    assert "blocks.1.attn.hook_result" in names
    for kind in ("activation", "gradient"):
        app.get("button_group")[0].set_value(kind).run()
        for name in names:
            app.selectbox(key="activations.hook").set_value(name).run()
            assert healthy(app), name
            panel = header(app)["panels"][1]
            assert name in panel["title"]
            assert len(panel["maps"]) == (2 if ".attn." in name else 1)


def test_attention_can_be_averaged_over_a_batch(opened):
    app = opened("attention", run="small")
    one = header(app)["panels"][1]
    assert one["maps"] == ["L0H0", "L0H1", "L1H0", "L1H1"]
    app.get("button_group")[0].set_value("mean over a batch").run()
    assert healthy(app)
    assert "mean over 32 unseen examples" in header(app)["panels"][1]["title"]


def test_phase_changes_stand_in_a_table_and_smoothing_in_the_film(opened):
    app = opened("phase-changes", run="finite")
    table = app.dataframe[0].value
    assert set(table["digit"]) == {f"{d}, {kind}" for d in ("hundreds", "tens", "units") for kind in ("test", "train")}
    assert header(app)["panels"][0]["smoothing"] == 0.9
    app.select_slider(key="phases.smoothing").set_value(0.5).run()
    assert healthy(app)
    assert header(app)["panels"][0]["smoothing"] == 0.5
    go_to(go_to(app, ""), "phase-changes")
    assert app.select_slider(key="phases.smoothing").value == 0.5


def test_components_are_switched_off_by_name_and_what_there_is_not_is_explained(opened):
    app = opened("interventions", run="small")
    off = app.multiselect(key="interventions.off")
    assert off.value == ["L0H0"]
    assert header(app)["panels"][1]["title"] == "Without L0H0"
    off.set_value(["L1 MLP", "l0n3"]).run()
    assert healthy(app)
    assert header(app)["panels"][1]["title"] == "Without L1 MLP, L0N3"
    app.multiselect(key="interventions.off").set_value(["L1H0", "<b>L9H9", "L7H0", " "]).run()
    assert not app.exception
    assert "no part of a model" in app.error[0].value
    assert "There is no L7H0" in app.error[1].value
    assert header(app)["panels"][1]["title"] == "Without L1H0"
    app.multiselect(key="interventions.off").set_value([]).run()
    assert healthy(app)
    assert header(app)["panels"][1]["title"] == "With nothing ablated"


def test_a_second_example_is_patched_and_a_bad_one_explained(opened):
    app = opened("interventions", run="small", example="48+76")
    app.get("button_group")[0].set_value("patch").run()
    assert healthy(app)
    assert app.text_input(key="interventions.second").value == "48+52"
    assert app.selectbox(key="interventions.answer").options == ["tens: 2 or 0", "units: 4 or 0"]
    film = header(app)
    for text, said in (("76+48", "the same right answers"), ("no sum", "is not a sum")):
        app.text_input(key="interventions.second").set_value(text).run()
        assert not app.exception
        assert len(app.error) == 1
        assert said in app.error[0].value
        assert app.text_input(key="interventions.second").value == text
        assert header(app) == film  # what was there stays
    app.text_input(key="interventions.second").set_value(" ").run()
    assert healthy(app)
    assert "Type a second sum" in app.info[0].value
    app.text_input(key="interventions.second").set_value("11+22").run()
    assert healthy(app)
    app.selectbox(key="interventions.answer").set_value(2).run()
    assert "for 4 rather than 3, units" in header(app)["panels"][1]["title"]
    app.text_input(key="choice.example").set_value("11+22").run()  # now both are one: another is taken
    assert healthy(app)
    assert app.text_input(key="interventions.second").value != "11+22"


def test_heads_positions_and_neurons_are_chosen_and_the_most_changed_is_one_click_away(opened):
    app = opened("activations", run="small", example="48+76")
    app.selectbox(key="activations.hook").set_value("blocks.0.attn.hook_v").run()
    app.multiselect(key="activations.blocks.0.attn.hook_v.heads").set_value([1]).run()
    app.multiselect(key="activations.blocks.0.attn.hook_v.positions").set_value([0, 2]).run()
    assert healthy(app)
    panel = header(app)["panels"][1]
    assert (panel["maps"], panel["rows"]) == (["L0H1"], ["4", "+"])
    app.selectbox(key="activations.hook").set_value("blocks.0.mlp.hook_post").run()
    assert healthy(app)
    first = next(button for button in app.button if button.key.startswith("unit."))
    first.click().run()
    assert healthy(app)
    assert app.session_state["activations.form"] == "over training"
    unit = first.key.rsplit(".", 1)[1]
    assert app.multiselect(key="activations.blocks.0.mlp.hook_post.d_mlp").value == [int(unit)]
    assert header(app)["panels"][-1]["title"].endswith(f"; d_mlp {unit}")
    app.selectbox(key="activations.hook").set_value("blocks.1.mlp.hook_post").run()
    assert app.multiselect(key="activations.blocks.1.mlp.hook_post.d_mlp").value == []
    app.selectbox(key="activations.to").set_value(app.selectbox(key="activations.from").value).run()
    assert not app.exception
    assert "choose two" in app.error[0].value


@pytest.mark.parametrize("page", [*PAGES.values(), *INSIDE])
def test_a_panel_of_a_snapshot_can_be_had_as_a_figure(opened, page):
    app = opened(page, run="finite")
    assert not app.get("plotly_chart")
    app.toggle(key="still").set_value(True).run()
    assert healthy(app)
    for title in app.selectbox(key="still.panel").options:
        app.selectbox(key="still.panel").set_value(title).run()
        assert healthy(app), title
        assert len(app.get("plotly_chart")) == 1


def test_there_is_nothing_to_compare_one_run_with(root, monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(root))
    app = opening("compare", run="small")
    assert healthy(app)
    assert "no second run" in app.info[0].value


def test_another_run_is_beside_the_chosen_one(opened):
    app = opened("compare", run="small", step="20")
    assert app.selectbox(key="compare.other").value == "finite"
    film = header(app)
    assert film["panels"][0]["blocks"][2] == "small at step 20    finite at step 20"
    app.selectbox(key="choice.run").set_value("finite").run()
    assert healthy(app)
    assert app.selectbox(key="compare.other").value == "small"


# --- Training from the page ---


def test_a_run_is_trained_from_the_page_watched_stopped_and_resumed(training):
    app = opening("train")
    assert healthy(app)
    app.selectbox(key="train.task").set_value("skip-trigram").run()
    app.number_input(key="train.skip-trigram.quick.Training.steps").set_value(1_000_000).run()
    app.number_input(key="train.skip-trigram.quick.Training.batch_size").set_value(16).run()
    assert app.get("button_group")[0].options[0] == "infinite data"
    press(app, "Start training")
    assert healthy(app)
    run = training.open("skip-trigram")
    info = run.info()
    assert (info.status, info.training.steps, info.training.batch_size, info.preset) == ("running", 1_000_000, 16, "")
    assert app.session_state.run == "skip-trigram"
    first = header(app)["steps"]
    until(lambda: len(run.steps()) > len(first))
    assert len(header(app.run())["steps"]) > len(first)
    assert "running, step" in progress(app)

    again = opening("train", run="skip-trigram")  # as after a refresh, or in an app that was started anew
    assert "running" in progress(again)
    press(again, "Stop")
    until(lambda: run.info().status == "stopped")
    again.run()
    assert "stopped" in progress(again)
    press(again, "Resume")
    assert healthy(again)
    assert run.info().status == "running"


def press(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label == label).click()
    app.run()


def progress(app: AppTest) -> str:
    """What the one progress bar says, without what keeps it from being markdown."""
    (bar,) = app.get("progress")
    return bar.proto.text.replace("\\", "").replace("\u2060", "")


def test_what_cannot_be_trained_is_refused_in_a_sentence_and_nothing_is_made(training):
    app = opening("train")
    app.selectbox(key="train.task").set_value("modular-addition").run()
    p = app.number_input(key="train.modular-addition.quick.Task.p")
    p.set_value(15).run()
    assert "15, which is no prime; take 17" in app.error[0].value
    assert next(button for button in app.button if button.label == "Start training").disabled
    p.set_value(13).run()
    assert healthy(app)
    steps = app.number_input(key="train.modular-addition.quick.Training.steps")
    steps.set_value(99_999_999).run()
    assert "steps is 99999999; it must lie between 1 and 10,000,000" in app.error[0].value
    steps.set_value(10).run()
    assert healthy(app)
    app.number_input(key="train.modular-addition.quick.Model.d_model").set_value(65_536).run()
    app.number_input(key="train.modular-addition.quick.Model.d_mlp").set_value(65_536).run()
    press(app, "Start training")
    assert "GiB of memory" in app.error[0].value
    app.number_input(key="train.modular-addition.quick.Model.d_model").set_value(16).run()
    app.text_input(key="train.name").set_value("../x").run()
    press(app, "Start training")
    assert "cannot be the name of a run" in app.error[0].value
    assert not app.exception
    assert training.names() == []


def test_a_run_too_many_is_refused_before_it_is_made(training, monkeypatch):
    monkeypatch.setattr(jobs, "LIMIT", 1)
    jobs.start(recorder.create(training, "busy", TASK, MODEL, LONG))
    app = opening("train")
    press(app, "Start training")
    assert "1 runs at once" in app.error[0].value
    assert training.names() == ["busy"]


def test_another_run_can_be_watched_and_settings_outlive_a_look_at_another_page(training):
    for name, task in (("one", TASK), ("other", SkipTrigram())):
        model = task.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32)
        recorder.train(recorder.create(training, name, task, model, LONG), should_stop=lambda: True)
    app = opening("train", run="one")
    assert "".join(header(app)["panels"][0]["prompt"]) == "45+90="
    app.number_input(key="train.addition.quick.Training.steps").set_value(1234).run()
    app.button(key="Watch.other").click().run()
    assert healthy(app)
    assert app.session_state.run == app.selectbox(key="choice.run").value == "other"
    assert len(header(app)["panels"][0]["prompt"]) == 42
    assert app.query_params["run"] == "other"
    go_to(app, "attention")
    assert healthy(app)
    go_to(app, "train")
    assert app.number_input(key="train.addition.quick.Training.steps").value == 1234


def test_a_failed_run_says_why_and_can_be_resumed(training):
    run = recorder.create(training, "broken", TASK, MODEL, replace(LONG, steps=20))

    def fail(measured):
        if measured.step == 5:
            raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError):
        recorder.train(run, on_update=fail)
    app = opening("train", run="broken")
    assert "RuntimeError: the disk is on fire" in progress(app)
    press(app, "Resume")
    until(lambda: run.info().status == "done")


def test_every_preset_can_be_chosen_and_says_what_it_takes(training):
    app = opening("train")
    seen = []
    for task in app.selectbox(key="train.task").options:
        app.selectbox(key="train.task").set_value(task).run()
        for mode in app.get("button_group")[0].options:
            app.get("button_group")[0].set_value(mode).run()
            for preset in app.get("button_group")[1].options:
                app.get("button_group")[1].set_value(preset).run()
                assert healthy(app)
                assert any("MiB of memory" in caption.value for caption in app.caption)
                seen.append((task, mode, preset))
    assert ("modular-addition", "finite data", "notebook") in seen
    assert ("skip-trigram", "infinite data", "table") in seen
    assert len(seen) == 15


def test_two_train_and_two_scrub_at_once(training):
    trainers = [opening("train"), opening("train")]
    for app, task in zip(trainers, ("skip-trigram", "induction"), strict=True):
        app.selectbox(key="train.task").set_value(task).run()
        app.number_input(key=f"train.{task}.quick.Training.batch_size").set_value(8).run()
        app.number_input(key=f"train.{task}.quick.Training.steps").set_value(1_000_000).run()
        press(app, "Start training")
    watchers = [opening("", run="skip-trigram"), opening("attention", run="induction")]
    for _ in range(4):
        for app, task in zip([*trainers, *watchers], ("skip-trigram", "induction") * 2, strict=True):
            app.run()
            assert healthy(app)
            assert app.session_state.run == task
            stop_at(app, header(app)["steps"][-1])
            assert healthy(app)
            assert header(app)["steps"][0] == 0
    for app, name in zip(trainers, training.names(), strict=True):
        app.button(key=f"Stop.{name}").click().run()
    until(lambda: not jobs.in_training(training))
    for name in training.names():
        run = training.open(name)
        assert run.info().status == "stopped"
        assert run.ensemble().steps == run.steps()


def test_runs_lists_what_there_is_and_chooses(opened):
    app = opened("runs", run="small")
    assert not app.exception
    text = " ".join(element.value for element in [*app.markdown, *app.caption])
    for expected in ("small", "finite", "2\\-digit addition", "40 training examples", "infinite data", "5 snapshots"):
        assert expected in text
    app.button(key="choose.finite").click().run()
    assert app.session_state.run == "finite"


@pytest.mark.parametrize("how", HOW)
def test_a_spoilt_snapshot_is_named_and_the_rest_still_plays(folder, small, tmp_path, monkeypatch, how):
    shutil.copytree(folder / "small", tmp_path / "small")
    spoil(tmp_path / "small" / "snapshots" / "step-000010.safetensors", how, small)
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    app = AppTest.from_file(APP, default_timeout=60).run()
    assert healthy(app)
    assert ["step\\-000010\\.safetensors" in warning.value for warning in app.warning] == [True]
    assert header(app)["steps"] == [0, 20, 30, 40]


def test_a_run_that_cannot_be_read_says_so_and_others_can_be_chosen(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "runs")
    (tmp_path / "runs" / "finite" / "run.json").write_text("{")
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path / "runs"))
    app = AppTest.from_file(APP, default_timeout=60).run()
    assert not app.exception
    assert any("finite/run\\.json" in error.value for error in app.error)
    app.selectbox(key="choice.run").set_value("small").run()
    assert healthy(app)
    assert header(app)["steps"] == [0, 10, 20, 30, 40]


def test_without_runs_a_page_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    for page in (*PAGES.values(), "runs"):
        app = go_to(AppTest.from_file(APP, default_timeout=60), page)
        assert healthy(app)
        assert "python -m explorer train addition" in app.info[0].value


# --- What is kept for all sessions ---


def test_a_slow_view_holds_up_nobody_but_who_wants_the_same(folder):
    run = Runs(folder).open("small")
    kept, began, may_end, made = shared._of(run), threading.Event(), threading.Event(), []

    def slow(subject):
        began.set()
        assert may_end.wait(60)
        return len(subject.steps)

    slow_ones = [threading.Thread(target=lambda: made.append(kept.view([run], slow, ()))) for _ in range(2)]
    for thread in slow_ones:
        thread.start()
    assert began.wait(60)
    assert kept.read(run)[1].steps == run.steps()
    assert kept.view([run], lambda subject: subject.name, ()) == "small"
    may_end.set()
    for thread in slow_ones:
        thread.join()
    assert made == [5, 5]


def test_a_comparison_is_made_again_when_the_other_run_went_on(folder, tmp_path):
    one = Runs(folder).open("small")
    other = recorder.create(Runs(tmp_path), "growing", TASK, MODEL, LONG)
    recorder.train(other, should_stop=lambda: True)

    def steps(subject, beside):
        return beside.info.steps_done

    kept = shared._of(one)
    first = kept.view([one, other], steps, ())
    assert kept.view([one, other], lambda subject, beside: beside.name, ()) == "growing"
    goes_on = iter([False] * 3)
    recorder.train(other, should_stop=lambda: next(goes_on, True))
    assert kept.view([one, other], steps, ()) > first
