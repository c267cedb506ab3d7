"""The plane of two swept settings, coloured by how the runs turn out."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.analysis import outcomes as how
from explorer.analysis.outcomes import DELAY, PHASES, REACHED, middle, reached_at
from explorer.film.film import Film
from explorer.film.panels.plane import Axis, Plane
from explorer.options import Context, choice
from explorer.sweeps.outcomes import Outcomes
from explorer.training.sweep import written
from explorer.views.swept import EACH, Swept
from explorer.views.view import Item, Note, Table, View, same_labels

COLOURS: Mapping[str, str] = {
    "phase": "phase",
    "memorise": "steps to learn the training data",
    "generalise": "steps to learn unseen data",
    "delay": "delay between them",
    "loss": "loss on unseen data",
}
SHARES = (0.5, 0.8, REACHED, 0.95, 0.99)
DELAYS = (100, 200, 500, DELAY, 2000, 5000, 10_000)
WIDE = 8  # an axis whose values reach over a larger ratio than this is logarithmic


def _over(context: Context) -> list[str]:
    return list(context.subject.info.plan.over)


@dataclass(frozen=True)
class Options:
    colour: str = choice("Colour", COLOURS, widget="list", labelled=True, width=260)
    across: str | None = choice(
        "Across",
        lambda context: {key: context.subject.label(key) for key in _over(context)},
        widget="list",
        width=200,
        labelled=True,
        when=lambda context: len(_over(context)) > 1,
    )
    up: str | None = choice(
        "Up",
        lambda context: {key: context.subject.label(key) for key in _over(context) if key != context.chosen["across"]},
        widget="list",
        width=200,
        labelled=True,
        when=lambda context: len(_over(context)) > 2,
    )
    reached: float = choice(
        "Learnt from this share of right answers on",
        same_labels(SHARES),
        preferred=lambda context: REACHED,
        widget="list",
        labelled=True,
        when=lambda context: context.chosen["colour"] != "loss",
    )
    delay: float = choice(
        "Grokking from this delay on, in steps",
        same_labels(DELAYS),
        preferred=lambda context: DELAY,
        widget="list",
        labelled=True,
        when=lambda context: context.chosen["colour"] == "phase",
    )


class PhaseDiagram(View[Options, Swept]):
    name, title, icon, order = "phase-diagram", "Phase diagram", "grid_on", 20
    heading = "Where does it happen at all?"
    sentence = (
        "Each cell is the runs with these two settings, coloured by what they have learnt so far. Scrub, and the "
        "phases fill the plane. Point at a cell for its curves, click it to open its run."
    )
    options_type = Options
    of_sweeps = True

    def offered(self, info: Any) -> bool:
        return bool(info.plan.over)

    def uses_example(self, subject: Swept, options: Options) -> bool:
        return False

    def unavailable(self, subject: Swept, example: str, options: Options) -> str:
        if not subject.info.plan.over:
            return f"The runs of {subject.name} differ in nothing but their seeds; look at their seeds."
        return subject.unmeasured

    def film(self, subject: Swept, example: str, options: Options, second: Swept | None = None) -> Film:
        return Film(subject.frames, [plane(subject, options)], each=EACH)

    def look(self, subject: Swept, film: Film) -> Sequence[str]:
        (panel,) = film.panels
        if not isinstance(panel, Plane) or not panel.kinds:
            return ()
        return [_counted(values) for values in panel.values]

    def below(self, subject: Swept, example: str, options: Options) -> Sequence[Item]:
        return _table(subject, options)


def _counted(values: np.ndarray) -> str:
    counts = [(int((values == i).sum()), phase) for i, phase in enumerate(PHASES)]
    said = [f"{n} in {phase}" for n, phase in counts if n]
    unknown = int(np.isnan(values).sum())
    said += [f"{unknown} not measured yet"] if unknown else []
    return f"Of {values.size} cells: {', '.join(said)}."


def _axes(subject: Swept, options: Options) -> tuple[str | None, str | None]:
    """The settings across and up."""
    over = list(subject.info.plan.over)
    across = options.across or next(iter(over), None)
    return across, options.up or next((key for key in over if key != across), None)


def _axis(subject: Swept, key: str | None) -> tuple[Axis, list[int]]:
    """An axis, and the places of its values in the order of the axis."""
    if key is None:
        return Axis("", ("",)), [0]
    values = subject.info.plan.over[key]
    labels = [written(value) for value in values]
    if not all(type(value) in (int, float) for value in values):
        return Axis(subject.label(key), labels), list(range(len(values)))
    order = sorted(range(len(values)), key=lambda i: values[i])
    at = [float(values[i]) for i in order]
    is_log = at[0] > 0 and at[-1] / at[0] > WIDE
    return Axis(subject.label(key), [labels[i] for i in order], at, is_log), order


def plane(subject: Swept, options: Options) -> Plane:
    """The plane as a panel.

    Args:
        subject: the sweep.
        options: of the view.

    Raises:
        UserError: nothing has been measured yet.
    """
    known, (across, up) = subject.known, _axes(subject, options)
    (columns, column_order), (rows, row_order) = _axis(subject, across), _axis(subject, up)
    runs = subject.grid(across, up)[np.ix_(row_order, column_order)]  # (row column seed)
    kinds, limits, values, agree = _values(known, options, runs)
    is_loss = options.colour == "loss"
    if subject.is_finite:
        lines = {"training data": known.of["train"], "unseen data": known.unseen}
    else:
        lines = {"new examples": known.unseen}
    of_runs = [of_kind.loss if is_loss else of_kind.right for of_kind in lines.values()]
    curves = np.stack([_median(np.moveaxis(of_run[runs], 2, 0)) for of_run in of_runs], 2)
    names = [cell.name for cell in subject.cells]
    return Plane(
        "plane",
        _title(options, runs.shape[2]),
        rows,
        columns,
        values,
        kinds=kinds,
        n=np.full(runs.shape[:2], runs.shape[2]),
        agree=agree,
        curves=curves,
        lines=list(lines),
        points=known.points,
        curve_unit="nats" if is_loss else "share right",
        threshold=None if is_loss else options.reached,
        runs=[[f"{subject.name}/{names[of_cell[0]]}" for of_cell in row] for row in runs],
        **limits,
    )


def _title(options: Options, n: int) -> str:
    if n == 1:
        return f"{COLOURS[options.colour].capitalize()} of each run"
    if options.colour == "phase":
        return f"The phase that most of {n} runs are in, and how many"
    return f"{COLOURS[options.colour].capitalize()}, median of {n} runs"


def _values(
    known: Outcomes, options: Options, runs: np.ndarray
) -> tuple[Sequence[str], dict[str, Any], np.ndarray, np.ndarray | None]:
    """What colours the cells: the names of kinds, the limits of numbers, (frame row column), how many runs agree."""
    train, unseen, points = known.of["train"], known.unseen, known.points

    def of_cells(of_run: np.ndarray) -> np.ndarray:
        return np.moveaxis(of_run[runs], (2, 3), (0, 1))  # (seed point row column)

    if options.colour == "phase":
        found = how.phases(train.right, unseen.right, points, options.reached, options.delay)
        kinds, n = how.agreeing(of_cells(found), len(PHASES))
        return PHASES, {}, np.where(kinds < 0, np.nan, kinds), n
    if options.colour == "loss":
        losses = _median(of_cells(unseen.loss))
        low, high = _limits(losses)
        return (), {"low": max(low, 1e-6), "high": max(high, 2e-6), "log_colour": True, "unit": "nats"}, losses, None
    memorised, learnt = (reached_at(of_kind.right, points, options.reached) for of_kind in (train, unseen))
    steps = {"memorise": memorised, "generalise": learnt, "delay": (learnt - memorised).clip(0)}[options.colour]
    since = memorised if options.colour == "memorise" else learnt
    by_now = np.where(since[:, None] <= points, steps[:, None], np.nan)  # (run point)
    values = middle(of_cells(by_now)).median
    low, high = _limits(values)
    return (), {"low": low, "high": max(high, low + 1), "unit": "steps"}, values, None


def _median(values: np.ndarray) -> np.ndarray:
    """Over the first axis, of the seeds that have been measured; nan where none has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a place where none has
        return np.nanmedian(values, axis=0)


def _limits(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _table(subject: Swept, options: Options) -> list[Item]:
    """How each run turned out."""
    known, over = subject.known, subject.info.plan.over
    train, unseen, points = known.of["train"], known.unseen, known.points
    reached, delay = options.reached or REACHED, options.delay or DELAY
    phase = how.phases(train.right, unseen.right, points, reached, delay)[:, -1]
    memorised, learnt = (reached_at(of_kind.right, points, reached) for of_kind in (train, unseen))

    def steps(values: np.ndarray) -> list[int | None]:
        return [None if np.isnan(value) else int(value) for value in values]

    def numbers(of: Callable[[int], Any]) -> list[Any]:
        return [of(i) for i in range(len(subject.cells))]

    columns: dict[str, Sequence[Any]] = {
        **{key: [cell.values[i] for cell in subject.cells] for i, key in enumerate(over)},
        "seed": [str(cell.seed) for cell in subject.cells],
        "phase at the end": numbers(lambda i: PHASES[phase[i]] if phase[i] >= 0 else "not measured yet"),
        "training data learnt": steps(memorised),
        "unseen data learnt": steps(learnt),
        "delay": steps(learnt - memorised),
        "right on training data": numbers(lambda i: float(train.right[i, -1])),
        "right on unseen data": numbers(lambda i: float(unseen.right[i, -1])),
        "loss on unseen data": numbers(lambda i: float(unseen.loss[i, -1])),
    }
    every = int(np.diff(points).max())
    caption = (
        f"Learnt is the first step at which {reached:.0%} of the answers are right, on average over about {every:,} "
        f"steps. Grokking: unseen data are learnt {delay:,} steps after the training data or later. The four phases "
        "are those of Liu et al. 2022, arXiv 2205.10343."
    )
    in_steps = ("training data learnt", "unseen data learnt", "delay")
    shares = ("right on training data", "right on unseen data")
    return [
        Note("Every run", is_heading=True),
        Note(caption, is_caption=True),
        Table(columns, steps=in_steps, probabilities=shares),
    ]
