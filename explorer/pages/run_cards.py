"""A summary of a run that does not read its snapshots."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from explorer.analysis.smoothing import smooth
from explorer.film.panels.figures import Figure, sparkline
from explorer.model.architectures import n_weights
from explorer.runs import Run
from explorer.views.subject import SMOOTHING, beta_per_row

SPARKLINE_POINTS = 300


@dataclass(frozen=True)
class RunCard:
    """What the page Runs shows of one run."""

    name: str
    title: str
    data: str
    model: str
    progress: str
    about: str  # what there is to see, "" if nobody says so
    final_losses: Mapping[str, float]  # "train" and, where there is one, "test" -> nats, smoothed
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]]  # the same names -> (steps, nats), smoothed and thinned
    sparkline: Figure  # of the curves


def card(run: Run) -> RunCard:
    """The summary of a run.

    Args:
        run: the run on disk.

    Returns:
        The summary. Its losses are exponential averages, with gaps where a loss is not finite.

    Raises:
        UserError: run.json or the metrics cannot be read.
    """
    info = run.info()
    training = info.training
    metrics = run.metrics() if info.steps_done or info.origin else {"train_loss": torch.empty(0)}
    measured = {}
    if len(metrics["train_loss"]) or not info.origin:
        measured["train"] = (torch.arange(len(metrics["train_loss"])), metrics["train_loss"])
    if "test_loss" in metrics:
        measured["test"] = (metrics["test_step"], metrics["test_loss"])
    smoothed = {
        name: smooth(losses, beta_per_row(SMOOTHING, steps)).where(losses.isfinite(), torch.nan)
        for name, (steps, losses) in measured.items()
    }
    curves = {}
    for name, (steps, _) in measured.items():
        every = math.ceil(len(steps) / SPARKLINE_POINTS) or 1
        curves[name] = (steps[::every].numpy(), smoothed[name][::every].numpy())
    return RunCard(
        name=run.name,
        title=info.task.title,
        data=info.data,
        model=f"{info.shape}, {n_weights(info.model):,} weights",
        progress=f"{info.status}, {info.steps_done:,} of {training.steps:,} steps, {len(run.steps())} snapshots "
        f"in {training.snapshot_dtype}" + (f": {info.message}" if info.message else ""),
        about=run.about(),
        final_losses={name: float(losses[-1]) for name, losses in smoothed.items() if len(losses)},
        curves=curves,
        sparkline=sparkline(curves),
    )
