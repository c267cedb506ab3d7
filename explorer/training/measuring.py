"""Losses on a batch of any size, where no gradient is needed."""

import torch
from torch import Tensor

from explorer.model.fast_forward import logits_at
from explorer.model.hooks import HookedModel
from explorer.tasks.data import Batch
from explorer.tasks.task import Task

PART = 2**16  # tokens that are measured at a time


def rows_at_once(n_pos: int) -> int:
    """How many examples are measured at a time where no gradient is needed.

    Args:
        n_pos: tokens of each.
    """
    return max(PART // n_pos, 1)


@torch.no_grad()
def measured_on(model: HookedModel, task: Task, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits and losses of a batch, a part of it at a time: activations take little memory, however large it is.

    Args:
        model: one model, not a stack.
        task: which the model has learnt.
        batch: examples of the task.

    Returns:
        Logits (batch answer d_vocab_out), and losses in nats, (batch answer) float64.
    """
    found = []
    at_once = rows_at_once(batch.tokens.shape[1])
    for first in range(0, len(batch.tokens), at_once):
        part = batch.rows(slice(first, first + at_once))
        logits = logits_at(model, part.tokens, part.positions)
        found.append((logits, task.losses(logits, part)))
    logits, losses = (torch.cat(parts) for parts in zip(*found, strict=True))
    return logits, losses
