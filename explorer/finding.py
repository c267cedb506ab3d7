"""Tasks, views and kinds of panels are found by looking into their folders, so that a new one is a file and nothing
else."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from typing import Any


def subclasses(base: Any, package: str, path: Iterable[str]) -> list[Any]:
    """The concrete subclasses of a class that are defined in the modules of a package.

    Args:
        base: the class, which is abstract.
        package: the name of the package.
        path: its folders.
    """
    found = []
    for module in pkgutil.iter_modules(path, f"{package}."):
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(cls, base) and not inspect.isabstract(cls) and cls.__module__ == module.name:
                found.append(cls)
    return found
