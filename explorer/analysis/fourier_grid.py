"""What a model computes from two numbers x and y modulo n, over all pairs of them, at every snapshot.

Unless another source is given, measures are those of Nanda et al. 2023, "Progress measures for grokking via mechanistic
interpretability".

Axes
    snapshot    snapshots of the run
    component   as in `explorer.analysis.fourier`: of x, then of y
    frequency   1 to n // 2, so frequency 1 is at index 0
    pair        n * n pairs of numbers x and y, x outer
    channel     what is transformed: output tokens, or neurons
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from explorer.analysis.fourier_2d import split_logits, sum_directions, transform_2d
from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.tasks.data import Cycle, Grid
from explorer.tasks.losses import cross_entropy

MIN_VARIANCE = 1e-12  # as a share of the mean square; less is rounding error

Source = Literal["logits", "neurons"]


def _last_mlp(ensemble: Ensemble) -> str:
    return f"blocks.{ensemble.cfg.n_layers - 1}.mlp"


def _on_grid(ensemble: Ensemble, grid: Grid, source: Source) -> Iterator[Float[Tensor, "pair channel"]]:
    """Logits, or neurons after their activation function, at the answer's position, of one snapshot after another."""
    if source == "neurons" and f"{_last_mlp(ensemble)}.W_out" not in ensemble.weights:
        raise UserError("The last block of this model has no MLP, so there are no neurons; choose the logits.")
    names = [f"{_last_mlp(ensemble)}.hook_post"] if source == "neurons" else []
    for logits, cache in ensemble.passes(grid.batch.tokens, names):
        answers = grid.batch.at_answers(cache[names[0]] if names else logits)  # (snapshot pair 1 channel)
        yield from answers[:, :, 0]


def loss_and_activation_grids(
    ensemble: Ensemble, grid: Grid, n: int, hook: str | None = None, at: tuple[int, ...] = ()
) -> tuple[Float64[Tensor, "snapshot x y"], Float[Tensor, "snapshot x y"] | None]:
    """The loss, and one entry of an activation, as functions of both numbers.

    Args:
        ensemble: the snapshots.
        grid: all pairs of numbers.
        n: the modulus.
        hook: the name of a hook point; None for the loss alone.
        at: an index for each axis of the activation, in the order of `hook_axes`.

    Returns:
        The cross-entropy of each pair's answer, in nats; and the activation, or None.

    Raises:
        UserError: there is no such hook point.
    """
    entry: tuple[Any, ...] = (..., *at)
    losses, activations = [], []
    for logits, cache in ensemble.passes(grid.batch.tokens, [] if hook is None else [hook]):
        losses.append(cross_entropy(grid.batch.at_answers(logits), grid.batch.targets)[..., 0])
        activations += [x[entry].clone() for x in cache.values()]  # (snapshot pair), not a view of all entries
    square = "snapshot (x y) -> snapshot x y"
    shown = rearrange(torch.cat(activations), square, x=n) if activations else None
    return rearrange(torch.cat(losses), square, x=n), shown


# --- Fourier terms ---


def _energy(x: Float[Tensor, "pair channel"], n: int) -> Float[Tensor, "component component channel"]:
    """The squared 2-D coefficients of ``x`` without its mean; 0 for a channel that does not depend on the pair."""
    energy = transform_2d(x - x.mean(0), n).square()
    energy[0, 0] = 0
    constant = energy.sum((0, 1)) <= MIN_VARIANCE * x.square().sum(0)  # (channel,)
    return energy.masked_fill(constant, 0)


def _share(part: Float[Tensor, "..."], whole: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """part / whole, and 0 where the whole is 0."""
    return part / whole.where(whole > 0, 1)


def component_norms(
    ensemble: Ensemble, grid: Grid, n: int, source: Source = "logits"
) -> Float64[Tensor, "snapshot component component"]:
    """The norm of the coefficients of each 2-D Fourier term, over all channels.

    Args:
        ensemble: the snapshots.
        grid: all pairs of numbers.
        n: the modulus.
        source: "logits" of the numbers, or "neurons" of the last block's MLP after their activation function, at the
            answer's position.

    Returns:
        Norms by component of x and component of y. That of the constant term is n times the norm of the means.

    Raises:
        UserError: the last block has no MLP.
    """
    norms, channels = [], slice(n if source == "logits" else None)  # an output may stand for no number
    for x in _on_grid(ensemble, grid, source):
        x = x[:, channels]
        energy = _energy(x, n).sum(-1).double()
        energy[0, 0] = n**2 * x.double().mean(0).square().sum()
        norms.append(energy.sqrt())
    return torch.stack(norms)


def shares(
    coefficients: Float[Tensor, "*axes component component"], constant: bool = False
) -> Float64[Tensor, "*axes component component"]:
    """The share of each 2-D Fourier term in the sum of squares.

    Args:
        coefficients: from `transform_2d`, or `component_norms`.
        constant: whether the constant term counts. If it does, shares are of the mean square; if not, of the variance.

    Returns:
        Shares that sum to 1, or are all 0 if nothing depends on the pair; without the constant term, its share is 0.
    """
    energy = coefficients.double().square()
    total = energy.sum((-2, -1), keepdim=True)
    if not constant:
        energy[..., 0, 0] = 0
        energy = energy.where(energy.sum((-2, -1), keepdim=True) > MIN_VARIANCE * total, 0)
        total = energy.sum((-2, -1), keepdim=True)
    return _share(energy, total)


def variance_explained(
    ensemble: Ensemble, grid: Grid, n: int, source: Source = "logits"
) -> Float64[Tensor, "snapshot component component"]:
    """The share of the variance over all pairs that each 2-D Fourier term explains, over all channels together.

    Args:
        ensemble, grid, n, source: as for `component_norms`.

    Returns:
        `shares` without the constant term.

    Raises:
        UserError: the last block has no MLP.
    """
    return shares(component_norms(ensemble, grid, n, source))


def channel_coefficients(
    ensemble: Ensemble, grid: Grid, n: int, source: Source, channels: Sequence[int]
) -> Float64[Tensor, "snapshot component component channel"]:
    """The coefficient of each 2-D Fourier term in single logits or neurons, with its sign.

    Args:
        ensemble, grid, n, source: as for `component_norms`.
        channels: indices of output tokens or neurons.

    Raises:
        UserError: the last block has no MLP.
    """
    return torch.stack([transform_2d(x[:, list(channels)].double(), n) for x in _on_grid(ensemble, grid, source)])


def strongest_channels(ensemble: Ensemble, grid: Grid, source: Source, count: int) -> tuple[int, ...]:
    """The logits or neurons that vary most over all pairs in the last snapshot, the strongest first.

    Args:
        ensemble, grid, source: as for `component_norms`.
        count: how many; there are no more than channels.

    Raises:
        UserError: the last block has no MLP.
    """
    (x,) = _on_grid(ensemble.select(slice(-1, None)), grid, source)
    variances = x.double().var(0, correction=0)
    return tuple(variances.sort(descending=True, stable=True).indices[:count].tolist())


@dataclass(frozen=True)
class Term:
    """A 2-D Fourier term of one function of a pair. Shares are cumulative over this term and those before it."""

    x: str  # the component of x
    y: str  # the component of y
    coefficient: float
    of_variance: float  # its share without the constant term, whose own share is 0
    cumulative_of_variance: float
    of_mean_square: float  # its share with the constant term
    cumulative_of_mean_square: float


def top_terms(coefficients: Float[Tensor, "component component"], names: Sequence[str], n: int = 12) -> list[Term]:
    """The 2-D Fourier terms with the largest coefficients, the constant among them, the largest first.

    Args:
        coefficients: from `transform_2d` of one channel, or `component_norms` of one snapshot.
        names: of the components, from `basis`.
        n: how many.
    """
    order = coefficients.flatten().abs().sort(descending=True, stable=True).indices
    columns = [coefficients.flatten()[order]]
    for constant in (False, True):
        share = shares(coefficients, constant).flatten()[order]
        columns += [share, share.cumsum(0)]
    places = [divmod(place, len(names)) for place in order[:n].tolist()]
    rows = zip(*(column[:n].tolist() for column in columns), strict=True)
    return [Term(names[x], names[y], *row) for (x, y), row in zip(places, rows, strict=True)]


def neuron_frequencies(
    ensemble: Ensemble, grid: Grid, n: int
) -> tuple[Int64[Tensor, " neuron"], Float64[Tensor, " neuron"]]:
    """The frequency of each neuron of the last block's MLP, in the last snapshot.

    The 2-D components of frequency k are the products of constant, cos k and sin k of x with the same of y, without the
    constant of both. The frequency of a neuron is the one whose components explain most of its variance over all pairs.

    Args:
        ensemble: the snapshots.
        grid: all pairs of numbers.
        n: the modulus.

    Returns:
        The frequency, and the share of the neuron's variance that it explains; both 0 for a neuron that does not depend
        on the pair.

    Raises:
        UserError: the last block has no MLP.
    """
    (neurons,) = _on_grid(ensemble.select(slice(-1, None)), grid, "neurons")
    energy = _energy(neurons.double(), n)  # (component component neuron)
    belongs = torch.zeros(n // 2, n, dtype=torch.float64)  # (frequency component): 1 for constant, cosine and sine
    component = torch.arange(1, n)
    belongs[:, 0] = belongs[(component - 1) // 2, component] = 1
    explained = einsum(belongs, belongs, energy, "frequency x, frequency y, x y neuron -> frequency neuron")
    share, index = _share(explained, energy.sum((0, 1))).max(0)
    return torch.where(share > 0, 1 + index, 0), share


# --- Progress measures ---


@dataclass(frozen=True)
class ProgressMeasures:
    """Mean losses in nats on all pairs or on some, with all of the logits or with a part of them."""

    key_frequencies: tuple[int, ...]
    all_pairs: Float64[Tensor, " snapshot"]  # unchanged logits, all pairs
    restricted: Float64[Tensor, " snapshot"]  # only the key directions and the mean of each logit, all pairs
    excluded: Float64[Tensor, " snapshot"]  # without the key directions, training pairs
    train: Float64[Tensor, " snapshot"]  # unchanged logits, training pairs
    test: Float64[Tensor, " snapshot"]  # unchanged logits, the other pairs


def progress_measures(
    ensemble: Ensemble, cycle: Cycle, grid: Grid, trained_on: Bool[Tensor, " pair"] | None, keys: Sequence[int]
) -> ProgressMeasures:
    """Restricted and excluded loss, beside the loss of the whole model.

    Args:
        ensemble: the snapshots.
        cycle: the task's numbers.
        grid: all pairs of numbers.
        trained_on: which pairs are in the training data. None for endless data: every pair then counts as a training
            pair and as another. If no pair is trained on, ``excluded`` is measured on all pairs.
        keys: the key frequencies of the final model, which are used for all snapshots.

    Returns:
        Losses; nan for the mean over no pairs.

    Raises:
        UserError: the answer is no function of x + y or x - y.
    """
    directions, targets = sum_directions(cycle.n, keys, grid.sign), grid.batch.targets[:, 0]
    every = torch.ones(len(targets), dtype=torch.bool)
    train, test = (every, every) if trained_on is None else (trained_on, ~trained_on)
    excluded_on = train if train.any() else every
    rows = []
    for logits in _on_grid(ensemble, grid, "logits"):
        restricted, excluded = split_logits(logits.double(), directions)
        losses, of_restricted, of_excluded = (cross_entropy(x, targets) for x in (logits, restricted, excluded))
        parts = (losses, of_restricted, of_excluded[excluded_on], losses[train], losses[test])
        rows.append(torch.stack([part.mean() for part in parts]))
    return ProgressMeasures(tuple(keys), *torch.stack(rows, 1))
