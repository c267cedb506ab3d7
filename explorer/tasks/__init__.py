"""The tasks: every subclass of `Task` in a module of this folder."""

import importlib
import inspect
import pkgutil

from explorer.errors import UserError, quoted
from explorer.tasks.task import Task


def _found() -> dict[str, type[Task]]:
    tasks = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(cls, Task) and not inspect.isabstract(cls):
                tasks[cls.name] = cls
    return tasks


TASKS: dict[str, type[Task]] = _found()


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
