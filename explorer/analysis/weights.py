"""How the weights move during training.

Axes
    snapshot     snapshots of the run
    component    principal components, the one of largest variance first
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from explorer.analysis.finite import of_finite
from explorer.model.ensemble import Ensemble

CHUNK = 2**20  # weights, of all snapshots together, that are converted to float64 at a time


@dataclass(frozen=True)
class Trajectory:
    """The path of all weights during training, projected on its principal components."""

    coordinates: Float64[Tensor, "snapshot component"]  # in the unit of the weights; the mean over snapshots is 0
    explained: Float64[Tensor, " component"]  # share of the variance


def parameter_norms(ensemble: Ensemble) -> dict[str, Float[Tensor, " snapshot"]]:
    """The Frobenius norm of each parameter, by name, and of all parameters together, "total".

    Sinusoidal positions are fixed and so no parameter.

    Source: Nanda et al. 2023, Progress measures for grokking via mechanistic interpretability.

    Args:
        ensemble: the snapshots.
    """
    found = {name: torch.linalg.vector_norm(w.flatten(1), dim=1) for name, w in ensemble.model().named_parameters()}
    return {"total": torch.linalg.vector_norm(torch.stack(list(found.values())), dim=0), **found}


def trajectory(ensemble: Ensemble, n: int = 3) -> Trajectory:
    """Principal component analysis of the weights over training, with the flattened weights of a snapshot as a point.

    The signs of the components are such that no coordinate of the last snapshot is negative.

    Source: Li et al. 2018, Visualizing the Loss Landscape of Neural Nets; they take the last snapshot as origin, this
    the mean of all. Computed from the inner products of snapshots, of which there are fewer than weights.

    Args:
        ensemble: the snapshots.
        n: how many components; there are no more than snapshots.

    Returns:
        All nan if a weight of any snapshot is not finite.
    """
    gram = torch.zeros(len(ensemble), len(ensemble), dtype=torch.float64)
    for weight in ensemble.weights.values():
        for chunk in weight.flatten(1).split(max(1, CHUNK // len(ensemble)), 1):
            centred = chunk.double() - chunk.double().mean(0)  # (snapshot weight)
            gram += centred @ centred.T
    variances, directions = of_finite(torch.linalg.eigh, gram)  # ascending
    variances, directions = variances.flip(0).clamp(min=0)[:n], directions.flip(1)[:, :n]
    coordinates = directions * variances.sqrt()
    coordinates = torch.where(coordinates[-1] < 0, -coordinates, coordinates)
    total = gram.trace()
    return Trajectory(coordinates, variances / total if total != 0 else torch.zeros_like(variances))
