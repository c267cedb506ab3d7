"""Measures that take minutes: what they are, and how they are computed and kept. All subclasses of `Measure` in this
folder are discovered."""

import functools
from typing import Any

from explorer.errors import UserError, quoted
from explorer.finding import subclasses
from explorer.measures.measure import Measure


@functools.cache
def all_measures() -> dict[str, Measure[Any]]:
    """All measures by name, in alphabetical order."""
    found = [cls() for cls in subclasses(Measure, __name__, __path__)]
    return {measure.name: measure for measure in sorted(found, key=lambda measure: measure.name)}


def get_measure(name: str) -> Measure[Any]:
    """The measure called ``name``.

    Args:
        name: as in a command.

    Raises:
        UserError: there is no such measure; the message lists those there are.
    """
    if name not in all_measures():
        raise UserError(f"There is no measure {quoted(name)}; there are {', '.join(all_measures())}.")
    return all_measures()[name]
