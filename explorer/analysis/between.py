"""Between snapshots: the loss on straight lines in weight space, the path of the weights, and the sharpness at each.

Axes
    snapshot   snapshots of the run
    point      points on a straight line between two models, both ends included, at equal distances
    token      the per-token losses of the task, as in `explorer.tasks.task`
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from explorer.analysis.grafts import NOTHING, Part, Weights, grafted, parts, token_losses
from explorer.analysis.weights import CHUNK
from explorer.model.architectures import model_from_weights
from explorer.model.ensemble import Ensemble
from explorer.tasks.data import Batch
from explorer.tasks.task import Task

POINTS = 11  # on a line
TOLERANCE = 1e-3  # of an eigenvalue: the residual of its vector, relative to it
VECTORS = 12  # of the Lanczos iteration between restarts; for most snapshots it then takes 13 products
RESTARTS = 100  # of it before it is given up

# --- Straight lines ---


def losses_along(
    loss: Callable[[Weights], Tensor], start: Weights, end: Weights, n: int = POINTS
) -> Float[Tensor, "point *axes"]:
    """A function of the weights at points of the straight line between two models.

    Args:
        loss: weights of one model -> (*axes).
        start, end: weights by name, of the same shapes.
        n: points, at least 2.
    """
    shares = torch.linspace(0, 1, n, dtype=torch.float64).tolist()
    return torch.stack([loss({name: start[name].lerp(end[name], share) for name in start}) for share in shares])


def line_losses(
    ensemble: Ensemble, task: Task, batch: Batch, start: int, end: int, n: int = POINTS
) -> Float64[Tensor, "point token"]:
    """The losses of the models on the straight line between two snapshots.

    Source: Goodfellow et al. 2015, Qualitatively characterizing neural network optimization problems.

    Args:
        ensemble: the snapshots.
        task: whose loss it is.
        batch: the examples.
        start, end: places on the snapshot axis.
        n: points, at least 2.

    Returns:
        Nats, the mean loss of each of the task's tokens.
    """
    of_start, of_end = (grafted(ensemble, NOTHING, place, place) for place in (start, end))
    return losses_along(token_losses(ensemble.cfg, task, batch), of_start, of_end, n)


def barrier(losses: Float[Tensor, "point *axes"]) -> Float[Tensor, "*axes"]:
    """How far the loss on a line rises above the straight interpolation of the losses at its ends.

    Two models without a barrier are linearly mode connected. Since it is a maximum, chance makes it larger: the loss of
    a single token has a much higher one on a dozen examples than on a hundred.

    Source: Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis, who subtract the mean of
    the ends; the interpolation is from Entezari et al. 2022, The Role of Permutation Invariance in Linear Mode
    Connectivity of Neural Networks.

    Args:
        losses: from `losses_along` or `line_losses`, at 2 points or more.

    Returns:
        In the unit of ``losses``, the largest rise at any of the points; at least 0, which it is at the ends.
    """
    share = torch.linspace(0, 1, len(losses), dtype=losses.dtype).reshape(-1, *[1] * (losses.ndim - 1))
    return (losses - torch.lerp(losses[:1], losses[-1:], share)).amax(0)


# --- The path ---


@dataclass(frozen=True)
class Moves:
    """The path of weights through the snapshots; distances are in the unit of the weights."""

    from_first: Float64[Tensor, " snapshot"]  # the straight distance from the first snapshot
    moved: Float64[Tensor, " snapshot"]  # the straight distance from the snapshot before; 0 at the first
    length: Float64[Tensor, " snapshot"]  # of the path so far, with straight moves between snapshots
    cosine: Float64[Tensor, " snapshot"]  # of the moves to this snapshot and from it; nan at the ends, and if one is 0


def moves(ensemble: Ensemble, part: Part | None = None) -> Moves:
    """The distances that weights move and the angles between their moves.

    Args:
        ensemble: the snapshots.
        part: one of `explorer.analysis.grafts.parts`; None for all weights.
    """
    n = len(ensemble)
    from_first, moved, inner = (torch.zeros(n, dtype=torch.float64) for _ in range(3))  # squares and inner products
    for name, head in parts(ensemble.cfg)["everything"] if part is None else part:
        weight = ensemble.weights[name] if head is None else ensemble.weights[name][:, head]
        for chunk in weight.flatten(1).split(max(1, CHUNK // n), 1):
            chunk = chunk.double()  # (snapshot weight)
            move = chunk.diff(dim=0)  # to each snapshot but the first
            from_first += (chunk - chunk[0]).square().sum(1)
            moved[1:] += move.square().sum(1)
            inner[1:-1] += (move[:-1] * move[1:]).sum(1)
    moved = moved.sqrt()
    cosine = torch.full_like(inner, torch.nan)
    cosine[1:-1] = inner[1:-1] / (moved[1:-1] * moved[2:])
    return Moves(from_first.sqrt(), moved, moved.cumsum(0), cosine)


# --- Sharpness ---


def top_eigenvalue(loss: Callable[[Weights], Float[Tensor, ""]], weights: Weights) -> float:
    """The largest eigenvalue of the Hessian of a function of the weights.

    It is found by the Lanczos iteration of ARPACK, from a fixed start vector, so that it is always the same. The
    products of the Hessian with vectors are derivatives of the gradient, rounded as the type of the weights is. The
    iteration ends when the residual of the eigenvector, the length of H v - lambda v, is below `TOLERANCE` times the
    size of lambda. The error of lambda is then below that too.

    Args:
        loss: weights -> one number, twice differentiable.
        weights: by name; more than one number in all.

    Returns:
        In the unit of the loss per squared weight; the largest with its sign, so it is negative only if all are. 0
        where the Hessian is 0. nan if the gradient or the Hessian is not finite, or if the iteration does not end after
        `RESTARTS` restarts.
    """
    # Takes a tenth of a second, and most pages need none of it.
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    with torch.enable_grad():
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        along = list(leaves.values())
        gradient = _flat(torch.autograd.grad(loss(leaves), along, create_graph=True, materialize_grads=True))
    if not gradient.isfinite().all():
        return math.nan
    if not gradient.requires_grad:  # the loss is linear
        return 0.0

    def product(vector: np.ndarray) -> np.ndarray:
        direction = torch.from_numpy(vector.reshape(-1)).to(gradient)
        found = torch.autograd.grad(gradient, along, direction, retain_graph=True, materialize_grads=True)
        return _flat(found).double().numpy()

    n = len(gradient)
    hessian = LinearOperator((n, n), product, dtype=np.float64)
    start = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    limits = {"ncv": min(VECTORS, n), "tol": TOLERANCE, "maxiter": RESTARTS}
    try:
        found = eigsh(hessian, 1, which="LA", v0=start, return_eigenvectors=False, **limits)
    except ArpackError:
        return math.nan if product(start).any() else 0.0
    return float(found[0])


def _flat(gradients: tuple[Tensor, ...]) -> Float[Tensor, " weight"]:
    return torch.cat([gradient.flatten() for gradient in gradients])


def sharpness(ensemble: Ensemble, batch: Batch) -> Iterator[float]:
    """The largest eigenvalue of the Hessian of the mean loss of all answers, at every snapshot.

    Gradient descent with learning rate r is unstable where it exceeds 2 / r, and trains close to that. For optimisers
    that scale the gradient, as Adam does, the limit is one for the scaled Hessian (Cohen et al. 2022, Adaptive Gradient
    Methods at the Edge of Stability), and this is not comparable with it.

    The loss is torch's own cross-entropy, in float64, after the plain forward pass: those that train are differentiable
    once only.

    Source: Cohen et al. 2021, Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability.

    Args:
        ensemble: the snapshots.
        batch: the examples.

    Yields:
        Nats per squared weight, for each snapshot in turn; nan as in `top_eigenvalue`.
    """
    targets = batch.targets.flatten()
    for place in range(len(ensemble)):
        model = model_from_weights(ensemble.cfg, grafted(ensemble, NOTHING, place, place))

        def loss(weights: Mapping[str, Tensor], model: torch.nn.Module = model) -> Float[Tensor, ""]:
            logits = batch.at_answers(functional_call(model, dict(weights), batch.tokens))
            return cross_entropy(logits.flatten(0, 1).double(), targets)

        yield top_eigenvalue(loss, dict(model.named_parameters()))
