"""The kinds of panels, found by looking into this folder."""

import importlib
import inspect
import pkgutil

from explorer.film.panels.panel import Panel


def _found() -> dict[str, type[Panel]]:
    kinds = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(cls, Panel) and not inspect.isabstract(cls):
                kinds[cls.kind] = cls
    return kinds


KINDS: dict[str, type[Panel]] = _found()
