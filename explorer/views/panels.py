"""Panels that several views share."""

import math

import numpy as np
import torch
from torch import Tensor

from explorer.analysis.answers import Answers
from explorer.film.film import Bars, Curves, Heatmaps, Line, Tokens
from explorer.tasks.base import Example
from explorer.views.subject import Subject

MAX_POINTS = 4000  # of one curve; longer ones are thinned evenly


def losses(subject: Subject, detail: bool = True, span: int = 12, height: int = 320) -> Curves:
    """The losses as a timeline: overall, and for each token that of unseen data where it was measured.

    Args:
        detail: for finite data, the per-token losses on the training data as well.
    """
    metrics, names = subject.metrics, subject.task.loss_names
    finite = "test_loss" in metrics
    train_steps = torch.arange(len(metrics["train_loss"]))
    lines = [
        _line("all, train" if finite else "all", train_steps, metrics["train_loss"], 0, dashed=finite, strong=True)
    ]
    if finite:
        lines.append(_line("all, test", metrics["test_step"], metrics["test_loss"], 0, strong=True))
    for i, name in enumerate(names):
        if finite:
            lines.append(_line(name, metrics["test_step"], metrics["test_loss_per_token"][:, i], i))
        if not finite or detail:
            label = f"{name}, train" if finite else name
            lines.append(_line(label, train_steps, metrics["train_loss_per_token"][:, i], i, dashed=finite))
    references = [
        (reference.label, max(loss for loss in reference.losses if not math.isnan(loss)))
        for reference in subject.task.references
    ]
    references = [(label, value) for label, value in references if value > 0]
    return Curves(f"Loss by {subject.task.token_noun}", lines, references=references, span=span, height=height)


def _line(label: str, steps: Tensor, values: Tensor, colour: int, dashed: bool = False, strong: bool = False) -> Line:
    every = math.ceil(len(values) / MAX_POINTS) or 1
    return Line(label, steps[::every].numpy(), values[::every].numpy(), colour, dashed, strong)


def answer_strip(subject: Subject, example: Example, answers: Answers, title: str, span: int = 12) -> Tokens:
    """The prompt, and after it what each snapshot answers."""
    task = subject.task
    return Tokens(
        title,
        prompt=[task.tokens[token] for token in example.tokens[: example.n_prompt].tolist()],
        answers=answers.tokens.numpy(),
        probabilities=answers.probabilities.max(-1).values.numpy(),
        targets=example.targets.tolist(),
        vocabulary=task.answer_tokens,
        span=span,
    )


def answer_bars(subject: Subject, example: Example, answers: Answers, title: str, span: int = 12) -> Bars:
    """Every answer's probabilities."""
    task = subject.task
    groups = task.loss_names if len(task.loss_names) == len(example.targets) else [""] * len(example.targets)
    return Bars(title, answers.probabilities.numpy(), groups, task.answer_tokens, example.targets.tolist(), span)


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
