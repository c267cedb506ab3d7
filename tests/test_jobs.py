"""Runs trained by processes of their own: started, watched, stopped, resumed, crashed."""

import os
import signal
from dataclasses import replace

import psutil
import pytest

from explorer.errors import UserError
from explorer.runs import Run, Runs, jobs, recorder
from explorer.runs.lock import request_stop
from tests.conftest import LONG, MODEL, TASK, TRAINING, same, until


@pytest.fixture
def runs(tmp_path):
    """A folder whose runs are stopped after the test."""
    runs = Runs(tmp_path)
    yield runs
    for name in jobs.in_training(runs):
        request_stop(Run(runs.root / name))
    until(lambda: not jobs.in_training(runs))


def trainer(run: Run) -> psutil.Process:
    """The process that trains a run."""
    (found,) = [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-2:] == command(run)]
    return found


def command(run: Run) -> list[str]:
    return [str(run.folder.parent.resolve()), run.name]


def test_a_run_is_trained_stopped_and_resumed_to_the_same_end(runs, small):
    training = replace(TRAINING, steps=2000, snapshot_every=500)
    run = recorder.create(runs, "job", TASK, MODEL, training)
    jobs.start(run)
    assert run.info().status == "running"
    assert jobs.in_training(runs) == ["job"]
    assert run.ensemble().steps[0] == 0
    request_stop(run)
    until(lambda: run.info().status == "stopped")
    assert 0 < run.info().steps_done < 2000
    jobs.start(run)
    until(lambda: run.info().status == "done")
    straight = recorder.create(runs, "straight", TASK, MODEL, training)
    recorder.train(straight)
    assert same(run, straight)


def test_a_job_has_its_own_session_and_stops_on_sigterm(runs):
    run = recorder.create(runs, "job", TASK, MODEL, LONG)
    jobs.start(run)
    process = trainer(run)
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    process.send_signal(signal.SIGTERM)
    until(lambda: run.info().status == "stopped")


def test_a_killed_job_leaves_a_failed_run_that_can_be_resumed(runs):
    run = recorder.create(runs, "job", TASK, MODEL, replace(TRAINING, steps=20_000, snapshot_every=500))
    jobs.start(run)
    until(lambda: run.info().steps_done >= 500)
    trainer(run).kill()
    until(lambda: run.info().status == "failed")
    assert "killed and printed no error; resume it from its last snapshot" in run.info().message
    jobs.start(run)
    assert run.info().status == "running"


def test_a_crash_is_reported_with_its_last_message(runs):
    run = recorder.create(runs, "job", TASK, MODEL, LONG)
    jobs.start(run)
    request_stop(run)
    until(lambda: run.info().status == "stopped")
    (run.folder / "resume.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"job could not be trained: .*resume.safetensors is damaged"):
        jobs.start(run)
    assert run.info().status == "failed"
    assert "resume.safetensors is damaged" in run.info().message


def test_the_last_line_that_a_job_prints_is_its_message(runs):
    run = recorder.create(runs, "job", TASK, MODEL, LONG)
    jobs.start(run)
    with run.log.open("a") as log:
        log.write("Traceback (most recent call last):\n  ...\nMemoryError: no more\n\n")
    trainer(run).kill()
    until(lambda: run.info().status == "failed")
    assert run.info().message == "MemoryError: no more"


def test_a_damaged_state_of_a_killed_run_is_reported_when_it_is_resumed(runs):
    run = recorder.create(runs, "job", TASK, MODEL, LONG)
    jobs.start(run)
    trainer(run).kill()
    until(lambda: run.info().status == "failed")
    (run.folder / "resume.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"job could not be trained: .*resume.safetensors is damaged"):
        jobs.start(run)


def test_a_second_start_is_refused_and_the_first_job_goes_on(runs):
    run = recorder.create(runs, "job", TASK, MODEL, LONG)
    jobs.start(run)
    said = run.log.read_bytes()
    with pytest.raises(UserError, match="job is being trained already"):
        jobs.start(run)
    assert run.info().status == "running"
    assert run.log.read_bytes() == said


def test_last_words_are_those_of_the_last_process(runs):
    run = recorder.create(runs, "job", TASK, MODEL, LONG)
    run.log.write_text("OSError: of long ago\n")
    jobs.start(run)
    trainer(run).kill()
    until(lambda: run.info().status == "failed")
    assert "killed and printed no error" in run.info().message


def test_a_job_that_cannot_be_started_gets_one_sentence(runs):
    run = recorder.create(runs, "job", TASK, MODEL, LONG)
    (runs.root / ".starting").mkdir()
    with pytest.raises(UserError, match="job could not be started: Is a directory"):
        jobs.start(run)
    (runs.root / ".starting").rmdir()


def test_only_a_limited_number_of_jobs_run_at_once(runs, monkeypatch):
    monkeypatch.setattr(jobs, "LIMIT", 1)
    jobs.start(recorder.create(runs, "one", TASK, MODEL, LONG))
    other = recorder.create(runs, "other", TASK, MODEL, LONG)
    with pytest.raises(UserError, match="one are being trained, and this machine takes 1 runs at once"):
        jobs.start(other)
    assert jobs.in_training(runs) == ["one"]
    assert other.info().status == "stopped"


def test_a_job_that_ends_while_it_is_being_started_is_done(runs):
    run = recorder.create(runs, "short", TASK, MODEL, replace(TRAINING, steps=1))
    jobs.start(run)
    until(lambda: run.info().status == "done")
    with pytest.raises(UserError, match="short could not be trained: short is done"):
        jobs.start(run)
