"""Fourier components of functions of two numbers x and y modulo n.

A two-dimensional term is the product of a component of x and a component of y, see `explorer.analysis.fourier.basis`.
The n * n terms are an orthonormal basis of the functions of a pair. Unless another source is given, definitions are
those of Nanda et al. 2023, "Progress measures for grokking via mechanistic interpretability", and of its notebook.

Axes
    component   as in `explorer.analysis.fourier`: of x, then of y
    pair        n * n pairs of numbers x and y, x outer
    channel     what depends on the pair: output tokens, neurons...
    direction   functions of a pair, of norm 1
"""

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Float64
from torch import Tensor

from explorer.analysis.fourier import basis
from explorer.errors import UserError, quoted

# The directions of `sum_components`, of a frequency k.
SUMS = ("cos {}(x + y)", "sin {}(x + y)", "cos {}(x − y)", "sin {}(x − y)")


def transform_2d(x: Float[Tensor, "*axes pair channel"], n: int) -> Float[Tensor, "*axes component component channel"]:
    """The two-dimensional Fourier transform over both numbers of a pair.

    Args:
        x: any values that depend on a pair.
        n: the modulus.

    Returns:
        The coefficient of each product of a component of x with a component of y, in this order.
    """
    waves = basis(n)[1].T.to(x.dtype)
    # Channels in front, so that each transform is one matrix product.
    of_y = rearrange(x, "... (x y) channel -> ... channel x y", x=n).contiguous() @ waves
    of_both = of_y.mT.contiguous() @ waves
    return rearrange(of_both, "... channel y x -> ... x y channel")


def basis_term(n: int, x: str, y: str) -> Float64[Tensor, " pair"]:
    """A two-dimensional term: the outer product of a component of x and a component of y.

    Args:
        n: the modulus.
        x, y: names of components, as in `basis`, such as "cos 3".

    Returns:
        Its value at each pair; its norm is 1.

    Raises:
        UserError: there is no such component.
    """
    names, waves = basis(n)
    for name in (x, y):
        if name not in names:
            raise UserError(f"There is no component {quoted(name)} modulo {n}; there are {', '.join(names)}.")
    return torch.outer(waves[names.index(x)], waves[names.index(y)]).flatten()


def projection(
    x: Float[Tensor, "*axes pair channel"], directions: Float[Tensor, "direction pair"]
) -> Float[Tensor, "*axes pair channel"]:
    """The part of ``x`` along some directions.

    Args:
        x: any values that depend on a pair.
        directions: orthonormal, such as ``basis_term(...)[None]`` or `sum_directions`.

    Returns:
        A function of the pair again, not the coefficients, which are ``directions @ x``.
    """
    directions = directions.to(x.dtype)
    return directions.T @ (directions @ x)


def frequency_block(
    coefficients: Float[Tensor, "*axes component component channel"], frequency: int
) -> Float[Tensor, "*axes 3 3 channel"]:
    """The terms of one frequency: constant, cos k and sin k of x, times the same of y.

    Args:
        coefficients: from `transform_2d`.
        frequency: k, at least 1, below n / 2.

    Returns:
        Their coefficients, in this order.

    Raises:
        UserError: no frequency k has both a cosine and a sine.
    """
    n = coefficients.shape[-2]
    if not 1 <= frequency < n / 2:
        raise UserError(
            f"Frequency {frequency} has no cosine and sine modulo {n}; choose one from 1 to {(n - 1) // 2}."
        )
    of_frequency = [0, 2 * frequency - 1, 2 * frequency]
    return coefficients[..., of_frequency, :, :][..., of_frequency, :]


def sum_components(block: Float[Tensor, "*axes 3 3 channel"]) -> Float[Tensor, "*axes 4 channel"]:
    """The components along cos(w (x + y)), sin(w (x + y)), cos(w (x - y)) and sin(w (x - y)), in the order of `SUMS`.

    The four functions span the same space as the products of cosine and sine of x with those of y; a model that has
    learnt to add uses the first two alone.

    Args:
        block: the coefficients of a frequency, from `frequency_block`.

    Returns:
        Coefficients of these functions, scaled to norm 1: those of x + y and x - y in `sum_directions`.
    """
    (cos_cos, cos_sin), (sin_cos, sin_sin) = (row.unbind(-2) for row in block[..., 1:, 1:, :].unbind(-3))
    found = (cos_cos - sin_sin, sin_cos + cos_sin, cos_cos + sin_sin, sin_cos - cos_sin)
    return torch.stack(found, -2) / math.sqrt(2)


def sum_directions(n: int, keys: Sequence[int], sign: int) -> Float64[Tensor, "direction pair"]:
    """The key directions: cos(w (x + y)) and sin(w (x + y)) of some frequencies over all pairs, or of x - y.

    Args:
        n: the modulus.
        keys: the frequencies, from 1 to n // 2.
        sign: 1 for x + y, -1 for x - y, as in `Grid`.

    Returns:
        Orthonormal; two for each frequency, but frequency n / 2 has no sine.

    Raises:
        UserError: ``sign`` is 0.
    """
    if sign == 0:
        raise UserError(
            "The answer is no function of x + y or x - y, so it has no key directions; choose a run that adds or "
            "subtracts."
        )
    names, waves = basis(n)
    x, y = torch.arange(n)[:, None], torch.arange(n)
    chosen = [i for i, name in enumerate(names) for k in keys if name in (f"cos {k}", f"sin {k}")]
    if n % 2 == 0 and n // 2 in keys:
        chosen.append(n - 1)
    # Each value of x + y occurs n times, so the norm is sqrt(n) before the division.
    return rearrange(waves[chosen][:, (x + sign * y) % n], "direction x y -> direction (x y)") / math.sqrt(n)


def split_logits(
    logits: Float64[Tensor, "*axes pair d_vocab_out"], directions: Float64[Tensor, "direction pair"]
) -> tuple[Float64[Tensor, "*axes pair d_vocab_out"], Float64[Tensor, "*axes pair d_vocab_out"]]:
    """Restricted and excluded logits: only some directions of the grid of pairs, and all but them.

    Args:
        logits: of all pairs.
        directions: orthonormal, such as `sum_directions`.

    Returns:
        Restricted and excluded logits. Each output token's mean over the pairs is in both.
    """
    along = projection(logits, directions)
    return along + logits.mean(-2, keepdim=True), logits - along
