"""Where in training the losses fall.

Axes: step · token (the per-token losses of a task)

U is the loss of a uniform guess, O the best possible one. All of it is read off exponential averages, which lag behind
the losses by about beta / (1 - beta) rows; that is not corrected.
"""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor


def smooth(losses: Tensor, beta: float = 0.9, start: float | None = None) -> Tensor:
    """Exponential average over steps, (step, ...), in float64; nan takes the average so far.

    Args:
        start: the average before the first step; if None, the first loss.
    """
    if not len(losses):
        return losses.double()
    rows = losses.double().reshape(len(losses), -1)
    if start is not None:
        rows = torch.cat([torch.full_like(rows[:1], start), rows])
    means = pd.DataFrame(rows.numpy()).ewm(alpha=1 - beta, adjust=False, ignore_na=True).mean()
    return torch.tensor(means.to_numpy())[int(start is not None) :].view(losses.shape)


def smooth_both_ways(losses: Tensor, beta: float = 0.9) -> Tensor:
    """`smooth` forwards and then backwards, so that what falls stays where it falls; nan before the first loss."""
    forwards = smooth(losses, beta)
    return smooth(forwards.flip(0), beta).flip(0).where(~forwards.isnan(), torch.nan)


def first_fall(losses: Tensor, uniform: Tensor, best: Tensor, share: float = 0.1) -> int | None:
    """The row at which the first phase change begins.

    A token's loss begins to fall at the last row at which it is still near that of a uniform guess, within ``share``
    of the way to the best possible, before it first gets half of that way. A token that was near a uniform guess never,
    or for less than half of the rows before, has no plateau to fall from and does not count.

    Args:
        losses: (step token) nats; smoothed here.
        uniform, best: (token,) nats.

    Returns:
        A row of ``losses``; None where no loss falls so.
    """
    way = (uniform - smooth(losses)) / (uniform - best)  # (step token): 0 at a uniform guess, 1 at the best
    begins = []
    for token in way.unbind(-1):
        half = (token >= 0.5).nonzero()
        plateau = (token[: int(half[0])] <= share).nonzero() if len(half) else half
        if len(plateau) and 2 * plateau[-1] >= half[0]:
            begins.append(int(plateau[-1]))
    return min(begins, default=None)


@dataclass(frozen=True)
class Fall:
    """When one loss falls, as rows of the losses; None where it does not."""

    onset: int | None = None  # from here on it has at most half of the way from U to O to go
    steepest: int | None = None  # the largest drop from one row to the next ends here
    begins: int | None = None  # the last row before the onset with 90 % of the way to go
    ends: int | None = None  # the first row from the onset on with 10 % of the way to go


def remaining_share(losses: Tensor, uniform: Tensor, best: Tensor, beta: float = 0.9) -> Tensor:
    """Smoothed losses as what is left of the way, (step token) float64: 1 is a uniform guess, 0 the best possible.

    Args:
        losses: (step token) nats; smoothed here.
        uniform, best: (token,) nats.

    Returns:
        Above 1 where a loss is above that of a uniform guess; nan where a reference is, or where there is no way.
    """
    way = (uniform - best).double()
    return (smooth_both_ways(losses, beta) - best) / way.where(way != 0, torch.nan)


def falls(losses: Tensor, uniform: Tensor, best: Tensor, beta: float = 0.9) -> list[Fall]:
    """The phase change of each token: when its smoothed loss goes down for good.

    The onset is the first row at or below half of the way, O + (U - O) / 2, from which on the loss stays there. A token
    that is there from its first row on has no plateau to fall from, and no onset; nor has one that does not get there,
    rises again, or has no references. The definitions are this project's own.

    Args:
        losses: (step token) nats; smoothed here.
        uniform, best: (token,) nats.
        beta: of the exponential average, a row, in both directions; what falls at once then takes some rows to fall.
    """
    return [_fall(left) for left in remaining_share(losses, uniform, best, beta).unbind(-1)]


def _fall(left: Tensor) -> Fall:
    """The fall of one token, of whose way so much is left, (step,)."""
    above = (left > 0.5).nonzero()
    if not len(above) or above[-1] + 1 == len(left):
        return Fall()
    onset = int(above[-1]) + 1
    high, low = (left[:onset] >= 0.9).nonzero(), (left[onset:] <= 0.1).nonzero()
    begins = int(high[-1]) if len(high) else None
    ends = onset + int(low[0]) if len(low) else None
    first, last = begins or 0, len(left) - 1 if ends is None else ends
    drops = -left[first : last + 1].diff()
    return Fall(onset, first + 1 + int(drops.nan_to_num(-torch.inf).argmax()), begins, ends)
