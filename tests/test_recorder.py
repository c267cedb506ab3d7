"""Creating and training runs: names, stopping, crashing, resuming."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.errors import UserError
from explorer.model.transformer import Transformer
from explorer.runs import Run, Runs, recorder
from explorer.runs.lock import request_stop
from explorer.settings import TrainingConfig
from explorer.tasks.induction import Induction
from explorer.tasks.modular_addition import ModularAddition
from explorer.tasks.skip_trigram import SkipTrigram
from tests.conftest import FINITE, MODEL, TASK, TRAINING, same


def test_finite_runs_record_their_test_losses(tmp_path):
    run = recorder.create(Runs(tmp_path), "finite", TASK, MODEL, FINITE)
    recorder.train(run)
    metrics = run.metrics()
    assert metrics["test_step"].tolist() == list(range(30))
    assert metrics["test_loss_per_token"].shape == (30, 3)


def test_float16_is_used_only_where_the_loss_stays_within_its_tolerance(tmp_path):
    training = TrainingConfig(steps=2, batch_size=8, snapshot_dtype="float16", snapshot_every=1)
    run = recorder.create(Runs(tmp_path), "half", TASK, MODEL, training)
    recorder.train(run)
    stored = load_file(run.folder / "snapshots" / "step-000000.safetensors")
    assert all(weight.dtype == torch.float16 for weight in stored.values())
    assert all(weight.dtype == torch.float32 for weight in run.snapshot(0).values())
    probe = TASK.test_stream(training).next()
    loss = TASK.losses(probe.at_answers(run.model(0)(probe.tokens)), probe).mean().item()
    exact = TASK.losses(probe.at_answers(Transformer(MODEL, seed=0)(probe.tokens)), probe).mean().item()
    assert loss == pytest.approx(exact, rel=0.01)


def test_float32_is_kept_where_float16_would_change_the_loss(tmp_path, monkeypatch):
    """A weight beyond the range of float16, as training may make one."""
    draw = Transformer._draw_weights

    def draw_and_overflow(model, seed):
        draw(model, seed)
        model.blocks[1].mlp.b_out.data[0] = 1e5

    monkeypatch.setattr(Transformer, "_draw_weights", draw_and_overflow)
    training = TrainingConfig(steps=1, batch_size=8, snapshot_dtype="float16")
    run = recorder.create(Runs(tmp_path), "large", TASK, MODEL, training)
    recorder.train(run)
    stored = load_file(run.folder / "snapshots" / "step-000000.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float32}
    assert stored["blocks.1.mlp.b_out"][0] == 1e5


# --- Names ---


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../out", ".hidden", "a b", "x" * 65, "é", "a\n"])
def test_names_that_cannot_be_folder_names_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="cannot be the name of a run"):
        recorder.create(Runs(tmp_path), name, TASK, MODEL, TRAINING)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_is_refused(copied):
    with pytest.raises(UserError, match="choose another name"):
        recorder.create(Runs(copied.folder.parent), "small", TASK, MODEL, TRAINING)
    assert copied.info().status == "done"


def test_an_empty_folder_does_not_take_a_name(tmp_path):
    (tmp_path / "early").mkdir()
    assert recorder.create(Runs(tmp_path), "early", TASK, MODEL, TRAINING).info().status == "stopped"


def test_a_file_is_no_folder_of_runs(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be read as a folder"):
        Runs(tmp_path / "file").names()
    with pytest.raises(UserError, match="cannot be made"):
        recorder.create(Runs(tmp_path / "file"), "x", TASK, MODEL, TRAINING)


def test_a_run_that_would_not_fit_is_not_created(tmp_path):
    wide = TASK.model_config(d_model=4096, d_mlp=16_384)
    with pytest.raises(UserError, match="GiB of memory"):
        recorder.create(Runs(tmp_path), "huge", TASK, wide, replace(TRAINING, batch_size=1_000_000))
    assert Runs(tmp_path).names() == []


def test_of_two_creations_of_one_name_one_succeeds(tmp_path):
    made, refused = [], []
    at_once = threading.Barrier(4)

    def create(seed: int) -> None:
        at_once.wait()
        try:
            recorder.create(Runs(tmp_path), "wanted", TASK, MODEL, replace(TRAINING, seed=seed))
            made.append(seed)
        except UserError as error:
            refused.append(str(error))

    people = [threading.Thread(target=create, args=(seed,)) for seed in range(4)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert [Runs(tmp_path).open("wanted").info().training.seed] == made
    assert all("choose another name" in sentence for sentence in refused)
    assert len(refused) == 3


# --- Stopping, crashing, resuming ---


@pytest.mark.parametrize(
    ("task", "training"),
    [
        (TASK, TRAINING),
        (TASK, FINITE),
        (SkipTrigram(), replace(FINITE, finite=15)),  # some trigrams have no loss
        (Induction(stretch=5, interval=8), TRAINING),
        (Induction(stretch=5, interval=8), replace(FINITE, full_batch=False, batch_size=16, test_every=4)),
        (ModularAddition(p=13), replace(TRAINING, test_every=7)),
    ],
    ids=["infinite", "finite", "skip trigrams", "induction", "shuffled", "modular"],
)
def test_a_run_stopped_and_resumed_equals_the_uninterrupted_run(tmp_path, task, training):
    runs = Runs(tmp_path)
    model = task.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32, n_layers=2)
    straight = recorder.create(runs, "straight", task, model, training)
    recorder.train(straight)
    stopped = recorder.create(runs, "stopped", task, model, training)
    for updates in (7, 13):
        left = iter([False] * (updates - 1) + [True])
        info = recorder.train(stopped, should_stop=lambda left=left: next(left))
        assert info.status == "stopped"
        assert stopped.info().status == "stopped"
    assert info.steps_done == 20
    assert recorder.train(stopped).status == "done"
    assert same(stopped, straight)


def test_a_run_killed_before_its_second_snapshot_opens_and_resumes(tmp_path, small):
    run = recorder.create(Runs(tmp_path), "early", TASK, MODEL, TRAINING)

    def die(measured):
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        recorder.train(run, on_update=die)
    assert run.metrics()["train_loss_per_token"].shape == (0, 3)
    assert run.ensemble().steps == (0,)
    assert recorder.train(run).status == "done"
    assert same(run, small)


def test_a_run_without_its_state_does_not_start_over(tmp_path):
    run = recorder.create(Runs(tmp_path), "lost", TASK, MODEL, TRAINING)
    recorder.train(run, should_stop=lambda: True)
    (run.folder / "resume.safetensors").unlink()
    before = (run.folder / "metrics.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"lost/resume.safetensors is missing"):
        recorder.train(run)
    assert (run.folder / "metrics.safetensors").read_bytes() == before


def test_incomplete_files_of_a_killed_process_are_removed(tmp_path, small):
    run = recorder.create(Runs(tmp_path), "swept", TASK, MODEL, TRAINING)
    (run.folder / "snapshots").mkdir()
    for left in (run.folder / ".writing-abc", run.folder / "snapshots" / ".writing-def"):
        left.write_bytes(b"half")
    recorder.train(run)
    assert not list(run.folder.rglob(".writing-*"))
    assert same(run, small)


def test_a_snapshot_beyond_the_state_is_removed_on_resume(tmp_path, small):
    """A kill between writing a snapshot and writing the state leaves the files as they are arranged here."""
    run = recorder.create(Runs(tmp_path), "beyond", TASK, MODEL, TRAINING)
    recorder.train(run, should_stop=iter([False] * 14 + [True]).__next__)
    shutil.copy(small.snapshot_file(30), run.snapshot_file(30))
    assert run.steps() == (0, 10, 30)
    recorder.train(run, should_stop=lambda: True)
    assert run.info().steps_done == 16
    assert run.steps() == run.info().snapshots == (0, 10)
    assert recorder.train(run).status == "done"
    assert same(run, small)


def test_a_run_that_cannot_be_resumed_keeps_all_of_its_snapshots(tmp_path, small):
    run = recorder.create(Runs(tmp_path), "beyond", TASK, MODEL, TRAINING)
    recorder.train(run, should_stop=iter([False] * 14 + [True]).__next__)
    shutil.copy(small.snapshot_file(30), run.snapshot_file(30))
    run.metrics_file.unlink()
    with pytest.raises(UserError, match=r"metrics.safetensors is missing"):
        recorder.train(run)
    assert run.steps() == (0, 10, 30)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_saves_everything_and_is_raised_again(tmp_path):
    training = replace(TRAINING, steps=100_000, snapshot_every=50_000)
    run = recorder.create(Runs(tmp_path), "interrupted", TASK, MODEL, training)
    with pytest.raises(KeyboardInterrupt):
        recorder.train(run, on_update=lambda measured: measured.step or os.kill(os.getpid(), signal.SIGINT))
    done = run.info().steps_done
    assert run.info().status == "stopped"
    assert 0 < done < 100_000
    assert recorder.train(run, should_stop=lambda: True).steps_done == done + 1


def test_a_run_that_is_done_cannot_be_trained_and_stays_done(copied):
    before = copied.info()
    with pytest.raises(UserError, match="is done"):
        recorder.train(copied)
    assert "is done" in recorder.train_together([copied])[copied.name]
    assert copied.info() == before


def test_an_error_while_training_is_reported_and_the_run_resumes_from_its_last_state(tmp_path, small):
    run = recorder.create(Runs(tmp_path), "broken", TASK, MODEL, TRAINING)

    def fail(measured):
        if measured.step == 25:
            raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError):
        recorder.train(run, on_update=fail)
    assert (run.info().status, run.info().message) == ("failed", "RuntimeError: the disk is on fire")
    assert run.steps() == (0, 10, 20)
    assert recorder.train(run).status == "done"
    assert same(run, small)
    assert run.info().message == ""


def test_a_killed_and_resumed_run_equals_the_uninterrupted_run(tmp_path):
    """Kill the process for good at ten different moments; every one of them leaves a run that can go on."""
    training = TrainingConfig(steps=400, batch_size=16, seed=3, snapshot_every=5)
    runs = Runs(tmp_path)
    straight = recorder.create(runs, "straight", TASK, MODEL, training)
    recorder.train(straight)
    killed = recorder.create(runs, "killed", TASK, MODEL, training)
    script = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from explorer.runs import Runs, recorder\n"
        "recorder.train(Runs(sys.argv[1]).open('killed'), on_update=lambda m: print(m.step, flush=True))"
    )
    deaths = 0
    for target in sorted(random.Random(0).sample(range(5, 395), 10)):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        for line in process.stdout:
            if int(line) >= target:
                break
        os.kill(process.pid, signal.SIGKILL)
        process.stdout.close()
        deaths += process.wait() == -signal.SIGKILL
        info = killed.info()
        assert info.status == "failed"
        assert killed.ensemble().steps == killed.steps()
        assert len(killed.metrics()["train_loss"]) >= max(killed.steps())
    assert deaths == 10
    assert recorder.train(killed).status == "done"
    assert same(killed, straight)


def test_a_request_to_stop_stops_one_training(tmp_path, small):
    run = recorder.create(Runs(tmp_path), "asked", TASK, MODEL, TRAINING)

    def ask(measured):
        if measured.step == 12:
            request_stop(Run(run.folder))

    assert recorder.train(run, on_update=ask).status == "stopped"
    assert run.info().steps_done == 13
    assert recorder.train(run).status == "done"
    assert same(run, small)


def test_progress_is_written_between_snapshots(tmp_path, monkeypatch):
    monkeypatch.setattr("explorer.runs.keeper.REPORT_EVERY", 0)
    run = recorder.create(Runs(tmp_path), "told", TASK, MODEL, replace(TRAINING, snapshot_every=0, snapshot_share=1.0))
    told = []

    def look(measured):
        info = run.info()
        told.append((info.steps_done, len(run.metrics()["train_loss"]), info.status, info.steps_per_second > 0))

    recorder.train(run, on_update=look)
    assert len(told) == 40
    assert told == sorted(told)
    assert all(done <= rows <= step for step, (done, rows, _, _) in enumerate(told, 1))
    assert told[-1][0] > 20  # the writer is not far behind
    assert {(status, rate) for done, _, status, rate in told if done} == {("running", True)}


def test_subnormals_are_flushed_to_zero_while_a_run_trains(tmp_path):
    run = recorder.create(Runs(tmp_path), "tiny", TASK, MODEL, TRAINING)
    products = []
    recorder.train(
        run, on_update=lambda measured: products.append(float(torch.tensor([1e-30]) * torch.tensor([1e-10])))
    )
    assert set(products) == {0.0}
    assert float(torch.tensor([1e-30]) * torch.tensor([1e-10])) > 0


def test_a_run_is_trained_with_the_threads_it_was_created_with(tmp_path):
    """Sums are split between threads, so the last bits depend on them."""
    run = recorder.create(Runs(tmp_path), "two", TASK, MODEL, TRAINING, threads=2)
    seen = []
    recorder.train(
        run, on_update=lambda measured: seen.append(torch.get_num_threads()), should_stop=lambda: len(seen) == 5
    )
    assert set(seen) == {2}
    assert torch.get_num_threads() == 1
    assert run.info().threads == 2
    assert recorder.create(Runs(tmp_path), "one", TASK, MODEL, TRAINING).info().threads == 1


def test_a_request_to_stop_a_removed_run_writes_nothing(copied):
    shutil.rmtree(copied.folder)
    request_stop(copied)
    assert not copied.folder.exists()


def test_measures_of_an_older_version_are_left_out_and_new_ones_begin_when_training_goes_on(tmp_path):
    """As if a run had been stopped when the measures of its task had other names."""
    task = SkipTrigram()
    model, training = task.model_config(**task.presets["quick"].model), replace(FINITE, test_every=4)
    run = recorder.create(Runs(tmp_path), "older", task, model, training)
    recorder.train(run, should_stop=iter([False] * 12 + [True]).__next__)
    before = load_file(run.metrics_file)
    older = {"attention_grad": before.pop("attention_gradient"), "test_right": before.pop("test_accuracy"), **before}
    save_file(older, run.metrics_file)
    assert run.metrics().keys() == before.keys()
    assert recorder.train(run).status == "done"
    metrics = run.metrics()
    assert metrics.keys() == before.keys() | {"attention_gradient", "test_accuracy"}
    for name, n_rows, n_before in (("attention_gradient", 30, 13), ("test_accuracy", 8, 4)):
        assert len(metrics[name]) == n_rows
        assert metrics[name][:n_before].isnan().all()
        assert metrics[name][n_before:].isfinite().any(1).all()


@pytest.mark.parametrize("name", ["train_stream", "schedule"])
def test_an_invalid_state_gets_one_sentence(tmp_path, name):
    run = recorder.create(Runs(tmp_path), "spoilt", TASK, MODEL, replace(TRAINING, snapshot_every=0))
    recorder.train(run, should_stop=lambda: True)
    state = load_file(run.folder / "resume.safetensors")
    state[name] = torch.full_like(state[name], 255 if name == "train_stream" else torch.nan)
    save_file(state, run.folder / "resume.safetensors")
    with pytest.raises(UserError, match=r"spoilt/resume.safetensors is damaged"):
        recorder.train(run)


def test_two_processes_do_not_train_one_run(tmp_path):
    run = recorder.create(Runs(tmp_path), "shared", TASK, MODEL, TRAINING)
    refused = []

    def try_too(measured):
        if measured.step == 3:
            assert run.info().status == "running"
            with pytest.raises(UserError, match="another process") as error:
                recorder.train(Run(run.folder))
            refused.append(str(error.value))

    recorder.train(run, on_update=try_too)
    assert len(refused) == 1
    assert run.info().status == "done"


def test_no_incomplete_file_is_left_when_writing_fails(copied, monkeypatch):
    before = {path.name: path.read_bytes() for path in copied.folder.iterdir() if path.is_file()}

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        recorder.write_info(copied, copied.info())
    assert {path.name: path.read_bytes() for path in copied.folder.iterdir() if path.is_file()} == before
