"""The run that a view looks at, read into memory once."""

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
    """A run's weights and losses. Shared between browser sessions, so never changed."""

    name: str
    info: RunInfo
    ensemble: Ensemble
    metrics: dict[str, Tensor]
    problems: tuple[str, ...]  # a sentence on each file that could not be read
    times: dict[int, int]  # when each snapshot was written

    @classmethod
    def load(cls, run: Run, before: "Subject | None" = None) -> "Subject":
        """Read what can be read.

        Args:
            before: the run as it was read earlier; of a run that is being trained only what is new is read then.

        Raises:
            UserError: no snapshot can.
        """
        problems: list[str] = []
        info, times = run.info(), run.snapshot_times()
        ensemble = None if before is None else before._continued(run, info, times)
        if ensemble is None:
            ensemble = run.ensemble(problems=problems)
        try:
            metrics = run.metrics()
        except UserError as error:
            problems.append(str(error))
            metrics = {
                "train_loss": torch.full((1,), torch.nan, dtype=torch.float64),
                "train_loss_per_token": torch.full((1, len(info.task.loss_names)), torch.nan),
            }
        return cls(run.name, info, ensemble, metrics, tuple(problems), times)

    def _continued(self, run: Run, info: RunInfo, times: dict[int, int]) -> Ensemble | None:
        """The ensemble with the snapshots that came since; None if any of the others is not as it was."""
        new = sorted(times.keys() - self.times.keys())
        same = {step: times.get(step) for step in self.times} == self.times and tuple(self.times) == self.steps
        config = (info.task, info.model, info.training)
        if not same or config != (self.task, self.info.model, self.info.training):
            return None
        if self.problems or (new and new[0] < self.steps[-1]):
            return None
        try:
            return self.ensemble.followed_by(run.ensemble(new)) if new else self.ensemble
        except UserError:
            return None

    @property
    def task(self) -> Task:
        return self.info.task

    @property
    def steps(self) -> tuple[int, ...]:
        return self.ensemble.steps

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
