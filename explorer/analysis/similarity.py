"""How alike vectors and tensors are.

Axes
    row    vectors to compare with each other
"""

import torch
from jaxtyping import Float
from torch import Tensor


def normalised(x: Float[Tensor, "*axes row value"]) -> Float[Tensor, "*axes row value"]:
    """Each row divided by its Euclidean norm. A row of zeros stays zero.

    Args:
        x: the rows.
    """
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norms.where(norms > 0, 1)


def cosines(x: Float[Tensor, "*axes row value"]) -> Float[Tensor, "*axes row row"]:
    """The covariance of normalised rows: the cosine similarity of each row with each.

    As in the notebook of Nanda et al. 2023, the mean is not subtracted.

    Args:
        x: the rows.

    Returns:
        From -1 to 1; 1 on the diagonal, except that a row of zeros has 0 with all.
    """
    rows = normalised(x)
    return rows @ rows.mT


def closeness(a: Float[Tensor, "*axes"], b: Float[Tensor, "*axes"]) -> float:
    """The cosine similarity of two tensors, over all of their values.

    If ``b`` is an orthogonal projection of ``a``, the square of their closeness is the share of the sum of squares of
    ``a`` that the projection explains.

    Args:
        a, b: of one shape.

    Returns:
        From -1 to 1: 1 if one is the other times a positive number, 0 if they are orthogonal. nan if either is zero.
    """
    return float((a * b).sum() / (a.norm() * b.norm()))


def relative_distance(a: Float[Tensor, "*axes"], b: Float[Tensor, "*axes"]) -> float:
    """The squared distance of two tensors, relative to their norms: |a - b|^2 / (|a| |b|).

    Source: the notebook of Nanda et al. 2023 (`is_close`). Unlike `closeness`, it depends on the norms: it is
    r + 1 / r - 2 closeness, with r = |a| / |b|.

    Args:
        a, b: of one shape.

    Returns:
        0 if they are equal, 2 if they are orthogonal and of one norm, without upper bound. nan or infinite if either is
        zero.
    """
    return float((a - b).square().sum() / (a.norm() * b.norm()))
