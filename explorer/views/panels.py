"""Panels that several views share, and the values that they show."""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from explorer.analysis.answers import Answers
from explorer.analysis.smoothing import smooth, smooth_robustly
from explorer.film.panels.bars import Bars
from explorer.film.panels.curves import Curves, Line, Mark
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.tokens import Tokens
from explorer.model.ensemble import Hooks
from explorer.model.transformer import ModelConfig, future_mask
from explorer.tasks.data import Batch, Example
from explorer.views.subject import SMOOTHING, Subject, beta_per_row

ALL_SHOWN = 12  # tokens of a vocabulary up to this size all have a bar
LIKELIEST = 9  # bars of each answer otherwise: the tokens that were the most probable in any snapshot


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
    """The losses as a timeline: the mean loss, and the per-token losses on test data, or on training data if there is
    no test data. A flag stands where the deepest fall of each group of losses is steepest, and one where the mean
    loss is not finite.

    Args:
        subject: the run.
        detail: also show the per-token losses on training data beside those on test data, and the task's own smoothed
            average, if it has one.
        span: columns of the page, of 12.
        height: in pixels.
        smoothing: beta per step of the exponential average.
        at: (frame,) the step of this run that each frame of the film shows; None: the film's own steps.
        title: of the panel; empty: "Loss", or "Loss by" and the task's noun for a token.
        id: of the panel. Panels with one id share their switches on all pages.
    """
    task, metrics = subject.task, subject.metrics
    finite = "test_loss" in metrics
    train_steps = torch.arange(len(metrics["train_loss"]))
    alone = len(task.loss_names) == 1  # the only per-token loss is the mean loss
    overall, loss = "" if alone else "all, ", metrics["train_loss"]
    line = functools.partial(curve, smoothing=smoothing, gaps=~loss.isfinite())
    lines = [line(f"{overall}train" if finite else "all", train_steps, loss, 0, finite, not alone)]
    if finite and subject.info.origin:  # was not trained here
        lines, detail = [], False
    if finite:
        tested = metrics["test_step"], metrics["test_loss"]
        test_line = functools.partial(curve, smoothing=smoothing, gaps=~metrics["test_loss"].isfinite())
        lines.append(test_line(f"{overall}test", *tested, 1, strong=not alone))
    gaps = [mark for mean in lines for mark in _gaps(mean)]
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
            lines.append(test_line(name, *tested, colour, group=group))
        if not finite or detail:
            end = ", train" if finite else ""
            trained = train_steps, metrics["train_loss_per_token"][:, i]
            lines.append(line(f"{name}{end}", *trained, colour, finite, group=f"{group}{end}"))
    return Curves(
        id,
        title or ("Loss" if alone else f"Loss by {task.token_noun}"),
        lines,
        references=[(reference.label, reference.mean) for reference in task.references if reference.mean > 0],
        marks=[*_steepest(subject), *gaps],
        smoothing=smoothing,
        at=at,
        span=span,
        height=height,
    )


def _steepest(subject: Subject) -> list[Mark]:
    """A flag for each group of losses that falls, on test data if there is any."""
    marks = []
    measured = subject.losses()[0]
    for colour, (group, members) in enumerate(subject.groups.items()):
        (fall,) = measured.of(members, group).deepest
        if fall is not None:
            line, line_colour = group, colour
            if len(measured.names) == 1:  # `losses` names a single curve "all", "train" or "test"
                line, line_colour = measured.kind or "all", int(measured.kind == "test")
            label = f"{group}: falls by {fall.depth:.1f} nats, steepest"
            marks.append(Mark(label, measured.step(fall.steepest), line_colour, line))
    return marks


def _gaps(line: Line) -> list[Mark]:
    """A flag for each stretch of steps at which a mean loss is not finite; none for a run without any losses."""
    finite = np.isfinite(line.values)
    if len(finite) < 2:
        return []
    edges = np.flatnonzero(np.diff(np.pad(~finite, 1).astype(int)))  # where a stretch begins, and after its end
    return [
        Mark(
            f"{line.label}: the loss is {'NaN' if np.isnan(line.values[first]) else 'infinite'}",
            int(line.steps[first]),
            line.colour,
            line.group or line.label,
            int(line.steps[after - 1]),
        )
        for first, after in edges.reshape(-1, 2).tolist()
    ]


def timeline(subject: Subject, height: int = 200) -> Curves:
    """The losses as the timeline above other panels.

    Args:
        subject: the run.
        height: in pixels.
    """
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
    intervals: Mapping[str, Tensor] | None = None,
    references: Sequence[tuple[str, float]] = (),
) -> Curves:
    """Curves of values that were computed at each snapshot.

    Args:
        subject: the run.
        id: of the panel.
        title: of the panel.
        values: name of the curve -> (snapshot,) values in ``unit``.
        unit: of all values.
        span: columns of the page, of 12.
        height: in pixels.
        log: whether the scale is logarithmic until the reader changes it.
        total: the name of the curve that is the total of the others; it is drawn in the colour of text.
        intervals: name of the curve -> (snapshot,) how far each value may be from the truth, on either side.
        references: names and values of horizontal lines.
    """
    steps, intervals = torch.tensor(subject.steps), intervals or {}
    colours = {name: colour for colour, name in enumerate(name for name in values if name != total)}
    lines = [
        curve(name, steps, row, colours.get(name, 0), strong=name == total, interval=intervals.get(name))
        for name, row in values.items()
    ]
    return Curves(id, title, lines, unit, references, log=log, span=span, height=height, by_frame=True)


def measures(subject: Subject, span: int = 12, height: int = 200) -> list[Curves]:
    """A timeline for each measure that the task recorded besides its losses.

    Args:
        subject: the run.
        span: columns of the page that each takes, of 12.
        height: of each, in pixels.
    """
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
    interval: Tensor | None = None,
    gaps: Tensor | None = None,
) -> Line:
    """A curve, with smoothed values.

    Args:
        label: of the curve.
        steps: (point,) ascending.
        values: (point,) nan: a gap, through which the smoothed curve goes on.
        colour: place in the palette.
        dashed: tells the curve from another of the same colour.
        strong: draw it wider and in the colour of text.
        group: the legend shows the curves of a group as one entry; empty: an entry of its own.
        smoothing: beta per step of `smooth_robustly`; 0: the curve has no smoothed values.
        interval: (point,) how far each value may be from the truth, on either side.
        gaps: (point,) where the smoothed curve has a gap too.
    """
    smoothed = None
    if smoothing:
        averages = smooth_robustly(values, beta_per_row(smoothing, steps)).float()
        smoothed = (averages if gaps is None else averages.masked_fill(gaps, torch.nan)).numpy()
    around = None if interval is None else interval.float().numpy()
    return Line(label, steps.numpy(), values.numpy(), colour, dashed, strong, group, smoothed, around)


def answer_strip(subject: Subject, id: str, title: str, example: Example, answers: Answers, span: int = 12) -> Tokens:
    """The prompt and the tokens that each snapshot predicts.

    Args:
        subject: the run.
        id: of the panel.
        title: of the panel.
        example: the prompt and its targets.
        answers: of each snapshot to the example.
        span: columns of the page, of 12.
    """
    task = subject.task
    after = itertools.count(example.n_prompt)
    places = [place + 1 if place + 1 < example.n_prompt else next(after) for place in example.positions.tolist()]
    return Tokens(
        id,
        title,
        prompt=task.prompt_texts(example),
        answers=answers.tokens.numpy(),
        probabilities=answers.probabilities.max(-1).values.numpy(),
        targets=example.targets.tolist(),
        places=places,
        vocabulary=task.answer_tokens,
        span=span,
    )


def answer_bars(subject: Subject, id: str, title: str, example: Example, answers: Answers, span: int = 12) -> Bars:
    """The probabilities of the tokens of each answer.

    A large vocabulary is cut to the target, the tokens that were most probable in any snapshot, and "other" for the
    rest. Then only as many answers are shown as have room, evenly spaced.

    Args:
        subject: the run.
        id: of the panel.
        title: of the panel.
        example: the prompt and its targets.
        answers: of each snapshot to the example.
        span: columns of the page, of 12.
    """
    tokens, targets, probabilities = subject.task.answer_tokens, example.targets, answers.probabilities
    if len(tokens) <= ALL_SHOWN:
        return Bars(id, title, probabilities.numpy(), example.places, tokens, targets.tolist(), span=span)
    room = span // 2
    chosen = torch.arange(len(targets))
    if len(chosen) > room:
        chosen = torch.linspace(0, len(targets) - 1, room).round().long()
        title = f"{title}, {room} of {len(targets)} places"
    values, categories, right = [], [], []
    for answer in chosen.tolist():
        likely = probabilities[:, answer].amax(0)  # (d_vocab_out,)
        likely[targets[answer]] = 2  # more than any probability: the target is always shown, and first
        shown = likely.topk(LIKELIEST).indices  # (category,)
        some = probabilities[:, answer, shown]  # (snapshot category)
        values.append(torch.cat([some, 1 - some.sum(1, keepdim=True)], 1).clamp(0, 1))
        categories.append([*(tokens[token] for token in shown.tolist()), "other"])
        right.append(0)
    places = [example.places[answer] for answer in chosen.tolist()]
    predicted = [[tokens[token] for token in row] for row in answers.tokens[:, chosen].tolist()]
    return Bars(id, title, torch.stack(values, 1).numpy(), places, categories, right, predicted, span=span)


def given(example: Example) -> str:
    """The end of a title, for an example whose tokens hold the right answers too (teacher forcing); else empty.

    Args:
        example: the tokens that the model reads.
    """
    return ", with the right answer written" if len(example.tokens) > example.n_prompt else ""


def brief(text: str, most: int = 24) -> str:
    """An example's text, cut for a title.

    Args:
        text: of the example.
        most: characters that are kept.
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def head_names(cfg: ModelConfig, layers: Iterable[int] | None = None) -> list[str]:
    """L0H0, L0H1, ...

    Args:
        cfg: of the model.
        layers: whose heads to name; None: all.
    """
    layers = range(cfg.n_layers) if layers is None else layers
    return [f"L{layer}H{head}" for layer in layers for head in range(cfg.n_heads)]


def token_labels(subject: Subject, example: Example) -> list[str]:
    """The text of each token of an example.

    Args:
        subject: the run, whose task has the vocabulary.
        example: the tokens.
    """
    return [subject.task.tokens[token] for token in example.tokens.tolist()]


def masked_future(values: Tensor) -> Tensor:
    """Values with nan for the keys after each query, which the model masks.

    Args:
        values: (... query key) of floating point.
    """
    return values.masked_fill(future_mask(values.shape[-1], values.device), torch.nan)


def pattern_maps(
    subject: Subject,
    id: str,
    title: str,
    patterns: Tensor,
    labels: list[str],
    outlines: Sequence[tuple[int, int, int, int]] = (),
    span: int = 12,
) -> Heatmaps:
    """Attention patterns, one map per head.

    Args:
        subject: the run.
        id: of the panel.
        title: of the panel.
        patterns: (snapshot map query key) between 0 and 1, all heads of layer 0, then of layer 1...
        labels: of the positions.
        outlines: see `Heatmaps`.
        span: columns of the page, of 12.
    """
    values = masked_future(patterns).numpy()
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
    full_colour_at: float | None = None,
) -> Heatmaps:
    """Maps on a diverging colour scale around zero, or on a sequential one from zero if no value is negative.

    Args:
        id: of the panel.
        title: of the panel.
        maps: their names.
        values: (snapshot map row column); what is not finite has no colour.
        rows: their labels.
        columns: their labels.
        row_axis: what the rows are.
        column_axis: what the columns are.
        outlines: see `Heatmaps`.
        span: columns of the page, of 12.
        full_colour_at: the absolute value at which the colour scale ends. None: the 0.75 quantile over snapshots of the
            largest absolute value, so that a spike in a few snapshots does not make the others pale.
    """
    values = values.float()
    finite = values[values.isfinite()]
    high = (float(finite.abs().max()) if len(finite) else 0.0) or 1.0
    if full_colour_at is None:
        peaks = values.where(values.isfinite(), 0).abs().flatten(1).amax(1)  # (snapshot,)
        full_colour_at = float(peaks.quantile(0.75))
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
        full_colour_at=full_colour_at if 0 < full_colour_at < high else None,
        outlines=outlines,
        span=span,
    )


def mean_attention(subject: Subject, batch: Batch, place: str = "hook_pattern", hooks: Hooks | None = None) -> Tensor:
    """The value of a hook point of attention, or its gradient, averaged over a batch.

    Args:
        subject: the run.
        batch: the examples.
        place: "hook_pattern" or "hook_attn_scores"; with "_grad" at the end, the gradient of each example's mean loss.
        hooks: to run the model with; None: none.

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
