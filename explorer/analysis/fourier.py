"""Fourier components of functions of one number modulo n, and of the weights that read and predict numbers.

A network can add modulo n by rotations: it embeds a number x as cos(w x) and sin(w x), with w = 2 pi k / n for a few
key frequencies k, and computes logits from cos(w (x + y)) and sin(w (x + y)). Unless another source is given, measures
are those of Nanda et al. 2023, "Progress measures for grokking via mechanistic interpretability". Functions of two
numbers are in `explorer.analysis.fourier_2d`, and what a model computes from two numbers in
`explorer.analysis.fourier_grid`.

Axes
    snapshot    snapshots of the run
    number      the n numbers 0 to n - 1
    component   n of them: the constant, cosine and sine of frequency 1, 2..., and last, for even n, the alternating one
    frequency   1 to n // 2, so frequency 1 is at index 0
"""

import math
from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from explorer.analysis.finite import of_finite
from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.tasks.data import Cycle


@lru_cache(maxsize=32)
def basis(n: int) -> tuple[tuple[str, ...], Float64[Tensor, "component number"]]:
    """The orthonormal Fourier basis over the numbers modulo n.

    Args:
        n: the modulus, at least 2.

    Returns:
        The names of the components, and their values at each number, rows of norm 1: the constant, then "cos k" and
        "sin k" of 2 pi k x / n for each k below n / 2, then, if n is even, "alternating". Shared: do not change it.
    """
    x = torch.arange(n, dtype=torch.float64)
    names, rows = ["constant"], [torch.ones(n, dtype=torch.float64)]
    for k in range(1, (n + 1) // 2):
        angle = 2 * math.pi * k * x / n
        names += [f"cos {k}", f"sin {k}"]
        rows += [angle.cos(), angle.sin()]
    if n % 2 == 0:
        names.append("alternating")
        rows.append(1 - 2 * (x % 2))
    waves = torch.stack(rows)
    return tuple(names), waves / waves.norm(dim=1, keepdim=True)


def transform_1d(x: Float[Tensor, "*axes"], dim: int) -> Float[Tensor, "*axes"]:
    """The Fourier transform along one axis.

    Args:
        x: any values that depend on a number.
        dim: the axis of the number.

    Returns:
        The coefficient of each component, in the place of the number.
    """
    _, waves = basis(x.shape[dim])
    return (x.movedim(dim, -1) @ waves.T.to(x.dtype)).movedim(-1, dim)


def norms_by_frequency(norms: Float[Tensor, "*axes component"]) -> Float[Tensor, "*axes frequency"]:
    """The norm of each frequency, sqrt(cos^2 + sin^2), from the norms of the components.

    Args:
        norms: of the components, such as `weight_norms`.

    Returns:
        In the same unit. The constant is left out; the alternating component alone is frequency n / 2.
    """
    waves = norms[..., 1:]
    if waves.shape[-1] % 2:
        waves = torch.nn.functional.pad(waves, (0, 1))
    return rearrange(waves, "... (frequency wave) -> ... frequency wave", wave=2).norm(dim=-1)


def weight_norms(ensemble: Ensemble, cycle: Cycle) -> dict[str, Float[Tensor, "snapshot component"]]:
    """The norm of each Fourier component of the weights that read and predict numbers.

    Args:
        ensemble: the snapshots.
        cycle: the task's numbers.

    Returns:
        "W_E": the embeddings of the numbers, norm over d_model. "W_U": their unembeddings, norm over d_model. If the
        last block has an MLP, "W_out W_U": what its neurons add to the logits of the numbers, norm over d_mlp.

    Raises:
        UserError: the model is a table.
    """
    weights, n = ensemble.weights, cycle.n
    if "embed.W_E" not in weights:
        raise UserError("A table has no embedding to transform; take a run of a transformer.")
    W_E, W_U = weights["embed.W_E"][:, :n], weights["unembed.W_U"][..., :n]
    # (snapshot component d_model), (snapshot d_model component)
    norms = {"W_E": transform_1d(W_E, 1).norm(dim=2), "W_U": transform_1d(W_U, 2).norm(dim=1)}
    W_out = weights.get(f"blocks.{ensemble.cfg.n_layers - 1}.mlp.W_out")
    if W_out is not None:
        norms["W_out W_U"] = transform_1d(W_out @ W_U, 2).norm(dim=1)
    return norms


def frequency_plane(ensemble: Ensemble, cycle: Cycle, frequency: int) -> Float[Tensor, "snapshot number 2"]:
    """The embeddings of the numbers, projected on the plane that the final model uses for one frequency.

    If the embeddings have a cosine and a sine of this frequency, the numbers lie on a circle in that plane.

    Source: this project.

    Args:
        ensemble: the snapshots.
        cycle: the task's numbers.
        frequency: at least 1, below n / 2.

    Returns:
        Coordinates along the last snapshot's cosine component of W_E, and along the part of its sine component that is
        orthogonal to that. In the unit of W_E.
    """
    W_E = ensemble.weights["embed.W_E"][:, : cycle.n]
    waves = transform_1d(W_E[-1], 0)[2 * frequency - 1 : 2 * frequency + 1]  # (wave d_model)
    across, upper = of_finite(torch.linalg.qr, waves.T)
    return W_E @ (across * upper.diagonal().sign())


def gini(x: Float[Tensor, "*axes value"]) -> Float[Tensor, "*axes"]:
    """The Gini coefficient, a measure of sparsity.

    Args:
        x: values that are not negative.

    Returns:
        0 if all N values are equal, (N - 1) / N if only one is not zero, nan if all are zero.
    """
    ascending, n = x.sort(-1).values, x.shape[-1]
    rank = torch.arange(1, n + 1, dtype=x.dtype)
    return 2 * (ascending * rank).sum(-1) / (n * x.sum(-1)) - (n + 1) / n


def inverse_participation_ratio(x: Float[Tensor, "*axes value"]) -> Float[Tensor, "*axes"]:
    """The inverse participation ratio sum x^4 / (sum x^2)^2, a measure of sparsity.

    Source: He et al. 2026, "On the Mechanism and Dynamics of Modular Addition".

    Args:
        x: the values.

    Returns:
        1 / N if all N values are equal, 1 if only one is not zero, nan if all are zero.
    """
    return x.pow(4).sum(-1) / x.square().sum(-1).square()


def key_frequencies(norms: Float[Tensor, " frequency"], share: float = 0.25) -> tuple[int, ...]:
    """The frequencies whose norm is above a share of the largest, ascending.

    Args:
        norms: of the frequencies in W_E of the final model.
        share: the threshold.
    """
    return tuple((1 + (norms > share * norms.max()).nonzero()[:, 0]).tolist())


def modular_division(a: Int64[Tensor, "*axes"], b: int, n: int) -> Int64[Tensor, "*axes"]:
    """The numbers x with b x = a modulo n.

    Dividing all numbers by k maps cos(2 pi k x / n) to the cosine of frequency 1.

    Args:
        a: whole numbers.
        b: the divisor.
        n: the modulus.

    Returns:
        From 0 to n - 1.

    Raises:
        UserError: b and n have a common divisor, so the quotient is not unique or there is none.
    """
    if math.gcd(b, n) != 1:
        raise UserError(f"Modulo {n}, {b} divides no number in one way only; take a divisor that has none with {n}.")
    return a * pow(b, -1, n) % n
