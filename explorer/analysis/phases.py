"""Where in training the losses fall.

Axes: step · token (the per-token losses of a task)
"""

import torch
from torch import Tensor


def smooth(losses: Tensor, beta: float = 0.9, start: float | None = None) -> Tensor:
    """Exponential average over steps, (step, ...), in float64; nan takes the average so far.

    Args:
        start: the average before the first step; if None, the first loss.
    """
    out, mean = [], None if start is None else torch.full(losses.shape[1:], start, dtype=torch.float64)
    for row in losses.double():
        mean = row if mean is None else torch.where(row.isnan(), mean, beta * mean + (1 - beta) * row)
        mean = torch.where(mean.isnan(), row, mean)
        out.append(mean)
    return torch.stack(out) if out else losses.double()


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
