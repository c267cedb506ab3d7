"""Means over samples of examples, with the bands around them: three standard errors on either side."""

from collections.abc import Sequence

import numpy as np

from tests.plain import measures
from tests.printed.expected import Lines
from tests.printed.page import Page


def sampled(page: Page, names: Sequence[str], values: np.ndarray, n: int, errors: np.ndarray | float = 0) -> Lines:
    """Curves of means.

    Args:
        page: with a title that says the number of examples, and how many standard errors the bands are.
        names: of the curves.
        values: (frame example curve); nan where an example has none. Truth values are counted.
        n: examples.
        errors: (frame curve) standard errors besides those of the sample.
    """
    means, deviations = measures.mean_and_error(values)
    intervals = 3 * np.hypot(deviations, errors)
    return Lines(
        page.film.steps,
        dict(zip(names, means.T, strict=True)),
        dict(zip(names, intervals.T, strict=True)),
        numbers=[n, 3],
    )
