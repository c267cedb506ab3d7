"""The run that a view looks at, read into memory once."""

import contextlib
import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.analysis.phases import first_fall
from explorer.ensemble import Ensemble
from explorer.errors import UserError
from explorer.runs import Run, RunInfo
from explorer.tasks.base import Task


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
    def load(cls, run: Run, before: "Subject | None" = None) -> "Subject":
        """Read the losses, and of the weights what their files say of themselves.

        Args:
            before: the run as it was read earlier; what was read of its weights is not read again.

        Raises:
            UserError: no snapshot can be read.
        """
        problems: list[str] = []
        info, times = run.info(), run.snapshot_times()
        config = (info.task, info.model, info.training)
        as_before = before is not None and config == (before.task, before.info.model, before.info.training)
        unchanged = {step for step in before.steps if times.get(step, 0) == before.times.get(step)} if as_before else ()
        steps = run.readable(problems, unchanged)
        try:
            metrics = run.metrics()
        except UserError as error:
            problems.append(str(error))
            metrics = {
                "train_loss": torch.full((1,), torch.nan, dtype=torch.float64),
                "train_loss_per_token": torch.full((1, len(info.task.loss_names)), torch.nan),
            }
        subject = cls(run, info, steps, metrics, tuple(problems), times)
        went_on = as_before and len(unchanged) == len(before.steps) and steps[: len(unchanged)] == before.steps
        if went_on and "ensemble" in vars(before):
            new = steps[len(before.steps) :]
            with contextlib.suppress(UserError):  # if one has just gone, whoever looks will hear of it
                vars(subject)["ensemble"] = before.ensemble.followed_by(run.ensemble(new)) if new else before.ensemble
        return subject

    @functools.cached_property
    def ensemble(self) -> Ensemble:
        """The weights, read when they are first asked for.

        Raises:
            UserError: a snapshot can no longer be read.
        """
        return self.run.ensemble(self.steps)

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def task(self) -> Task:
        return self.info.task

    def opening_step(self) -> int:
        """The last snapshot before the first phase change begins; step 0 if there is none."""
        references = self.task.references
        uniform, best = (torch.tensor(reference.losses) for reference in (references[0], references[-1]))
        begins = 0
        for kind in ("test", "train"):  # where unseen data are never understood, what is learnt by heart
            losses = self.metrics.get(f"{kind}_loss_per_token", torch.empty(0, len(uniform)))
            row = first_fall(losses, uniform, best)
            if row is not None:
                begins = int(self.metrics["test_step"][row]) if kind == "test" else row
                break
        return max((step for step in self.steps if step <= begins), default=self.steps[0])
