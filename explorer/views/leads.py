"""What changed before a loss fell, with it, and after it: every measure over training, dated like the fall."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.analysis import leads
from explorer.analysis.leads import DatedChange, Lead
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.strip import Strip
from explorer.options import Context, choice
from explorer.tasks.task import Task
from explorer.views import panels
from explorer.views.over_training import N_PARTS, Curve, Family, falls, families, loss_of
from explorer.views.subject import Subject
from explorer.views.view import GrowingView, Item, Link, Links, Note, Table, same_labels

NO_PROOF = "What changes first need not be the cause. Ablating it, or grafting it into an earlier model, is a test."


def fall_option() -> Any:
    """The option that says which loss falls, of a run or of the runs of a sweep."""

    def choices(context: Context) -> dict[str, str]:
        task: Task = context.subject.task
        return same_labels(falls(task))

    return choice("Fall of", choices, widget="list", labelled=True)


@dataclass(frozen=True)
class Options:
    fall: str = fall_option()


class Leads(GrowingView[Options]):
    name, title, icon, order = "leads", "Leads", "schedule", 12
    heading = "What led the fall?"
    sentence = (
        "Every measure of the run has falls and rises of its own. Here they stand in the order of training, with "
        "intervals: what changed before the loss fell, and what only after it."
    )
    growing = "Dating one measure after the other…"
    options_type = Options

    def unavailable(self, subject: Subject, example: str, options: Options) -> str:
        return "" if subject.once(fall_of, options.fall) else _never(subject, options.fall)

    def uses_example(self, subject: Subject, options: Options) -> bool:
        return False

    def films(
        self, subject: Subject, example: str, options: Options, second: Subject | None = None
    ) -> Iterator[tuple[Film, float]]:
        fall = subject.once(fall_of, options.fall)
        if fall is None:
            raise UserError(_never(subject, options.fall))
        table = list[Lead]()
        for n, found in enumerate(families(subject, options.fall), 1):
            table += [lead for family in found for lead in subject.once(_leads, options.fall, family)]
            yield Film(subject.steps, [panels.timeline(subject), _strip(options.fall, fall, table)]), n / N_PARTS

    def look(self, subject: Subject, film: Film) -> Sequence[str]:
        strip = film.panels[1]
        assert isinstance(strip, Strip)
        return [told(strip, step) for step in film.steps]

    def below(self, subject: Subject, example: str, options: Options) -> Sequence[Item]:
        of_all = [family for found in families(subject, options.fall) for family in found]
        table = leads.in_order(lead for family in of_all for lead in subject.once(_leads, options.fall, family))
        changing = [one for one in table if one.change is not None]
        columns: dict[str, Sequence[Any]] = {
            "measure": [one.measure for one in changing],
            "changes": ["falls" if one.change.is_fall else "rises" for one in changing if one.change],
            "from": [one.change.before for one in changing if one.change],
            "to": [one.change.after for one in changing if one.change],
            "at step": [round(one.change.steepest) for one in changing if one.change],
            "lag": [round(one.lag) for one in changing],
            "at least": [round(one.low) for one in changing],
            "at most": [round(one.high) for one in changing],
            "": [one.verdict for one in changing],
        }
        tooltips = {
            "lag": "steps after the loss falls fastest; negative: before it",
            "at least": "of the lag: both are known only to within the snapshots around them, and their noise",
        }
        silent = [one.measure for one in table if one.change is None]
        items: list[Item] = [Table(columns, steps=("at step", "lag", "at least", "at most"), help=tooltips)]
        if silent:
            items.append(Note(f"Without a change near this fall: {', '.join(silent)}.", is_caption=True))
        items.append(Note(NO_PROOF, is_caption=True))
        curves = {curve.measure.name: curve for family in of_all for curve in family.each()}
        led = [curves[one.measure] for one in changing if one.verdict == "led"]
        tests = {test.label: test for curve in led for test in ways_to_test(curve)}
        return [*items, Links(list(tests.values()), "Test it:")] if tests else items


def ways_to_test(curve: Curve) -> list[Link]:
    """What would show whether the parts that a curve is of are a cause.

    Args:
        curve: which led a fall.
    """
    if curve.test == "graft":
        return [Link(f"graft {part}", view="grafts", options={"part": part}) for part in curve.parts]
    return [Link(f"ablate {part}", view="cut", options={"do": "ablate", "off": (part,)}) for part in curve.parts]


def fall_of(subject: Subject, name: str) -> DatedChange | None:
    """The deepest fall of a loss; None if it never falls.

    Args:
        subject: the run.
        name: of the loss, one of `falls`.
    """
    return leads.deepest_fall(loss_of(subject.losses()[0], falls(subject.task)[name], name))


def _leads(subject: Subject, name: str, family: Family) -> list[Lead]:
    """When measures changed, compared with the fall of a loss that falls."""
    fall = subject.once(fall_of, name)
    return [] if fall is None else leads.leads(fall, [curve.measure for curve in family.each()])


def _never(subject: Subject, name: str) -> str:
    return f"The loss of {name} never falls in {subject.name}, so nothing can have led it; choose another loss or run."


def _strip(group: str, fall: DatedChange, table: Sequence[Lead]) -> Strip:
    """The fall and the changes near it, each at its steepest step, with its interval."""
    name = f"the fall: loss of {group}"
    dated = [(name, fall), *((one.measure, one.change) for one in table if one.change is not None)]
    dated.sort(key=lambda pair: pair[1].steepest)
    steepest, low, high = (
        np.array([[getattr(change, field) for _, change in dated]]) for field in ("steepest", "low", "high")
    )
    rows = [name for name, _ in dated]
    return Strip(
        "changes",
        "When each measure changes fastest",
        rows,
        ["changes"],
        steepest[:, :, None],
        [["steepest step"]],
        steepest,
        low,
        high,
        middle="steepest step",
        interval="its interval",
    )


def told(strip: Strip, step: int) -> str:
    """Which changes are over at a step, and which comes next.

    Args:
        strip: of changes, of one group.
        step: on screen.
    """
    at = list(zip(strip.median[0].tolist(), strip.rows, strict=True))
    over, later = (
        [name for steepest, name in at if steepest <= step],
        [name for steepest, name in at if steepest > step],
    )
    if not over:
        return f"Nothing has changed yet; first comes the {later[0].removeprefix('the ')}."
    latest = f"{len(over)} of {len(at)} have changed, the latest: {over[-1]}."
    return f"{latest} Next: {later[0]}." if later else latest
