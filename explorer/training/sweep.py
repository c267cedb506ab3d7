"""The settings of many runs: some settings take several values, and each combination has several seeds."""

import itertools
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explorer.errors import UserError, quoted
from explorer.model.transformer import ModelConfig
from explorer.settings import NAME, TrainingConfig, parse_assignments
from explorer.tasks import task_named
from explorer.tasks.task import Task
from explorer.training.plan import Plan

MOST = 10_000  # runs of a sweep
SEEDS = re.compile(r"(\d{1,10})(?:-(\d{1,10}))?")
KINDS = (ModelConfig, TrainingConfig)  # besides the task, which settings belong to


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    name: str  # of the run
    values: tuple[Any, ...]  # of the swept settings, in their order
    seed: int
    plan: Plan


@dataclass(frozen=True)
class SweepPlan:
    """The settings of the runs of a sweep.

    Attributes:
        kind: the task.
        preset: the name of the preset that all other settings come from.
        given: settings that differ from it and are the same in all runs, by name.
        over: swept setting -> its values, each once; the first varies fastest on the page, from left to right.
        seeds: of each combination of values, each once.
    """

    kind: type[Task]
    preset: str
    given: Mapping[str, Any]
    over: Mapping[str, tuple[Any, ...]]
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        return math.prod(map(len, self.over.values())) * len(self.seeds)

    def cells(self) -> tuple[Cell, ...]:
        """All runs: seeds vary fastest, then the last swept setting.

        They are named by their values; numbered, if one of these names cannot be that of a folder.

        Raises:
            UserError: there are too many of them, or the settings of one do not fit together.
        """
        if len(self) > MOST:
            raise UserError(f"This sweep would have {len(self):,} runs; at most {MOST:,} are trained.")
        each = list(itertools.product(itertools.product(*self.over.values()), self.seeds))
        names = ["_".join(f"{key}-{written(value)}" for key, value in self._swept(*one).items()) for one in each]
        if not all(map(NAME.fullmatch, names)):
            names = [f"run-{i:04}" for i in range(len(each))]
        named = zip(names, each, strict=True)
        cells = tuple(Cell(name, values, seed, self._plan(values, seed)) for name, (values, seed) in named)
        if len({cell.plan.task.loss_names for cell in cells}) > 1:
            raise UserError(
                "The runs of a sweep need the same losses; sweep no setting that changes how many there are."
            )
        if len({bool(cell.plan.task.n_train(cell.plan.training)) for cell in cells}) > 1:
            raise UserError("In a sweep, either all runs see new examples at every step or none; leave finite=0 out.")
        return cells

    def _swept(self, values: tuple[Any, ...], seed: int) -> dict[str, Any]:
        return {**dict(zip(self.over, values, strict=True)), "seed": seed}

    def _plan(self, values: tuple[Any, ...], seed: int) -> Plan:
        settings = {**self.given, **self._swept(values, seed)}
        of_each = [
            {name: value for name, value in settings.items() if name in kind.__dataclass_fields__}
            for kind in (self.kind, *KINDS)
        ]
        return Plan.from_preset(self.kind, self.preset, *of_each)


def written(value: Any) -> str:
    """A value of a setting as text: short, and exact.

    Args:
        value: of a setting.
    """
    return str(value).lower() if isinstance(value, bool) else str(value)


def default_name(plan: SweepPlan) -> str:
    """The name of a sweep, unless somebody chooses one.

    Args:
        plan: its settings.
    """
    cell = plan.cells()[0]
    base = cell.plan.task.run_name(cell.plan.training)
    name = f"{base}-by-{'-'.join(plan.over)}" if plan.over else f"{base}-seeds"
    return name if NAME.fullmatch(name) else f"{base}-by-{len(plan.over)}-settings"


def command(plan: SweepPlan, name: str, keep: str) -> str:
    """The command that trains a sweep.

    Args:
        plan: its settings.
        name: of the sweep.
        keep: what it is to keep of each run.
    """
    given = [("--set", f"{key}={written(value)}") for key, value in plan.given.items() if key != "keep"]
    over = [("--over", f"{key}={','.join(map(written, values))}") for key, values in plan.over.items()]
    first, last = plan.seeds[0], plan.seeds[-1]
    is_range = plan.seeds == tuple(range(first, last + 1))
    seeds = f"{first}-{last}" if is_range and first < last else ",".join(map(str, plan.seeds))
    words = ["python", "-m", "explorer", "sweep", plan.kind.name, "--preset", plan.preset]
    words += [word for pair in (*given, *over) for word in pair]
    return shlex.join([*words, "--seeds", seeds, "--keep", keep, "--name", name])


def parsed(kind: type[Task], preset: str, assignments: Sequence[str], over: Sequence[str], seeds: str) -> SweepPlan:
    """Read the settings of a sweep as they are typed.

    Args:
        kind: the task.
        preset: the name of one of its presets.
        assignments: "KEY=VALUE" of settings that are the same in all runs.
        over: "KEY=V1,V2,..." of swept settings.
        seeds: numbers and ranges of them, such as "0-9,20"; "" for the seed of the preset.

    Raises:
        UserError: one of the texts cannot be understood, or a setting is given twice.
    """
    settings = parse_assignments(assignments, (kind, *KINDS))
    given = {name: value for of_kind in settings for name, value in of_kind.items()}
    swept: dict[str, tuple[Any, ...]] = {}
    for text in over:
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise UserError(f"--over {quoted(text)} has no values; write it as KEY=V1,V2, such as lr=0.001,0.003.")
        if key == "keep":
            raise UserError("What is kept is the same for all runs of a sweep; choose it with --keep.")
        if key == "seed" or key in swept or key in given:
            raise UserError(
                "Seeds are swept with --seeds, such as --seeds 0-9." if key == "seed" else f"{key} is given twice."
            )
        each = [parse_assignments([f"{key}={value}"], (kind, *KINDS)) for value in values.split(",")]
        found = tuple(next(of_kind[key] for of_kind in one if key in of_kind) for one in each)
        if len(set(found)) < len(found):
            raise UserError(f"--over {quoted(text)} has a value twice.")
        swept[key] = found
    default = given.pop("seed", None)
    if seeds and default is not None:
        raise UserError("seed is given twice; leave out --seeds, or the other one.")
    base = kind.preset(preset).training.seed if default is None else default
    return SweepPlan(kind, preset, given, swept, _seeds(seeds) if seeds else (base,))


def _seeds(text: str) -> tuple[int, ...]:
    seeds: list[int] = []
    for part in text.split(","):
        match = SEEDS.fullmatch(part.strip())
        if not match:
            raise UserError(f"--seeds is {quoted(text)}; write numbers and ranges, such as 0-9 or 0,5,7.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= MOST:
            raise UserError(f"--seeds has the range {quoted(part)}; it must ascend, over at most {MOST:,} seeds.")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {quoted(text)} has a seed twice.")
    return tuple(seeds)


def to_json(plan: SweepPlan) -> dict[str, Any]:
    """The object that sweep.json holds of a plan.

    Args:
        plan: of a sweep.
    """
    return {
        "task": plan.kind.name,
        "preset": plan.preset,
        "given": dict(plan.given),
        "over": {key: list(values) for key, values in plan.over.items()},
        "seeds": list(plan.seeds),
    }


def from_json(values: Any, what: str) -> SweepPlan:
    """Check parsed JSON and read it.

    Args:
        values: what `to_json` gives, or anything else.
        what: where the values come from, for error messages.

    Raises:
        UserError: ``values`` do not describe a sweep.
    """
    refusal = UserError(f"{what} does not describe a sweep; restore the file.")
    if not isinstance(values, Mapping):
        raise refusal
    task, preset, given, over, seeds = (values.get(name) for name in ("task", "preset", "given", "over", "seeds"))
    if not (isinstance(task, str) and isinstance(preset, str) and isinstance(given, Mapping)):
        raise refusal
    if not (isinstance(over, Mapping) and all(isinstance(each, list) and each for each in over.values())):
        raise refusal
    if not (isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds)):
        raise refusal
    assignments = [f"{key}={written(value)}" for key, value in given.items()]
    swept = [f"{key}={','.join(map(written, each))}" for key, each in over.items()]
    try:
        plan = parsed(task_named(task), preset, assignments, swept, ",".join(map(str, seeds)))
        plan.cells()
    except UserError as error:
        raise UserError(f"{what} does not describe a sweep: {error}") from None
    return plan
