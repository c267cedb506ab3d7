"""The sweep that a view looks at, read into memory once; and whatever else a name may stand for."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.errors import UserError, listed
from explorer.options import choice
from explorer.runs import Run, Runs
from explorer.runs.sweeps import Sweep, SweepInfo, open_sweep, sweep_names
from explorer.sweeps.outcomes import Outcomes, points_of, read_outcomes
from explorer.tasks.task import Task
from explorer.training.sweep import Cell, written
from explorer.views.subject import Remembering, Subject

EACH = "point"  # what a frame of a film of sweeps shows
MOST_TOLD = 4  # failed runs that are named


@dataclass(frozen=True)
class Swept(Remembering):
    """How the runs of a sweep turned out. Shared between browser sessions, so never changed. Where a `Subject` has an
    attribute of the same name, it means the same."""

    sweep: Sweep
    info: SweepInfo
    outcomes: Outcomes | None  # None: nothing is known yet
    problems: tuple[str, ...]

    @classmethod
    def load(cls, sweep: Sweep) -> "Swept":
        """Read a sweep.

        Args:
            sweep: on disk.

        Raises:
            UserError: its files are damaged.
        """
        info, outcomes = sweep.info(), read_outcomes(sweep)
        failed = {} if outcomes is None else dict(outcomes.problems)
        shared: dict[str, list[str]] = {}
        for name, problem in failed.items():
            shared.setdefault(problem, []).append(name)
        problems = tuple(f"{listed(names, MOST_TOLD)} failed: {problem}" for problem, names in shared.items())
        return cls(sweep, info, outcomes, problems)

    @property
    def name(self) -> str:
        return self.sweep.name

    @property
    def among(self) -> Runs:
        return self.sweep.among

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.info.cells

    @property
    def task(self) -> Task:
        return self.cells[0].plan.task

    @functools.cached_property
    def frames(self) -> tuple[int, ...]:
        """The steps at which its runs are looked at."""
        return tuple(points_of(self.info).tolist())

    @property
    def steps(self) -> tuple[int, ...]:
        return self.frames

    @property
    def gaps(self) -> tuple[int, ...]:
        return ()

    @property
    def first_example(self) -> str:
        return next(iter(self.task.examples.values()))

    def opening_step(self) -> int:
        """The last step: how it all turned out."""
        return self.frames[-1]

    @property
    def nbytes(self) -> int:
        """The bytes of the outcomes."""
        if self.outcomes is None:
            return 0
        return sum(sum(vars(of_kind)[name].nbytes for name in vars(of_kind)) for of_kind in self.outcomes.of.values())

    @property
    def unmeasured(self) -> str:
        """A sentence that says that nothing is known of the runs yet; "" if something is."""
        if self.outcomes is not None and self.outcomes.of:
            return ""
        return f"No run of this sweep has measured anything yet; wait until the first of {self.name} is trained."

    @property
    def known(self) -> Outcomes:
        """The outcomes.

        Raises:
            UserError: nothing is known yet.
        """
        if self.outcomes is None or self.unmeasured:
            raise UserError(self.unmeasured)
        return self.outcomes

    @property
    def is_finite(self) -> bool:
        """Whether its runs have training data that stay the same."""
        return self.outcomes is not None and "test" in self.outcomes.of

    @property
    def facts(self) -> str:
        """The sweep in one line."""
        plan, n = self.info.plan, len(self.cells)
        done = 0 if self.outcomes is None else int(self.outcomes.ended.sum())
        over = " × ".join(f"{len(values)} values of {self.label(key)}" for key, values in plan.over.items())
        seeds = f"{len(plan.seeds):,} seed{'s' * (len(plan.seeds) > 1)}"
        runs = f"{n:,} runs" if done == n else f"{done:,} of {n:,} runs are done"
        return " · ".join(filter(None, [self.task.title, over, seeds, runs]))

    def label(self, key: str) -> str:
        """The name of a setting in plain words, or as it is written.

        Args:
            key: of the setting.
        """
        plan = self.cells[0].plan
        for part in (plan.task, plan.model, plan.training):
            field = type(part).__dataclass_fields__.get(key)
            if field is not None and field.metadata["label"]:
                return str(field.metadata["label"]).lower()
        return key

    @property
    def origin(self) -> dict[str, str]:
        """Where the numbers come from: what is told -> in words."""
        plan = self.info.plan
        given = ", ".join(f"{key}={written(value)}" for key, value in plan.given.items())
        over = "; ".join(f"{key}: {', '.join(map(written, values))}" for key, values in plan.over.items())
        told = {
            "Sweep": f"{self.name}: {self.facts}",
            "Settings": f"preset {plan.preset}" + (f", {given}" if given else ""),
            "Over": over,
            "Seeds": listed([str(seed) for seed in plan.seeds], 12),
        }
        return {name: text for name, text in told.items() if text}

    @property
    def combinations(self) -> dict[str, str]:
        """Each combination of swept settings, by the name of its first run: in words."""
        over = list(self.info.plan.over)
        first: dict[tuple[Any, ...], tuple[str, str]] = {}
        for cell in self.cells:
            label = ", ".join(f"{self.label(key)} {written(v)}" for key, v in zip(over, cell.values, strict=True))
            first.setdefault(cell.values, (cell.name, label))
        return dict(first.values())

    def runs_like(self, name: str | None) -> list[int]:
        """The places of the runs with the same settings as a run, which differ in their seeds.

        Args:
            name: of the run; None for the first.
        """
        values = next(cell.values for cell in self.cells if name in (None, cell.name))
        return [i for i, cell in enumerate(self.cells) if cell.values == values]

    def grid(self, across: str | None, up: str | None) -> np.ndarray:
        """The runs of each cell of a plane; runs that differ in anything else are beside each other.

        Args:
            across, up: swept settings; None for an axis with one place.

        Returns:
            (row column seed) places of runs.
        """
        over = self.info.plan.over
        places = [list(over).index(key) if key else None for key in (up, across)]
        runs: dict[tuple[Any, ...], list[int]] = {}
        for i, cell in enumerate(self.cells):
            runs.setdefault(tuple(None if place is None else cell.values[place] for place in places), []).append(i)
        columns: Sequence[Any] = over[across] if across else (None,)
        rows: Sequence[Any] = over[up] if up else (None,)
        return np.array([[runs[row, column] for column in columns] for row in rows])


Seen = Subject | Swept  # what a view looks at


def named(runs: Runs, name: str) -> Run | Sweep:
    """The run or the sweep of that name.

    Args:
        runs: the folder of runs.
        name: of a run, of a run of a sweep ("SWEEP/RUN"), or of a sweep.

    Raises:
        UserError: there is none, or it cannot be understood.
    """
    return open_sweep(runs, name) if name in sweep_names(runs) else runs.open(name)


def seen(what: Run | Sweep, before: Seen | None = None) -> Seen:
    """What a view looks at.

    Args:
        what: a run or a sweep.
        before: the same as it was read earlier.

    Raises:
        UserError: it cannot be read.
    """
    if isinstance(what, Sweep):
        return Swept.load(what)
    return Subject.load(what, before if isinstance(before, Subject) else None)


def cell_option() -> Any:
    """The option that says with which of the swept settings the seeds are shown."""
    return choice(
        "Settings",
        lambda context: context.subject.combinations,
        widget="list",
        labelled=True,
        width=320,
        when=lambda context: bool(context.subject.info.plan.over),
    )
