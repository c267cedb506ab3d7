"""Averages of loss curves over the steps.

Axes
    step     rows of a loss curve, in the order of training
    token    the per-token losses of a task
"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64
from scipy.ndimage import median_filter
from torch import Tensor

NARROW = 4  # rows to each side up to which medians of all curves at once are faster


def smooth(
    losses: Float[Tensor, " step *token"], beta: float = 0.9, start: float | None = None
) -> Float64[Tensor, " step *token"]:
    """Exponential average over steps: beta times the average so far plus (1 - beta) times the loss.

    Args:
        losses: in nats; a nan repeats the average so far.
        beta: from 0, no smoothing, to below 1.
        start: the average before the first step; if None, the first loss.

    Returns:
        The averages, which lag behind the losses by about beta / (1 - beta) rows; nan before the first loss that is a
        number.
    """
    if not len(losses):
        return losses.double()
    rows = losses.double().reshape(len(losses), -1)
    if start is not None:
        rows = torch.cat([torch.full_like(rows[:1], start), rows])
    means = pd.DataFrame(rows.numpy()).ewm(alpha=1 - beta, adjust=False, ignore_na=True).mean()
    return torch.tensor(means.to_numpy())[int(start is not None) :].view(losses.shape)


def smooth_robustly(losses: Float[Tensor, " step *token"], beta: float = 0.9) -> Float64[Tensor, " step *token"]:
    """A running median, which no short spike moves, and then a centred exponential average, which has no lag.

    The median is taken over `reach` rows before and after each row, so a spike of up to that many rows leaves no trace.

    Args:
        losses: in nats; what is not a number is filled in from the losses before and after.
        beta: of the average, from 0, no smoothing, to below 1.

    Returns:
        The averages; nan before the first loss that is a number.
    """
    if not losses.numel():
        return losses.double()
    rows = losses.double().reshape(len(losses), -1).numpy()
    averages = centred_average(running_median(filled(rows), reach(beta)), beta)
    averages[np.logical_and.accumulate(~np.isfinite(rows))] = np.nan
    return torch.from_numpy(averages).view(losses.shape)


def reach(beta: float) -> int:
    """The rows over which an exponential average forgets, 1 / (1 - beta); 0 where there is no average.

    Args:
        beta: from 0 to below 1.
    """
    return round(1 / (1 - beta)) if beta else 0


def spread(beta: float) -> int:
    """The rows over which a centred exponential average draws out a sudden fall, from 10 % to 90 % of it.

    k rows from the fall, beta^k / (1 + beta) of it are still to come, or over before it.

    Args:
        beta: from 0 to below 1.
    """
    return max(1, round(2 * np.log(0.1 * (1 + beta)) / np.log(beta))) if beta > 0 else 1


def filled(losses: Float64[np.ndarray, "step token"]) -> Float64[np.ndarray, "step token"]:
    """Losses with a straight line through what is missing, and the nearest loss at the ends.

    Args:
        losses: in nats; what is not finite is missing.

    Returns:
        The losses; 0 for a token without any.
    """
    missing = ~np.isfinite(losses)
    if not missing.any():
        return losses
    return pd.DataFrame(losses).mask(missing).interpolate(limit_direction="both").fillna(0).to_numpy()


def running_median(losses: Float64[np.ndarray, "step token"], half: int) -> Float64[np.ndarray, "step token"]:
    """The median over ``half`` rows before and after each row: it keeps an edge, and drops a spike of up to ``half``.

    Near the ends, where that many rows are not there on both sides, fewer are taken, the same number on each side.

    Args:
        losses: in nats, all finite.
        half: in rows; 0: the losses as they are.
    """
    half = min(half, (len(losses) - 1) // 2)
    if half < 1:
        return losses.copy()
    if half <= NARROW:
        medians = median_filter(losses, size=(2 * half + 1, 1), mode="nearest")
    else:  # one curve at a time: only for these does SciPy have a method whose time does not grow with ``half``
        medians = np.stack([median_filter(curve, size=2 * half + 1, mode="nearest") for curve in losses.T], 1)
    for row in range(half):
        medians[row] = np.median(losses[: 2 * row + 1], axis=0)
        medians[-1 - row] = np.median(losses[len(losses) - 1 - 2 * row :], axis=0)
    return medians


def centred_average(losses: Float64[np.ndarray, "step token"], beta: float) -> Float64[np.ndarray, "step token"]:
    """The average with weights beta^k for the losses k rows before and after each row.

    Near the ends it reaches only as far as there are rows on both sides, so that it neither lags nor flattens a fall.

    Args:
        losses: in nats, all finite.
        beta: from 0, the losses as they are, to below 1.
    """
    n = len(losses)
    if beta <= 0:
        return losses.copy()
    rows = np.arange(n)
    weights = ((1 - beta ** (rows + 1)) / (1 - beta))[:, None]  # of all rows up to each
    before = _weighted(losses, beta) * weights  # sum of beta^k times the loss k rows before
    after = (_weighted(losses[::-1], beta) * weights)[::-1]
    reaches = np.minimum(rows, n - 1 - rows)  # (step,) to the nearer end
    beyond = (beta ** (reaches + 1))[:, None]
    # What lies beyond the reach is one of the sums at another row, on the side that has such a row.
    left, right = rows - reaches - 1, rows + reaches + 1
    before = before - beyond * np.where((left >= 0)[:, None], before[left.clip(0)], 0)
    after = after - beyond * np.where((right < n)[:, None], after[right.clip(max=n - 1)], 0)
    return (before + after - losses) * (1 - beta) / (1 + beta - 2 * beyond)


def _weighted(losses: Float64[np.ndarray, "step token"], beta: float) -> Float64[np.ndarray, "step token"]:
    """The average of each row and those before it, with weights beta^k for the loss k rows before."""
    return pd.DataFrame(losses).ewm(alpha=1 - beta).mean().to_numpy()
