"""What a sweep will take, from a short trial: how many runs make a stack, and its time, memory and disk."""

import contextlib
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from explorer.errors import UserError, duration
from explorer.model.architectures import n_weights
from explorer.runs.sweeps import SweepInfo
from explorer.sweeps.outcomes import ARRAYS, points_of
from explorer.training.loop import Training
from explorer.training.memory import PROCESS, check_memory, free_memory, memory_needed
from explorer.training.optimiser import n_moments
from explorer.training.plan import Plan
from explorer.training.process import run_apart
from explorer.training.stack import Stack, shape_of
from explorer.training.sweep import Cell, SweepPlan

STACKS = (4, 8, 16, 32, 64)  # runs of a stack, tried in this order until two in a row are not faster
GAIN = 0.9  # of the time for each run of fewer: more runs in a stack must take less than that
WARM_UP, UPDATES, SECONDS = 3, 30, 1.0  # of a trial: updates before it, and at most so many of them or so long
START = 3.0  # seconds until a process has begun: it imports torch
RUN_FILES = 4096  # bytes of the files of a run besides its losses and weights
AVERAGE_SNAPSHOTS = 40  # of a run that keeps all, where they follow the losses


@dataclass(frozen=True)
class Estimate:
    """What a sweep will take."""

    runs: int
    stacked: int  # runs of a stack
    workers: int
    seconds: float
    memory: float  # bytes, of all workers
    disk: float  # bytes

    def __str__(self) -> str:
        together = f", {self.stacked} at a time as one stack" if self.stacked > 1 else ""
        return (
            f"{self.runs:,} runs{together}, on {self.workers} processes: about {duration(self.seconds)}, "
            f"{_size(self.memory)} of memory, {_size(self.disk)} of disk"
        )


def tried(plan: SweepPlan, workers: int, device: str = "cpu", is_here: bool = True) -> tuple[SweepInfo, Estimate]:
    """Train a few updates of one run of each shape, alone and in stacks.

    Args:
        plan: of the sweep.
        workers: processes that will train at a time.
        device: that they will train on.
        is_here: whether they are processes of this machine, which needs memory for all of them.

    Returns:
        What sweep.json is to hold, with the number of runs that are fastest as one stack, and what it will take.

    Raises:
        UserError: there are too many runs, or the settings of one do not fit together, or it would not fit in memory,
            alone or beside those that are trained at the same time.
    """
    cells = plan.cells()
    by_shape: dict[object, list[Cell]] = {}
    for cell in cells:
        by_shape.setdefault(shape_of(cell.plan), []).append(cell)
    shapes = list(by_shape.values())
    for one in (of_shape[0].plan for of_shape in shapes):
        check_memory(one.task, one.model, one.training)
    longest = max(memory_needed(one.task, one.model, one.training) for one in (of[0].plan for of in shapes))
    most = math.ceil(len(cells) / workers)  # so that every worker has something to do
    if is_here:
        at_once, free = min(workers, len(cells)), free_memory()
        if at_once * (PROCESS + longest) > free:
            raise UserError(
                f"{at_once} processes need about {_size(at_once * (PROCESS + longest))} of memory, of which "
                f"{_size(free)} are free here; take fewer, with --workers, or a smaller model."
            )
        most = min(most, (free // at_once - PROCESS) // longest)
    times = run_apart(lambda: [_times(of_shape, most, device) for of_shape in shapes], 1)
    stacked = min(max(each, key=lambda n: (each[n] < GAIN * each[1], -each[n])) for each in times)
    info = SweepInfo(plan, stacked)
    steps = [sum(cell.plan.training.steps for cell in of_shape) for of_shape in shapes]
    work = math.fsum(n * each.get(stacked, each[1]) for n, each in zip(steps, times, strict=True))
    groups = sum(math.ceil(len(of_shape) / stacked) for of_shape in shapes)
    at_once = min(workers, groups)
    return info, Estimate(
        runs=len(cells),
        stacked=stacked,
        workers=at_once,
        seconds=START + work / at_once,
        memory=at_once * (PROCESS + stacked * longest),
        disk=math.fsum(_disk(cell.plan) for cell in cells) + _outcomes_bytes(info),
    )


def _times(cells: list[Cell], most: int, device: str) -> dict[int, float]:
    """Runs of a stack, at most so many -> seconds of an update, for each run; of 1 for a run by itself."""

    def training(plan: Plan, seed: int) -> Training:
        return Training(plan.task, plan.model, replace(plan.training, seed=seed, stop_below=0.0), device)

    plan = cells[0].plan
    times = {1: _seconds(training(plan, 0).updates())}
    slower = 0
    for n in STACKS:
        if n > min(most, len(cells)) or slower == 2:  # a single one may be slow because of what others do just then
            break
        fastest = min(times.values())
        stack = Stack([training(plan, seed) for seed in range(n)])
        times[n] = _seconds(stack.updates()) / n
        slower = slower + 1 if times[n] > GAIN * fastest else 0
    return times


def _seconds(updates: Iterator[object]) -> float:
    """The fastest of a few updates: what others do on this machine makes one slower, never faster."""
    began = last = time.perf_counter()
    times = []
    with contextlib.suppress(UserError):  # this one diverges, which is told when it is trained
        for _ in itertools.islice(updates, WARM_UP + UPDATES):
            now = time.perf_counter()
            times.append(now - last)
            last = now
            if now - began > SECONDS:
                break
    return min(times[WARM_UP:] or times, default=0.0)


def _disk(plan: Plan) -> float:
    """The bytes of the files of a run."""
    training, task = plan.training, plan.task
    lines = sum(len(measure.lines) for measure in task.measures.values())
    row = 8 + 4 * (len(task.loss_names) + lines)
    tests = training.steps / training.test_every if task.n_train(training) else 0
    losses = training.steps * row + tests * (row + 8)
    weights = 4 * n_weights(plan.model)
    each = weights / (2 if training.snapshot_dtype == "float16" else 1)
    if training.keep == "losses":
        return RUN_FILES + losses
    if training.keep == "ends":
        return RUN_FILES + losses + 2 * each
    every = training.snapshot_every
    snapshots = 1 + (training.steps // every if every else min(AVERAGE_SNAPSHOTS, training.steps))
    return RUN_FILES + losses + snapshots * each + (1 + n_moments(training)) * weights


def _outcomes_bytes(info: SweepInfo) -> float:
    plan = info.cells[0].plan
    n, points, tokens = len(info.cells), len(points_of(info)), len(plan.task.loss_names)
    kinds = 2 if plan.task.n_train(plan.training) else 1
    values = {"loss": points, "right": points, "per_token": points * tokens, "fall": tokens}
    return kinds * n * math.fsum(values[name] * dtype.itemsize for name, dtype in ARRAYS.items())


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{max(n_bytes / 2**20, 0.1):.1f} MiB"
