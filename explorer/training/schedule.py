"""The learning rate of each update, and the steps at which snapshots are kept."""

import numpy as np
import torch
from torch import Tensor

from explorer.settings import TrainingConfig

SMOOTHING = 0.9  # beta per step of the exponential average of losses


class SnapshotSchedule:
    """Decides at which steps a snapshot is kept.

    With ``snapshot_every``, at a fixed interval. Otherwise when a smoothed per-token loss has changed by
    ``snapshot_moved`` nats since the last snapshot, or when ``snapshot_share`` of all steps have passed since.
    Always at step 0 and at the last step, unless ``keep`` is "losses"; nowhere else if it is "ends".

    Args:
        training: the settings of the run.
    """

    def __init__(self, training: TrainingConfig):
        self._training = training
        self.follows = training.keep == "all" and not training.snapshot_every  # whether losses decide
        self._last = 0
        self._smoothed: np.ndarray | None = None  # (token,) of train and test losses together
        self._at_last: np.ndarray | None = None  # (token,) as they were at the last snapshot

    @property
    def wants_first(self) -> bool:
        """Whether to keep a snapshot of step 0, before the first update."""
        return self._training.keep != "losses"

    def wants(self, step: int, losses: Tensor) -> bool:
        """Whether to keep a snapshot; to be called once for each update.

        Args:
            step: updates done.
            losses: (token,) float64, in nats, of the last update: train losses and then test losses, nan for those that
                were not measured.
        """
        training = self._training
        if training.keep == "losses":
            return False
        if not self.follows:
            every = training.snapshot_every if training.keep == "all" else 0
            return step == training.steps or bool(every and step % every == 0)
        smoothed = latest = losses.numpy()  # numpy is faster than torch on a few numbers
        if self._smoothed is not None:
            smoothed = SMOOTHING * self._smoothed + (1 - SMOOTHING) * latest
            smoothed = np.where(np.isnan(latest), self._smoothed, smoothed)
            smoothed = np.where(np.isnan(self._smoothed), latest, smoothed)
        self._smoothed = smoothed
        if self._at_last is None:
            self._at_last = smoothed
        self._at_last = np.where(np.isnan(self._at_last), smoothed, self._at_last)
        moved = np.nan_to_num(np.abs(smoothed - self._at_last)).max() >= training.snapshot_moved
        due = moved or step - self._last >= training.snapshot_share * training.steps
        if due or step == training.steps:
            self._last, self._at_last = step, smoothed
            return True
        return False

    def state(self) -> Tensor:
        """(3, token) float64: the last snapshot's step, and the smoothed losses then and now; empty before step 1, and
        where losses do not decide."""
        if self._smoothed is None or self._at_last is None:
            return torch.empty(0, dtype=torch.float64)
        last = np.full_like(self._smoothed, self._last)
        return torch.from_numpy(np.stack([last, self._at_last, self._smoothed]))

    def empty_state(self, n_losses: int) -> Tensor:
        """Zeros, of the shape and type of `state` after step 1.

        Args:
            n_losses: that `wants` is given.
        """
        return torch.zeros((3, n_losses) if self.follows else 0, dtype=torch.float64)

    def restore(self, state: Tensor) -> None:
        """Continue from a state.

        Args:
            state: as `state` returns it; anything where losses do not decide.
        """
        if self.follows and state.numel():
            last, self._at_last, self._smoothed = state.numpy()
            self._last = int(last[0])


def learning_rate(training: TrainingConfig, step: int) -> float:
    """The learning rate: linear warm-up from 0, constant, linear cool-down to 0.

    Args:
        training: the settings of the run.
        step: updates done before this one.
    """
    up = min(step / training.warmup, 1) if training.warmup else 1
    cooling = training.cooldown * training.steps
    down = min((training.steps - step) / cooling, 1) if cooling else 1
    return training.lr * up * down
