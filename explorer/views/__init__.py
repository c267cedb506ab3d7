"""Views: each composes analyses of a run into a film. All subclasses of `View` in this folder are discovered."""

import functools
from typing import Any

from explorer.errors import UserError, quoted
from explorer.finding import subclasses
from explorer.views.view import View


def find_views(package: str, path: list[str]) -> dict[str, View[Any, Any]]:
    """The views in the modules of a package, by name, in the order of the navigation.

    Args:
        package: the dotted name of the package.
        path: its folders.
    """
    found = [cls() for cls in subclasses(View, package, path)]
    return {view.name: view for view in sorted(found, key=lambda view: view.order)}


@functools.cache
def all_views() -> dict[str, View[Any, Any]]:
    """All views by name, in the order of the navigation."""
    return find_views(__name__, list(__path__))


def get_view(name: str) -> View[Any, Any]:
    """The view called ``name``.

    Args:
        name: as in a link.

    Raises:
        UserError: there is no such view; the message lists the available ones.
    """
    views = all_views()
    if name not in views:
        raise UserError(f"There is no view {quoted(name)}; there are {', '.join(views)}.")
    return views[name]
