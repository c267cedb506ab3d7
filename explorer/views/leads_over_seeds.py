"""In how many seeds of a sweep each measure led the fall of a loss, and by how many steps."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from explorer.analysis import leads
from explorer.analysis.leads import DatedChange, Lead, SweptLead
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.curves import Curves, Line
from explorer.film.panels.strip import Strip
from explorer.runs import Run
from explorer.runs.measures import identity
from explorer.sweeps.leads import Dated, DatedRun, read_leads
from explorer.training.sweep import command
from explorer.views.leads import NO_PROOF, fall_of, fall_option, told
from explorer.views.looking import listed
from explorer.views.over_training import falls, families, kept_with
from explorer.views.subject import Subject
from explorer.views.swept import EACH, Swept, cell_option
from explorer.views.view import GrowingView, Item, Link, Links, Note, Table

LEAST_SNAPSHOTS = 3  # of a run: the first and the last alone date nothing
MOST_LINKED = 10  # runs that can be gone to

LEGEND = (
    "Steps are the median over the seeds, with its 95 % interval; a seed in which a measure does not change near the "
    "fall counts as later than all others. Heads that do the same have other names in each seed, so the largest value "
    "of all heads is dated."
)


@dataclass(frozen=True)
class Options:
    fall: str = fall_option()
    cell: str = cell_option()


class LeadsOverSeeds(GrowingView[Options, Swept]):
    name, title, icon, order = "leads-over-seeds", "Leads over seeds", "schedule", 22
    heading = "Does the same thing lead the fall in every seed?"
    sentence = (
        "Every measure of each run is dated, and compared with the fall of its loss. Each mark is one run; the bar is "
        "the median over seeds, with an interval in which it lies."
    )
    growing = "Dating the measures of one run after the other…"
    options_type = Options
    of_sweeps = True

    def offered(self, info: Any) -> bool:
        return len(info.plan.seeds) > 1

    def uses_example(self, subject: Swept, options: Options) -> bool:
        return False

    def unavailable(self, subject: Swept, example: str, options: Options) -> str:
        plan = subject.info.plan
        if len(plan.seeds) < 2:
            return f"The runs of {subject.name} have one seed each; train it with --seeds 0-9."
        if subject.unmeasured:
            return subject.unmeasured
        if _runs(subject, options):
            return ""
        if damage := subject.once(_kept)[1]:
            return damage
        if plan.given.get("keep") == "all" and not subject.known.ended.all():
            return f"No run of {subject.name} with these settings is done yet; wait until one is trained."
        again = command(plan, f"{subject.name}-all", "all")
        return f"The snapshots of {subject.name} were not kept, which this is measured on; keep them with: {again}"

    def films(
        self, subject: Swept, example: str, options: Options, second: Swept | None = None
    ) -> Iterator[tuple[Film, float]]:
        runs = _runs(subject, options)
        for n in range(len(runs) + 1):
            yield _film(subject, options, runs, _seeds(subject, options, runs[:n])), n / len(runs)

    def look(self, subject: Swept, film: Film) -> Sequence[str]:
        (strip,) = [panel for panel in film.panels if isinstance(panel, Strip)]
        return [told(strip, step) for step in film.steps] if np.isfinite(strip.median).any() else ()

    def below(self, subject: Swept, example: str, options: Options) -> Sequence[Item]:
        seeds = _seeds(subject, options, _runs(subject, options))
        fell = [seed for seed in seeds if seed.fall]
        items: list[Item] = []
        found = leads.over_seeds([seed.table for seed in fell])
        if changing := [one for one in found if _n_changed(one)]:
            items += [Note(_sentence(one), is_line=True) for one in changing]
            items += [Note(LEGEND, is_caption=True), _table(changing)]
        if silent := [one.measure for one in found if not _n_changed(one)]:
            items.append(Note(f"Without a change near the fall in any seed: {', '.join(silent)}.", is_caption=True))
        if still := [seed.name for seed in seeds if not seed.fall and not seed.problem]:
            items.append(Note(f"The loss of {options.fall} never falls in {listed(still)}.", is_caption=True))
        problems = [f"{seed.name}: {seed.problem}" for seed in seeds if seed.problem]
        items += [Note(problem, is_error=True) for problem in [*problems, subject.once(_kept)[1]] if problem]
        items.append(Note(NO_PROOF, is_caption=True))
        to, there = {"fall": options.fall}, {seed.name: with_snapshots(subject, seed.place) for seed in fell}
        tests = [Link(name, options=to, view="leads", run=run.name) for name, run in there.items() if run][:MOST_LINKED]
        return [*items, Links(tests, "Test it in one run:")] if tests else items


@dataclass(frozen=True, eq=False)
class _Seed:
    """What led the fall in one run."""

    place: int  # of the run in the sweep
    name: str  # "seed 3"
    dated: Dated
    problem: str = ""  # why the run could not be read

    @property
    def fall(self) -> DatedChange | None:
        """None if the loss never falls."""
        return self.dated.fall

    @property
    def table(self) -> Sequence[Lead]:
        """Of all measures."""
        return self.dated.table

    def lag(self, measure: str) -> float:
        """From the fall to the change of a measure; nan where there is none."""
        return next((lead.lag for lead in self.table if lead.measure == measure), math.nan)


def is_dated(run: Run, kept: DatedRun | None) -> bool:
    """Whether what is kept of a run is of what it is now.

    Args:
        run: with snapshots.
        kept: what was dated earlier, of a run of this name.

    Raises:
        UserError: the run cannot be read.
    """
    return kept is not None and kept.of == _identity(run)


def date_run(run: Run) -> DatedRun:
    """What led each fall in a run.

    Args:
        run: with snapshots.

    Raises:
        UserError: it cannot be read.
    """
    subject = Subject.load(run)
    return DatedRun(_identity(run), {loss: _dated(subject, loss) for loss in falls(subject.task)})


def with_snapshots(subject: Swept, place: int) -> Run | None:
    """A run that is done and has enough snapshots to date anything; None if it does not.

    Args:
        subject: the sweep.
        place: of the run in it.
    """
    with contextlib.suppress(UserError):
        run = subject.among.open(f"{subject.name}/{subject.cells[place].name}")
        info = run.info()
        if info.status == "done" and len(info.snapshots) >= LEAST_SNAPSHOTS:
            return run
    return None


def _identity(run: Run) -> str:
    info = run.info()
    return identity(info, info.snapshots) + kept_with(run)


def _dated(subject: Subject, loss: str) -> Dated:
    fall = fall_of(subject, loss)
    if fall is None:
        return Dated(None)
    of_all = [family.of_any_model() for found in families(subject, loss) for family in found]
    return Dated(fall, leads.leads(fall, [measure for measure in of_all if measure]))


def _kept(subject: Swept) -> tuple[dict[str, DatedRun], str]:
    """What was dated of the runs, by name, and why it cannot be read."""
    try:
        return read_leads(subject.sweep, falls(subject.task)), ""
    except UserError as error:
        return {}, str(error)


def _runs(subject: Swept, options: Options) -> list[int]:
    """The places of the runs with these settings that were dated or can be dated."""
    (kept, _), found = subject.once(_kept), subject.runs_like(options.cell)
    return [place for place in found if subject.cells[place].name in kept or with_snapshots(subject, place)]


def _seeds(subject: Swept, options: Options, runs: Sequence[int]) -> list[_Seed]:
    return [subject.once(_seed, place, options.fall) for place in runs]


def _seed(subject: Swept, place: int, loss: str) -> _Seed:
    cell, run = subject.cells[place], with_snapshots(subject, place)
    kept, name = subject.once(_kept)[0].get(cell.name), f"seed {cell.seed}"
    try:
        if kept is not None and (run is None or is_dated(run, kept)):
            dated = kept.falls[loss]
        elif run is not None:
            dated = _dated(Subject.load(run), loss)
        else:
            raise UserError(f"It is not known what led the fall of {loss}, and its snapshots are gone.")
    except UserError as error:
        return _Seed(place, name, Dated(None), str(error))
    return _Seed(place, name, dated)


def _film(subject: Swept, options: Options, runs: Sequence[int], seeds: Sequence[_Seed]) -> Film:
    """The losses and the changes of the seeds in which the loss falls, each shifted so that all fall at the same step,
    the median one; the losses of all runs, as long as there is no such seed."""
    fell = [seed for seed in seeds if seed.fall]
    falls_at = {seed.place: seed.fall.steepest for seed in fell if seed.fall}
    centre = float(np.median(list(falls_at.values()))) if fell else math.nan
    shifts = {place: centre - at for place, at in falls_at.items()} or dict.fromkeys(runs, 0.0)
    title = f"Loss of {options.fall} in {len(shifts)} seed{'s' * (len(shifts) > 1)}"
    title += f", each shifted so that it falls fastest at step {centre:,.0f}" if fell else ""
    losses = Curves("losses", title, _losses(subject, options, shifts), height=240)
    return Film(subject.frames, [losses, _strip(options, fell, centre)], each=EACH)


def _losses(subject: Swept, options: Options, shifts: Mapping[int, float]) -> list[Line]:
    """The loss of some runs at the steps of the film, each shifted by some steps."""
    known, tokens, last = subject.known, falls(subject.task)[options.fall], subject.frames[-1]
    lines = []
    for place, shift in shifts.items():
        of_tokens = torch.from_numpy(known.unseen.per_token[place][:, tokens])
        losses, steps = of_tokens.nanmean(1).numpy(), known.points + shift  # (point,)
        shown = np.isfinite(losses) & (steps >= 0) & (steps <= last)
        name = f"seed {subject.cells[place].seed}"
        lines.append(Line(name, steps[shown], losses[shown], 0, group=subject.name))
    return lines


def _strip(options: Options, seeds: Sequence[_Seed], centre: float) -> Strip:
    """The changes of each measure at their lags from the fall."""
    changing = [one for one in leads.over_seeds([seed.table for seed in seeds]) if _n_changed(one)]
    rows = [(0.0, f"the fall: loss of {options.fall}", [0.0] * len(seeds), (0.0, 0.0, 0.0))]
    for one in changing:
        ends = (float(one.lag.median), float(one.lag.low), float(one.lag.high))
        rows.append((ends[0], one.measure, [seed.lag(one.measure) for seed in seeds], ends))
    rows.sort(key=lambda row: math.inf if math.isnan(row[0]) else row[0])
    marks = np.array([lags for _, _, lags, _ in rows]).reshape(len(rows), len(seeds))
    median, low, high = np.array([ends for *_, ends in rows]).T
    return Strip(
        "changes-over-seeds",
        "When each measure changes fastest, in every seed",
        rows=[name for _, name, _, _ in rows],
        groups=["changes"],
        marks=centre + marks[None],
        names=[[seed.name for seed in seeds]],
        median=centre + median[None],
        low=centre + low[None],
        high=centre + high[None],
        interval="95 % interval of the median",
    )


def _n_changed(one: SweptLead) -> int:
    """In how many seeds a measure changed near the fall."""
    return one.led.before + one.n_followed + one.n_untold


def _sentence(one: SweptLead) -> str:
    """How often a measure led, and by how much."""
    n, median = one.n_seeds, float(one.lag.median)
    counts = {"led": one.led.before, "followed": one.n_followed, "untold": one.n_untold, "still": n - _n_changed(one)}
    most = max(counts, key=counts.__getitem__)
    of = f"{counts[most]} of {n} seed{'s' * (n > 1)}"
    if most == "led" and median < 0:
        said = f"led the fall by {_steps(-median, -float(one.lag.high), -float(one.lag.low))} in {of}"
    elif most == "followed" and median > 0:
        said = f"followed the fall by {_steps(median, float(one.lag.low), float(one.lag.high))} in {of}"
    else:
        first = {"led": "led the fall", "followed": "followed the fall", "untold": "cannot be told from the fall"}
        said = f"{first.get(most, 'does not change near the fall')} in {of}"
    words = {"led": "led", "followed": "followed", "untold": "cannot be told apart", "still": "does not change near it"}
    others = [f"{words[kind]} in {count}" for kind, count in counts.items() if count and kind != most]
    return f"The {one.measure} {said}{f'; it {listed(others)}' if others else ''}."


def _steps(middle: float, low: float, high: float) -> str:
    """A number of steps with its interval, if it is not open."""
    interval = f" ({low:,.0f} to {high:,.0f})" if math.isfinite(low) and math.isfinite(high) else ""
    return f"{middle:,.0f} step{'s' * (round(middle) != 1)}{interval}"


def _table(found: Sequence[SweptLead]) -> Table:
    def steps(name: str) -> list[int | None]:
        values = [float(getattr(one.lag, name)) for one in found]
        return [round(value) if math.isfinite(value) else None for value in values]

    return Table(
        {
            "measure": [one.measure for one in found],
            "led": [f"{one.led.before} of {one.led.n}" for one in found],
            "share": [one.led.before / one.led.n if one.led.n else None for one in found],
            "at least": [one.led.low for one in found],
            "at most": [one.led.high for one in found],
            "not told apart": [one.n_untold for one in found],
            "median lag": steps("median"),
            "lag from": steps("low"),
            "lag to": steps("high"),
        },
        steps=("median lag", "lag from", "lag to"),
        probabilities=("share",),
        help={
            "led": "seeds in which the measure led the fall, of those in which the two can be told apart; where it "
            "does not change near the fall, it did not lead",
            "at least": "lower end of the 95 % interval of the share, after Wilson",
            "at most": "upper end of the 95 % interval of the share, after Wilson",
            "median lag": "steps after the loss falls fastest; negative: before it",
            "lag from": "lower end of the 95 % interval of the median; empty with too few seeds",
            "lag to": "upper end of the 95 % interval of the median; empty with too few seeds",
        },
    )
