"""The page Train, run by Streamlit without a browser."""

import shutil
from dataclasses import replace

import pytest

from explorer.runs import Run, Runs, jobs, recorder
from explorer.runs.lock import request_stop
from explorer.tasks.skip_trigram import SkipTrigram
from tests.conftest import LONG, MODEL, TASK, TRAINING, until
from tests.pages import address, go_to, header, healthy, opening, press, progress, stop_at


@pytest.fixture
def training(tmp_path, monkeypatch):
    """A folder to train in, whose runs are stopped after the test."""
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    runs = Runs(tmp_path)
    yield runs
    for name in jobs.in_training(runs):
        request_stop(Run(runs.root / name))
    until(lambda: not jobs.in_training(runs))


def test_a_run_is_trained_from_the_page_watched_stopped_and_resumed(training):
    app = opening("train")
    assert healthy(app)
    app.selectbox(key="train.task").set_value("skip-trigram").run()
    app.number_input(key="train.skip-trigram.quick.Training.steps").set_value(1_000_000).run()
    app.number_input(key="train.skip-trigram.quick.Training.batch_size").set_value(16).run()
    assert app.get("button_group")[0].options[0] == "new examples at every step"
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

    again = opening("train", run="skip-trigram")  # as after a reload, or in a restarted app
    assert "running" in progress(again)
    press(again, "Stop")
    until(lambda: run.info().status == "stopped")
    again.run()
    assert "stopped" in progress(again)
    press(again, "Resume")
    assert healthy(again)
    assert run.info().status == "running"


def test_invalid_settings_are_refused_and_no_run_is_created(training):
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


def test_examples_that_stay_the_same_must_be_some(training):
    app = opening("train")
    app.get("button_group")[0].set_value("the same N examples").run()
    finite = next(one for one in app.number_input if one.label == "Training examples")
    finite.set_value(0).run()
    assert "No examples stay the same with these settings" in app.error[0].value
    assert next(button for button in app.button if button.label == "Start training").disabled
    finite.set_value(100).run()
    assert healthy(app)


def test_settings_without_effect_are_not_offered(training):
    app = opening("train")

    def offered() -> set[str]:
        inputs = [*app.number_input, *app.selectbox, *app.toggle]
        return {one.key.rpartition(".")[2] for one in inputs if one.key.startswith("train.addition.quick.")}

    assert {"steps", "batch_size", "beta1", "d_mlp", "snapshot_moved"} <= offered()
    assert not {"finite", "full_batch", "test_every", "momentum"} & offered()
    app.selectbox(key="train.addition.quick.Training.optimiser").set_value("sgd").run()
    app.toggle(key="train.addition.quick.Model.attn_only").set_value(True).run()
    app.number_input(key="train.addition.quick.Training.snapshot_every").set_value(5).run()
    assert "momentum" in offered()
    assert not {"beta1", "beta2", "d_mlp", "act_fn", "snapshot_moved", "snapshot_share"} & offered()


def test_runs_beyond_the_limit_are_refused_before_creation(training, monkeypatch):
    monkeypatch.setattr(jobs, "LIMIT", 1)
    jobs.start(recorder.create(training, "busy", TASK, MODEL, LONG))
    app = opening("train")
    press(app, "Start training")
    assert "1 runs at once" in app.error[0].value
    assert training.names() == ["busy"]


def test_another_run_can_be_watched_and_settings_persist_across_pages(training):
    for name, task in (("one", TASK), ("other", SkipTrigram())):
        model = task.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32)
        recorder.train(recorder.create(training, name, task, model, LONG), should_stop=lambda: True)
    app = opening("train", run="one")
    assert "".join(header(app)["panels"][0]["prompt"]) == "45+90="
    app.number_input(key="train.addition.quick.Training.steps").set_value(1234).run()
    app.button(key="Watch.other").click().run()
    assert healthy(app)
    assert app.session_state.run == "other"
    assert len(header(app)["panels"][0]["prompt"]) == 42
    assert address(app).run == "other"
    go_to(app, "heads")
    assert healthy(app)
    go_to(app, "train")
    assert app.number_input(key="train.addition.quick.Training.steps").value == 1234


def test_a_failed_run_shows_its_error_and_can_be_resumed(training):
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


def test_a_run_whose_folder_is_removed_while_it_trains_gets_one_sentence(training):
    run = recorder.create(training, "gone", TASK, MODEL, LONG)
    recorder.train(run, should_stop=lambda: True)
    app = opening("train", run="gone")
    press(app, "Resume")
    assert healthy(app)
    shutil.rmtree(run.folder)
    go_to(app, "train")
    (error,) = app.error
    assert "The folder of gone was removed, so it trains no more" in error.value
    assert not app.exception
    assert not run.folder.exists()


def test_a_finished_run_is_given_more_steps(training):
    run = recorder.create(training, "short", TASK, MODEL, replace(TRAINING, cooldown=0.5))
    recorder.train(run)
    app = opening("train", run="short")
    assert healthy(app)
    steps = app.number_input(key="train.more.short")
    assert steps.value == 80
    assert any("learning rate has cooled down" in caption.value for caption in app.caption)
    steps.set_value(40).run()
    press(app, "Go on")
    assert "has done 40 steps; give it more than that" in app.error[0].value
    app.number_input(key="train.more.short").set_value(60).run()
    press(app, "Go on")
    assert not app.exception
    until(lambda: run.info().status == "done")
    assert run.info().steps_done == 60
    run.resume_file.unlink()
    app = opening("train", run="short")
    assert healthy(app)
    assert "Go on" not in [button.label for button in app.button]


def test_every_preset_can_be_selected_and_shows_its_cost(training):
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
    assert ("modular-addition", "the same N examples", "notebook") in seen
    assert ("skip-trigram", "new examples at every step", "table") in seen
    assert len(seen) == 17


def test_two_train_and_two_scrub_at_once(training):
    trainers = [opening("train"), opening("train")]
    for app, task in zip(trainers, ("skip-trigram", "induction"), strict=True):
        app.selectbox(key="train.task").set_value(task).run()
        app.number_input(key=f"train.{task}.quick.Training.batch_size").set_value(8).run()
        app.number_input(key=f"train.{task}.quick.Training.steps").set_value(1_000_000).run()
        press(app, "Start training")
    watchers = [opening("overview", run="skip-trigram"), opening("heads", run="induction")]
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
