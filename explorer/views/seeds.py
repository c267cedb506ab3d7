"""What differs between runs that differ in their seeds alone."""

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.analysis.outcomes import middle, order
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.curves import Curves, Line
from explorer.film.panels.raster import Raster
from explorer.film.panels.strip import Strip
from explorer.options import Context, choice
from explorer.runs.sweeps import open_sweep, sweep_names
from explorer.sweeps.outcomes import Outcome
from explorer.views.looking import listed
from explorer.views.swept import EACH, Swept, cell_option
from explorer.views.view import Item, Note, Table, View

KINDS = {"test": "unseen data", "train": "training data"}
ALL_PAIRS = 8  # losses, of which every pair is told; of more, those that follow each other
QUARTERS = (25, 75)


def _others(context: Context) -> dict[str, str]:
    """The other sweeps with the same losses."""
    subject: Swept = context.subject
    alike = []
    for name in sweep_names(subject.among):
        with contextlib.suppress(UserError):  # the page Runs says what is wrong with it
            task = open_sweep(subject.among, name).info().cells[0].plan.task
            if name != subject.name and task.loss_names == subject.task.loss_names:
                alike.append(name)
    return {"": "nothing", **{name: name for name in alike}}


@dataclass(frozen=True)
class Options:
    kind: str = choice(
        "Loss on",
        lambda context: KINDS if context.subject.is_finite else {"train": "new examples"},
        labelled=True,
        when=lambda context: context.subject.is_finite,
    )
    cell: str = cell_option()
    beside: str = choice(
        "Compare with", _others, widget="list", labelled=True, when=lambda context: len(_others(context)) > 1
    )


class Seeds(View[Options, Swept]):
    name, title, icon, order = "seeds", "Seeds", "casino", 21
    heading = "Does it always happen in this order?"
    sentence = (
        "The same training with many seeds: each mark is one run, at the step where a loss falls fastest. The bar is "
        "the median over seeds, with an interval in which it lies."
    )
    options_type = Options
    of_sweeps = True

    def offered(self, info: Any) -> bool:
        return len(info.plan.seeds) > 1 or not info.plan.over  # otherwise no view would show a sweep of one run

    def uses_example(self, subject: Swept, options: Options) -> bool:
        return False

    def unavailable(self, subject: Swept, example: str, options: Options) -> str:
        if len(subject.info.plan.seeds) < 2:
            return f"The runs of {subject.name} have one seed each; train it with --seeds 0-9."
        return subject.unmeasured

    def second_run(self, options: Options) -> str | None:
        return options.beside or None

    def film(self, subject: Swept, example: str, options: Options, second: Swept | None = None) -> Film:
        sides = [_side(subject, options.cell, options)]
        if second is not None:
            sides.append(_beside(second, options, sides[0]))
        strip = _strip(sides)
        return Film(subject.frames, [_losses(sides), strip, _seismograph(sides[0])], each=EACH)

    def look(self, subject: Swept, film: Film) -> Sequence[str]:
        strip = film.panels[1]
        if not isinstance(strip, Strip):
            return ()
        return [_fallen(strip, step) for step in film.steps]

    def below(self, subject: Swept, example: str, options: Options) -> Sequence[Item]:
        return _order(_side(subject, options.cell, options))


@dataclass(frozen=True)
class _Side:
    """The runs of one sweep that are compared."""

    subject: Swept
    outcome: Outcome
    points: np.ndarray
    runs: list[int]

    @property
    def names(self) -> list[str]:
        return [f"seed {self.subject.cells[i].seed}" for i in self.runs]

    @property
    def falls(self) -> np.ndarray:
        """(seed token) steps."""
        return self.outcome.fall[self.runs]

    @property
    def in_order(self) -> list[int]:
        """The losses in the order in which they fall, by the median over seeds; those that do not fall last."""
        medians = middle(self.falls).median
        return sorted(range(len(medians)), key=lambda i: (np.isnan(medians[i]), medians[i]))


def _side(subject: Swept, name: str | None, options: Options) -> _Side:
    """The runs of a sweep with the settings of one of them."""
    known = subject.known
    outcome = known.of.get(options.kind, known.unseen)
    side = _Side(subject, outcome, known.points, subject.runs_like(name))
    if np.isnan(side.outcome.loss[side.runs]).all():
        raise UserError(f"No run of {side.subject.name} with these settings has measured this yet; choose others.")
    return side


def _beside(second: Swept, options: Options, first: _Side) -> _Side:
    """The runs of another sweep whose swept settings are most like the first's."""
    if second.task.loss_names != first.subject.task.loss_names:
        raise UserError(
            f"{second.name} has other losses than {first.subject.name}; compare it with a sweep of the same task."
        )
    chosen = first.subject.cells[first.runs[0]]
    given = dict(zip(first.subject.info.plan.over, chosen.values, strict=True))
    over = list(second.info.plan.over)
    alike = max(second.cells, key=lambda cell: sum(given.get(k) == v for k, v in zip(over, cell.values, strict=True)))
    return _side(second, alike.name, options)


def _losses(sides: Sequence[_Side]) -> Curves:
    """The loss over seeds: its median, and the quarters."""
    lines = []
    for i, side in enumerate(sides):
        losses = side.outcome.loss[side.runs]  # (seed point)
        known = ~np.isnan(losses).all(0)
        of = f", {side.subject.name}" if len(sides) > 1 else ""
        low, median, high = np.nanpercentile(losses[:, known], [QUARTERS[0], 50, QUARTERS[1]], axis=0)
        group = side.subject.name
        lines.append(Line(f"median{of}", side.points[known], median, i, group=group, strong=len(sides) == 1))
        for share, values in zip(QUARTERS, (low, high), strict=True):
            lines.append(Line(f"{share} % of seeds below{of}", side.points[known], values, i, group=group, dashed=True))
    n = len(sides[0].runs)
    return Curves("loss-over-seeds", f"Loss over {n} seeds: the median and the middle half", lines, log=False)


def _strip(sides: Sequence[_Side]) -> Strip:
    first, tokens = sides[0], sides[0].in_order
    most = max(len(side.runs) for side in sides)

    def padded(side: _Side) -> np.ndarray:
        falls = side.falls[:, tokens].T  # (token seed)
        return np.pad(falls, ((0, 0), (0, most - falls.shape[1])), constant_values=np.nan)

    middles = [middle(side.falls[:, tokens]) for side in sides]
    return Strip(
        "falls-over-seeds",
        "Where each loss falls fastest, for every seed",
        rows=[first.subject.task.loss_names[token] for token in tokens],
        groups=[side.subject.name for side in sides],
        marks=np.stack([padded(side) for side in sides]),
        names=[[*side.names, *[""] * (most - len(side.names))] for side in sides],
        median=np.stack([one.median for one in middles]),
        low=np.stack([one.low for one in middles]),
        high=np.stack([one.high for one in middles]),
        interval="95 % interval of the median",
    )


def _seismograph(side: _Side) -> Raster:
    """The remaining share of every loss of every seed, stacked."""
    task = side.subject.cells[side.runs[0]].plan.task
    uniform, best = (np.array(reference.losses) for reference in (task.references[0], task.references[-1]))
    shares = (side.outcome.per_token[side.runs] - best) / np.where(uniform != best, uniform - best, np.nan)
    tokens = side.in_order  # (seed point token) -> (token, seed) rows
    rows = [(f"{task.loss_names[token]} · {name}", token, s) for token in tokens for s, name in enumerate(side.names)]
    return Raster(
        "seismograph-over-seeds",
        "Seismograph of all seeds: remaining share of each loss, 1 at a uniform guess, 0 at the best possible",
        [label for label, _, _ in rows],
        side.points,
        np.stack([shares[s, :, token] for _, token, s in rows]),
        low=0.0,
        high=1.0,
        unit="left",
        marks=np.array([side.falls[s, token] for _, token, s in rows]),
        mark="deepest fall steepest",
    )


def _fallen(strip: Strip, step: int) -> str:
    """In how many seeds each loss has fallen by a step."""
    said = []
    for name, marks in zip(strip.rows, strip.marks[0], strict=True):
        n, fallen = len(list(filter(None, strip.names[0]))), int((marks <= step).sum())
        if fallen:
            said.append(f"{name} in {fallen} of {n} seeds")
    return f"Fallen by now: {listed(said)}." if said else "Nothing has fallen yet, in any seed."


def _order(side: _Side) -> list[Item]:
    """In how many seeds one loss falls before another."""
    tokens, names = side.in_order, side.subject.task.loss_names
    if len(tokens) < 2:
        return []
    pairs = itertools.combinations(tokens, 2) if len(tokens) <= ALL_PAIRS else itertools.pairwise(tokens)
    rows = [(one, other, order(side.falls[:, one], side.falls[:, other])) for one, other in pairs]
    known = [(one, other, found) for one, other, found in rows if found.n]
    if not known:
        return []
    table = Table(
        {
            "first": [names[one] for one, _, _ in known],
            "then": [names[other] for _, other, _ in known],
            "seeds": [f"{found.before} of {found.n}" for _, _, found in known],
            "share": [found.before / found.n for _, _, found in known],
            "at least": [found.low for _, _, found in known],
            "at most": [found.high for _, _, found in known],
        },
        probabilities=("share",),
        help={
            "seeds": "seeds in which the first loss falls before the other, of those in which they fall at different "
            "steps; a loss that never falls is later than one that does",
            "at least": "lower end of the 95 % interval of the share, after Wilson",
            "at most": "upper end of the 95 % interval of the share, after Wilson",
        },
    )
    return [Note("In how many seeds does one loss fall before another?", is_heading=True), table]
