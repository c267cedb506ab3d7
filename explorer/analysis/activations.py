"""Activations over training, whatever they are of.

Axes: snapshot · batch · pos · unit (what a hook point has of each position: neurons, dimensions of a head...)
"""

import torch
from torch import Tensor

from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.model.hooks import hook_axes


def histogram(values: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """How often which values occur, in bins that are the same for all snapshots.

    Args:
        values: (snapshot series value); what is not finite does not count.

    Returns:
        The edges of the bins, (bin + 1,), and the share of values in each, (snapshot series bin).
    """
    finite = values.isfinite()
    low, high = (float(edge) for edge in values[finite].aminmax()) if finite.any() else (0.0, 0.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    place = ((values.double() - low) / (high - low) * bins).nan_to_num(0, 0, 0).long().clamp(0, bins - 1)
    counts = torch.zeros(*values.shape[:-1], bins, dtype=torch.float64)
    counts.scatter_add_(-1, place, finite.double())
    return edges, counts / counts.sum(-1, keepdim=True).clamp(min=1)


def root_mean_square(values: Tensor) -> Tensor:
    """The root of the mean square over the last axis, (... value) -> (...,); what is not finite does not count."""
    finite = values.isfinite()
    squares = values.where(finite, 0).double().square().sum(-1)
    return (squares / finite.sum(-1).clamp(min=1)).sqrt()


def mean_absolute_change(ensemble: Ensemble, tokens: Tensor, hook: str) -> Tensor:
    """How much each unit of a hook point changes between the two snapshots of an ensemble.

    Args:
        tokens: (batch pos).

    Returns:
        (unit,) or (head unit): the mean over batch and positions of the absolute difference.

    Raises:
        UserError: no such hook point, or it has no units but attends.
        ValueError: not two snapshots.
    """
    if len(ensemble) != 2:
        raise ValueError(f"Two snapshots are to be compared, not {len(ensemble)}.")
    if hook_axes(hook)[-1] == "key":
        raise UserError(f"{hook} has no neurons; choose a hook point of the residual stream, a head or the MLP.")
    _, cache = ensemble.run(tokens, [hook])
    before, after = cache[hook]  # (batch pos ... unit)
    return (after - before).abs().mean((0, 1))
