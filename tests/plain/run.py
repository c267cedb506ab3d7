"""A run, read from its files."""

import functools
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


class PlainRun:
    """What run.json, metrics.safetensors and the snapshots of a run hold.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path):
        info = json.loads((folder / "run.json").read_text())
        self.folder, self.task, self.model, self.training = folder, info["task"], info["model"], info["training"]
        self.steps: list[int] = info["snapshots"]
        self.metrics: dict[str, np.ndarray] = load_file(folder / "metrics.safetensors")

    def weights(self, step: int) -> dict[str, np.ndarray]:
        """The weights of the snapshot at a step, float64."""
        return _weights(self.folder / "snapshots" / f"step-{step:06d}.safetensors")

    @property
    def measured(self) -> tuple[np.ndarray, np.ndarray]:
        """The steps and values of the mean loss, on unseen data where that was measured."""
        if "test_loss" in self.metrics:
            return self.metrics["test_step"], self.metrics["test_loss"]
        return np.arange(len(self.metrics["train_loss"])), self.metrics["train_loss"]

    @property
    def three(self) -> list[int]:
        """Places of the first snapshot, of one in the middle of the fall of the loss, and of the last."""
        steps, losses = self.measured
        half = (losses[0] + losses.min()) / 2
        crossed = steps[np.argmax(losses < half)]
        middle = int(np.abs(np.array(self.steps[1:-1]) - crossed).argmin()) + 1
        return [0, middle, len(self.steps) - 1]


@functools.lru_cache(maxsize=128)
def _weights(file: Path) -> dict[str, np.ndarray]:
    return {name: weight.astype(np.float64) for name, weight in load_file(file).items()}
