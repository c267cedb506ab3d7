"""The path of the weights, what lies between snapshots, and the order in which measures changed."""

from functools import lru_cache
from itertools import pairwise

import numpy as np

from explorer.film.panels.strip import Strip
from explorer.views.view import Links, Note, Table
from tests.plain import measures
from tests.plain.run import PlainRun
from tests.printed.expected import Expected, Lines, Series
from tests.printed.page import NOT_RECOMPUTED, Page, checks, recomputes

NOT_RECOMPUTED["leads", "changes"] = (
    "When a curve changes is tested on curves whose changes are known; the curves are recomputed in their own views."
)


@lru_cache(maxsize=16)
def path(run: PlainRun) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each snapshot: the distance from the first, the length of the path up to it, the cosine of its two moves."""
    weights = [run.weights(step) for step in run.steps]

    def inner(one: dict, other: dict) -> float:
        return sum(float((one[name] * other[name]).sum()) for name in one)

    def move(start: dict, end: dict) -> dict:
        return {name: end[name] - start[name] for name in start}

    moves = [move(start, end) for start, end in pairwise(weights)]
    lengths = np.sqrt([inner(one, one) for one in moves])
    far = np.sqrt([inner(one, one) for one in (move(weights[0], w) for w in weights)])
    cosines = [inner(*pair) for pair in pairwise(moves)] / (lengths[:-1] * lengths[1:])
    return far, np.r_[0, lengths.cumsum()], np.r_[np.nan, cosines, np.nan]


@recomputes("between", "distance")
def distance(page: Page, id: str) -> Expected:
    far, length, _ = path(page.run)
    values = {"from the first snapshot": far[page.frames], "length of the path": length[page.frames]}
    return Lines(page.run.steps, values)


@recomputes("between", "turn")
def turn(page: Page, id: str) -> Expected:
    return Lines(page.run.steps, {"cosine": path(page.run)[2][page.frames]})


POINTS = 11  # on the line to the next snapshot
ON_LINE, ON_HESSIAN = 128, 64  # examples


@recomputes("between", "sharpness")
def sharpness(page: Page, id: str) -> Expected:
    sample = page.of_measures(ON_HESSIAN, training=True)
    return Lines(
        page.run.steps, {"sharpness": page.each(lambda w: measures.sharpness(page.cfg, w, *sample))}, rtol=2e-3
    )


def lines(page: Page) -> np.ndarray:
    """The mean loss at points on the way to the next snapshot, (frame point); nan at the last one."""
    sample, found = page.of_measures(ON_LINE), []
    for place in page.run.three[:-1]:
        one, other = (page.run.weights(page.run.steps[at]) for at in (place, place + 1))
        of_points = [{name: (1 - x) * one[name] + x * other[name] for name in one} for x in np.linspace(0, 1, POINTS)]
        found.append([page.token_losses(w, sample).mean() for w in of_points])
    return np.array([*found, [np.nan] * POINTS])


ROUNDING = 1e-5  # nats, of a loss in float32, beside which a change may be small


@recomputes("between", "barrier")
def barrier(page: Page, id: str) -> Expected:
    along = lines(page)
    straight = np.linspace(along[:, 0], along[:, -1], POINTS).T
    return Lines(page.run.steps, {"barrier": (along - straight).max(1)}, atol=ROUNDING)


@recomputes("between", "line")
def line(page: Page, id: str) -> Expected:
    along = lines(page)
    shares = [f"{share}%" for share in range(0, 101, 10)]
    return Series(["change"], shares, (along - along[:, :1])[:, None], atol=ROUNDING)


@checks("leads", Table)
def table(page: Page, shown: Table) -> None:
    """It says what the strip above it shows."""
    (strip,) = [panel for panel in page.film.panels if isinstance(panel, Strip)]
    at = dict(zip(strip.rows, strip.median[0].tolist(), strict=True))
    fall = next(step for row, step in at.items() if row.startswith("the fall: "))
    for measure, step, lag in zip(*(shown.columns[name] for name in ("measure", "at step", "lag")), strict=True):
        assert step == round(at[measure])
        assert lag == round(at[measure] - fall)


@checks("leads", Note)
def note(page: Page, shown: Note) -> None:
    assert shown.text.startswith("Without a change near this fall: ")


@checks("leads", Links)
def ways_to_test(page: Page, links: Links) -> None:
    """Of parts that have changed before the fall."""
    (strip,) = [panel for panel in page.film.panels if isinstance(panel, Strip)]
    fall = next(place for place, row in enumerate(strip.rows) if row.startswith("the fall: "))
    for link in links.links:
        part = link.options["part"] if link.view == "grafts" else link.options["off"][0]
        assert any(part in row for row in strip.rows[:fall])
