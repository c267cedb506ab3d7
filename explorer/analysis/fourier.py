"""Fourier components of weights, activations and logits, as functions of numbers modulo n.

A network can add modulo n by rotations: it embeds a number x as cos(w x) and sin(w x), with w = 2 pi k / n for a few
key frequencies k, and computes logits from cos(w (x + y)) and sin(w (x + y)). Unless another source is given, measures
are those of Nanda et al. 2023, "Progress measures for grokking via mechanistic interpretability".

Axes
    snapshot    snapshots of the run
    number      the n numbers 0 to n - 1
    component   n of them: the constant, cosine and sine of frequency 1, 2..., and last, for even n, the alternating one
    frequency   1 to n // 2, so frequency 1 is at index 0
    pair        n * n pairs of numbers x and y, x outer
    channel     what is transformed: output tokens, or neurons
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.tasks.data import Cycle, Grid
from explorer.tasks.losses import cross_entropy

MIN_VARIANCE = 1e-12  # as a share of the mean square; less is rounding error


# --- One input ---


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
    across, upper = torch.linalg.qr(waves.T)
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


# --- Both inputs ---


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


def loss_and_neuron_grids(
    ensemble: Ensemble, grid: Grid, n: int, neuron: int | None = None
) -> tuple[Float64[Tensor, "snapshot x y"], Float[Tensor, "snapshot x y"] | None]:
    """The loss, and one neuron, as functions of both numbers.

    Args:
        ensemble: the snapshots.
        grid: all pairs of numbers.
        n: the modulus.
        neuron: which neuron of the last block's MLP; None for the loss alone.

    Returns:
        The cross-entropy of each pair's answer, in nats; and the neuron's activation, after its activation function,
        at the answer's position, or None.
    """
    names = [] if neuron is None else [f"{_last_mlp(ensemble)}.hook_post"]
    losses, neurons = [], []
    for logits, cache in ensemble.passes(grid.batch.tokens, names):
        losses.append(cross_entropy(grid.batch.at_answers(logits), grid.batch.targets)[..., 0])
        neurons += [grid.batch.at_answers(cache[name][..., neuron, None])[:, :, 0, 0] for name in names]
    square = "snapshot (x y) -> snapshot x y"
    shown = rearrange(torch.cat(neurons), square, x=n) if neurons else None
    return rearrange(torch.cat(losses), square, x=n), shown


def _energy(x: Float[Tensor, "pair channel"], n: int) -> Float[Tensor, "component component channel"]:
    """The squared 2-D coefficients of ``x`` without its mean; 0 for a channel that does not depend on the pair."""
    energy = transform_2d(x - x.mean(0), n).square()
    energy[0, 0] = 0
    constant = energy.sum((0, 1)) <= MIN_VARIANCE * x.square().sum(0)  # (channel,)
    return energy.masked_fill(constant, 0)


def _share(part: Float[Tensor, "..."], whole: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """part / whole, and 0 where the whole is 0."""
    return part / whole.where(whole > 0, 1)


def variance_explained(
    ensemble: Ensemble, grid: Grid, n: int, source: Source = "logits"
) -> Float64[Tensor, "snapshot component component"]:
    """The share of the variance over all pairs that each 2-D Fourier component explains, over all channels together.

    Args:
        ensemble: the snapshots.
        grid: all pairs of numbers.
        n: the modulus.
        source: "logits", or "neurons" of the last block's MLP after their activation function, at the answer's
            position.

    Returns:
        Shares by component of x and component of y. The constant is no variance: its share is 0, and the others sum to
        1, or are all 0 if nothing depends on the pair.

    Raises:
        UserError: the last block has no MLP.
    """
    energies = torch.stack([_energy(x, n).sum(-1) for x in _on_grid(ensemble, grid, source)]).double()
    return _share(energies, energies.sum((-2, -1), keepdim=True))


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


def top_terms(
    shares: Float[Tensor, "component component"], names: Sequence[str], n: int = 12
) -> list[tuple[str, str, float, float]]:
    """The 2-D Fourier components that explain most variance, the largest first.

    Args:
        shares: from `variance_explained`, of one snapshot.
        names: of the components, from `basis`.
        n: how many.

    Returns:
        For each: the component of x, the component of y, its share, and the cumulative share.
    """
    largest, order = shares.flatten().sort(descending=True, stable=True)
    rows = zip(order[:n].tolist(), largest[:n].tolist(), largest.cumsum(0)[:n].tolist(), strict=True)
    return [(names[i // len(names)], names[i % len(names)], share, cumulative) for i, share, cumulative in rows]


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
    along = directions.T @ (directions @ logits)
    return along + logits.mean(-2, keepdim=True), logits - along


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
