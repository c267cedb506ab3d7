"""Ablation, activation patching and path patching."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from explorer.film.panels.graph import Graph
from explorer.views.cut import REFERENCE
from explorer.views.sampling import MOST
from tests.plain import measures, tasks
from tests.plain.model import Array, cross_entropy, forward, path_patched
from tests.plain.run import PlainRun
from tests.plain.tasks import Prompt
from tests.printed.expected import Edges, Expected, Lines, Maps
from tests.printed.losses_and_answers import head_names, labels, no_future, strip
from tests.printed.page import Page, Sample, recomputes
from tests.printed.samples import sampled

PATCHED = {"residual": "hook_resid_pre", "attention": "hook_attn_out", "mlp": "hook_mlp_out"}
MAX_POSITIONS = 32
N_PARTS = 8  # of the examples over which means are taken

# --- Patching ---


def pair(page: Page) -> tuple[Prompt, Prompt, int]:
    """The first and the second example, cut off after the chosen answer, and that answer."""
    answer = page.options.answer
    both = [tasks.prompt(page.run.task, text) for text in (page.example, page.options.second)]
    clean, corrupted = (replace(one, tokens=one.tokens[: one.positions[answer] + 1]) for one in both)
    return clean, corrupted, answer


def differences(page: Page, w: dict, patch: dict | None = None) -> tuple[float, float, float]:
    """The logit difference of the first example, of the second, and of the second with something patched."""
    clean, corrupted, answer = pair(page)
    at, right, other = clean.positions[answer], clean.targets[answer], corrupted.targets[answer]

    def difference(tokens: Array, patched: dict | None = None) -> float:
        logits = forward(page.cfg, w, tokens[None], patched)["logits"][0, at]
        return logits[right] - logits[other]

    return difference(clean.tokens), difference(corrupted.tokens), difference(corrupted.tokens, patch)


def restored(page: Page, w: dict, hook: str, place: tuple) -> float:
    """The share of the difference that one activation of the first example restores; ``place`` is within (pos ...)."""
    taken = forward(page.cfg, w, pair(page)[0].tokens[None])[hook]

    def put(x: Array) -> Array:
        x = x.copy()
        x[(0, *place)] = taken[(0, *place)]
        return x

    clean, corrupted, patched = differences(page, w, {hook: put})
    return (patched - corrupted) / (clean - corrupted)


def shown_frames(page: Page) -> list[bool]:
    """Whether the difference is at least a tenth of the largest of all snapshots, so that shares of it mean much."""
    every = np.array([abs(clean - corrupted) for clean, corrupted, _ in page.every(lambda w: differences(page, w))])
    return list((every >= every.max() / 10)[page.frames])


@recomputes("cut", "logit-difference")
def logit_difference(page: Page, id: str) -> Expected:
    found = page.each(lambda w: differences(page, w))
    clean, corrupted, answer = pair(page)
    names = tasks.answer_tokens(page.run.task)
    title = f"{names[clean.targets[answer]]} rather than {names[corrupted.targets[answer]]}, {clean.places[answer]}"
    curves = {
        "clean, first example": [one[0] for one in found],
        "corrupted, second example": [one[1] for one in found],
    }
    return Lines(page.run.steps, curves, title=title)


def where_shown(page: Page, measure: Callable[[dict], list]) -> Array:
    values = np.array(page.each(measure), dtype=np.float64)
    values[~np.array(shown_frames(page))] = np.nan
    return values


@recomputes("cut", "patched-heads")
def patched_heads(page: Page, id: str) -> Expected:
    names = head_names(page.cfg)

    def each(w: dict) -> list[float]:
        return [
            restored(page, w, f"blocks.{name[1]}.attn.hook_z", (slice(None), int(name.split("H")[1]))) for name in names
        ]

    # A share of a difference of two logits: twice the rounding, over a difference that may be small.
    return Lines(page.run.steps, dict(zip(names, where_shown(page, each).T, strict=True)), rtol=2e-4)


@recomputes("cut", "patched-positions")
def patched_positions(page: Page, id: str) -> Expected:
    clean, corrupted, _ = pair(page)
    differ = list(np.flatnonzero(clean.tokens != corrupted.tokens))
    after = [position for position in range(differ[0], len(clean.tokens)) if position not in differ]
    room = max(0, MAX_POSITIONS - len(differ))
    positions = sorted([*differ, *after[max(0, len(after) - room) :]])
    hooks = [f"blocks.{layer}.{PATCHED[page.options.exchange]}" for layer in range(page.cfg["n_layers"])]

    def each(w: dict) -> list[list[list[float]]]:
        return [[[restored(page, w, hook, (position,)) for position in positions] for hook in hooks]]

    names = labels(page.run, corrupted)
    columns = [f"{names[position]} ({position})" for position in positions]
    rows = [f"layer {layer}" for layer in range(page.cfg["n_layers"])]
    return Maps([""], where_shown(page, each), rows, columns, rtol=2e-4)


# --- Path patching ---

Edge = tuple[str, str]  # the names of sender and receiver


def path_shares(page: Page, w: dict, patched: Sequence[Callable[[Edge], bool]]) -> list[float]:
    """The share of the logit difference that is left with some edges patched, for each of several choices of edges."""
    clean, corrupted, answer = pair(page)

    def difference(is_patched: Callable[[Edge], bool]) -> float:
        logits = path_patched(page.cfg, w, clean.tokens, corrupted.tokens, lambda *edge: is_patched(edge))
        return logits[clean.targets[answer]] - logits[corrupted.targets[answer]]

    of_clean, of_corrupted = difference(lambda edge: False), difference(lambda edge: True)
    return [(difference(one) - of_corrupted) / (of_clean - of_corrupted) for one in patched]


def path_edges(page: Page) -> list[Edge]:
    """All edges, by receivers: heads read what earlier layers write, an MLP also what the heads of its layer write."""
    found, senders = [], ["tokens"]
    for layer in range(page.cfg["n_layers"]):
        heads = [f"L{layer}H{head}" for head in range(page.cfg["n_heads"])]
        found += [(sender, head) for head in heads for sender in senders]
        senders += heads
        if not page.cfg["attn_only"]:
            found += [(sender, f"L{layer} MLP") for sender in senders]
            senders.append(f"L{layer} MLP")
    return [*found, *((sender, "answer") for sender in senders)]


def circuits(page: Page) -> list[set[Edge]]:
    """The edges that the film keeps at the three frames: a choice, whose consequences are recomputed."""
    graph = next(panel for panel in page.film.panels if isinstance(panel, Graph))
    return [{edge for edge, one in zip(path_edges(page), graph.kept[i], strict=True) if one} for i in page.frames]


def kept_alone(page: Page, w: dict, circuit: set[Edge]) -> float:
    return path_shares(page, w, [lambda edge: edge not in circuit])[0]


@recomputes("cut", "paths")
def paths(page: Page, id: str) -> Expected:
    edges = path_edges(page)

    def effects(w: dict) -> list[float]:
        return [1 - left for left in path_shares(page, w, [partial(operator.eq, edge) for edge in edges])]

    def is_circuit(place: int, kept: Array) -> bool:
        """Whether the kept edges alone give 0.9 to 1.1 of the difference, and would not without any single one."""
        w, circuit = page.run.weights(page.steps[place]), {edge for edge, one in zip(edges, kept, strict=True) if one}
        fewer = [abs(kept_alone(page, w, circuit - {edge}) - 1) for edge in circuit]
        return abs(kept_alone(page, w, circuit) - 1) < 0.1001 and min(fewer) > 0.0999

    title = "enough for 90% of the logit difference"
    return Edges(edges, where_shown(page, effects), is_circuit, rtol=2e-4, title=title)


@recomputes("cut", "faithfulness")
def faithfulness(page: Page, id: str) -> Expected:
    found = [
        kept_alone(page, page.run.weights(step), kept) if is_shown else np.nan
        for step, kept, is_shown in zip(page.steps, circuits(page), shown_frames(page), strict=True)
    ]
    return Lines(page.run.steps, {"of the logit difference": found}, rtol=2e-4)


@recomputes("cut", "circuit-size")
def circuit_size(page: Page, id: str) -> Expected:
    each = zip(circuits(page), shown_frames(page), strict=True)
    return Lines(page.run.steps, {"edges": [len(kept) if is_shown else np.nan for kept, is_shown in each]})


# --- Ablation ---


Hooks = dict[str, Callable[[Array], Array]]


def samples(page: Page, n: int) -> tuple[list[Sample], Sample]:
    """The equal parts of the examples over which means are taken, and ``n`` others on which effects are measured."""
    everything = page.unseen(len(page.subject.unseen(REFERENCE + MOST).tokens), of=REFERENCE + MOST)
    of_means = min(REFERENCE, len(everything[0]) // 2) // N_PARTS * N_PARTS
    size = of_means // N_PARTS
    parts = [tuple(one[i * size : (i + 1) * size] for one in everything) for i in range(N_PARTS)]
    return parts, tuple(one[of_means : of_means + n] for one in everything)  # type: ignore[return-value]


def means(page: Page, step: int, n: int, part: int | None = None) -> dict[str, Array]:
    """Hook point -> mean output (pos ...) over one part or all of them; empty if zero replaces outputs."""
    if page.options.mode == "zero":
        return {}
    parts, _ = samples(page, n)
    if part is not None:
        return _means(page.run, step, part, parts[part][0].tobytes(), parts[part][0].shape)
    each = [means(page, step, n, i) for i in range(N_PARTS)]
    return {hook: np.mean([one[hook] for one in each], 0) for hook in each[0]}


@lru_cache(maxsize=64)
def _means(run: PlainRun, step: int, part: int, tokens: bytes, shape: tuple[int, int]) -> dict[str, Array]:
    found = forward(run.model, run.weights(step), np.frombuffer(tokens, np.int64).reshape(shape))
    return {hook: x.mean(0) for hook, x in found.items() if hook.endswith(("hook_z", "hook_mlp_out", "hook_post"))}


def ablation(names: Sequence[str], mean: dict[str, Array]) -> Hooks:
    """What replaces the outputs of components: their mean at each position, or zero."""
    by_hook: dict[str, list[tuple]] = {}
    for name in names:
        layer, kind, index = re.fullmatch(r"L(\d+)(H|N| MLP)(\d*)", name).groups()  # type: ignore[union-attr]
        place = {"H": "attn.hook_z", "N": "mlp.hook_post", " MLP": "hook_mlp_out"}[kind]
        unit = (slice(None), slice(None), int(index)) if index else (slice(None),)
        by_hook.setdefault(f"blocks.{layer}.{place}", []).append(unit)

    def put(x: Array, hook: str) -> Array:
        x = x.copy()
        for unit in by_hook[hook]:
            x[unit] = np.broadcast_to(mean[hook][: x.shape[1]], x.shape)[unit] if mean else 0
        return x

    return {hook: partial(put, hook=hook) for hook in by_hook}


def losses(page: Page, step: int, sample: Sample, hooks: Hooks | None = None) -> Array:
    """(batch answer) nats."""
    if hooks:
        logits = forward(page.cfg, page.run.weights(step), sample[0], hooks)["logits"]
    else:
        logits = page.activations(sample, at=step)[0]["logits"]
    return cross_entropy(logits[np.arange(len(logits))[:, None], sample[1]], sample[2])


def effects(page: Page, id: str, measure: Callable[[int, Sample, dict[str, Array]], Array]) -> tuple[Array, Array]:
    """Values (frame example curve) with the mean outputs, and their standard errors (frame curve) because these means
    are of a sample: that of the mean of the parts, measured on the first eight examples; for what
    occurs in none of them, the largest of the others.

    Args:
        page: of which the options say what is ablated.
        id: of the panel whose title says the number of examples.
        measure: a step, a sample and the mean outputs -> (example curve).
    """
    n = page.n_examples(id)
    _, sample = samples(page, n)
    values = np.array([measure(step, sample, means(page, step, n)) for step in page.steps])
    if page.options.mode == "zero":
        return values, np.zeros((len(values), values.shape[2]))
    probe = tuple(one[:8] for one in sample)
    errors = []
    for step in page.steps:
        by_part = [np.array(measure(step, probe, means(page, step, n, part))) for part in range(N_PARTS)]
        of_parts = np.array([measures.mean_and_error(one[None])[0][0] for one in by_part])
        error = of_parts.std(0, ddof=1) / np.sqrt(N_PARTS)
        errors.append(np.where(np.isnan(error), np.max(np.nan_to_num(error)), error))
    return values, np.array(errors)


def label(page: Page) -> str:
    return f"{', '.join(page.options.off)} ablated ({page.options.mode})"


@recomputes("cut", "ablated-answers")
def ablated_answers(page: Page, id: str) -> Expected:
    found = []
    for step in page.steps:
        hooks = ablation(page.options.off, means(page, step, 1))
        found.append(measures.greedy(page.cfg, page.run.weights(step), page.prompt, hooks))
    return strip(page.run, page.prompt, found)


@recomputes("cut", "patterns")
def ablated_patterns(page: Page, id: str) -> Expected:
    values = []
    for step in page.steps:
        hooks = ablation(page.options.off, means(page, step, 1))
        found = forward(page.cfg, page.run.weights(step), page.prompt.tokens[None], hooks)
        values.append(no_future(measures.by_layer(page.cfg, found, "hook_pattern")[0]))
    names = [f"{name}, ablated" if name in page.options.off else name for name in head_names(page.cfg)]
    tokens = labels(page.run, page.prompt)
    return Maps(names, np.array(values), tokens, tokens)


@recomputes("cut", "ablated-loss")
def ablated_loss(page: Page, id: str) -> Expected:
    def measure(step: int, sample: Sample, mean: dict[str, Array]) -> Array:
        hooks = ablation(page.options.off, mean)
        return np.column_stack([losses(page, step, sample).mean(1), losses(page, step, sample, hooks).mean(1)])

    values, errors = effects(page, id, measure)
    return sampled(page, ["unchanged model", label(page)], values, page.n_examples(id), errors)


@recomputes("cut", "loss-increase")
def loss_increase(page: Page, id: str) -> Expected:
    groups = tasks.groups(page.run.task)

    def measure(step: int, sample: Sample, mean: dict[str, Array]) -> Array:
        change = losses(page, step, sample, ablation(page.options.off, mean)) - losses(page, step, sample)
        of_tokens = tasks.by_token(page.run.task, change, sample[2])  # (example token)
        return np.column_stack([of_tokens[:, members].mean(1) for members in groups.values()])

    values, errors = effects(page, id, measure)
    return sampled(page, list(groups), values, page.n_examples(id), errors)


@recomputes("cut", "ablated-each")
def ablated_each(page: Page, id: str) -> Expected:
    names = measures.components(page.cfg)

    def measure(step: int, sample: Sample, mean: dict[str, Array]) -> Array:
        before = losses(page, step, sample).mean(1)
        return np.column_stack([losses(page, step, sample, ablation([name], mean)).mean(1) - before for name in names])

    values, errors = effects(page, id, measure)
    return sampled(page, names, values, page.n_examples(id), errors)
