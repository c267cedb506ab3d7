"""The Fourier basis over the numbers modulo n, and what it shows of weights, neurons and logits.

Axes: component (constant, cos 1, sin 1, cos 2..., and last, for even n, alternating), number, frequency (1 to n // 2).
"""

import math

import numpy as np

from tests.plain.model import Array, cross_entropy


def basis(n: int) -> tuple[list[str], Array]:
    """The names of the components, and their values (component number), of norm 1."""
    waves = {"constant": [1.0] * n}
    for k in range(1, n // 2 + 1):
        if 2 * k == n:
            waves["alternating"] = [(-1.0) ** x for x in range(n)]
        else:
            waves[f"cos {k}"] = [math.cos(2 * math.pi * k * x / n) for x in range(n)]
            waves[f"sin {k}"] = [math.sin(2 * math.pi * k * x / n) for x in range(n)]
    values = np.array(list(waves.values()))
    return list(waves), values / np.sqrt((values**2).sum(1, keepdims=True))


def frequency_of(name: str) -> int:
    """Of a component that is neither constant nor alternating."""
    return int(name.split()[1])


def members(n: int) -> dict[int, list[int]]:
    """Frequency -> places of its components."""
    found: dict[int, list[int]] = {}
    for place, name in enumerate(basis(n)[0]):
        if name != "constant":
            found.setdefault(n // 2 if name == "alternating" else frequency_of(name), []).append(place)
    return found


def norms(cfg: dict, w: dict, n: int) -> dict[str, Array]:
    """Matrix -> norm at each frequency: embeddings, unembeddings, and the logits that neurons add."""
    _, waves = basis(n)
    W_E, W_U = w["embed.W_E"][:n], w["unembed.W_U"][:, :n]
    coefficients = {"W_E": waves @ W_E, "W_U": waves @ W_U.T}  # (component d_model)
    if not cfg["attn_only"]:
        coefficients["W_out W_U"] = waves @ (w[f"blocks.{cfg['n_layers'] - 1}.mlp.W_out"] @ W_U).T
    return {
        name: np.array([math.sqrt((values[places] ** 2).sum()) for places in members(n).values()])
        for name, values in coefficients.items()
    }


def gini(x: Array) -> float:
    """The mean difference of two of the values, over twice their mean: 0 if all are equal."""
    return np.abs(x[:, None] - x).sum() / (2 * len(x) ** 2 * x.mean())


def participation(x: Array) -> float:
    """The inverse participation ratio."""
    return (x**4).sum() / (x**2).sum() ** 2


def keys(of_frequency: Array) -> list[int]:
    """The frequencies with a norm above a quarter of the largest."""
    return [k for k, norm in enumerate(of_frequency, 1) if norm > of_frequency.max() / 4]


def plane(last: dict, w: dict, n: int, k: int) -> Array:
    """Embeddings (number 2) along the final cosine of W_E, and along the rest of its sine, orthogonal to that."""
    names, waves = basis(n)
    cosine, sine = (waves[names.index(f"{wave} {k}")] @ last["embed.W_E"][:n] for wave in ("cos", "sin"))
    across = cosine / np.linalg.norm(cosine)
    rest = sine - (sine @ across) * across
    return w["embed.W_E"][:n] @ np.array([across, rest / np.linalg.norm(rest)]).T


def energies(values: Array, n: int) -> Array:
    """Squared 2-D components (component component channel) of values (pair channel), without their means."""
    _, waves = basis(n)
    centred = (values - values.mean(0)).reshape(n, n, -1)
    of_x = np.tensordot(waves, centred, (1, 0))  # (component y channel)
    return np.einsum("fyc,gy->fgc", of_x, waves, optimize=True) ** 2


def neuron_frequencies(neurons: Array, n: int) -> Array:
    """The share of each neuron's variance at each frequency (frequency neuron); 0 for one that does not vary.

    To a frequency belong the products of 1, its cosine and its sine of x with the same of y, but for 1 times 1.
    """
    energy = energies(neurons, n)
    total = energy.sum((0, 1))
    varies = total > 1e-12 * (neurons**2).sum(0)
    found = []
    for places in members(n).values():
        block = energy[np.ix_([0, *places], [0, *places])].sum((0, 1)) - energy[0, 0]
        found.append(np.where(varies, block / np.where(varies, total, 1), 0))
    return np.array(found)


def progress(logits: Array, targets: Array, trained_on: Array, n: int, of_keys: list[int]) -> dict[str, float]:
    """Restricted, excluded, training, test and complete loss, from the logits of all pairs (pair d_vocab_out)."""
    x, y = np.divmod(np.arange(n * n), n)
    kept = np.zeros_like(logits)
    for k in of_keys:
        angle = 2 * math.pi * k * (x + y) / n
        for wave in (np.cos(angle), np.sin(angle)):
            if (wave**2).sum() > 1e-9:  # the sine of n / 2 is zero
                direction = wave / np.linalg.norm(wave)
                kept += np.outer(direction, direction @ logits)
    of_all = cross_entropy(logits, targets)
    train = trained_on if trained_on.any() else np.ones_like(trained_on)
    return {
        "all pairs": of_all.mean(),
        "train": of_all[train].mean(),
        "test": of_all[~trained_on].mean() if not trained_on.all() else np.nan,
        "restricted": cross_entropy(kept + logits.mean(0), targets).mean(),
        "excluded": cross_entropy(logits - kept, targets)[train].mean(),
    }
