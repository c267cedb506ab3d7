"""Trains the runs of a sweep with any executor of `concurrent.futures`.

A *group* is a few runs that are trained together, as one stack if the sweep has stacks. The names of its runs go to a
worker, which reads their settings from sweep.json and writes the runs where they live; numbers for the diagram come
back, never a model. A worker that dies costs what its runs did since their last state; its groups are tried again. What
is done is never trained again, so a sweep that was killed at any moment goes on where it was.

A sweep at an address has no states of runs: there, what was begun and not done is trained anew
(`explorer.runs.sweeps` says what else differs). A worker whose sweep is gone, by whatever death, ends its group, and
saves what it can.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from explorer.errors import UserError
from explorer.runs import Runs, recorder
from explorer.runs.files import WriteError
from explorer.runs.lock import request_stop
from explorer.runs.place import UnreachableError
from explorer.runs.store import Run
from explorer.runs.sweeps import Sweep, SweepInfo, open_sweep
from explorer.sweeps.outcomes import Collected, measured, points_of
from explorer.training.stack import shape_of

ATTEMPTS = 3  # to train a group whose worker dies
LOOK_EVERY = 0.5  # seconds between two looks at whether a stop is asked for
WRITE_EVERY = 10.0  # seconds between two writings of outcomes.safetensors
PAUSES = (1.0, 5.0, 15.0, 60.0)  # seconds, until an address that is out of reach is asked again
Value = TypeVar("Value")
Group = tuple[str, ...]  # names of runs
Found = Mapping[str, tuple[Mapping[str, Tensor], str]]  # name of a run -> what was measured, why it failed


@dataclass
class Progress:
    """How far a sweep has got."""

    n_runs: int
    n_steps: int  # updates of all runs
    done: int = 0  # runs that are over: done or failed
    steps: int = 0  # updates, those of failed runs counted in full
    begun_at: int = 0  # updates that were done before
    running: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> updates done, and in all
    problems: dict[str, str] = field(default_factory=dict)  # name -> why it failed


# --- In a worker ---


def train_group(
    root: str, sweep_name: str, names: Group, device: str, is_wanted: Callable[[], bool] = lambda: True
) -> dict[str, tuple[dict[str, Tensor], str]]:
    """Train some runs of a sweep, each to its last step or until a stop is asked for.

    Args:
        root: what names the place of runs in which the sweep is.
        sweep_name: its name.
        names: of the runs, which can be trained as one stack.
        device: to train on.
        is_wanted: whether anybody waits for the result; asked every now and then.

    Returns:
        Name -> what `measured` returns, and why the run failed, "" if it did not.
    """
    among = Runs(root)
    among.place.look_again()
    sweep = _patiently(functools.partial(open_sweep, among, sweep_name), is_wanted)
    info = sweep.info()
    cells = {cell.name: cell for cell in info.cells}
    problems: dict[str, str] = {}
    runs: dict[str, Run] = {}  # those that are trained
    found: dict[str, tuple[dict[str, Tensor], str]] = {}
    with sweep.desk() as desk:
        for name in names:
            plan, run = cells[name].plan, Run.of(desk, name)
            try:
                if _patiently(functools.partial(sweep.is_done, name), is_wanted):
                    continue
                if not run.info_file.exists():
                    run = recorder.create(desk, name, plan.task, plan.model, plan.training, plan.preset, threads=1)
                runs[name] = run
            except UserError as error:
                problems[name] = str(error)
        stop = _Watch(sweep, is_wanted)
        if runs and info.stacked > 1:  # also a single one, which is rounded in the same way
            problems |= recorder.train_together(list(runs.values()), stop, device)
        for name, run in runs.items() if info.stacked == 1 else ():
            try:
                recorder.train(run, should_stop=stop, device=device)
            except UserError as error:
                problems[name] = str(error)
        points = points_of(info)
        for name in names:
            try:
                found[name] = measured(runs.get(name, sweep.run(name)), points), problems.get(name, "")
            except UserError as error:
                found[name] = {}, problems.get(name, str(error))
                continue
            try:
                if name in runs and runs[name].info().status == "done":
                    _patiently(functools.partial(sweep.hand_in, desk, name), is_wanted)
            except UserError as error:
                found[name] = {**found[name][0], "ended": torch.tensor(False)}, str(error)
    return found


def _patiently(ask: Callable[[], Value], is_wanted: Callable[[], bool]) -> Value:
    """What a place answers, which may be out of reach for a while.

    Raises:
        UnreachableError: it is still, after all `PAUSES`, or nobody waits for the answer any longer.
    """
    for pause in PAUSES:
        try:
            return ask()
        except UnreachableError:
            if not is_wanted():
                raise
            time.sleep(pause)
    return ask()


class _Watch:
    """Whether a stop is asked for: asked at every update, looked at every `LOOK_EVERY` seconds."""

    def __init__(self, sweep: Sweep, is_wanted: Callable[[], bool]):
        self._sweep, self._is_wanted = sweep, is_wanted
        self._looked, self._found = time.monotonic(), self._look()

    def _look(self) -> bool:
        return self._sweep.asks_to_stop() or not self._is_wanted()

    def __call__(self) -> bool:
        if time.monotonic() - self._looked > LOOK_EVERY:
            self._looked = time.monotonic()
            self._found = self._look()
        return self._found


# --- In the process of the sweep ---


def groups_of(info: SweepInfo, missing: Sequence[str]) -> list[Group]:
    """The runs that are trained together, in the order in which they are begun.

    A run is always in the same group, so that it is rounded in the same way if a sweep goes on.

    Args:
        info: of the sweep.
        missing: the names of the runs that are not done.
    """
    by_shape: dict[object, list[str]] = {}
    for cell in info.cells:
        by_shape.setdefault(shape_of(cell.plan), []).append(cell.name)
    wanted, groups = set(missing), []
    for names in by_shape.values():
        for first in range(0, len(names), info.stacked):
            group = tuple(name for name in names[first : first + info.stacked] if name in wanted)
            if group:
                groups.append(group)
    return groups


def train_sweep(
    sweep: Sweep,
    executors: Callable[[], Executor],
    at_once: int,
    device: str = "cpu",
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train all runs of a sweep that are not done.

    Args:
        sweep: to train.
        executors: makes an executor; called again when one is broken, because a worker has died.
        at_once: groups that are given to the executor at a time.
        device: to train on.
        on_progress: called every now and then.
        should_stop: if it returns true, or the stop file is there, the workers save what they have, and this returns.
            At an address they drop it.

    Returns:
        How far it got. Runs that failed are in its ``problems``.

    Raises:
        UserError: another process trains the sweep, or its files are damaged or cannot be written.
    """
    try:
        with sweep.alone() as check:
            return _Training(sweep, check, executors, at_once, device, on_progress, should_stop).run()
    except WriteError as error:
        raise UserError(error.sentence("go on with the sweep")) from error


class _Training:
    def __init__(
        self,
        sweep: Sweep,
        check: Callable[[], object],
        executors: Callable[[], Executor],
        at_once: int,
        device: str,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ):
        self._sweep, self._info, self._check, self._device = sweep, sweep.info(), check, device
        self._executors, self._at_once = executors, at_once
        self._on_progress, self._should_stop = on_progress, should_stop
        self._collected = Collected(sweep)
        self._steps = {cell.name: cell.plan.training.steps for cell in self._info.cells}
        self._ended = set(self._steps) - set(self._collected.missing)
        self._collected.problems = {}  # those that failed are tried again
        self._attempts: dict[Group, tuple[int, int]] = {}  # updates when its worker died, and how often it did there
        self._written = time.monotonic()
        self._progress = Progress(len(self._steps), sum(self._steps.values()))
        self._measure_progress(())
        self._progress.begun_at = self._progress.steps

    def run(self) -> Progress:
        waiting = groups_of(self._info, self._collected.missing)
        while waiting and not self._must_stop():
            executor = self._executors()
            try:
                waiting = self._drain(executor, waiting)
            finally:
                executor.shutdown(wait=True, cancel_futures=True)
        self._collected.write(self._check)
        self._measure_progress(())
        self._on_progress(self._progress)
        return self._progress

    def _drain(self, executor: Executor, waiting: list[Group]) -> list[Group]:
        """Train groups until all are over, the executor is broken, or a stop is asked for.

        Returns:
            The groups that are to be tried again.
        """
        waiting, again = list(waiting), list[Group]()
        running: dict[Future[dict[str, tuple[dict[str, Tensor], str]]], Group] = {}
        is_broken = stops = False
        while running or (waiting and not is_broken and not stops):
            while waiting and not is_broken and not stops and self._has_room(waiting[0], running.values()):
                group = waiting.pop(0)
                try:
                    root, name = self._sweep.among.place.known_as, self._sweep.name
                    running[executor.submit(train_group, root, name, group, self._device)] = group
                except RuntimeError:  # the executor is broken, or its cluster is gone
                    is_broken, waiting = True, [group, *waiting]
            finished, _ = wait(running, LOOK_EVERY, FIRST_COMPLETED)
            for future in finished:
                group = running.pop(future)
                try:
                    found = future.result()
                except UserError as error:
                    self._take({name: ({}, str(error)) for name in group})
                except Exception as error:  # whatever a cluster raises when a worker has died
                    is_broken = is_broken or isinstance(error, BrokenExecutor)
                    again += self._again(group, f"{type(error).__name__}: {error}")
                else:
                    self._take(found)
            self._measure_progress([name for group in running.values() for name in group])
            self._on_progress(self._progress)
            if time.monotonic() - self._written > WRITE_EVERY:
                with contextlib.suppress(UnreachableError):  # the network may be back next time
                    self._collected.write(self._check)
                self._written = time.monotonic()
            if not stops and self._must_stop():
                stops = True
                if not self._sweep.is_in_folder:
                    break  # nothing is saved that is worth waiting for
                request_stop(self._sweep)
        return [] if stops else again + waiting

    def _has_room(self, group: Group, running: Collection[Group]) -> bool:
        """Whether a group may begin. A pool breaks for all who are in it, so the last attempt is made alone: it shows
        which of them has broken it."""
        if running and any(self._is_last_attempt(one) for one in (group, *running)):
            return False
        return len(running) < self._at_once

    def _is_last_attempt(self, group: Group) -> bool:
        return self._attempts.get(group, (0, 0))[1] == ATTEMPTS - 1

    def _must_stop(self) -> bool:
        return self._should_stop() or self._sweep.asks_to_stop()

    def _take(self, found: Found) -> None:
        for name, (tensors, problem) in found.items():
            self._collected.add(name, tensors)
            if problem:
                self._collected.problems[name] = problem
            if problem or bool(tensors.get("ended", False)):
                self._ended.add(name)

    def _again(self, group: Group, why: str) -> list[Group]:
        """The group, if it may be tried once more: it got further since its worker died last, or has died rarely."""
        steps, attempts = sum(map(self._steps_done, group)), 1
        if group in self._attempts and self._attempts[group][0] >= steps:
            attempts += self._attempts[group][1]
        self._attempts[group] = steps, attempts
        if attempts < ATTEMPTS:
            return [group]
        problem = f"The process that trained it ended {ATTEMPTS} times before it got any further ({why.rstrip('.')})."
        self._take({name: ({}, problem) for name in group})
        return []

    def _steps_done(self, name: str) -> int:
        """The updates of a run that is being trained, where one can see them."""
        if not self._sweep.is_in_folder:
            return 0
        try:
            return self._sweep.run(name).info().steps_done
        except UserError:  # it has not been created yet
            return 0

    def _measure_progress(self, running: Sequence[str]) -> None:
        progress = self._progress
        progress.running = {}
        for name in running:
            progress.running[name] = self._steps_done(name), self._steps[name]
            self._collected.got_to(name, progress.running[name][0])
        progress.done = len(self._ended)
        progress.steps = sum(self._steps[name] for name in self._ended)
        progress.steps += sum(done for name, (done, _) in progress.running.items() if name not in self._ended)
        progress.problems = dict(self._collected.problems)
