"""When single examples are learnt.

Axes
    snapshot    snapshots of the run
    example     examples of a data set
"""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from explorer.analysis.ablation import losses
from explorer.model.architectures import activation_bytes
from explorer.model.ensemble import MEMORY_BUDGET, Ensemble
from explorer.tasks.data import Batch
from explorer.tasks.task import Task


def losses_by_example(
    ensemble: Ensemble, task: Task, batch: Batch, budget: int = MEMORY_BUDGET
) -> Float64[Tensor, "snapshot example"]:
    """The mean cross-entropy of the answers of each example, in nats.

    Args:
        ensemble: the snapshots.
        task: whose loss it is.
        batch: the examples.
        budget: bytes of activations in one pass; as many examples are given to a snapshot at once as fit.
    """
    size = max(1, budget // activation_bytes(ensemble.cfg, batch.tokens.shape[1]))
    parts = (batch.rows(slice(start, start + size)) for start in range(0, len(batch.tokens), size))
    return torch.cat([losses(ensemble, task, part).mean(-1) for part in parts], 1)


def learnt_from(losses: Float[Tensor, "snapshot example"], level: float) -> Int64[Tensor, " example"]:
    """The first snapshot from which on the loss of each example stays at or below a level.

    Source: this project.

    Args:
        losses: of each example.
        level: in the same unit.

    Returns:
        Its index; the number of snapshots for an example whose loss is above the level in the last one.
    """
    stays = (losses <= level).flip(0).long().cumprod(0)  # (snapshot example), the last first: 1 until it is above
    return len(losses) - stays.sum(0)
