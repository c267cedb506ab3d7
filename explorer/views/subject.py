"""The run that a view looks at, read into memory once."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from explorer.analysis.phases import Change, changes, deepest, remaining_share, spacing
from explorer.errors import UserError
from explorer.model.architectures import n_weights
from explorer.model.ensemble import Ensemble
from explorer.model.soundness import identical, sound
from explorer.runs import Run, RunInfo, Runs
from explorer.runs.place import METRICS, Stamp, UnreachableError
from explorer.runs.sentences import named_steps
from explorer.tasks.data import Batch
from explorer.tasks.task import Task

SMOOTHING = 0.9  # of the exponential average of losses, a step, where nobody says
LOGITS_ROOM, LEAST_UNSEEN = 2**27, 16  # bytes of the logits of one snapshot, and examples even if they take more
UNSEEN = 64  # examples over which attention and activations are averaged
Value = TypeVar("Value")


FIRST_STEPS = 0.1  # of the steps up to the end of a fall: one that begins within them has no plateau before it


def beta_per_row(smoothing: float, steps: Tensor) -> float:
    """The smoothing of a step as that of a row.

    Args:
        smoothing: of an exponential average, a step.
        steps: (row,) at which the rows were measured, ascending.
    """
    return smoothing ** spacing(steps)


STACK_ROOM = 2**30  # bytes that the weights of all snapshots of a run may take in memory


def _evenly(n: int, most: int) -> slice:
    """Which of ``n`` to keep so that at most ``most`` are left, evenly spaced, the last among them."""
    every = -(-n // most)
    return slice(None) if every <= 1 else slice((n - 1) % every, None, every)


@dataclass(frozen=True)
class Losses:
    """Per-token losses as they were measured while training."""

    kind: str  # "train" or "test"; "" where there is but one
    steps: Tensor  # (step,)
    values: Tensor  # (step token) nats
    names: tuple[str, ...]
    uniform: Tensor  # (token,) nats, of a uniform guess
    best: Tensor  # (token,) nats, the best possible

    def of(self, tokens: Sequence[int], name: str) -> "Losses":
        """The mean over some of the tokens."""
        mean = self.values[:, tokens].double().nanmean(1, keepdim=True)
        uniform, best = (reference[tokens].mean()[None] for reference in (self.uniform, self.best))
        return Losses(self.kind, self.steps, mean, (name,), uniform, best)

    @functools.cached_property
    def changes(self) -> list[list[Change]]:
        """The falls and rises of each token, in rows."""
        return changes(self.values, self.uniform, self.best, spacing(self.steps))

    @property
    def deepest(self) -> list[Change | None]:
        """The deepest fall of each token, in rows; None for a token whose loss never falls."""
        return [deepest(of_token) for of_token in self.changes]

    def step(self, row: int) -> int:
        return int(self.steps[row])

    def remaining_share(self, smoothing: float = SMOOTHING) -> Tensor:
        """(step token): 1 at a uniform guess, 0 at the best possible, smoothed."""
        return remaining_share(self.values, self.uniform, self.best, beta_per_row(smoothing, self.steps))

    def label(self, token: int) -> str:
        return f"{self.names[token]}, {self.kind}" if self.kind else self.names[token]


class Remembering:
    """Something in memory, and what was worked out of it."""

    def once(self, make: Callable[..., Value], *parameters: Hashable) -> Value:
        """The result of ``make(self, *parameters)``, which is worked out when it is first asked for.

        Args:
            make: a function. Its result stays as long as this object, so it should be small.
            parameters: its further arguments.
        """
        results = vars(self).setdefault("_once", {})
        key = (make, *parameters)
        if key not in results:
            results[key] = make(self, *parameters)
        found: Value = results[key]
        return found


@dataclass(frozen=True)
class Subject(Remembering):
    """A run's losses and weights in memory. Shared between browser sessions, so never changed.

    Views see only snapshots that can be computed with. What they compose is given a gap at each of the others.
    """

    run: Run
    info: RunInfo
    ensemble: Ensemble  # the weights of the snapshots at ``steps``
    gaps: tuple[int, ...]  # the steps of the snapshots whose weights cannot be computed with, ascending
    metrics: dict[str, Tensor]
    problems: tuple[str, ...]  # a sentence on each thing that is wrong with the run's files
    stamps: Mapping[int, Stamp | None]  # of the file of each snapshot

    @classmethod
    def load(cls, run: Run, before: "Subject | None" = None, room: int = STACK_ROOM) -> "Subject":
        """Read the losses and the weights.

        Args:
            run: the run on disk.
            before: the same run as it was read earlier; snapshots that are unchanged since are neither read nor checked
                again.
            room: bytes that the weights of all snapshots may take. Of a run with more snapshots, every second or third
                ... is left out, and ``problems`` says so.

        Raises:
            UserError: no snapshot can be read, or none can be computed with.
        """
        problems: list[str] = []
        info, stamps = run.info(), run.stamps()
        config = (info.task, info.model, info.training)
        is_same = before is not None and config == (before.task, before.info.model, before.info.training)
        unchanged: set[int] = set()
        if before is not None and is_same:
            unchanged = {step for step in before.frames if stamps.get(step) == before.stamps.get(step) is not None}
        readable = run.readable(problems, unchanged)
        most = max(2, room // info.stack_bytes(1))
        every = -(-(len(readable) - 1) // (most - 1)) or 1
        frames = tuple(sorted({*readable[::every], readable[-1]}))
        if len(frames) < len(readable):
            size = info.stack_bytes(len(readable)) / 2**30
            problems.append(
                f"The {len(readable):,} snapshots of {run.name} would take {size:.2g} GiB of memory, so only "
                f"{len(frames):,} of them are shown, evenly spaced."
            )
        kept = before if before is not None and unchanged >= set(before.frames) else None
        ensemble, gaps = _stack(run, info, frames, kept, problems)
        if gaps:
            problems.append(
                f"{run.name} has {'a gap' if len(gaps) == 1 else 'gaps'} at {named_steps(gaps)}: weights there are not "
                f"finite or too large to compute with; restore the file{'s' * (len(gaps) > 1)}, or train it again with "
                "a lower learning rate."
            )
        problems += _repeats(run.name, info, ensemble)
        metrics = _metrics(run, info, problems)
        return cls(run, info, ensemble, gaps, metrics, tuple(problems), stamps)

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of the snapshots that can be computed with."""
        return self.ensemble.steps

    @property
    def frames(self) -> tuple[int, ...]:
        """The steps of all snapshots in memory, gaps included: the frames of a film."""
        return tuple(sorted((*self.steps, *self.gaps)))

    @property
    def nbytes(self) -> int:
        """The bytes of the losses and of the weights."""
        return sum(values.nbytes for values in self.metrics.values()) + self.ensemble.nbytes

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def among(self) -> Runs:
        """The folder of runs that it is in."""
        return self.run.runs

    @property
    def task(self) -> Task:
        return self.info.task

    @property
    def facts(self) -> str:
        """The run in one line."""
        info = self.info
        done = f"{info.steps_done:,} steps, {len(self.frames)} snapshots in {info.training.snapshot_dtype}"
        progress = "training" if info.status == "running" else done
        return f"{info.task.title} · {info.data} · {info.shape} · {progress}"

    @property
    def first_example(self) -> str:
        """The example with which the run opens."""
        return next(iter(self.task.examples.values()))

    @property
    def groups(self) -> dict[str, list[int]]:
        """The per-token losses that are drawn with each other, by the group's name."""
        groups: dict[str, list[int]] = {}
        for token, group in enumerate(self.task.loss_groups):
            groups.setdefault(group, []).append(token)
        return groups

    @property
    def origin(self) -> dict[str, str]:
        """Where the numbers of the run come from: what is told -> in words."""
        info, steps = self.info, self.frames
        seed = "" if info.origin else f", seed {info.training.seed}"
        made = ", ".join(f"{name} {text}" for name, text in info.made_with.items())
        told = {
            "Run": f"{self.name}: {info.task.title}, {info.data}{seed}",
            "Settings": f"preset {info.preset}" if info.preset else "",
            "Model": f"{info.shape}, {n_weights(info.model):,} weights",
            "Snapshots": f"{len(steps):,}, from step {steps[0]:,} to {steps[-1]:,}, in {info.training.snapshot_dtype}",
            "Made with": made,
        }
        return {name: text for name, text in told.items() if text}

    def losses(self) -> list[Losses]:
        """The per-token losses: on unseen data, if they were measured, and then on training data."""
        return self._losses

    @functools.cached_property
    def _losses(self) -> list[Losses]:
        references = self.task.references
        uniform, best = (torch.tensor(reference.losses) for reference in (references[0], references[-1]))
        names, found = self.task.loss_names, []
        if "test_loss" in self.metrics:
            steps, values = self.metrics["test_step"], self.metrics["test_loss_per_token"]
            found.append(Losses("test", steps, values, names, uniform, best))
        values = self.metrics["train_loss_per_token"]
        if found and values.isnan().all():  # of a run that was not trained here
            return found
        kind = "train" if found else ""
        return [*found, Losses(kind, torch.arange(len(values)), values, names, uniform, best)]

    def unseen(self, n: int = UNSEEN) -> Batch:
        """Examples that were not trained on.

        Args:
            n: how many; fewer if there are no more, or if their logits would not fit into `LOGITS_ROOM`.
        """
        training = dataclasses.replace(self.info.training, test_batch_size=n)
        batch = self.task.test_stream(training).next()
        fitting = LOGITS_ROOM // (4 * batch.tokens.shape[1] * self.info.model.d_vocab_out)
        return batch.rows(slice(min(n, max(fitting, LEAST_UNSEEN))))

    def thinned(self, most: int) -> "Subject":
        """The same run with no more than ``most`` of its snapshots, evenly, the last among them."""
        some = _evenly(len(self.steps), most)
        if some == slice(None):
            return self
        return dataclasses.replace(self, ensemble=self.ensemble.select(some))

    def loss_on(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        """Logits (... batch pos d_vocab_out) -> the mean loss of each example's answers, (... batch)."""
        return lambda logits: self.task.losses(batch.at_answers(logits), batch).mean(-1)

    def opening_step(self) -> int:
        """The last snapshot before the first phase change begins; the first if there is none."""
        begins = self.first_fall() or 0
        return max((step for step in self.steps if step <= begins), default=self.steps[0])

    def first_fall(self) -> int | None:
        """The step at which the first phase change begins; None if there is none.

        That is, of the deepest falls of all tokens, the one that is steepest first and has a plateau before it. What a
        model gains in its first steps, such as which tokens there are, has none.
        """
        for losses in self.losses():  # where unseen data are never understood, what is learnt by heart
            falls = [fall for fall in losses.deepest if fall and fall.begins >= FIRST_STEPS * fall.ends]
            if falls:
                return losses.step(min(falls, key=lambda fall: fall.steepest).begins)
        return None


def _stack(
    run: Run, info: RunInfo, frames: tuple[int, ...], before: Subject | None, problems: list[str]
) -> tuple[Ensemble, tuple[int, ...]]:
    """The snapshots at ``frames`` that can be computed with, and the steps of the others.

    Args:
        run: the run on disk.
        info: of the run.
        frames: the steps of the snapshots to look at.
        before: the same run as it was read earlier, if none of its snapshots has changed.
        problems: sentences about snapshots that turn out to be damaged are appended to it; they are left out.

    Raises:
        UserError: no snapshot can be read, or none can be computed with.
    """
    earlier = () if before is None else before.frames
    n = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(earlier, frames, strict=False))))
    ensemble: Ensemble | None = None
    gaps: tuple[int, ...] = ()
    if before is not None and n:
        gaps = tuple(step for step in before.gaps if step <= frames[n - 1])
        known = n - len(gaps)
        ensemble = before.ensemble if known == len(before.ensemble) else before.ensemble.select(slice(known))
    new: Ensemble | None = None
    if n < len(frames):
        try:
            new = run.ensemble(frames[n:], problems)
        except UserError as error:
            if ensemble is None or isinstance(error, UnreachableError):
                raise
            problems.append(str(error))
    if new is not None:
        is_sound = sound(new, info.task.encode(next(iter(info.task.examples.values()))).tokens[None])
        if not is_sound.all():
            gaps += tuple(step for step, usable in zip(new.steps, is_sound.tolist(), strict=True) if not usable)
            new = new.select(is_sound.nonzero()[:, 0].tolist())
        if ensemble is None:
            ensemble = new
        elif len(new):
            ensemble = ensemble.followed_by(new)
    if not ensemble:
        raise UserError(
            f"No snapshot of {run.name} can be computed with: weights of all are not finite or too large; restore the "
            "files, or train it again with a lower learning rate."
        )
    return ensemble, gaps


def _repeats(name: str, info: RunInfo, ensemble: Ensemble) -> list[str]:
    """A sentence on each group of snapshots that have the same weights."""
    sentences = []
    for steps in identical(ensemble):
        if info.training.warmup and steps == (0, 1):
            continue  # warm-up begins with a learning rate of 0
        if len(steps) == len(ensemble):
            sentences.append(f"All {len(steps):,} snapshots of {name} have the same weights.")
        else:
            sentences.append(f"The snapshots of {name} at {named_steps(steps)} have the same weights.")
    return sentences


def _metrics(run: Run, info: RunInfo, problems: list[str]) -> dict[str, Tensor]:
    """The losses and measures of a run; one loss that is nan if there are none.

    Args:
        run: the run on disk.
        info: of the run, read before.
        problems: a sentence is appended to it if losses are missing.
    """
    try:
        metrics = run.metrics()
    except UnreachableError:
        raise
    except UserError as error:
        metrics = {}
        if info.steps_done:
            problems.append(str(error))
    else:
        n = len(metrics["train_loss"])
        if n < info.steps_done and not info.origin:
            problems.append(
                f"{run.name} has the losses of {n:,} of its {info.steps_done:,} steps only; restore "
                f"{run.name}/{METRICS}."
            )
    if not len(metrics.get("test_loss", ())):
        metrics = {name: values for name, values in metrics.items() if not name.startswith("test_")}
    if not len(metrics.get("train_loss", ())):
        metrics |= {
            "train_loss": torch.full((1,), torch.nan, dtype=torch.float64),
            "train_loss_per_token": torch.full((1, len(info.task.loss_names)), torch.nan),
        }
        metrics = {name: values for name, values in metrics.items() if name not in info.task.measures}
    return metrics
