"""Activations of many examples as points, projected on directions that are the same for all snapshots.

Axes
    snapshot    snapshots of the run
    batch, pos  examples, and positions in their token sequence
    point       one of the chosen positions of an example: examples outer
    head        the chosen heads; one for a hook point without heads
    unit        what a hook point holds at each position; of attention, the key positions
    direction   what the points are projected on
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Float64, Int
from torch import Tensor

from explorer.analysis.finite import of_finite
from explorer.model.ensemble import Ensemble
from explorer.model.hooks import hook_axes


@dataclass(frozen=True)
class Direction:
    """A direction in the space of a hook point's units."""

    weights: Float[Tensor, " unit"]
    origin: float = 0.0  # subtracted from the product with ``weights``
    explained: float | None = None  # share of the variance, of a principal component


def unit_direction(n_units: int, unit: int) -> Direction:
    """The direction of a single unit, along which a point has the unit's activation.

    Args:
        n_units: of the hook point.
        unit: its index.
    """
    return Direction(torch.nn.functional.one_hot(torch.tensor(unit), n_units).float())


def principal_directions(points: Float[Tensor, "point unit"], n: int) -> list[Direction]:
    """The principal components of points, the one of largest variance first; their origin is the mean of the points.

    The signs are such that the largest weight of each is positive.

    Args:
        points: of one snapshot.
        n: how many components. Beyond the rank of the points, further ones have a variance of 0.
    """
    points = points.double()
    mean = points.mean(0)
    _, deviations, rows = of_finite(functools.partial(torch.linalg.svd, full_matrices=False), points - mean)
    rows, deviations = rows[:n], torch.nn.functional.pad(deviations, (0, n))[:n]
    rows = torch.nn.functional.pad(rows, (0, 0, 0, n - len(rows)))  # there are no more than points or units
    rows = rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()
    total = (points - mean).square().sum()
    shares = deviations.square() / total if total > 0 else torch.zeros_like(deviations)
    return [Direction(row.float(), float(row @ mean), share) for row, share in zip(rows, shares.tolist(), strict=True)]


def points_at(
    values: Float[Tensor, "snapshot batch ..."], hook: str, heads: Sequence[int], positions: Sequence[int]
) -> Float[Tensor, "snapshot head point unit"]:
    """The activations or gradients at a hook point, as one point for each example and position.

    Args:
        values: at the hook point, with a snapshot axis.
        hook: the name of the hook point.
        heads: to keep; without effect if the hook point has no heads, which then counts as one.
        positions: to keep; of attention, query positions. The keys that a query does not see are 0.
    """
    axes = hook_axes(hook)
    # (snapshot head batch pos unit)
    values = values.movedim(2 + axes.index("head"), 1)[:, list(heads)] if "head" in axes else values[:, None]
    if axes[-1] == "key":
        values = values.tril()
    chosen = values[:, :, :, list(positions)]
    return rearrange(chosen, "snapshot head batch pos unit -> snapshot head (batch pos) unit")


def coordinates(
    ensemble: Ensemble,
    tokens: Int[Tensor, "batch pos"],
    hook: str,
    heads: Sequence[int],
    positions: Sequence[int],
    directions: Callable[[Float[Tensor, "point unit"]], Sequence[Direction]],
    losses: Callable[[Tensor], Tensor],
    gradient: bool = False,
) -> tuple[
    Float[Tensor, "snapshot head point direction"], Float64[Tensor, "snapshot batch"], list[Sequence[Direction]]
]:
    """The points of every snapshot, projected on directions. Only their coordinates are kept in memory.

    Args:
        ensemble: the snapshots.
        tokens: the examples.
        hook: the name of the hook point.
        heads, positions: as for `points_at`.
        directions: a head's points in the last snapshot -> what to project that head's points on.
        losses: logits (snapshot batch pos d_vocab_out) -> the loss of each example (snapshot batch), nats.
        gradient: project the gradients of ``losses`` instead of the activations.

    Returns:
        The coordinates, the losses, and the directions of each head.

    Raises:
        UserError: there is no such hook point.
    """
    loss = losses if gradient else None
    name = f"{hook}_grad" if gradient else hook
    _, cache = ensemble.select(slice(-1, None)).run(tokens, [hook], loss)
    chosen = [directions(of_head) for of_head in points_at(cache[name], hook, heads, positions)[0]]
    weights = torch.stack([torch.stack([one.weights for one in of_head], 1) for of_head in chosen])
    origins = torch.tensor([[one.origin for one in of_head] for of_head in chosen])  # (head direction)
    found, measured = [], []
    for logits, cache in ensemble.passes(tokens, [hook], loss):
        found.append(points_at(cache[name], hook, heads, positions) @ weights - origins[:, None])
        measured.append(losses(logits).double())
    return torch.cat(found), torch.cat(measured), chosen
