"""Means over a sample of examples, with their standard errors.

A `Tally` takes the values of one part of a sample after another, so a sample may grow until its mean is precise enough.

Axes
    example    the examples of a part
    ...        what is measured on each: snapshots, components, tokens...
"""

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

ERRORS = 3  # standard errors on each side of a mean; of normal means, 99.7 % are that close to the truth
PRECISE = 0.1  # of a mean: an interval that is no wider on each side is small against it
NEGLIGIBLE = 0.05  # of the largest mean: an interval that is no wider cannot be seen beside it


@dataclass(frozen=True)
class Estimate:
    """Means over a sample, in the unit of what was measured."""

    mean: Float64[Tensor, "*axes"]  # nan where no example has a value
    error: Float64[Tensor, "*axes"]  # their standard errors; nan where a mean rests on one example
    n: int  # examples

    @property
    def interval(self) -> Float64[Tensor, "*axes"]:
        """`ERRORS` standard errors: the true mean is hardly ever farther away."""
        return ERRORS * self.error

    def with_error(self, other: Float64[Tensor, "*axes"]) -> "Estimate":
        """The same means with an error that is independent of the sample's.

        Args:
            other: its standard error.
        """
        return dataclasses.replace(self, error=self.error.hypot(other))

    @property
    def is_precise(self) -> bool:
        """Whether every interval is small against its own mean, or negligible beside the largest."""
        known = self.mean.isfinite()
        size = self.mean.where(known, 0).abs()
        allowed = (PRECISE * size).maximum(NEGLIGIBLE * size.max())
        return bool(((self.interval <= allowed) | ~known).all())


class Tally:
    """The mean and its standard error, of values that come in parts.

    The variance is computed as Chan, Golub and LeVeque 1983 do for samples in parts, without cancellation. Of truth
    values the mean is a share, and its error that of Agresti and Coull 1998, which is not 0 where all values are equal.
    """

    def __init__(self) -> None:
        self._n, self._are_shares = 0, False
        self._count = self._mean = self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, values: Shaped[Tensor, "*axes example"]) -> None:
        """Add a part of the sample.

        Args:
            values: of each example, numbers or truth values; nan for an example that has none. Parts differ in the last
                axis only.
        """
        self._n, self._are_shares = self._n + values.shape[-1], values.dtype == torch.bool
        values = values.double()
        count = (~values.isnan()).sum(-1).double()
        mean = values.nansum(-1) / count.clamp(min=1)
        squares = (values - mean[..., None]).square().nansum(-1)
        total, difference = self._count + count, mean - self._mean
        share = count / total.clamp(min=1)
        self._squares = self._squares + squares + difference.square() * self._count * share
        self._mean, self._count = self._mean + difference * share, total

    def estimate(self) -> Estimate:
        """The mean so far."""
        mean = self._mean.where(self._count > 0, torch.nan)
        if self._are_shares:
            n = self._count + 4
            p = (self._mean * self._count + 2) / n
            return Estimate(mean, (p * (1 - p) / n).sqrt(), self._n)
        variance = self._squares / (self._count - 1).clamp(min=1)
        error = (variance / self._count.clamp(min=1)).sqrt()
        return Estimate(mean, error.where(self._count > 1, torch.nan), self._n)
