"""The unfinished runs, those that can go on, and the name of a new one."""

import contextlib
import itertools
from collections.abc import Collection, Iterator

from explorer.errors import UserError
from explorer.runs import Run, RunInfo, Runs
from explorer.settings import TrainingConfig
from explorer.tasks.task import Task


def free_name(runs: Runs, task: Task, training: TrainingConfig) -> str:
    """An unused name for a new run.

    Args:
        runs: the folder of runs.
        task: the task of the new run.
        training: its settings.
    """
    return unused(task.run_name(training), runs.names())


def unused(first: str, taken: Collection[str]) -> str:
    """A name that nothing has yet: the first, or that with a number.

    Args:
        first: what it would be called if nothing else were.
        taken: names.
    """
    numbered = (f"{first}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([first], numbered) if name not in taken)


def unfinished(runs: Runs) -> list[tuple[Run, RunInfo]]:
    """The runs that are not done, sorted by name.

    Args:
        runs: the folder of runs.
    """
    return [(run, info) for run, info in _readable(runs) if info.status != "done"]


def extendable(runs: Runs) -> list[tuple[Run, RunInfo]]:
    """The runs that are done and whose state was kept, so that they can be given more steps, sorted by name.

    Args:
        runs: the folder of runs.
    """
    return [(run, info) for run, info in _readable(runs) if info.status == "done" and run.resume_file.is_file()]


def _readable(runs: Runs) -> Iterator[tuple[Run, RunInfo]]:
    for name in runs.names():
        with contextlib.suppress(UserError):  # reported on the page Runs
            run = runs.open(name)
            yield run, run.info()


def progress(name: str, info: RunInfo) -> str:
    """Status, steps, speed and time left in one line.

    Args:
        name: of the run.
        info: its state.
    """
    line = f"{name}: {info.status}, step {info.steps_done:,} of {info.training.steps:,}"
    if info.status == "running" and info.steps_per_second:
        left = round((info.training.steps - info.steps_done) / info.steps_per_second)
        time = f"{left // 60}:{left % 60:02}" if left < 3600 else f"{left // 3600:,} h {left % 3600 // 60} min"
        line += f", {info.steps_per_second:,.3g} steps per second, {time} left"
    return line + (f". {info.message}" if info.message else "")
