"""Decompositions of matrices that may hold numbers that are not finite.

LAPACK must not be given such numbers: some of its functions raise an error, some do not return, and the eigenvalues of
a matrix with nan end the process.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def of_finite(
    decompose: Callable[[Tensor], Tensor | tuple[Tensor, ...]], matrices: Float[Tensor, "*axes row column"]
) -> tuple[Tensor, ...]:
    """A decomposition of the matrices that are finite; nan for all others.

    Args:
        decompose: a function of a batch of matrices, such as `torch.linalg.eigvals`; what it returns has the same
            leading axes.
        matrices: to decompose, some of which may hold nan or infinity.

    Returns:
        What ``decompose`` returns, one tensor or several.
    """
    is_finite = matrices.isfinite().all(-1).all(-1)  # (*axes)
    found = decompose(matrices.where(is_finite[..., None, None], 0))
    parts = (found,) if isinstance(found, Tensor) else tuple(found)
    if is_finite.all():
        return parts
    return tuple(
        part.masked_fill(~is_finite.reshape(*is_finite.shape, *[1] * (part.ndim - is_finite.ndim)), torch.nan)
        for part in parts
    )
