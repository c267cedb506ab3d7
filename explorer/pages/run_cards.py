"""A summary of a run that does not read its snapshots."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from explorer.analysis.phases import smooth
from explorer.film.panels.figures import Figure, sparkline
from explorer.model.architectures import n_weights
from explorer.runs import Run

SPARKLINE_POINTS = 300


@dataclass(frozen=True)
class RunCard:
    name: str
    title: str
    data: str
    model: str
    progress: str
    final_losses: dict[str, float]  # name -> nats, smoothed
    sparkline: Figure


def card(run: Run) -> RunCard:
    """The summary of a run.

    Args:
        run: the run.

    Raises:
        UserError: run.json or the metrics cannot be read.
    """
    info = run.info()
    training = info.training
    metrics = run.metrics() if info.steps_done else {"train_loss": torch.empty(0)}
    curves = {"train": (np.arange(len(metrics["train_loss"])), smooth(metrics["train_loss"]).numpy())}
    if "test_loss" in metrics:
        curves["test"] = (metrics["test_step"].numpy(), smooth(metrics["test_loss"]).numpy())
    every = {name: math.ceil(len(x) / SPARKLINE_POINTS) or 1 for name, (x, _) in curves.items()}
    thinned = {name: (x[:: every[name]], y[:: every[name]]) for name, (x, y) in curves.items()}
    return RunCard(
        name=run.name,
        title=info.task.title,
        data=info.data,
        model=f"{info.shape}, {n_weights(info.model):,} weights",
        progress=f"{info.status}, {info.steps_done:,} of {training.steps:,} steps, {len(run.steps())} snapshots "
        f"in {training.snapshot_dtype}" + (f": {info.message}" if info.message else ""),
        final_losses={name: float(y[-1]) for name, (_, y) in curves.items() if len(y)},
        sparkline=sparkline(thinned),
    )
