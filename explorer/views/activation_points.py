"""The activations of many unseen examples at a hook point as points in a plane."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explorer.analysis.projections import Direction, coordinates, principal_directions, unit_direction
from explorer.film.panels.panel import Panel
from explorer.film.panels.scatter import Colouring, Scatter
from explorer.tasks.data import Batch
from explorer.views import panels
from explorer.views.activation_values import Axes, Selection, axes_of_batch, named_selection, selected
from explorer.views.subject import Subject

MAX_POINTS = 1500
MAX_EXAMPLES = 500
MAX_HEADS = 4  # a panel each
COMPONENTS = ("PC1", "PC2", "PC3")
NO_ANSWER = "no answer here"


@dataclass(frozen=True)
class Points:
    """Which activations are points, and what they are drawn against and coloured by."""

    hook: str
    is_gradient: bool
    heads: Selection
    positions: Selection
    across: str  # one of `quantities`
    up: str
    colour: str  # one of `colours`


def examples(subject: Subject, n_positions: int) -> Batch:
    """The unseen examples whose activations are shown.

    Args:
        subject: the run.
        n_positions: how many points each example has.
    """
    return subject.unseen(min(MAX_EXAMPLES, MAX_POINTS // n_positions))


def answered_at(subject: Subject) -> Selection:
    """The position that predicts the first answer; none if it is not the same in all unseen examples.

    Args:
        subject: the run.
    """
    first = subject.unseen().positions[:, 0]
    return (int(first[0]),) if bool((first == first[0]).all()) else ()


def quantities(axes: Axes) -> dict[str, str]:
    """What points can be drawn against: principal components, and single units.

    Args:
        axes: of the hook point.
    """
    units = {str(i): f"{axes.unit_axis} {unit}" for i, unit in enumerate(axes.units)}
    return {**{name: name for name in COMPONENTS}, **units}


def colours(batch: Batch) -> dict[str, str]:
    """What points can be coloured by.

    Args:
        batch: the examples.
    """
    vary = (batch.tokens != batch.tokens[0]).any(0).nonzero()[:, 0].tolist()
    own = {"position": "position", "token": "token", "answer": "right answer", "loss": "loss of the example"}
    return {**own, **{f"token-{i}": f"token at position {i}" for i in vary}}


def scatter(subject: Subject, points: Points) -> list[Panel]:
    """A plane for each head, and how far the points spread in it at each snapshot.

    Args:
        subject: the run.
        points: what is shown.

    Raises:
        UserError: there is no such hook point.
    """
    axes = axes_of_batch(subject, subject.unseen(2), points.hook)
    positions = selected(points.positions, axes.positions)
    batch = examples(subject, len(positions))
    heads = selected(points.heads, axes.heads)[:MAX_HEADS] or [0]
    found, losses, directions = coordinates(
        subject.ensemble,
        batch.tokens,
        points.hook,
        heads,
        positions,
        _directions(points, axes),
        subject.loss_on(batch),
        points.is_gradient,
    )
    labels = _labels(subject, batch, positions)
    colouring = _colouring(subject, batch, positions, points.colour, losses)
    names = [axes.heads[head] for head in heads] if axes.heads else [""]
    shown: list[Panel] = []
    spread: dict[str, Tensor] = {}
    for i, name in enumerate(names):
        x_axis, y_axis = (
            _axis_name(quantity, direction, axes)
            for quantity, direction in zip((points.across, points.up), directions[i], strict=True)
        )
        title = _title(points, axes, name, positions, len(batch.tokens))
        x, y = found[:, i].movedim(-1, 0).numpy()
        shown.append(Scatter(f"points-{name or 'all'}", title, labels, x, y, x_axis, y_axis, colouring=colouring))
        deviations = found[:, i].double().std(1, correction=0)  # (snapshot direction)
        spread |= {f"{name} {axis}".strip(): deviations[:, d] for d, axis in enumerate((x_axis, y_axis))}
    title = f"Standard deviation of the {len(labels):,} points along each axis"
    span = 6 if len(names) % 2 else 12
    return [*shown, panels.over_snapshots(subject, "spread", title, spread, unit="", span=span, height=360)]


def _directions(points: Points, axes: Axes) -> Callable[[Tensor], Sequence[Direction]]:
    def directions(last: Tensor) -> Sequence[Direction]:
        wanted = (points.across, points.up)
        components = {}
        if set(wanted) & set(COMPONENTS):
            components = dict(zip(COMPONENTS, principal_directions(last, len(COMPONENTS)), strict=True))
        return [components.get(name) or unit_direction(len(axes.units), int(name)) for name in wanted]

    return directions


def _axis_name(quantity: str, direction: Direction, axes: Axes) -> str:
    if direction.explained is not None:
        return f"{quantity} ({direction.explained:.0%})"
    return f"{axes.unit_axis} {axes.units[int(quantity)]}"


def _title(points: Points, axes: Axes, head: str, positions: Sequence[int], n_examples: int) -> str:
    of = "gradient at " * points.is_gradient + ", ".join(filter(None, [points.hook, head]))
    where = named_selection("position ", positions, axes.positions)
    counted = f"{n_examples:,} unseen examples" + (f" × {len(positions)} positions" if len(positions) > 1 else "")
    final = {points.across, points.up} & set(COMPONENTS)
    components = "; components of the final model" if final else ""
    return f"{'; '.join(filter(None, [of, where]))}; {counted}{components}"


def _labels(subject: Subject, batch: Batch, positions: Sequence[int]) -> list[str]:
    """A name for each point: the example, and, if it has several points, the position."""
    names = subject.task.tokens
    apart = "" if max(map(len, names)) == 1 else " "
    labels = []
    for row in batch.tokens.tolist():
        text = panels.brief(apart.join(names[token] for token in row))
        for i in positions:
            labels.append(f"{text}, {names[row[i]]} ({i})" if len(positions) > 1 else text)
    return labels


def _colouring(subject: Subject, batch: Batch, positions: Sequence[int], colour: str, losses: Tensor) -> Colouring:
    """What colours the points, (frame or 1, point).

    Args:
        losses: (snapshot batch) nats.
    """
    n_examples, n_positions = len(batch.tokens), len(positions)
    if colour == "loss":
        high = max(loss for loss in subject.task.references[0].losses if not math.isnan(loss))  # of a uniform guess
        return Colouring("loss of the example, nats", losses.repeat_interleave(n_positions, 1).numpy(), high=high)
    if colour == "position":
        places = np.tile(np.array(positions), n_examples)[None]
        return Colouring("position", places, low=float(places.min()), high=float(places.max()))
    if colour == "answer":
        return _categories("right answer", _answers(batch, positions), [*subject.task.answer_tokens, NO_ANSWER])
    if colour == "token":
        return _categories("token", batch.tokens[:, list(positions)], subject.task.tokens)
    at = int(colour.removeprefix("token-"))
    tokens = batch.tokens[:, at, None].expand(-1, n_positions)
    return _categories(f"token at position {at}", tokens, subject.task.tokens)


def _answers(batch: Batch, positions: Sequence[int]) -> Tensor:
    """The right answer at each position, or that of the example if it has only one; -1 if there is none."""
    if batch.targets.shape[1] == 1:
        return batch.targets.expand(-1, len(positions))
    answers = torch.full_like(batch.tokens, -1).scatter(1, batch.positions, batch.targets)
    return answers[:, list(positions)]


def _categories(name: str, places: Tensor, labels: Sequence[str]) -> Colouring:
    """Those of the categories that occur, in their order; the place -1 is the last category."""
    occurring, place = (places % len(labels)).flatten().unique(return_inverse=True)
    return Colouring(name, place[None].numpy(), [labels[i] for i in occurring.tolist()])
