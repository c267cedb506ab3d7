"""How the weights move during training.

Axes
    snapshot     snapshots of the run
    component    principal components, that of the largest variance first
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.model.ensemble import Ensemble

CHUNK = 2**20  # numbers in float64 that are looked at at once


@dataclass(frozen=True)
class Trajectory:
    """The way of all weights together, seen along its principal components."""

    coordinates: Tensor  # (snapshot component) float64, in the unit of the weights; each component's mean is 0
    explained: Tensor  # (component,) float64, shares of the variance


def parameter_norms(ensemble: Ensemble) -> dict[str, Tensor]:
    """The Frobenius norm of all parameters together, "total", and of each by name, (snapshot,).

    Positions that are fixed are no parameter.

    Source: Nanda et al. 2023, Progress measures for grokking via mechanistic interpretability.
    """
    found = {name: torch.linalg.vector_norm(w.flatten(1), dim=1) for name, w in ensemble.model().named_parameters()}
    return {"total": torch.linalg.vector_norm(torch.stack(list(found.values())), dim=0), **found}


def trajectory(ensemble: Ensemble, n: int = 3) -> Trajectory:
    """Principal components of the weights over training: the flattened weights are the points, one for each snapshot.

    There are no more components than snapshots. A component's sign is such that the last snapshot is not below 0.

    Source: Li et al. 2018, Visualizing the Loss Landscape of Neural Nets; the origin here is the mean of the snapshots,
    there the last one. Computed from the inner products of snapshots, which are few where weights are many.
    """
    inner = torch.zeros(len(ensemble), len(ensemble), dtype=torch.float64)
    for weight in ensemble.weights.values():
        for piece in weight.flatten(1).split(max(1, CHUNK // len(ensemble)), 1):
            moved = piece.double()
            moved = moved - moved.mean(0)  # what does not change is 0
            inner += moved @ moved.T
    variances, directions = torch.linalg.eigh(inner)  # ascending
    variances, directions = variances.flip(0).clamp(min=0)[:n], directions.flip(1)[:, :n]
    coordinates = directions * variances.sqrt()
    coordinates = torch.where(coordinates[-1] < 0, -coordinates, coordinates)
    total = inner.trace()
    return Trajectory(coordinates, variances / total if total > 0 else torch.zeros_like(variances))
