"""Panels that several views share."""

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from explorer.analysis.answers import Answers
from explorer.analysis.phases import smooth
from explorer.film.film import Bars, Curves, Heatmaps, Line, Tokens
from explorer.tasks.base import Example
from explorer.views.subject import Subject

MAX_POINTS = 40_000  # of all curves of a panel; longer ones are thinned evenly
MOST_PER_CURVE = 4000
FEW_CATEGORIES = 12  # shown in full; of more, each answer shows those that it ever thought likely
LIKELY = 9


def losses(subject: Subject, detail: bool = True, span: int = 12, height: int = 320) -> Curves:
    """The losses as a timeline: overall, and for each token that of unseen data where it was measured.

    Args:
        detail: for finite data, the per-token losses on the training data as well; the customary average, if any.
    """
    task, metrics = subject.task, subject.metrics
    finite = "test_loss" in metrics
    train_steps = torch.arange(len(metrics["train_loss"]))
    alone = len(task.loss_names) == 1  # nothing to tell apart but train and test
    among = 3 + len(task.loss_names) * (1 + finite)
    overall, loss = "" if alone else "all, ", metrics["train_loss"]
    lines = [line(f"{overall}train" if finite else "all", train_steps, loss, 0, finite, not alone, among=among)]
    if finite:
        tested = metrics["test_step"], metrics["test_loss"]
        lines.append(line(f"{overall}test", *tested, 1, strong=not alone, among=among))
    if detail and task.smoothing:
        beta, start = task.smoothing
        averaged = smooth(metrics["train_loss"], beta, start)
        lines.append(line(f"all, average {beta:g}", train_steps, averaged, 2, dashed=True, among=among))
    for i, (name, group) in enumerate(zip(task.loss_names, task.loss_groups, strict=True)):
        if alone:
            break
        colour = list(dict.fromkeys(task.loss_groups)).index(group)
        if finite:
            tested = metrics["test_step"], metrics["test_loss_per_token"][:, i]
            lines.append(line(name, *tested, colour, group=group, among=among))
        if not finite or detail:
            end = ", train" if finite else ""
            trained = train_steps, metrics["train_loss_per_token"][:, i]
            lines.append(line(f"{name}{end}", *trained, colour, finite, group=f"{group}{end}", among=among))
    references = [
        (reference.label, max(loss for loss in reference.losses if not math.isnan(loss)))
        for reference in task.references
    ]
    references = [(label, value) for label, value in references if value > 0]
    title = "Loss" if alone else f"Loss by {task.token_noun}"
    return Curves(title, lines, references=references, span=span, height=height)


def measures(subject: Subject, span: int = 12, height: int = 200) -> list[Curves]:
    """What the task recorded beside its losses, a timeline each."""
    panels, metrics = [], subject.metrics
    steps = torch.arange(len(metrics["train_loss"]))
    for name, measure in subject.task.measures.items():
        rows = [(name, steps, "train" if "test_loss" in metrics else "")]
        rows += [(f"test_{name}", metrics.get("test_step"), "test")]
        lines = []
        for key, at, kind in rows:
            for i, label in enumerate(measure.lines if key in metrics else ()):
                shown = f"{label}, {kind}" if kind else label
                colour = i if len(measure.lines) > 1 else len(lines)
                among = 2 * len(measure.lines)
                lines.append(line(shown, at, metrics[key][:, i], colour, kind == "train", among=among))
        if lines:
            panels.append(Curves(measure.title, lines, measure.unit, span=span, height=height))
    return panels


def line(
    label: str,
    steps: Tensor,
    values: Tensor,
    colour: int,
    dashed: bool = False,
    strong: bool = False,
    group: str = "",
    among: int = 1,
) -> Line:
    """A curve, thinned to its share of the points if it is one ``among`` many."""
    every = math.ceil(len(values) / min(MOST_PER_CURVE, MAX_POINTS // among)) or 1
    return Line(label, steps[::every].numpy(), values[::every].numpy(), colour, dashed, strong, group)


def answer_strip(subject: Subject, example: Example, answers: Answers, title: str, span: int = 12) -> Tokens:
    """The prompt, and after it what each snapshot answers."""
    task = subject.task
    after = itertools.count(example.n_prompt)
    places = [place + 1 if place + 1 < example.n_prompt else next(after) for place in example.positions.tolist()]
    return Tokens(
        title,
        prompt=[task.tokens[token] for token in example.tokens[: example.n_prompt].tolist()],
        answers=answers.tokens.numpy(),
        probabilities=answers.probabilities.max(-1).values.numpy(),
        targets=example.targets.tolist(),
        places=places,
        vocabulary=task.answer_tokens,
        span=span,
    )


def answer_bars(subject: Subject, example: Example, answers: Answers, title: str, span: int = 12) -> Bars:
    """Every answer's probabilities; of a large vocabulary those tokens that were ever likely, of many answers some."""
    tokens, targets, probabilities = subject.task.answer_tokens, example.targets, answers.probabilities
    if len(tokens) <= FEW_CATEGORIES:
        return Bars(title, probabilities.numpy(), example.places, tokens, targets.tolist(), span=span)
    room = span // 2
    chosen = torch.arange(len(targets))
    if len(chosen) > room:
        chosen = torch.linspace(0, len(targets) - 1, room).round().long()
        title = f"{title}, {room} of {len(targets)} places"
    values, categories, right = [], [], []
    for answer in chosen.tolist():
        likely = probabilities[:, answer].amax(0)  # (d_vocab_out,)
        likely[targets[answer]] = 2  # whatever it ever got, it is shown first
        shown = likely.topk(LIKELY).indices
        some = probabilities[:, answer, shown]  # (snapshot category)
        values.append(torch.cat([some, 1 - some.sum(1, keepdim=True)], 1).clamp(0, 1))
        categories.append([*(tokens[token] for token in shown.tolist()), "other"])
        right.append(0)
    places = [example.places[answer] for answer in chosen.tolist()]
    said = [[tokens[token] for token in row] for row in answers.tokens[:, chosen].tolist()]
    return Bars(title, torch.stack(values, 1).numpy(), places, categories, right, said, span)


def given(example: Example) -> str:
    """What a title adds where a model reads right answers on its way to the next."""
    return ", with the right answer written" if len(example.tokens) > example.n_prompt else ""


def brief(text: str, most: int = 24) -> str:
    """An example's text, short enough for a title."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def head_names(n_layers: int, n_heads: int) -> list[str]:
    """L0H0, L0H1, ..."""
    return [f"L{layer}H{head}" for layer in range(n_layers) for head in range(n_heads)]


def token_labels(subject: Subject, example: Example) -> list[str]:
    return [subject.task.tokens[token] for token in example.tokens.tolist()]


def pattern_maps(subject: Subject, patterns: Tensor, labels: list[str], title: str) -> Heatmaps:
    """Attention patterns (snapshot map query key), one map a head; what lies in the future is left out."""
    future = np.triu(np.ones(patterns.shape[-2:], dtype=bool), 1)
    values = np.where(future, np.nan, patterns.numpy())
    cfg = subject.info.model
    return Heatmaps(
        title, head_names(cfg.n_layers, cfg.n_heads), values, labels, labels, "query", "key", low=0.0, high=1.0
    )


def mean_patterns(subject: Subject, tokens: Tensor) -> Tensor:
    """The attention patterns on ``tokens`` (batch pos), averaged over the batch.

    Returns:
        (snapshot map query key): all heads of layer 0, then of layer 1...
    """
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(subject.info.model.n_layers)]
    _, cache = subject.ensemble.run(tokens, names)
    return torch.cat([cache[name].mean(1) for name in names], 1)
