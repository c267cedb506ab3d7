"""The cross-entropy of every answer."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import nll_loss

FEW = 32  # output tokens below which torch's own softmax, along the first axis, is faster


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, in float64: in float32, softmax hides losses below 1e-7.

    Args:
        logits: (... answer d_vocab_out).
        targets: (... answer) int64, the right output tokens; leading axes may be missing.

    Returns:
        (... answer) float64.
    """
    targets = targets.expand(logits.shape[:-1])
    if logits.shape[-1] >= FEW:
        return _CrossEntropy.apply(logits, targets)
    log_probabilities = logits.movedim(-1, 0).log_softmax(0, dtype=torch.float64).movedim(0, -1)
    return nll_loss(log_probabilities.flatten(0, -2), targets.flatten(), reduction="none").view_as(targets)


class _CrossEntropy(torch.autograd.Function):
    """Computes the exponentials once, where autograd computes them again for the gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        x, targets = logits.to(torch.float64, copy=True), targets[..., None]
        x -= x.amax(-1, keepdim=True)
        right = x.gather(-1, targets)
        total = x.exp_().sum(-1, keepdim=True)
        if ctx.needs_input_grad[0]:
            x /= total
            x.scatter_add_(-1, targets, torch.full_like(right, -1))
            ctx.save_for_backward(x.to(logits.dtype))
        return (total.log() - right).squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradient[..., None].to(slope.dtype), None
