"""Helpers of the tests of films."""

import numpy as np

from explorer.film.film import Film
from explorer.film.panels.curves import Curves


def of(kind: type, film: Film) -> list:
    """The panels of a kind."""
    return [panel for panel in film.panels if isinstance(panel, kind)]


def values(panel: Curves) -> dict[str, np.ndarray]:
    """The values of each curve by its label."""
    return {line.label: line.values for line in panel.lines}
