"""Measures of the activations at one hook point, over training.

Axes
    snapshot    snapshots of the run
    series      groups of activations that are summarised apart, such as those of each head
    batch, pos  examples, and positions in their token sequence
    unit        what a hook point holds at each position: neurons, or dimensions of the residual stream or of a head
"""

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.model.hooks import hook_axes


def histogram(
    values: Float[Tensor, "snapshot series value"], bins: int
) -> tuple[Float64[Tensor, " {bins}+1"], Float64[Tensor, "snapshot series {bins}"]]:
    """The distribution of each series of values, in bins that are the same for all snapshots.

    Args:
        values: the activations; those that are not finite are ignored.
        bins: number of bins of equal width between the smallest and the largest value.

    Returns:
        The edges of the bins, in the unit of the values, and the share of each series' values in each bin.
    """
    finite = values.isfinite()
    low, high = (float(edge) for edge in values[finite].aminmax()) if finite.any() else (0.0, 0.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    bin_of = ((values.double() - low) / (high - low) * bins).nan_to_num(0, 0, 0).long().clamp(0, bins - 1)
    counts = torch.zeros(*values.shape[:-1], bins, dtype=torch.float64)
    counts.scatter_add_(-1, bin_of, finite.double())
    return edges, counts / counts.sum(-1, keepdim=True).clamp(min=1)


def root_mean_square(values: Float[Tensor, "*axes value"]) -> Float64[Tensor, "*axes"]:
    """The root mean square over the last axis, in the unit of the values.

    Args:
        values: the activations; those that are not finite are ignored.

    Returns:
        The root mean square; 0 where no value is finite.
    """
    finite = values.isfinite()
    squares = values.where(finite, 0).double().square().sum(-1)
    return (squares / finite.sum(-1).clamp(min=1)).sqrt()


def mean_absolute_change(
    ensemble: Ensemble, tokens: Int[Tensor, "batch pos"], hook: str
) -> Float[Tensor, "*head unit"]:
    """How much each unit of a hook point changes between the two snapshots of an ensemble.

    Args:
        ensemble: two snapshots.
        tokens: the examples on which activations are compared.
        hook: a hook point of the residual stream, of a head or of the MLP.

    Returns:
        The absolute difference of the two activations of each unit, averaged over examples and positions.

    Raises:
        UserError: there is no such hook point, or it holds attention, which has no units.
        ValueError: the ensemble does not have two snapshots.
    """
    if len(ensemble) != 2:
        raise ValueError(f"Two snapshots are compared, not {len(ensemble)}.")
    if hook_axes(hook)[-1] == "key":
        raise UserError(f"{hook} has no neurons; choose a hook point of the residual stream, a head or the MLP.")
    _, cache = ensemble.run(tokens, [hook])
    before, after = cache[hook]  # (batch pos ... unit)
    return (after - before).abs().mean((0, 1))
