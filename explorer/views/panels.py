"""Panels that several views share."""

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from explorer.analysis.answers import Answers
from explorer.analysis.phases import smooth, smooth_both_ways
from explorer.film.panels.bars import Bars
from explorer.film.panels.curves import Curves, Line, Mark
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.tokens import Tokens
from explorer.model.ensemble import Hooks
from explorer.model.transformer import ModelConfig
from explorer.tasks.data import Batch, Example
from explorer.views.subject import SMOOTHING, Subject, beta_per_row

FEW_CATEGORIES = 12  # shown in full; of more, each answer shows those that it ever thought likely
LIKELY = 9


def losses(
    subject: Subject,
    detail: bool = True,
    span: int = 12,
    height: int = 320,
    smoothing: float = SMOOTHING,
    at: np.ndarray | None = None,
    title: str = "",
    id: str = "losses",
) -> Curves:
    """The losses as a timeline: overall, and for each token that of unseen data where it was measured. Flags stand
    where a phase change has its onset.

    Args:
        detail: for finite data, the per-token losses on the training data as well; the customary average, if any.
        smoothing: of the exponential average, a step.
        at: see `Curves`.
        title: if not the usual one.
        id: of the panel; losses share their switches on all pages.
    """
    task, metrics = subject.task, subject.metrics
    finite = "test_loss" in metrics
    train_steps = torch.arange(len(metrics["train_loss"]))
    alone = len(task.loss_names) == 1  # nothing to tell apart but train and test
    overall, loss = "" if alone else "all, ", metrics["train_loss"]
    line = functools.partial(curve, smoothing=smoothing)
    lines = [line(f"{overall}train" if finite else "all", train_steps, loss, 0, finite, not alone)]
    if finite:
        tested = metrics["test_step"], metrics["test_loss"]
        lines.append(line(f"{overall}test", *tested, 1, strong=not alone))
    if detail and task.smoothing:
        beta, start = task.smoothing
        averaged = smooth(metrics["train_loss"], beta, start)
        lines.append(line(f"all, average {beta:g}", train_steps, averaged, 2, dashed=True))
    for i, (name, group) in enumerate(zip(task.loss_names, task.loss_groups, strict=True)):
        if alone:
            break
        colour = list(subject.groups).index(group)
        if finite:
            tested = metrics["test_step"], metrics["test_loss_per_token"][:, i]
            lines.append(line(name, *tested, colour, group=group))
        if not finite or detail:
            end = ", train" if finite else ""
            trained = train_steps, metrics["train_loss_per_token"][:, i]
            lines.append(line(f"{name}{end}", *trained, colour, finite, group=f"{group}{end}"))
    references = [
        (reference.label, max(loss for loss in reference.losses if not math.isnan(loss)))
        for reference in task.references
    ]
    return Curves(
        id,
        title or ("Loss" if alone else f"Loss by {task.token_noun}"),
        lines,
        references=[(label, value) for label, value in references if value > 0],
        marks=_onsets(subject, smoothing),
        smoothing=smoothing,
        at=at,
        span=span,
        height=height,
    )


def _onsets(subject: Subject, smoothing: float) -> list[Mark]:
    """A flag for each group of losses, on unseen data where there are any."""
    marks = []
    measured = subject.losses()[0]
    for colour, (group, members) in enumerate(subject.groups.items()):
        (fall,) = measured.of(members, group).falls(smoothing)
        if fall.onset is not None:
            alone = len(measured.names) == 1  # its line is called by what it was measured on
            shown, shade = (measured.kind or "all", int(measured.kind == "test")) if alone else (group, colour)
            marks.append(Mark(f"{group}: onset", int(measured.steps[fall.onset]), shade, shown))
    return marks


def timeline(subject: Subject, height: int = 200) -> Curves:
    """The losses above other panels, to drag on."""
    return losses(subject, detail=False, height=height)


def over_snapshots(
    subject: Subject,
    id: str,
    title: str,
    values: Mapping[str, Tensor],
    unit: str,
    span: int = 12,
    height: int = 240,
    log: bool = False,
    total: str = "",
) -> Curves:
    """Curves of what was measured at each snapshot, name -> (snapshot,); ``total`` is the one of all together."""
    steps = torch.tensor(subject.steps)
    colours = {name: colour for colour, name in enumerate(name for name in values if name != total)}
    lines = [curve(name, steps, row, colours.get(name, 0), strong=name == total) for name, row in values.items()]
    return Curves(id, title, lines, unit, log=log, span=span, height=height)


def measures(subject: Subject, span: int = 12, height: int = 200) -> list[Curves]:
    """What the task recorded beside its losses, a timeline each."""
    panels, metrics = [], subject.metrics
    steps = torch.arange(len(metrics["train_loss"]))
    for name, measure in subject.task.measures.items():
        rows = [(name, steps, "train" if "test_loss" in metrics else "")]
        if "test_step" in metrics:
            rows.append((f"test_{name}", metrics["test_step"], "test"))
        lines: list[Line] = []
        for key, at, kind in rows:
            for i, label in enumerate(measure.lines if key in metrics else ()):
                shown = f"{label}, {kind}" if kind else label
                colour = i if len(measure.lines) > 1 else len(lines)
                values = metrics[key][:, i]
                lines.append(curve(shown, at, values, colour, kind == "train", smoothing=SMOOTHING))
        if lines:
            panels.append(
                Curves(name, measure.title, lines, measure.unit, smoothing=SMOOTHING, span=span, height=height)
            )
    return panels


def curve(
    label: str,
    steps: Tensor,
    values: Tensor,
    colour: int,
    dashed: bool = False,
    strong: bool = False,
    group: str = "",
    smoothing: float = 0.0,
) -> Line:
    """A curve, and the same smoothed as phase changes are.

    Args:
        label, colour, dashed, strong, group: see `Line`.
        steps: (point,) ascending.
        values: (point,)
        smoothing: of the exponential average, a step; 0: the panel has no switch for it.
    """
    smoothed = smooth_both_ways(values, beta_per_row(smoothing, steps)).float().numpy() if smoothing else None
    return Line(label, steps.numpy(), values.numpy(), colour, dashed, strong, group, smoothed)


def answer_strip(subject: Subject, id: str, title: str, example: Example, answers: Answers, span: int = 12) -> Tokens:
    """The prompt, and after it what each snapshot answers."""
    task = subject.task
    after = itertools.count(example.n_prompt)
    places = [place + 1 if place + 1 < example.n_prompt else next(after) for place in example.positions.tolist()]
    return Tokens(
        id,
        title,
        prompt=[task.tokens[token] for token in example.tokens[: example.n_prompt].tolist()],
        answers=answers.tokens.numpy(),
        probabilities=answers.probabilities.max(-1).values.numpy(),
        targets=example.targets.tolist(),
        places=places,
        vocabulary=task.answer_tokens,
        span=span,
    )


def answer_bars(subject: Subject, id: str, title: str, example: Example, answers: Answers, span: int = 12) -> Bars:
    """Every answer's probabilities; of a large vocabulary those tokens that were ever likely, of many answers some."""
    tokens, targets, probabilities = subject.task.answer_tokens, example.targets, answers.probabilities
    if len(tokens) <= FEW_CATEGORIES:
        return Bars(id, title, probabilities.numpy(), example.places, tokens, targets.tolist(), span=span)
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
    return Bars(id, title, torch.stack(values, 1).numpy(), places, categories, right, said, span=span)


def given(example: Example) -> str:
    """What a title adds where a model reads right answers on its way to the next."""
    return ", with the right answer written" if len(example.tokens) > example.n_prompt else ""


def brief(text: str, most: int = 24) -> str:
    """An example's text, short enough for a title."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def head_names(cfg: ModelConfig, layers: Iterable[int] | None = None) -> list[str]:
    """L0H0, L0H1, ..., of all layers or some."""
    layers = range(cfg.n_layers) if layers is None else layers
    return [f"L{layer}H{head}" for layer in layers for head in range(cfg.n_heads)]


def token_labels(subject: Subject, example: Example) -> list[str]:
    return [subject.task.tokens[token] for token in example.tokens.tolist()]


def pattern_maps(
    subject: Subject,
    id: str,
    title: str,
    patterns: Tensor,
    labels: list[str],
    outlines: Sequence[tuple[int, int, int, int]] = (),
    span: int = 12,
) -> Heatmaps:
    """Attention patterns (snapshot map query key), one map a head; what lies in the future is left out."""
    future = np.triu(np.ones(patterns.shape[-2:], dtype=bool), 1)
    values = np.where(future, np.nan, patterns.numpy())
    names = head_names(subject.info.model)
    return Heatmaps(
        id, title, names, values, labels, labels, "query", "key", low=0.0, high=1.0, outlines=outlines, span=span
    )


def signed_maps(
    id: str,
    title: str,
    maps: Sequence[str],
    values: Tensor,
    rows: Sequence[str],
    columns: Sequence[str],
    row_axis: str,
    column_axis: str,
    outlines: Sequence[tuple[int, int, int, int]] = (),
    span: int = 12,
    most: float | None = None,
) -> Heatmaps:
    """Maps of values (snapshot map row column) around zero, or of values that are never below it.

    Args:
        most: the size of value that has the full colour. If not given, three quarters of the snapshots have no larger
            one: a spike in a few would make all others pale.
    """
    values = values.float()
    finite = values[values.isfinite()]
    high = (float(finite.abs().max()) if len(finite) else 0.0) or 1.0
    if most is None:
        peaks = values.where(values.isfinite(), 0).abs().flatten(1).amax(1)
        most = float(peaks.quantile(0.75))
    signed = bool((finite < 0).any())
    return Heatmaps(
        id,
        title,
        maps,
        values.masked_fill(~values.isfinite(), torch.nan).numpy(),
        rows,
        columns,
        row_axis,
        column_axis,
        low=-high if signed else 0.0,
        high=high,
        scale="diverging" if signed else "sequential",
        most=most if 0 < most < high else None,
        outlines=outlines,
        span=span,
    )


def mean_attention(subject: Subject, batch: Batch, place: str = "hook_pattern", hooks: Hooks | None = None) -> Tensor:
    """What a hook point of attention has on a batch, or its gradient, averaged over the batch.

    Args:
        place: "hook_pattern", "hook_attn_scores", or either with "_grad": of each example's own mean loss.

    Returns:
        (snapshot map query key): all heads of layer 0, then of layer 1...
    """
    names = [f"blocks.{layer}.attn.{place}" for layer in range(subject.info.model.n_layers)]
    forward = [name.removesuffix("_grad") for name in names]
    loss = None if forward == names else subject.loss_on(batch)
    found = [
        torch.cat([cache[name].mean(1) for name in names], 1)
        for _, cache in subject.ensemble.passes(batch.tokens, forward, loss, hooks=hooks)
    ]
    return torch.cat(found)
