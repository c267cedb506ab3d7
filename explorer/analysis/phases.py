"""When losses fall: phase changes in the loss curves of a run.

Axes
    step     rows of a loss curve, in the order of training
    token    the per-token losses of a task

U is the loss of a uniform guess and O the best possible loss of a token. The measures are taken on exponential
averages; a forward average lags behind the losses by about beta / (1 - beta) rows.
"""

from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Float64
from torch import Tensor


def smooth(
    losses: Float[Tensor, " step *token"], beta: float = 0.9, start: float | None = None
) -> Float64[Tensor, " step *token"]:
    """Exponential average over steps: beta times the average so far plus (1 - beta) times the loss.

    Args:
        losses: in nats; a nan repeats the average so far.
        beta: from 0, no smoothing, to below 1.
        start: the average before the first step; if None, the first loss.

    Returns:
        The averages; nan before the first loss that is a number.
    """
    if not len(losses):
        return losses.double()
    rows = losses.double().reshape(len(losses), -1)
    if start is not None:
        rows = torch.cat([torch.full_like(rows[:1], start), rows])
    means = pd.DataFrame(rows.numpy()).ewm(alpha=1 - beta, adjust=False, ignore_na=True).mean()
    return torch.tensor(means.to_numpy())[int(start is not None) :].view(losses.shape)


def smooth_both_ways(losses: Float[Tensor, " step *token"], beta: float = 0.9) -> Float64[Tensor, " step *token"]:
    """`smooth` forwards and then backwards, so that the lags cancel and a fall stays at its step.

    Args:
        losses: in nats.
        beta: of the exponential average in each direction.

    Returns:
        The averages; nan before the first loss that is a number.
    """
    forwards = smooth(losses, beta)
    return smooth(forwards.flip(0), beta).flip(0).where(~forwards.isnan(), torch.nan)


def first_fall(
    losses: Float[Tensor, "step token"],
    uniform: Float[Tensor, " token"],
    best: Float[Tensor, " token"],
    share: float = 0.1,
) -> int | None:
    """The row at which the first phase change begins.

    The smoothed loss of a token starts to fall at the last row at which it has come at most ``share`` of the way from U
    to O, before it first comes half of the way. That row must lie in the second half of the rows before: otherwise the
    token has no plateau, and is left out.

    Source: this project.

    Args:
        losses: in nats, not smoothed.
        uniform: U, in nats.
        best: O, in nats.
        share: how far from U a loss may be on its plateau, as a share of U - O.

    Returns:
        The earliest such row of all tokens; None where no loss falls.
    """
    progress = (uniform - smooth(losses)) / (uniform - best)  # (step token): 0 at U, 1 at O
    begins = []
    for token in progress.unbind(-1):
        half = (token >= 0.5).nonzero()
        plateau = (token[: int(half[0])] <= share).nonzero() if len(half) else half
        if len(plateau) and 2 * plateau[-1] >= half[0]:
            begins.append(int(plateau[-1]))
    return min(begins, default=None)


@dataclass(frozen=True)
class Fall:
    """The phase change of one loss, as rows of the loss curve; None where there is none."""

    onset: int | None = None  # the first row from which on at most half of U - O remains
    steepest: int | None = None  # the row after the largest drop between begin and end
    begins: int | None = None  # the last row before the onset at which at least 90 % of U - O remain
    ends: int | None = None  # the first row from the onset on at which at most 10 % of U - O remain


def remaining_share(
    losses: Float[Tensor, "step token"],
    uniform: Float[Tensor, " token"],
    best: Float[Tensor, " token"],
    beta: float = 0.9,
) -> Float64[Tensor, "step token"]:
    """(loss - O) / (U - O) of the smoothed losses: 1 at a uniform guess, 0 at the best possible loss.

    Source: this project.

    Args:
        losses: in nats, not smoothed.
        uniform: U, in nats.
        best: O, in nats.
        beta: of the exponential average in each direction.

    Returns:
        Above 1 for a loss above U; nan where U or O is unknown, or where they are equal.
    """
    span = (uniform - best).double()
    return (smooth_both_ways(losses, beta) - best) / span.where(span != 0, torch.nan)


def falls(
    losses: Float[Tensor, "step token"],
    uniform: Float[Tensor, " token"],
    best: Float[Tensor, " token"],
    beta: float = 0.9,
) -> list[Fall]:
    """The phase change of each token: when its smoothed loss falls for good.

    The onset is the first row from which on the loss stays at or below O + (U - O) / 2. There is none if the loss is
    there from the first row on, never gets there, rises again, or has no U and O.

    Source: this project.

    Args:
        losses: in nats, not smoothed.
        uniform: U, in nats.
        best: O, in nats.
        beta: of the exponential average in each direction, which spreads a sudden fall over some rows.
    """
    return [_fall(remaining) for remaining in remaining_share(losses, uniform, best, beta).unbind(-1)]


def _fall(remaining: Float64[Tensor, " step"]) -> Fall:
    """The phase change of one token, from the share of U - O that remains at each row."""
    above = (remaining > 0.5).nonzero()
    if not len(above) or above[-1] + 1 == len(remaining):
        return Fall()
    onset = int(above[-1]) + 1
    high, low = (remaining[:onset] >= 0.9).nonzero(), (remaining[onset:] <= 0.1).nonzero()
    begins = int(high[-1]) if len(high) else None
    ends = onset + int(low[0]) if len(low) else None
    first, last = begins or 0, len(remaining) - 1 if ends is None else ends
    drops = -remaining[first : last + 1].diff()
    return Fall(onset, first + 1 + int(drops.nan_to_num(-torch.inf).argmax()), begins, ends)
