"""Answers, attribution, head scores, losses over the steps, and the path of the weights.

`cfg` is the model in run.json, `w` the weights of one snapshot.
"""

import math

import numpy as np

from tests.plain.model import Array, Replace, forward, gradient, softmax
from tests.plain.tasks import Prompt

MOVE = 1e-6  # of a unit vector of weights: so near, hardly any neuron is switched on or off
PRODUCTS = 14  # of the Hessian with directions; the largest eigenvalue is then known to a thousandth

# --- Answers ---


def greedy(cfg: dict, w: dict, prompt: Prompt, replace: Replace | None = None) -> tuple[list[int], Array]:
    """The answer by greedy decoding, and the probabilities (answer d_vocab_out) it was taken from."""
    tokens, said, probabilities = list(prompt.tokens[: prompt.n_prompt]), [], []
    for position in prompt.positions:
        if position >= len(tokens):
            tokens.append(said[-1])
        logits = forward(cfg, w, np.array([tokens]), replace)["logits"][0, position]
        probabilities.append(softmax(logits))
        said.append(int(logits.argmax()))
    return said, np.array(probabilities)


def teacher_forced(cfg: dict, w: dict, prompt: Prompt) -> Array:
    """The probabilities (answer d_vocab_out) after the prompt and the right answers before each."""
    return softmax(forward(cfg, w, prompt.tokens[None])["logits"][0, prompt.positions])


# --- Attribution ---


def components(cfg: dict) -> list[str]:
    """Heads and MLPs, in the order of computation."""
    names = []
    for layer in range(cfg["n_layers"]):
        names += [f"L{layer}H{head}" for head in range(cfg["n_heads"])]
        names += [] if cfg["attn_only"] else [f"L{layer} MLP"]
    return names


def attribution(
    cfg: dict, w: dict, prompt: Prompt, answer: int, centred: bool, replace: Replace | None = None
) -> tuple[dict[str, float], float]:
    """What each component adds to the right logit (minus the mean logit if centred), and that logit."""
    found, n, gain = forward(cfg, w, prompt.tokens[None], replace), cfg["n_layers"], cfg["residual_gain"]
    at, right = prompt.positions[answer], prompt.targets[answer]

    def logit(vector: Array) -> float:
        logits = vector @ w["unembed.W_U"]
        return logits[right] - (logits.mean() if centred else 0)

    added = {
        "embedding": gain**n * logit(found["hook_embed"][0, at]),
        "positions": gain**n * logit(found["hook_pos_embed"][0, at]),
    }
    for name in components(cfg):
        layer = int(name[1])
        if "H" in name:
            output = found[f"blocks.{layer}.attn.hook_result"][0, at, int(name[3:])]
        else:
            output = found[f"blocks.{layer}.hook_mlp_out"][0, at]
        added[name] = gain ** (n - 1 - layer) * logit(output)
    logits = found["logits"][0, at]
    return added, logits[right] - (logits.mean() if centred else 0)


def logit_lens(cfg: dict, w: dict, prompt: Prompt) -> dict[str, Array]:
    """Stage -> the probability of each right answer, read from the residual stream there."""
    found, n, gain = forward(cfg, w, prompt.tokens[None]), cfg["n_layers"], cfg["residual_gain"]
    streams = {"embedding": gain**n * found["blocks.0.hook_resid_pre"]}
    for layer in range(n):
        if not cfg["attn_only"]:
            streams[f"attention {layer}"] = gain ** (n - 1 - layer) * found[f"blocks.{layer}.hook_resid_mid"]
        streams[f"after block {layer}"] = gain ** (n - 1 - layer) * found[f"blocks.{layer}.hook_resid_post"]
    rows = np.arange(len(prompt.targets))
    return {
        stage: softmax(stream[0, prompt.positions] @ w["unembed.W_U"])[rows, prompt.targets]
        for stage, stream in streams.items()
    }


# --- Attention ---


def by_layer(cfg: dict, found: dict, place: str) -> Array:
    """A hook point of attention in all layers, (batch all-heads query key)."""
    return np.concatenate([found[f"blocks.{layer}.attn.{place}"] for layer in range(cfg["n_layers"])], 1)


def head_scores(pattern: Array, tokens: Array) -> dict[str, Array]:
    """Score -> (head,), of attention (head query key) on one sequence; nan where no token occurs twice."""
    n_pos = len(tokens)
    entropy = -(pattern * np.log(np.where(pattern > 0, pattern, 1))).sum(2).mean(1)
    previous = np.mean([pattern[:, query, query - 1] for query in range(1, n_pos)], 0)
    duplicate, prefix = [], []
    for query in range(n_pos):
        earlier = np.flatnonzero(tokens[:query] == tokens[query])
        if len(earlier):
            duplicate.append(pattern[:, query, earlier].sum(1))
            prefix.append(pattern[:, query, earlier + 1].sum(1))
    none = np.full(len(pattern), np.nan)
    return {
        "previous-token": previous,
        "duplicate-token": np.mean(duplicate, 0) if duplicate else none,
        "prefix-matching": np.mean(prefix, 0) if prefix else none,
        "entropy": entropy,
    }


# --- Samples ---


def mean_and_error(values: Array) -> tuple[Array, Array]:
    """The mean over axis 1 and its standard error, without nan. That of a share is the one of Agresti and Coull, as if
    there were two more successes and two more failures."""
    count = (~np.isnan(values)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):  # where no example has a value, or one
        mean = np.nansum(values, 1) / count
        variance = np.nansum((values - mean[:, None]) ** 2, 1) / (count - 1)
    if values.dtype == bool:
        share = (values.sum(1) + 2) / (count + 4)
        return mean, np.sqrt(share * (1 - share) / (count + 4))
    return mean, np.sqrt(np.where(count > 1, variance, np.nan) / np.maximum(count, 1))


# --- Losses over the steps ---


def smoothed(values: Array, beta: float, start: float | None = None) -> Array:
    """The exponential average over the first axis, from the first value or from ``start``; nan repeats the average."""
    average = np.full(values.shape[1:], np.nan if start is None else start)
    found = []
    for row in values.astype(np.float64):
        new = np.where(np.isnan(average), row, beta * average + (1 - beta) * row)
        average = np.where(np.isnan(row), average, new)
        found.append(average)
    return np.array(found)


def filled(values: Array) -> Array:
    """A straight line through what is missing of each column, and the nearest value at the ends; 0 if all is."""
    found, rows = values.astype(np.float64), np.arange(len(values))
    for column in found.T:
        known = np.isfinite(column)
        column[:] = np.interp(rows, rows[known], column[known]) if known.any() else 0
    return found


def running_median(values: Array, half: int) -> Array:
    """The median over ``half`` rows before and after each row of each column; near an end, over as many on both sides
    as there are."""
    n, found = len(values), values.astype(np.float64)
    half = min(half, (n - 1) // 2)
    if half > 0:
        windows = np.lib.stride_tricks.sliding_window_view(found, 2 * half + 1, 0)
        inner = np.concatenate([np.median(part, -1) for part in np.array_split(windows, 1 + len(windows) // 1000)])
        ends = [(np.median(found[: 2 * row + 1], 0), np.median(found[n - 1 - 2 * row :], 0)) for row in range(half)]
        found = np.array([*(first for first, _ in ends), *inner, *(last for _, last in ends[::-1])])
    return found


def centred_average(values: Array, beta: float) -> Array:
    """The mean of each column with weights beta^k, k rows before and after; near an end, over as many on both sides as
    there are."""
    if not beta:
        return values
    n, most = len(values), math.ceil(math.log(1e-16) / math.log(beta))  # beyond that, a weight is nothing in float64
    weights, found = beta ** np.abs(np.arange(-most, most + 1)), np.empty(values.shape)
    for row in range(n):
        reach = min(row, n - 1 - row, most)
        some = weights[most - reach : most + reach + 1]
        found[row] = some @ values[row - reach : row + reach + 1] / some.sum()
    return found


def smoothed_robustly(values: Array, beta: float) -> Array:
    """A running median over 1 / (1 - beta) rows to both sides, and of that the centred average, of each column; nan
    before the first value."""
    columns = values.reshape(len(values), -1)
    averages = centred_average(running_median(filled(columns), round(1 / (1 - beta)) if beta else 0), beta)
    averages = np.where(np.isfinite(columns).cumsum(0) > 0, averages, np.nan)
    return averages.reshape(values.shape)


def drawn_out(beta: float) -> int:
    """The rows over which the centred average draws out a step from 1 to 0, from a share of 0.9 to one of 0.1: k rows
    from the step, beta^k / (1 + beta) of it are missing."""
    return max(1, round(2 * math.log(0.1 * (1 + beta)) / math.log(beta))) if beta else 1


def beta_of_row(beta: float, steps: Array) -> float:
    """An average's factor per step as that per row, of rows that are measured every few steps."""
    return beta ** ((steps[-1] - steps[0]) / (len(steps) - 1)) if len(steps) > 1 else beta


# --- Weights ---


def norms(w: dict) -> dict[str, float]:
    """The norm of each parameter, and of all together."""
    found = {name: math.sqrt((weight**2).sum()) for name, weight in w.items()}
    return {"total": math.sqrt(sum(norm**2 for norm in found.values())), **found}


def principal_path(weights: list[dict], n: int) -> tuple[Array, Array]:
    """Coordinates (snapshot component) of all weights in their principal components, and each one's share of variance.

    No coordinate of the last snapshot is negative.
    """
    points = np.array([np.concatenate([weight.ravel() for weight in w.values()]) for w in weights])
    u, s, _ = np.linalg.svd(points - points.mean(0), full_matrices=False)
    path = (u * s)[:, :n]
    return path * np.where(path[-1] < 0, -1, 1), (s**2 / (s**2).sum())[:n]


# --- Phase changes ---


def spacing(steps: Array) -> float:
    """Steps from one row to the next."""
    return float(steps[-1] - steps[0]) / (len(steps) - 1) if len(steps) > 1 else 1.0


def without_noise(values: Array, steps: Array) -> Array:
    """The losses (row token) in which changes are measured: a running median over 60 steps to both sides, or over a
    twentieth of the rows if that is less, and a short average over it."""
    half = max(1, min(round(60 / spacing(steps)), int(len(values) * 0.05)))
    return centred_average(running_median(filled(values), half), 0.7)


# --- Sharpness ---


def sharpness(cfg: dict, w: dict, tokens: Array, positions: Array, targets: Array) -> float:
    """The largest eigenvalue of the Hessian of the mean loss, by Rayleigh and Ritz: the largest one in the space of a
    random direction and its products with the Hessian, which are differences of gradients."""
    names = list(w)
    sizes = np.cumsum([w[name].size for name in names])

    def along(direction: Array) -> Array:
        parts = dict(zip(names, np.split(direction, sizes[:-1]), strict=True))
        ends = []
        for sign in (1, -1):
            moved = {name: w[name] + sign * MOVE * parts[name].reshape(w[name].shape) for name in names}
            ends.append(gradient(cfg, moved, tokens, positions, targets))
        return np.concatenate([(ends[0][name] - ends[1][name]).ravel() for name in names]) / (2 * MOVE)

    direction = np.random.default_rng(0).normal(size=sizes[-1])
    basis, products = [direction / np.linalg.norm(direction)], []
    for _ in range(PRODUCTS):
        products.append(along(basis[-1]))
        rest = products[-1]
        for _ in range(2):  # once leaves what rounding leaves
            rest = rest - np.array(basis).T @ (np.array(basis) @ rest)
        basis.append(rest / np.linalg.norm(rest))
    return float(np.linalg.eigvalsh(np.array(basis[:-1]) @ np.array(products).T)[-1])
