"""The runs that the page Train is about: those that are not done, and the name of a new one."""

from explorer.errors import UserError
from explorer.runs import Run, RunInfo, Runs
from explorer.settings import TrainingConfig
from explorer.tasks.task import Task


def free_name(runs: Runs, task: Task, training: TrainingConfig) -> str:
    """A name for a new run that no run has."""
    first = task.run_name(training)
    taken, name, number = set(runs.names()), first, 2
    while name in taken:
        name, number = f"{first}-{number}", number + 1
    return name


def unfinished(runs: Runs) -> list[tuple[Run, RunInfo]]:
    """The runs that are not done, by name."""
    found = []
    for name in runs.names():
        try:
            run = runs.open(name)
            info = run.info()
        except UserError:
            continue  # the page of all runs says what is wrong with it
        if info.status != "done":
            found.append((run, info))
    return found


def progress(name: str, info: RunInfo) -> str:
    """How far a run is, in a line."""
    said = f"{name}: {info.status}, step {info.steps_done:,} of {info.training.steps:,}"
    if info.status == "running" and info.steps_per_second:
        left = round((info.training.steps - info.steps_done) / info.steps_per_second)
        time = f"{left // 60}:{left % 60:02}" if left < 3600 else f"{left // 3600:,} h {left % 3600 // 60} min"
        said += f", {info.steps_per_second:,.3g} steps a second, {time} left"
    return said + (f". {info.message}" if info.message else "")
