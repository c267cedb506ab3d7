"""How the runs of a sweep turn out: their losses at common steps, and when these fall.

Axes as in `explorer.analysis.outcomes`, and
    token    the per-token losses of the task
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from explorer.analysis.phases import changes, deepest, spacing
from explorer.errors import UserError, printable
from explorer.runs import Run
from explorer.runs.sweeps import OUTCOMES, Sweep, SweepInfo
from explorer.tasks.task import Task

POINTS = 200  # steps at which the runs of a sweep are looked at, besides step 0
KINDS = ("train", "test")
ARRAYS = {"loss": torch.float32, "right": torch.float32, "per_token": torch.float16, "fall": torch.float32}
PROBLEMS = "problems"  # in the metadata: name of a run -> why it failed, as JSON


@dataclass(frozen=True, eq=False)
class Outcome:
    """Losses of one kind, of all runs: on the training data or on unseen data."""

    loss: Float[np.ndarray, "run point"]  # nats, a mean over the steps since the point before; nan: not measured
    right: Float[np.ndarray, "run point"]  # share of right answers
    per_token: Float[np.ndarray, "run point token"]  # nats
    fall: Float[np.ndarray, "run token"]  # the steepest step of the deepest fall; nan: there is none


@dataclass(frozen=True, eq=False)
class Outcomes:
    """How the runs of a sweep have turned out, or how they stand."""

    points: Int[np.ndarray, " point"]  # training steps
    steps_done: Int[np.ndarray, " run"]
    ended: Bool[np.ndarray, " run"]  # whether each is done
    of: Mapping[str, Outcome]  # "train", and for finite data "test"
    problems: Mapping[str, str]  # name of a run -> why it failed

    @property
    def unseen(self) -> Outcome:
        """On data that were not trained on: with new examples at every step, those of each update."""
        return self.of.get("test", self.of["train"])


def points_of(info: SweepInfo) -> Int[np.ndarray, " point"]:
    """The steps at which all runs of a sweep are looked at: 0, and up to `POINTS` more, evenly spaced.

    Args:
        info: of the sweep.
    """
    end = max(cell.plan.training.steps for cell in info.cells)
    return np.unique(np.linspace(0, end, min(POINTS, end) + 1).round().astype(np.int64))


def measured(run: Run, points: Int[np.ndarray, " point"]) -> dict[str, Tensor]:
    """What outcomes.safetensors is to hold of a run.

    Args:
        run: which may still be trained.
        points: training steps.

    Returns:
        ``steps_done`` and ``ended``; and for each of `KINDS` that the run has and each of `ARRAYS`, ``train_loss`` and
        so on, without the axis of runs.

    Raises:
        UserError: it cannot be read.
    """
    info = run.info()
    metrics = run.metrics() if info.steps_done else {}
    found = {"steps_done": torch.tensor(info.steps_done), "ended": torch.tensor(info.status == "done")}
    for kind in KINDS:
        if not len(metrics.get(f"{kind}_loss", ())):
            continue
        n = len(metrics[f"{kind}_loss"])
        steps = metrics["test_step"] if kind == "test" else torch.arange(n)
        right = metrics["test_accuracy" if kind == "test" else "accuracy"][:n]
        per_token, over = metrics[f"{kind}_loss_per_token"], info.status == "done"
        columns = torch.cat([metrics[f"{kind}_loss"][:, None], right.double(), per_token.double()], 1)
        at = _at(columns.numpy(), steps.numpy(), points, info.steps_done, over)
        found[f"{kind}_loss"], found[f"{kind}_right"] = (torch.from_numpy(at[:, i]).float() for i in (0, 1))
        found[f"{kind}_per_token"] = torch.from_numpy(at[:, 2:]).half()
        found[f"{kind}_fall"] = _falls(info.task, per_token, steps)
    return found


def _at(
    values: Float[np.ndarray, "row column"],
    steps: Int[np.ndarray, " row"],
    points: Int[np.ndarray, " point"],
    done: int,
    is_over: bool,
) -> Float[np.ndarray, "point column"]:
    """The mean over all rows since the point before. Where none was measured since, and where a run ended earlier than
    others, it is that of the point before; where a run has not got to yet, nan. Rows after the last point, of a run
    that was given more steps since, are left out."""
    values, steps = values[steps <= points[-1]], steps[steps <= points[-1]]
    place = np.searchsorted(points, steps)  # the point at or after each row
    known, columns = ~np.isnan(values), values.shape[1]
    sums, counts = np.zeros((2, len(points), columns))
    np.add.at(sums, place, np.where(known, values, 0.0))
    np.add.at(counts, place, known)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    last = np.where(counts > 0, np.arange(len(points))[:, None], 0)
    filled = np.take_along_axis(means, np.maximum.accumulate(last, 0), 0)
    return filled if is_over else np.where((points <= done)[:, None], filled, np.nan)


def _falls(task: Task, losses: Tensor, steps: Tensor) -> Tensor:
    """(token,) the steepest step of each loss's deepest fall."""
    uniform, best = (torch.tensor(reference.losses) for reference in (task.references[0], task.references[-1]))
    falls = [deepest(of_token) for of_token in changes(losses, uniform, best, spacing(steps))]
    return torch.tensor([float("nan") if fall is None else float(steps[fall.steepest]) for fall in falls])


class Collected:
    """What is written to outcomes.safetensors, run by run.

    Args:
        sweep: whose file is read, if there is one, and written.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, sweep: Sweep):
        self._sweep, info = sweep, sweep.info()
        self.points = points_of(info)
        self.names = tuple(cell.name for cell in info.cells)
        self._place = {name: i for i, name in enumerate(self.names)}
        before = read_outcomes(sweep)
        n = len(self.names)
        self.problems = {} if before is None else dict(before.problems)
        self._tensors = {
            "points": torch.from_numpy(self.points),
            "steps_done": torch.zeros(n, dtype=torch.int64),
            "ended": torch.zeros(n, dtype=torch.bool),
        }
        if before is not None:
            self._tensors |= {name: torch.from_numpy(getattr(before, name)) for name in ("steps_done", "ended")}
            for kind, outcome in before.of.items():
                for name, dtype in ARRAYS.items():
                    self._tensors[f"{kind}_{name}"] = torch.from_numpy(getattr(outcome, name)).to(dtype)

    @property
    def missing(self) -> list[str]:
        """The names of the runs that are not done."""
        return [name for name, ended in zip(self.names, self._tensors["ended"].tolist(), strict=True) if not ended]

    def add(self, name: str, found: Mapping[str, Tensor]) -> None:
        """Take in a run.

        Args:
            name: of the run.
            found: as `measured` returns it.
        """
        for key, values in found.items():
            if key not in self._tensors:
                self._tensors[key] = torch.full((len(self.names), *values.shape), torch.nan, dtype=values.dtype)
            self._tensors[key][self._place[name]] = values

    def got_to(self, name: str, steps: int) -> None:
        """Note how far a run is that is being trained.

        Args:
            name: of the run.
            steps: updates done.
        """
        self._tensors["steps_done"][self._place[name]] = steps

    def write(self, check: Callable[[], object]) -> None:
        """Write what is there.

        Args:
            check: what `Sweep.alone` yields.

        Raises:
            WriteError: it cannot be written.
        """
        self._sweep.write(OUTCOMES, self._tensors, {PROBLEMS: json.dumps(self.problems)}, check)


def read_outcomes(sweep: Sweep) -> Outcomes | None:
    """How the runs of a sweep have turned out so far; None if nothing is known yet.

    Args:
        sweep: the sweep.

    Raises:
        UserError: its files are damaged, or do not belong together.
    """
    tensors, metadata = sweep.read(OUTCOMES)
    if not tensors:
        return None
    info, shown = sweep.info(), f"{sweep.name}/{OUTCOMES}"
    refusal = UserError(
        f"{shown} does not hold the outcomes of this sweep; restore it, or remove it and give the command that trains "
        "the sweep again."
    )
    n, points, n_tokens = len(info.cells), points_of(info), len(info.cells[0].plan.task.loss_names)
    shapes: dict[str, tuple[int, ...]] = {"loss": (n, len(points)), "right": (n, len(points)), "fall": (n, n_tokens)}
    shapes["per_token"] = (n, len(points), n_tokens)
    expected = {"points": (points.shape, torch.int64), "steps_done": ((n,), torch.int64), "ended": ((n,), torch.bool)}
    kinds = [kind for kind in KINDS if f"{kind}_loss" in tensors]
    expected |= {f"{kind}_{name}": (shapes[name], dtype) for kind in kinds for name, dtype in ARRAYS.items()}
    if {name: (tuple(x.shape), x.dtype) for name, x in tensors.items()} != expected:
        raise refusal
    if tensors["points"].tolist() != points.tolist():
        raise refusal
    try:
        problems = json.loads(metadata.get(PROBLEMS, "{}"))
    except (ValueError, RecursionError):
        raise refusal from None
    if not isinstance(problems, Mapping):
        raise refusal
    of = {kind: Outcome(**{name: tensors[f"{kind}_{name}"].float().numpy() for name in ARRAYS}) for kind in kinds}
    names = {cell.name for cell in info.cells}
    known = {name: printable(text) for name, text in problems.items() if name in names}
    return Outcomes(points, tensors["steps_done"].numpy(), tensors["ended"].numpy(), of, known)
