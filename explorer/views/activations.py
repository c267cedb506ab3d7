"""Any activation or gradient of one example, at every snapshot."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from einops import rearrange
from torch import Tensor

from explorer.analysis.activations import histogram, mean_absolute_change, root_mean_square
from explorer.errors import UserError, quoted
from explorer.film.film import Film
from explorer.film.panels.columns import Columns
from explorer.film.panels.panel import Panel
from explorer.film.panels.raster import Raster
from explorer.model.architectures import activation_shapes
from explorer.model.hooks import hook_axes
from explorer.options import Context, choice, several
from explorer.tasks.data import Example
from explorer.views import panels
from explorer.views.subject import Subject
from explorer.views.view import Choices, Item, Link, Links, Note, View, same_labels

KINDS = ("activation", "gradient")
PLOTS: Mapping[str, str] = {"heatmap": "heatmap", "histogram": "histogram", "training": "over training"}
Selection = tuple[int, ...]  # indices along an axis; empty means all
DEFAULT_HOOK = "blocks.0.hook_resid_post"
MAX_SERIES = 8  # in one histogram
MAX_CURVES = 24  # in one panel; more values are summarised by their root mean square
N_CHANGED = 10  # units listed as most changed
MAX_NAMED = 6  # selected labels listed in a title
BINS = 48


def _hooks(context: Context) -> dict[str, str]:
    return {name: name for name in hook_names(context.subject)}


def _labels(which: str) -> Callable[[Context], dict[int, str]]:
    """The choices of the option called ``which``: the labels of an axis of the chosen hook point."""
    return lambda context: dict(
        enumerate(getattr(axes(context.subject, context.example, context.chosen["hook"]), which))
    )


def _unit_axis(context: Context) -> str:
    return axes(context.subject, context.example, context.chosen["hook"]).unit_axis


def _has_units(context: Context) -> bool:
    return _unit_axis(context) != "key" and len(context.subject.steps) > 1


def _steps(context: Context) -> dict[int, str]:
    return {step: f"step {step:,}" for step in context.subject.steps}


def _default_first(context: Context) -> int:
    """The opening step, or the first step if the opening step is the last."""
    opening, steps = context.subject.opening_step(), context.subject.steps
    return opening if opening != steps[-1] else steps[0]


SNAPSHOT: dict[str, Any] = {"widget": "list", "width": 184, "labelled": True, "place": "end", "when": _has_units}


@dataclass(frozen=True)
class Options:
    hook: str = choice(
        "Hook point",
        _hooks,
        preferred=lambda context: DEFAULT_HOOK if DEFAULT_HOOK in _hooks(context) else hook_names(context.subject)[-1],
        widget="list",
        width=360,
        labelled=True,
    )
    kind: str = choice(
        "Activation or gradient",
        same_labels(KINDS),
        labelled=True,
        help="Gradient: of the mean loss over the example's answers.",
    )
    form: str = choice("Plot", PLOTS)
    heads: Selection = several("Heads", _labels("heads"), place="more", per="hook")
    positions: Selection = several("Positions", _labels("positions"), place="more", per="hook")
    units: Selection = several(_unit_axis, _labels("units"), place="more", per="hook")
    first: int = choice("from", _steps, preferred=_default_first, **SNAPSHOT)
    last: int = choice("to", _steps, preferred=lambda context: context.subject.steps[-1], **SNAPSHOT)


class Activations(View[Options]):
    name, title, icon, place = "activations", "Activations", "blur_on", (1, 1)
    options_type = Options

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        selected = (options.heads, options.positions, options.units)
        return film(subject, example, options.hook, options.kind, options.form, *selected)

    def below(self, subject: Subject, example: str, options: Options) -> Sequence[Item]:
        if axes(subject, example, options.hook).unit_axis == "key":
            return ()
        heading = Note("Largest changes between two snapshots", is_heading=True)
        if len(subject.steps) < 2:
            return [heading, Note("This run has only one snapshot so far.")]
        items: list[Item] = [heading, Choices(["first", "last"])]
        try:
            changes = most_changed(subject, options.hook, options.first, options.last)
        except UserError as error:
            return [*items, Note(str(error), is_error=True)]
        return [*items, Links([_link(head, unit, change) for head, unit, change in changes])]


def _link(head: str, unit: int, change: float) -> Link:
    """A link that shows one unit over training."""
    options: dict[str, Any] = {"form": "training", "units": (unit,)}
    if head:
        options["heads"] = (int(head.rsplit("H", 1)[1]),)
    return Link(
        f"{head} {unit}".strip() + f" · {change:.3g}",
        help="Mean absolute difference on unseen examples. Click to show this unit over training.",
        options=options,
    )


@dataclass(frozen=True)
class Activation:
    """The activation or gradient at a hook point on one example, at every snapshot."""

    title: str
    maps: tuple[str, ...]  # names of heads, or ("",)
    values: Tensor  # (snapshot map pos unit)
    positions: tuple[str, ...]
    units: tuple[str, ...]
    unit_axis: str  # "key" for attention, where positions are queries


@dataclass(frozen=True)
class Axes:
    """The labels of the heads, positions and units of a hook point, to select from."""

    heads: tuple[str, ...]
    positions: tuple[str, ...]
    units: tuple[str, ...]
    unit_axis: str


def hook_names(subject: Subject) -> tuple[str, ...]:
    """The names of all hook points of the run's model.

    Args:
        subject: the run.
    """
    return tuple(activation_shapes(subject.info.model, 1))


def axes(subject: Subject, text: str, hook: str) -> Axes:
    """The labels to select from, for one example and hook point.

    Args:
        subject: the run.
        text: an example of the run's task.
        hook: the name of a hook point.

    Raises:
        UserError: ``text`` is not an example of the run's task, or there is no such hook point.
    """
    example = subject.task.encode(text)
    shapes = activation_shapes(subject.info.model, len(example.tokens))
    if hook not in shapes:
        raise UserError(f"There is no hook point {quoted(hook)} in this model; choose another.")
    names = hook_axes(hook)
    n_heads = shapes[hook][1 + names.index("head")] if "head" in names else 0
    positions = _numbered(subject, example)
    units = positions if names[-1] == "key" else tuple(str(unit) for unit in range(shapes[hook][-1]))
    return Axes(_head_names(hook, n_heads), positions, units, names[-1])


def _head_names(hook: str, n_heads: int) -> tuple[str, ...]:
    """Of the heads of the block to which a hook point belongs."""
    return tuple(f"L{hook.split('.')[1]}H{head}" for head in range(n_heads))


def _numbered(subject: Subject, example: Example) -> tuple[str, ...]:
    """The tokens of an example with their positions."""
    return tuple(f"{label} ({i})" for i, label in enumerate(panels.token_labels(subject, example)))


def film(
    subject: Subject,
    text: str,
    hook: str,
    kind: str,
    form: str = "heatmap",
    heads: Selection = (),
    positions: Selection = (),
    units: Selection = (),
) -> Film:
    """The activation or gradient at one hook point.

    Args:
        subject: the run.
        text: an example of the run's task.
        hook: the name of a hook point.
        kind: one of `KINDS`; the gradient is that of the mean loss over the example's answers.
        form: one of `PLOTS`.
        heads: the heads to show.
        positions: the positions to show.
        units: the units to show. Indices that this example or hook point does not have are ignored.

    Raises:
        UserError: ``text`` is not an example of the run's task, or there is no such hook point.
    """
    activation = _select(_activation(subject, text, hook, kind), heads, positions, units)
    draw = {"heatmap": _heatmap, "histogram": _histogram, "training": _over_training}[form]
    return Film(subject.steps, [panels.timeline(subject), *draw(subject, activation)])


def most_changed(subject: Subject, hook: str, before: int, after: int) -> list[tuple[str, int, float]]:
    """The units that differ most between two snapshots, on unseen examples.

    Args:
        subject: the run.
        hook: the name of a hook point.
        before: the step of a snapshot.
        after: the step of another snapshot.

    Returns:
        (head or "", unit, mean absolute difference), the largest difference first.

    Raises:
        UserError: there is no such hook point, it has no units, or both snapshots are the same.
    """
    if before == after:
        raise UserError(f"Both snapshots are at step {before:,}; choose two different ones.")
    at = sorted((subject.steps.index(before), subject.steps.index(after)))
    two = subject.ensemble.select(slice(at[0], at[1] + 1, at[1] - at[0]))
    change = mean_absolute_change(two, subject.unseen().tokens, hook)
    largest = change.flatten().topk(min(N_CHANGED, change.numel()))
    width = change.shape[-1]
    heads = _head_names(hook, len(change)) if change.ndim > 1 else ("",)
    return [
        (heads[index // width], index % width, value)
        for index, value in zip(largest.indices.tolist(), largest.values.tolist(), strict=True)
    ]


def _activation(subject: Subject, text: str, hook: str, kind: str) -> Activation:
    example = subject.task.encode(text)
    batch = example.batch
    _, cache = subject.ensemble.run(batch.tokens, [hook], subject.loss_on(batch) if kind == "gradient" else None)
    values = cache[f"{hook}_grad" if kind == "gradient" else hook][:, 0]  # of the batch of one
    names = hook_axes(hook)
    over_keys = names[-1] == "key"
    if over_keys:
        values = panels.masked_future(values)
    maps: tuple[str, ...] = ("",)
    if "head" in names:
        if names[0] != "head":
            values = rearrange(values, "snapshot pos head unit -> snapshot head pos unit")
        maps = _head_names(hook, values.shape[1])
    else:
        values = values[:, None]
    tokens = _numbered(subject, example)
    return Activation(
        f"{'gradient at ' if kind == 'gradient' else ''}{hook} on {panels.brief(example.text)}{panels.given(example)}",
        maps,
        values,
        tokens,
        tokens if over_keys else tuple(str(i) for i in range(values.shape[-1])),
        names[-1],
    )


def _select(activation: Activation, heads: Selection, positions: Selection, units: Selection) -> Activation:
    """The selected heads, positions and units; indices that this example does not have are ignored."""
    selected, title_parts = [], [activation.title]
    for name, selection, labels in (
        ("", heads, activation.maps),
        ("position ", positions, activation.positions),
        (f"{activation.unit_axis} ", units, activation.units),
    ):
        indices = sorted(i for i in selection if i < len(labels)) or list(range(len(labels)))
        if len(indices) < len(labels):
            listed = ", ".join(labels[i] for i in indices[:MAX_NAMED])
            title_parts.append(name + listed + ", …" * (len(indices) > MAX_NAMED))
        selected.append(indices)
    maps, rows, columns = selected
    return Activation(
        "; ".join(title_parts),
        tuple(activation.maps[i] for i in maps),
        activation.values[:, maps][:, :, rows][..., columns],
        tuple(activation.positions[i] for i in rows),
        tuple(activation.units[i] for i in columns),
        activation.unit_axis,
    )


def _heatmap(subject: Subject, activation: Activation) -> list[Panel]:
    rows, columns = ([_without_index(label) for label in labels] for labels in (activation.positions, activation.units))
    row_axis = "query" if activation.unit_axis == "key" else "position"
    return [
        panels.signed_maps(
            "values",
            activation.title,
            activation.maps,
            activation.values,
            rows,
            columns,
            row_axis,
            activation.unit_axis,
        )
    ]


def _without_index(label: str) -> str:
    """A label without its index, which the map's axis shows already."""
    return label.rsplit(" (", 1)[0]


def _histogram(subject: Subject, activation: Activation) -> list[Panel]:
    edges, shares = histogram(activation.values[:, :MAX_SERIES].flatten(2), BINS)
    centres = [f"{value:.3g}" for value in ((edges[:-1] + edges[1:]) / 2).tolist()]
    title = f"Values of {activation.title}"
    return [
        Columns(
            "histogram",
            title,
            centres,
            activation.maps[:MAX_SERIES],
            shares.numpy(),
            unit="share",
            category_axis="value",
        )
    ]


def _over_training(subject: Subject, activation: Activation) -> list[Panel]:
    """Root mean squares, overall and per position; also the values, if they are few or belong to a single unit."""
    by_head = {
        name or "all": curve
        for name, curve in zip(activation.maps, root_mean_square(activation.values.flatten(2)).T, strict=True)
    }
    shown: list[Panel] = [
        panels.over_snapshots(subject, "rms", f"Root mean square, {activation.title}", by_head, unit="")
    ]
    if 1 < len(activation.positions) <= MAX_CURVES:
        by_position = root_mean_square(activation.values.transpose(1, 2).flatten(2)).T
        curves = dict(zip(activation.positions, by_position, strict=True))
        shown.append(
            panels.over_snapshots(
                subject, "rms-by-position", f"Root mean square at each position, {activation.title}", curves, unit=""
            )
        )
    if activation.values[0].numel() <= MAX_CURVES:
        curves = {
            f"{name} {position} {activation.unit_axis} {unit}".strip(): activation.values[:, m, p, u]
            for m, name in enumerate(activation.maps)
            for p, position in enumerate(activation.positions)
            for u, unit in enumerate(activation.units)
        }
        shown.append(panels.over_snapshots(subject, "values", f"Values, {activation.title}", curves, unit=""))
    elif len(activation.units) == 1:
        high = float(activation.values.nan_to_num().abs().max()) or 1.0
        for m, name in enumerate(activation.maps):
            title = f"Values at each position, {name} {activation.title}".replace("  ", " ")
            rows, steps = activation.values[:, m, :, 0].T.numpy(), np.array(subject.steps)
            shown.append(
                Raster(
                    f"values-{name or 'all'}",
                    title,
                    activation.positions,
                    steps,
                    rows,
                    -high,
                    high,
                    "",
                    scale="diverging",
                )
            )
    return shown
