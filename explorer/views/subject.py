"""The run that a view looks at, read into memory once."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.analysis.phases import Fall, falls, first_fall, remaining_share
from explorer.errors import UserError
from explorer.model.architectures import activation_bytes
from explorer.model.ensemble import Ensemble
from explorer.runs import Run, RunInfo
from explorer.tasks.data import Batch
from explorer.tasks.task import Task

SMOOTHING = 0.9  # of the exponential average of losses, a step, where nobody says
UNSEEN = 32  # examples to look at
ROOM = 512 * 2**20  # bytes that the activations of examples may take in all snapshots; of long ones that is fewer


def beta_per_row(smoothing: float, steps: Tensor) -> float:
    """The smoothing of a step as that of a row: losses may be measured every few steps.

    Args:
        smoothing: of an exponential average, a step.
        steps: (row,) at which the rows were measured, ascending.
    """
    return smoothing ** (float(steps[-1] - steps[0]) / (len(steps) - 1)) if len(steps) > 1 else smoothing


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

    def falls(self, smoothing: float = SMOOTHING) -> list[Fall]:
        """The phase change of each token, in rows."""
        return falls(self.values, self.uniform, self.best, beta_per_row(smoothing, self.steps))

    def remaining_share(self, smoothing: float = SMOOTHING) -> Tensor:
        """(step token): 1 at a uniform guess, 0 at the best possible, smoothed."""
        return remaining_share(self.values, self.uniform, self.best, beta_per_row(smoothing, self.steps))

    def label(self, token: int) -> str:
        return f"{self.names[token]}, {self.kind}" if self.kind else self.names[token]


@dataclass(frozen=True)
class Subject:
    """A run's losses, and its weights as soon as a view asks for them. Shared between browser sessions, so never
    changed."""

    run: Run
    info: RunInfo
    steps: tuple[int, ...]  # of the snapshots that can be read
    metrics: dict[str, Tensor]
    problems: tuple[str, ...]  # a sentence on each file that could not be read
    times: dict[int, int]  # when each snapshot was written

    @classmethod
    def load(cls, run: Run, before: "Subject | None" = None, room: int = STACK_ROOM) -> "Subject":
        """Read the losses and the headers of the snapshot files; the weights are read when they are first used.

        Args:
            run: the run on disk.
            before: the same run as it was read earlier; snapshots that are unchanged since are not read again.
            room: bytes that the weights of all snapshots may take. Of a run with more snapshots, every second or third
                ... is left out, and ``problems`` says so.

        Raises:
            UserError: no snapshot can be read.
        """
        problems: list[str] = []
        info, times = run.info(), run.snapshot_times()
        config = (info.task, info.model, info.training)
        is_same = before is not None and config == (before.task, before.info.model, before.info.training)
        unchanged: set[int] = set()
        if before is not None and is_same:
            unchanged = {step for step in before.steps if times.get(step, 0) == before.times.get(step)}
        readable = run.readable(problems, unchanged)
        most = max(2, room // info.stack_bytes(1))
        every = -(-(len(readable) - 1) // (most - 1)) or 1
        steps = tuple(sorted({*readable[::every], readable[-1]}))
        if len(steps) < len(readable):
            size = info.stack_bytes(len(readable)) / 2**30
            problems.append(
                f"The {len(readable):,} snapshots of {run.name} would take {size:.2g} GiB of memory, so only "
                f"{len(steps):,} of them are shown, evenly spaced."
            )
        try:
            metrics = run.metrics()
        except UserError as error:
            problems.append(str(error))
            metrics = {
                "train_loss": torch.full((1,), torch.nan, dtype=torch.float64),
                "train_loss_per_token": torch.full((1, len(info.task.loss_names)), torch.nan),
            }
        subject = cls(run, info, steps, metrics, tuple(problems), times)
        if before is not None and "ensemble" in vars(before) and len(unchanged) == len(before.steps):
            kept = [*itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before.steps, steps, strict=False))]
            if kept:
                with contextlib.suppress(UserError):  # a snapshot that has just gone is reported when it is used
                    vars(subject)["ensemble"] = before._grown(len(kept), run, steps)
        return subject

    def _grown(self, n: int, run: Run, steps: tuple[int, ...]) -> Ensemble:
        """The first ``n`` snapshots of this ensemble, followed by the rest of ``steps``, which are read."""
        first = self.ensemble if n == len(self.steps) else self.ensemble.select(slice(n))
        return first.followed_by(run.ensemble(steps[n:])) if n < len(steps) else first

    @functools.cached_property
    def ensemble(self) -> Ensemble:
        """The weights, read when they are first asked for.

        Raises:
            UserError: a snapshot can no longer be read.
        """
        return self.run.ensemble(self.steps)

    @property
    def nbytes(self) -> int:
        """The bytes of the losses and of the weights, whether the weights have been read yet or not."""
        stack = vars(self)["ensemble"].nbytes if "ensemble" in vars(self) else self.info.stack_bytes(len(self.steps))
        return sum(values.nbytes for values in self.metrics.values()) + stack

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def task(self) -> Task:
        return self.info.task

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

    def losses(self) -> list[Losses]:
        """The per-token losses: on unseen data, if they were measured, and then on training data."""
        references = self.task.references
        uniform, best = (torch.tensor(reference.losses) for reference in (references[0], references[-1]))
        names, found = self.task.loss_names, []
        if "test_loss" in self.metrics:
            steps, values = self.metrics["test_step"], self.metrics["test_loss_per_token"]
            found.append(Losses("test", steps, values, names, uniform, best))
        values = self.metrics["train_loss_per_token"]
        kind = "train" if found else ""
        return [*found, Losses(kind, torch.arange(len(values)), values, names, uniform, best)]

    def unseen(self, most: int = UNSEEN, room: int = ROOM) -> Batch:
        """Examples that were not trained on: ``most`` of them, or as many as have room for their activations."""
        batch = self.task.test_stream(self.info.training).next()
        return batch.rows(slice(min(most, self.fitting(batch.tokens.shape[1], room))))

    def fitting(self, n_pos: int, room: int = ROOM) -> int:
        """How many examples of ``n_pos`` tokens have activations that take ``room`` bytes in all snapshots."""
        return max(4, room // (activation_bytes(self.info.model, n_pos) * len(self.steps)))

    def thinned(self, most: int) -> "Subject":
        """The same run with no more than ``most`` of its snapshots, evenly, the last among them."""
        some = _evenly(len(self.steps), most)
        if some == slice(None):
            return self
        thin = dataclasses.replace(self, steps=self.steps[some])
        vars(thin)["ensemble"] = self.ensemble.select(some)
        return thin

    def loss_on(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        """Logits (... batch pos d_vocab_out) -> the mean loss of each example's answers, (... batch)."""
        return lambda logits: self.task.losses(batch.at_answers(logits), batch).mean(-1)

    def opening_step(self) -> int:
        """The last snapshot before the first phase change begins; step 0 if there is none."""
        begins = 0
        for losses in self.losses():  # where unseen data are never understood, what is learnt by heart
            row = first_fall(losses.values, losses.uniform, losses.best)
            if row is not None:
                begins = int(losses.steps[row])
                break
        return max((step for step in self.steps if step <= begins), default=self.steps[0])
