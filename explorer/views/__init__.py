"""What can be looked at: analysis composed into Films for one run. The views are found by looking into this folder."""

import functools
import importlib
import inspect
import pkgutil

from explorer.errors import UserError, quoted
from explorer.views.view import View


def find_views(package: str, path: list[str]) -> dict[str, View]:
    """The views in the modules of a package, by name, in the order of the navigation."""
    found = []
    for module in pkgutil.iter_modules(path, f"{package}."):
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(cls, View) and not inspect.isabstract(cls) and cls.__module__ == module.name:
                found.append(cls())
    return {view.name: view for view in sorted(found, key=lambda view: view.place)}


@functools.cache
def all_views() -> dict[str, View]:
    """The views there are, by name, in the order of the navigation."""
    return find_views(__name__, list(__path__))


def view_named(name: str) -> View:
    """The view of that name.

    Raises:
        UserError: there is none; the sentence names those there are.
    """
    views = all_views()
    if name not in views:
        raise UserError(f"There is no view {quoted(name)}; there are {', '.join(views)}.")
    return views[name]
