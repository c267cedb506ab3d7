"""The values at a hook point over training, coloured by head, position or unit."""

import numpy as np
import torch
from torch import Tensor

from explorer.analysis.activations import root_mean_square
from explorer.film.panels.curves import Curves
from explorer.film.panels.panel import Panel
from explorer.film.panels.raster import Raster
from explorer.views import panels
from explorer.views.activation_values import Activation
from explorer.views.subject import Subject

MAX_CURVES = 240  # in one panel; of more values, each group is summarised by its root mean square
MAX_GROUPS = 24  # colours in one legend; more groups are rows of a raster
GROUPS = ("head", "position", "unit")  # the axes of `Activation.values` after the snapshots


def over_training(subject: Subject, activation: Activation, by: str) -> list[Panel]:
    """The root mean square of each head, and the values themselves, in groups.

    Args:
        subject: the run.
        activation: what is shown.
        by: one of `GROUPS`: values that share it share a colour.
    """
    by_head = {
        name or "all": curve
        for name, curve in zip(activation.maps, root_mean_square(activation.values.flatten(2)).T, strict=True)
    }
    rms = panels.over_snapshots(subject, "rms", f"Root mean square, {activation.title}", by_head, unit="")
    return [rms, *_grouped(subject, activation, by)]


def _grouped(subject: Subject, activation: Activation, by: str) -> list[Panel]:
    labels = {"head": activation.maps, "position": activation.positions, "unit": activation.units}[by]
    noun = {"head": "head", "position": activation.position_axis, "unit": activation.unit_axis}[by]
    groups = activation.values.movedim(1 + GROUPS.index(by), 1).flatten(2)  # (snapshot group value)
    n_values = int(activation.values[0].isfinite().sum())
    if len(labels) > MAX_GROUPS:
        return [_raster(subject, activation.title, noun, labels, groups)]
    if n_values > MAX_CURVES:
        curves = dict(zip(labels, root_mean_square(groups).T, strict=True))
        title = f"Root mean square of each {noun}, {activation.title}; {n_values:,} values"
        return [panels.over_snapshots(subject, "grouped", title, curves, unit="")]
    steps, lines = torch.tensor(subject.steps), []
    for m, name in enumerate(activation.maps):
        for p, position in enumerate(activation.positions):
            for u, unit in enumerate(activation.units):
                values = activation.values[:, m, p, u]
                if not values.isfinite().any():  # a key that the query does not see
                    continue
                group = {"head": m, "position": p, "unit": u}[by]
                label = f"{name} {position} {activation.unit_axis} {unit}".strip()
                lines.append(panels.curve(label, steps, values, group, group=f"{noun} {labels[group]}".strip()))
    return [Curves("values", f"Values by {noun}, {activation.title}", lines, unit="", height=320, by_frame=True)]


def _raster(subject: Subject, title: str, noun: str, labels: tuple[str, ...], groups: Tensor) -> Panel:
    """A row for each group: its value if it has but one, otherwise its root mean square."""
    is_single = groups.shape[2] == 1
    rows = groups[..., 0].T if is_single else root_mean_square(groups).T  # (group snapshot)
    high = float(rows.nan_to_num().abs().max()) or 1.0
    return Raster(
        "grouped",
        f"{'Value' if is_single else 'Root mean square'} at each {noun}, {title}",
        labels,
        np.array(subject.steps),
        rows.numpy(),
        -high if is_single else 0.0,
        high,
        "",
        scale="diverging" if is_single else "sequential",
        by_frame=True,
    )
