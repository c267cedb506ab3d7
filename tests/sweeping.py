"""Tiny sweeps for tests, and what is compared of them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

from explorer.errors import UserError
from explorer.runs import Runs, recorder
from explorer.runs.sweeps import OUTCOMES, Sweep, SweepInfo, create_sweep
from explorer.sweeps.cluster import cluster
from explorer.tasks.skip_trigram import SkipTrigram
from explorer.training.sweep import SweepPlan, parsed
from tests.conftest import same, until

HERE = Path(__file__).parents[1]
TINY = ["n_letters=16", "d_model=8", "batch_size=32", "test_batch_size=16"]
OVER, SEEDS = ["lr=0.01,0.03,0.1"], "0-1"


class Machines:
    """A scheduler and its workers."""

    def __init__(self, folder: Path, n_workers: int):
        self._file, self._folder = folder / "scheduler.json", folder
        self.started: list[subprocess.Popen] = []
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_for(lambda: self._file.exists() or self.scheduler.poll() is not None)
        self.address = json.loads(self._file.read_text())["address"]
        self.workers = [self.worker() for _ in range(n_workers)]
        wait_for(lambda: self.threads() == n_workers)

    def _start(self, kind: str, *more: str) -> subprocess.Popen:
        words = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(self._file)]
        with (self._folder / f"{kind}-{len(self.started)}.log").open("w") as log:
            process = subprocess.Popen([*words, "--no-dashboard", *more], cwd=HERE, stdout=log, stderr=log)
        self.started.append(process)
        return process

    def worker(self) -> subprocess.Popen:
        more = ["--no-nanny", "--nthreads", "1", "--host", "127.0.0.1", "--death-timeout", "60"]
        return self._start("worker", *more, "--local-directory", str(self._folder))

    def threads(self) -> int:
        try:
            return cluster(self.address)[1]
        except UserError:
            return 0

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


def tiny(steps: int, *more: str, over: list[str] = OVER, seeds: str = SEEDS) -> SweepPlan:
    """Six runs of skip trigrams."""
    return parsed(SkipTrigram, "quick", [*TINY, f"steps={steps}", *more], over, seeds)


def made(root: Path, plan: SweepPlan, stacked: int = 1, name: str = "sweep") -> Sweep:
    return create_sweep(Runs(root), name, SweepInfo(plan, stacked))


def command(root: Path, steps: int, *more: str, name: str = "sweep") -> list[str]:
    """What the command line is told to train `tiny`, without the program."""
    settings = [*TINY, *(word for word in more if not word.startswith("--")), f"steps={steps}"]
    flags = [word for word in more if word.startswith("--")]
    words = [word for setting in settings for word in ("--set", setting)]
    words += [word for setting in OVER for word in ("--over", setting)]
    return ["sweep", "skip-trigram", *words, "--seeds", SEEDS, "--name", name, *flags, "--checkpoints", str(root)]


def begun(words: list[str]) -> subprocess.Popen:
    """The command in a process of its own, which leads a group."""
    return subprocess.Popen(
        [sys.executable, "-m", "explorer", *words],
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def of_session(leader: int) -> list[psutil.Process]:
    """The processes that are left of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
            if alive and os.getsid(process.pid) == leader:
                found.append(process)
        except (psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            continue
    return found


def workers_of(pid: int) -> list[psutil.Process]:
    """The workers of the process of a sweep."""
    try:
        children = psutil.Process(pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def snapshots(sweep: Sweep) -> int:
    """How many snapshots the runs of a sweep have on disk."""
    return len(list(sweep.folder.glob("*/snapshots/step-*")))


def wait_for(found: Callable[[], object]) -> None:
    """Wait for up to three minutes."""
    for _ in range(2):
        try:
            return until(found)
        except AssertionError:
            continue
    return until(found)


def trained_alone(root: Path, plan: SweepPlan) -> Runs:
    """The runs of a sweep, trained one by one."""
    runs = Runs(root)
    for cell in plan.cells():
        settings = (cell.plan.task, cell.plan.model, cell.plan.training, cell.plan.preset)
        recorder.train(recorder.create(runs, cell.name, *settings, threads=1))
    return runs


def exact(path: Path) -> dict[str, bytes]:
    return {name: values.numpy().tobytes() for name, values in load_file(path).items()}


def assert_same(one: Sweep, other: Sweep) -> None:
    """See that two sweeps have the same outcomes, metrics and snapshots, bit for bit."""
    for cell in other.info().cells:
        ours, theirs = one.run(cell.name), other.run(cell.name)
        assert ours.info().status == theirs.info().status == "done", ours.info().message
        assert ours.info().snapshots == theirs.info().snapshots
        assert same(ours, theirs), cell.name
    assert one.read(OUTCOMES)[1] == other.read(OUTCOMES)[1]
    assert_close(one.read(OUTCOMES)[0], other.read(OUTCOMES)[0], 0.0)


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        torch.testing.assert_close(values, other[name], rtol=tolerance, atol=tolerance, equal_nan=True, msg=name)
