"""Fourier components of weights, activations and logits over numbers modulo n.

A network that adds modulo n may come to do it by rotations: it embeds a number x as cos(w x) and sin(w x), with
w = 2 pi k / n for a few frequencies k, and reads the sum off cos(w (x + y)) and sin(w (x + y)). Unless said otherwise,
the measures here are those of Nanda et al. 2023, "Progress measures for grokking via mechanistic interpretability".

Axes
    n           numbers
    component   n of them: constant, cosine and sine of frequency 1, 2..., and last, for even n, the alternating one
    frequency   1 to n // 2, so the first stands at index 0
    pair        n * n pairs of numbers x and y, x outer
    channel     what is transformed: output tokens, or neurons
    snapshot    in front, as in an `Ensemble`
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from einops import einsum, rearrange
from torch import Tensor

from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.tasks.data import Cycle, Grid

MIN_VARIANCE = 1e-12  # as a share of the mean square; less is rounding


# --- One input ---


@lru_cache(maxsize=32)
def basis(n: int) -> tuple[tuple[str, ...], Tensor]:
    """The orthonormal Fourier basis over the numbers modulo n.

    Returns:
        Names of the components, and the basis (component n) float64, each row of norm 1: the constant, then "cos k" and
        "sin k" of 2 pi k x / n for each k below n / 2, then, if n is even, "alternating". Shared; not to be changed.
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


def transform_1d(x: Tensor, dim: int) -> Tensor:
    """The coefficients of ``x`` along ``dim``, which has size n: the same shape, with components there."""
    _, waves = basis(x.shape[dim])
    return (x.movedim(dim, -1) @ waves.T.to(x.dtype)).movedim(-1, dim)


def norms_by_frequency(norms: Tensor) -> Tensor:
    """The norms of components (... component) as those of frequencies (... frequency): sqrt(cos^2 + sin^2).

    The alternating component alone is frequency n / 2; the constant is left out.
    """
    waves = norms[..., 1:]
    if waves.shape[-1] % 2:
        waves = torch.nn.functional.pad(waves, (0, 1))
    return rearrange(waves, "... (frequency wave) -> ... frequency wave", wave=2).norm(dim=-1)


def weight_norms(ensemble: Ensemble, cycle: Cycle) -> dict[str, Tensor]:
    """How much of each component the weights have that numbers are read and predicted by.

    Returns:
        By name, each (snapshot component): "W_E", the norm over d_model of the components of the numbers' embeddings;
        "W_U", the same of their output weights; and if the last block has an MLP, "W_out W_U", the norm over its
        neurons of the components of what each writes to the numbers' logits.

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


def frequency_plane(ensemble: Ensemble, cycle: Cycle, frequency: int) -> Tensor:
    """The numbers' embeddings seen along the two directions that the last snapshot has for a frequency.

    Numbers that go around at this frequency lie on a ring.

    Args:
        frequency: 1 or more, below n / 2.

    Returns:
        (snapshot number 2): along the cosine's direction in d_model, and along the part of the sine's that is
        orthogonal to it.
    """
    W_E = ensemble.weights["embed.W_E"][:, : cycle.n]
    waves = transform_1d(W_E[-1], 0)[2 * frequency - 1 : 2 * frequency + 1]  # (wave d_model)
    across, upper = torch.linalg.qr(waves.T)
    return W_E @ (across * upper.diagonal().sign())


def gini(x: Tensor) -> Tensor:
    """The Gini coefficient of the non-negative numbers along the last axis: 0 if all N are equal, (N - 1) / N if only
    one is not zero, nan if all are."""
    ascending, n = x.sort(-1).values, x.shape[-1]
    rank = torch.arange(1, n + 1, dtype=x.dtype)
    return 2 * (ascending * rank).sum(-1) / (n * x.sum(-1)) - (n + 1) / n


def inverse_participation_ratio(x: Tensor) -> Tensor:
    """The inverse participation ratio along the last axis, sum x^4 / (sum x^2)^2: 1 / N if all N are equal, 1 if only
    one is not zero, nan if all are. As in He et al. 2026, "On the Mechanism and Dynamics of Modular Addition"."""
    return x.pow(4).sum(-1) / x.square().sum(-1).square()


def key_frequencies(norms: Tensor, share: float = 0.25) -> tuple[int, ...]:
    """The frequencies, 1 to n // 2, whose norm exceeds this share of the largest.

    Args:
        norms: (frequency,), of the final model's W_E.
    """
    return tuple((1 + (norms > share * norms.max()).nonzero()[:, 0]).tolist())


# --- Both inputs ---


def transform_2d(x: Tensor, n: int) -> Tensor:
    """The two-dimensional transform over both numbers of a pair.

    Args:
        x: (... pair channel).

    Returns:
        Coefficients (... component component channel), first of x, then of y.
    """
    waves = basis(n)[1].T.to(x.dtype)
    # Channels in front, so that each transform is one product of matrices.
    of_y = rearrange(x, "... (x y) channel -> ... channel x y", x=n).contiguous() @ waves
    of_both = of_y.mT.contiguous() @ waves
    return rearrange(of_both, "... channel y x -> ... x y channel")


Name = Literal["logits", "neurons"]


def _on_grid(ensemble: Ensemble, grid: Grid, name: Name) -> Iterator[Tensor]:
    """What each snapshot in turn computes at the position asked at, (pair channel)."""
    mlp = f"blocks.{ensemble.cfg.n_layers - 1}.mlp"
    if name == "neurons" and f"{mlp}.W_out" not in ensemble.weights:
        raise UserError("The last block of this model has no MLP, so there are no neurons; take the logits.")
    names = [f"{mlp}.hook_post"] if name == "neurons" else []
    for logits, cache in ensemble.passes(grid.batch.tokens, names):
        asked = grid.batch.asked(cache[names[0]] if names else logits)  # (snapshot pair 1 channel)
        yield from asked[:, :, 0]


def loss_and_neuron_grids(
    ensemble: Ensemble, grid: Grid, n: int, neuron: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """What becomes of each pair of numbers.

    Args:
        neuron: of the last block's MLP, if one is to be looked at.

    Returns:
        The loss of its answer, (snapshot x y) float64 in nats, and the neuron after its activation function at the
        position asked at, (snapshot x y).
    """
    names = [] if neuron is None else [f"blocks.{ensemble.cfg.n_layers - 1}.mlp.hook_post"]
    losses, neurons = [], []
    for logits, cache in ensemble.passes(grid.batch.tokens, names):
        log_probabilities = grid.batch.asked(logits).double().log_softmax(-1)  # (snapshot pair 1 d_vocab_out)
        targets = grid.batch.targets.expand(len(logits), -1, 1)[..., None]
        losses.append(-log_probabilities.gather(-1, targets))
        neurons += [grid.batch.asked(cache[name][..., neuron, None]) for name in names]
    square = "snapshot (x y) 1 1 -> snapshot x y"
    shown = rearrange(torch.cat(neurons), square, x=n) if neurons else None
    return rearrange(torch.cat(losses), square, x=n), shown


def _energy(x: Tensor, n: int) -> Tensor:
    """The squared coefficients of ``x`` (pair channel) less its mean, (component component channel)."""
    energy = transform_2d(x - x.mean(0), n).square()
    energy[0, 0] = 0
    nothing = energy.sum((0, 1)) <= MIN_VARIANCE * x.square().sum(0)  # (channel,)
    return energy.masked_fill(nothing, 0)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 where the whole is 0."""
    return part / whole.where(whole > 0, 1)


def variance_explained(ensemble: Ensemble, grid: Grid, n: int, name: Name = "logits") -> Tensor:
    """The share of the variance over all pairs that each two-dimensional component explains, of all channels together.

    Args:
        name: "logits", or "neurons" for the last block's MLP after its activation function; at the position asked at.

    Returns:
        (snapshot component component) float64, of x and of y. The constant in both is no variance and is 0; the others
        add up to 1, or are all 0 where nothing depends on the pair.

    Raises:
        UserError: there are no neurons.
    """
    energies = torch.stack([_energy(x, n).sum(-1) for x in _on_grid(ensemble, grid, name)]).double()
    return _share(energies, energies.sum((-2, -1), keepdim=True))


def neuron_frequencies(ensemble: Ensemble, grid: Grid, n: int) -> tuple[Tensor, Tensor]:
    """The frequency that each neuron of the last block's MLP answers to, in the last snapshot.

    The terms of frequency k are the products of constant, cos k and sin k of x with the same of y, without the constant
    in both.

    Returns:
        The frequency whose terms explain most of a neuron's variance over the pairs, (neuron,) int64, and the share
        that they explain, (neuron,) float64; both 0 for a neuron that is the same for all pairs.

    Raises:
        UserError: there are no neurons.
    """
    (neurons,) = _on_grid(ensemble.select(slice(-1, None)), grid, "neurons")
    energy = _energy(neurons.double(), n)  # (component component neuron)
    terms = torch.zeros(n // 2, n, dtype=torch.float64)  # (frequency component)
    component = torch.arange(1, n)
    terms[:, 0] = terms[(component - 1) // 2, component] = 1
    explained = einsum(terms, terms, energy, "frequency x, frequency y, x y neuron -> frequency neuron")
    most, best = _share(explained, energy.sum((0, 1))).max(0)
    return torch.where(most > 0, 1 + best, 0), most


def top_terms(energy: Tensor, names: Sequence[str], n: int = 12) -> list[tuple[str, str, float, float]]:
    """The components that explain most.

    Args:
        energy: (component component), shares as from `variance_explained`.
        names: (component,), as from `basis`.

    Returns:
        For each, the component of x, that of y, its share, and the share of all so far; largest first.
    """
    shares, order = energy.flatten().sort(descending=True, stable=True)
    rows = zip(order[:n].tolist(), shares[:n].tolist(), shares.cumsum(0)[:n].tolist(), strict=True)
    return [(names[i // len(names)], names[i % len(names)], share, so_far) for i, share, so_far in rows]


# --- Progress ---


@dataclass(frozen=True)
class ProgressMeasures:
    """Losses of every snapshot on a grid, with all of the logits or with a part of them.

    Each is a mean in nats, (snapshot,) float64.
    """

    key_frequencies: tuple[int, ...]
    all_pairs: Tensor  # on all pairs
    restricted: Tensor  # with the key frequencies' directions and each output's mean alone, on all pairs
    excluded: Tensor  # without these directions, on the pairs that are learnt
    train: Tensor  # on the pairs that are learnt
    test: Tensor  # on the others


def sum_directions(n: int, keys: Sequence[int], sign: int) -> Tensor:
    """cos(w (x + y)) and sin(w (x + y)) of some frequencies over the grid, or of x - y, (direction pair) float64.

    Each has norm 1, and any two are orthogonal. Frequency n / 2 has no sine.

    Raises:
        UserError: ``sign`` is 0.
    """
    if sign == 0:
        raise UserError(
            "The answer is no function of x + y or x - y, so there are no directions for it; take a run that adds or "
            "subtracts."
        )
    names, waves = basis(n)
    x, y = torch.arange(n)[:, None], torch.arange(n)
    chosen = [i for i, name in enumerate(names) for k in keys if name in (f"cos {k}", f"sin {k}")]
    if n % 2 == 0 and n // 2 in keys:
        chosen.append(n - 1)
    # Each value of x + y comes n times.
    return rearrange(waves[chosen][:, (x + sign * y) % n], "direction x y -> direction (x y)") / math.sqrt(n)


def split_logits(logits: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Logits along some directions over the grid, and without them.

    Args:
        logits: (... pair d_vocab_out) float64.
        directions: (direction pair), orthonormal.

    Returns:
        Both as ``logits``. Each output's mean over the grid is in both, so together they are the logits and this mean.
    """
    along = directions.T @ (directions @ logits)
    return along + logits.mean(-2, keepdim=True), logits - along


def progress_measures(
    ensemble: Ensemble, cycle: Cycle, grid: Grid, learnt: Tensor | None, keys: Sequence[int]
) -> ProgressMeasures:
    """How well every snapshot does by its key frequencies alone, and without them.

    Args:
        learnt: (pair,) bool, which pairs are in the training data; None where they are endless, and then all pairs
            count as learnt, and as others. Where none is learnt, ``excluded`` is measured on all pairs.
        keys: the key frequencies, of the final model, for all snapshots.

    Returns:
        Losses; nan for the mean over no pairs.

    Raises:
        UserError: the answer is no function of x + y or x - y.
    """
    along, targets = sum_directions(cycle.n, keys, grid.sign), grid.batch.targets
    every = torch.ones(len(targets), dtype=torch.bool)
    ours, others = (every, every) if learnt is None else (learnt, ~learnt)
    without_keys_on = ours if ours.any() else every

    def losses(logits: Tensor) -> Tensor:  # (pair,)
        return -logits.log_softmax(-1).gather(-1, targets)[:, 0]

    rows = []
    for logits in _on_grid(ensemble, grid, "logits"):
        logits = logits.double()
        restricted, excluded = split_logits(logits, along)
        whole = losses(logits)
        parts = (whole, losses(restricted), losses(excluded)[without_keys_on], whole[ours], whole[others])
        rows.append(torch.stack([part.mean() for part in parts]))
    return ProgressMeasures(tuple(keys), *torch.stack(rows, 1))
