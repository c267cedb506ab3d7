"""The tasks: every subclass of `Task` in a module of this folder."""

from explorer.errors import UserError, quoted
from explorer.finding import subclasses
from explorer.tasks.task import Task

KINDS: dict[str, type[Task]] = {kind.name: kind for kind in subclasses(Task, __name__, __path__)}
TASKS: dict[str, type[Task]] = {name: kind for name, kind in KINDS.items() if kind.presets}  # that are trained here


def task_named(name: str) -> type[Task]:
    """The task of that name, among those that are trained here.

    Args:
        name: as on the command line.

    Raises:
        UserError: there is no such task; the sentence lists all names.
    """
    return _among(TASKS, name)


def kind_named(name: str) -> type[Task]:
    """The task of that name, among all, also those of runs that come from elsewhere.

    Args:
        name: as in run.json.

    Raises:
        UserError: there is no such task; the sentence lists all names.
    """
    return _among(KINDS, name)


def _among(kinds: dict[str, type[Task]], name: str) -> type[Task]:
    if name not in kinds:
        raise UserError(f"There is no task {quoted(name)}; there are {', '.join(sorted(kinds))}.")
    return kinds[name]
