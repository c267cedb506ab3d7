"""The tasks: every subclass of `Task` in a module of this folder."""

from explorer.errors import UserError, quoted
from explorer.finding import subclasses
from explorer.tasks.task import Task

TASKS: dict[str, type[Task]] = {kind.name: kind for kind in subclasses(Task, __name__, __path__)}


def task_named(name: str) -> type[Task]:
    """The task of that name.

    Args:
        name: as in run.json and on the command line.

    Raises:
        UserError: there is no such task; the sentence lists all names.
    """
    if name not in TASKS:
        raise UserError(f"There is no task {quoted(name)}; there are {', '.join(sorted(TASKS))}.")
    return TASKS[name]
