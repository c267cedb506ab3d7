"""What happens to a run's folder while it trains: removed, replaced, filled up. Nothing already saved is lost."""

import fcntl
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import psutil
import pytest

from explorer.errors import UserError
from explorer.runs import Run, Runs, jobs, recorder
from tests.conftest import FINITE, LONG, MODEL, TASK, TRAINING, same, until

ROOT = Path(__file__).parents[1]
GONE = "was removed or replaced, so its training stopped"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: as on a full disk, writing fails at once or halfway."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder: Path) -> dict[str, str]:
    """The hash of every file below a folder that is part of a run, by its path there."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", "train.log"))
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def snapshots(run: Run) -> dict[str, str]:
    return contents(run.snapshots_folder)


def removed(folder: Path) -> None:
    """Remove a folder into which another thread may just be writing."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def at(step: int, happens):
    """An ``on_update`` that does something once."""
    return lambda measured: happens() if measured.step == step else None


def is_one_sentence(error: UserError) -> bool:
    return re.fullmatch(r"[^\n]+[^\n.]\.", str(error)) is not None and not re.search(r"[a-z]\. [A-Z]", str(error))


# --- Removed or replaced ---


def test_a_folder_that_is_removed_does_not_come_back(tmp_path):
    run = recorder.create(Runs(tmp_path), "gone", TASK, MODEL, TRAINING)
    with pytest.raises(UserError, match=GONE) as error:
        recorder.train(run, on_update=at(25, lambda: removed(run.folder)))
    assert is_one_sentence(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_moved_is_left_as_it_is_and_resumes_there(tmp_path, small):
    run = recorder.create(Runs(tmp_path), "here", TASK, MODEL, TRAINING)
    there = Run(tmp_path / "there")
    with pytest.raises(UserError, match=GONE):
        recorder.train(run, on_update=at(25, lambda: run.folder.rename(there.folder)))
    assert not run.folder.exists()
    assert there.info().status == "failed"
    assert recorder.train(there).status == "done"
    assert same(there, small)


def test_another_run_in_its_place_is_left_as_it_is(tmp_path, small):
    run = recorder.create(Runs(tmp_path), "small", TASK, MODEL, replace(TRAINING, seed=8))
    before = contents(small.folder)

    def exchange():
        removed(run.folder)
        shutil.copytree(small.folder, run.folder)

    with pytest.raises(UserError, match=GONE):
        recorder.train(run, on_update=at(25, exchange))
    assert contents(run.folder) == before
    assert run.info().status == "done"


def test_a_trainer_without_its_lock_leaves_the_folder_to_the_next(tmp_path, small):
    """Whoever looks sees that no process trains the run, and may start another."""
    run, seen = recorder.create(Runs(tmp_path), "small", TASK, MODEL, TRAINING), []

    def lose():
        run.lock_file.unlink()
        assert not run.is_training()
        assert not run.lock_file.exists()
        seen.append(recorder.train(Run(run.folder)).status)

    with pytest.raises(UserError, match=GONE):
        recorder.train(run, on_update=at(13, lose))
    assert seen == ["done"]
    assert run.info().status == "done"
    assert same(run, small)


def started(tmp_path: Path) -> tuple[Run, psutil.Process]:
    """A long run, and the process that trains it."""
    run = recorder.create(Runs(tmp_path), "job", TASK, MODEL, replace(LONG, snapshot_every=50_000))
    jobs.start(run)
    command = [str(tmp_path.resolve()), "job"]
    (process,) = [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-2:] == command]
    return run, process


def test_a_job_whose_folder_is_removed_ends(tmp_path):
    run, process = started(tmp_path)
    removed(run.folder)
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    assert not run.folder.exists()
    assert jobs.in_training(Runs(tmp_path)) == []


# --- No room ---


def test_a_name_stays_free_when_nothing_can_be_written(tmp_path):
    with largest_file(0), pytest.raises(UserError, match=r"run.json cannot be written: .*; free some space") as error:
        recorder.create(Runs(tmp_path), "full", TASK, MODEL, TRAINING)
    assert is_one_sentence(error.value)
    assert list(tmp_path.iterdir()) == []
    assert recorder.create(Runs(tmp_path), "full", TASK, MODEL, TRAINING).info().status == "stopped"


def test_a_name_stays_free_when_only_run_json_can_be_written(tmp_path, small):
    run = recorder.create(Runs(tmp_path), "full", TASK, MODEL, TRAINING)
    with (
        largest_file(4000),
        pytest.raises(UserError, match=r"step-000000.safetensors cannot be written: .*train it ag"),
    ):
        recorder.train(run)
    assert list(tmp_path.iterdir()) == []
    run = recorder.create(Runs(tmp_path), "full", TASK, MODEL, TRAINING)
    assert recorder.train(run).status == "done"
    assert same(run, small)


def test_a_job_without_room_for_its_first_snapshot_says_so_and_leaves_its_name(tmp_path):
    run = recorder.create(Runs(tmp_path), "full", TASK, MODEL, TRAINING)
    with (
        largest_file(4000),
        pytest.raises(UserError, match=r"full could not be trained: .*free some space, then train"),
    ):
        jobs.start(run)
    assert Runs(tmp_path).names() == []
    assert recorder.create(Runs(tmp_path), "full", TASK, MODEL, TRAINING).info().status == "stopped"


@pytest.mark.parametrize("room", [0, 4000, 30_000], ids=["nothing", "run.json", "a snapshot but no state"])
def test_a_disk_that_is_full_stops_a_run_that_resumes_to_the_same_end(tmp_path, small, room):
    run, before = recorder.create(Runs(tmp_path), "full", TASK, MODEL, TRAINING), {}
    with largest_file(2**30):

        def fill():
            before.update(snapshots(run))
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

        with pytest.raises(UserError, match=r"cannot be written: .*; free some space, then resume full") as error:
            recorder.train(run, on_update=at(25, fill))
    assert is_one_sentence(error.value)
    assert before.items() <= snapshots(run).items()
    info = run.info()
    assert info.status == "failed"
    assert room == 0 or info.message == str(error.value)
    assert not list(run.folder.rglob(".writing-*"))
    assert not list(run.folder.rglob(".tmp*"))
    assert recorder.train(run).status == "done"
    assert same(run, small)


def test_a_folder_of_snapshots_that_cannot_be_written_to_is_named(tmp_path, small):
    run, aside = recorder.create(Runs(tmp_path), "odd", TASK, MODEL, TRAINING), tmp_path / "aside"

    def spoil():
        run.snapshots_folder.rename(aside)
        run.snapshots_folder.touch()

    with pytest.raises(UserError, match=r"step-0000.0.safetensors cannot be written: Not a directory; see that"):
        recorder.train(run, on_update=at(15, spoil))


def test_a_run_whose_snapshots_are_no_folder_is_not_discarded(tmp_path, small):
    run = recorder.create(Runs(tmp_path), "odd", TASK, MODEL, TRAINING)
    recorder.train(run, should_stop=iter([False] * 14 + [True]).__next__)
    aside = run.snapshots_folder.rename(tmp_path / "aside")
    run.snapshots_folder.touch()
    with pytest.raises(UserError, match=r"snapshots cannot be written: File exists; see that .* then resume odd"):
        recorder.train(run)
    run.snapshots_folder.unlink()
    aside.rename(run.snapshots_folder)
    assert recorder.train(run).status == "done"
    assert same(run, small)


def test_a_finished_run_without_room_for_more_steps_stays_done(copied):
    before = contents(copied.folder)
    with largest_file(0), pytest.raises(UserError, match=r"run.json cannot be written: .*free some space, then try"):
        recorder.extend(copied, 80)
    assert contents(copied.folder) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_folder_that_is_read_only_is_named(tmp_path):
    run = recorder.create(Runs(tmp_path), "kept", TASK, MODEL, TRAINING)
    recorder.train(run, should_stop=lambda: True)
    for folder in (run.folder, run.snapshots_folder):
        folder.chmod(0o555)
    before = contents(run.folder)
    with pytest.raises(UserError, match=r"kept.* cannot be written: Permission denied; see that"):
        recorder.train(run)
    assert contents(run.folder) == before
    for folder in (run.folder, run.snapshots_folder):
        folder.chmod(0o755)


# --- A terminal that is closed, a clock that is wrong ---


def test_a_job_saves_when_it_is_hung_up(tmp_path):
    run, process = started(tmp_path)
    until(lambda: run.info().steps_done > 0)  # reported, not saved
    process.send_signal(signal.SIGHUP)
    until(lambda: run.info().status == "stopped")
    assert recorder.train(run, should_stop=lambda: True).steps_done == run.info().steps_done > 1


def command_line(tmp_path: Path, steps: int, every: int) -> list[str]:
    settings = [f"--steps={steps}", "--set=d_model=16", "--set=d_mlp=16", f"--set=snapshot_every={every}"]
    return [sys.executable, "-m", "explorer", "train", "addition", *settings, "--checkpoints", str(tmp_path)]


def test_a_terminal_that_is_closed_saves_the_run(tmp_path):
    """The progress bar cannot be drawn any more, and what is said at the end cannot be read."""
    ours, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 200))
    process = subprocess.Popen(
        command_line(tmp_path, steps=1_000_000, every=500_000),
        cwd=ROOT,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    said = b""
    while b"loss=" not in said:
        said += os.read(ours, 1000)
    os.close(ours)
    process.wait()
    info = Runs(tmp_path).open("addition").info()
    assert info.status == "stopped"
    assert info.steps_done > 0


def test_a_hangup_that_is_ignored_stays_so(tmp_path):
    process = subprocess.Popen(
        ["nohup", *command_line(tmp_path, steps=300, every=100)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until(lambda: (tmp_path / "addition" / "snapshots").exists())
    process.send_signal(signal.SIGHUP)
    process.communicate()
    assert process.returncode == 0
    assert Runs(tmp_path).open("addition").info().status == "done"


def test_times_of_files_do_not_matter(tmp_path, small):
    """The clock was far ahead while the first half was trained."""
    run = recorder.create(Runs(tmp_path), "ahead", TASK, MODEL, TRAINING)
    recorder.train(run, should_stop=iter([False] * 24 + [True]).__next__)
    for path in (run.folder, *run.folder.rglob("*")):
        os.utime(path, (2**32, 2**32))
    before = run.version()
    info = recorder.train(run)
    assert run.version() != before
    assert info.steps_per_second > 0
    assert same(run, small)


# --- Anything, at any moment ---


@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_to_a_folder_at_any_moment(tmp_path, small, seed):
    """One sentence is said, no process writes where another does, and no snapshot that was whole is lost."""
    rng, runs = random.Random(seed), Runs(tmp_path)
    training = rng.choice([TRAINING, FINITE, replace(TRAINING, snapshot_dtype="float16")])
    fault, step = ("removed", "replaced", "filled", "read-only")[seed % 4], rng.randrange(1, 28)
    straight = recorder.create(runs, "straight", TASK, MODEL, training)
    recorder.train(straight)
    run, before, aside = recorder.create(runs, "run", TASK, MODEL, training), {}, tmp_path / "aside"
    room = rng.choice([0, 1000, 4000, 30_000])

    def happens():
        before.update(snapshots(run))
        match fault:
            case "removed":
                removed(run.folder)
            case "replaced":  # and trained there by another
                run.folder.rename(aside)
                assert recorder.train(recorder.create(runs, "run", TASK, MODEL, training)).status == "done"
            case "filled":
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            case "read-only":  # for root too
                run.snapshots_folder.rename(aside)
                run.snapshots_folder.touch()

    with largest_file(2**30), pytest.raises(UserError) as error:
        recorder.train(run, on_update=at(step, happens))
    assert is_one_sentence(error.value)
    assert str(run.folder) in str(error.value)
    if fault == "removed":
        assert not run.folder.exists()
        return
    if fault == "replaced":
        assert same(run, straight)
        run = Run(aside)
    elif fault == "read-only":
        run.snapshots_folder.unlink()
        aside.rename(run.snapshots_folder)
    assert before.items() <= snapshots(run).items()
    assert run.ensemble().steps == run.steps()
    assert recorder.train(run).status == "done"
    assert same(run, straight)
