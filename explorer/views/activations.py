"""Any activation or gradient of one example, at every snapshot."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from explorer.analysis.activations import histogram, mean_absolute_change, root_mean_square
from explorer.errors import UserError, quoted
from explorer.film.film import Film
from explorer.film.panels.columns import Columns
from explorer.film.panels.panel import Panel
from explorer.film.panels.raster import Raster
from explorer.model.architectures import activation_shapes
from explorer.model.ensemble import Ensemble
from explorer.model.hooks import hook_axes
from explorer.scene import Context, choice, several
from explorer.tasks.data import Example
from explorer.views import panels
from explorer.views.subject import Subject
from explorer.views.view import Choices, Item, Link, Links, Note, View, same_labels

KINDS = ("activation", "gradient")
FORMS = ("heatmap", "histogram", "training")
Chosen = tuple[int, ...]  # indices on an axis; none means all
USUAL_HOOK = "blocks.0.hook_resid_post"
MOST_SERIES = 8  # in one histogram
MOST_CURVES = 24  # in one panel; of more, only the mean
MOST_CHANGED = 10  # units that are named
MOST_NAMED = 6  # chosen places that a title names
BINS = 48


def _hooks(context: Context) -> dict[str, str]:
    return {name: name for name in hook_names(context.subject)}


def _places(which: str) -> Callable[[Context], dict[int, str]]:
    """The choices of the option called ``which``: an axis of the chosen hook point."""
    return lambda context: dict(
        enumerate(getattr(axes(context.subject, context.example, context.chosen["hook"]), which))
    )


def _unit_axis(context: Context) -> str:
    return axes(context.subject, context.example, context.chosen["hook"]).unit_axis


def _has_units(context: Context) -> bool:
    return _unit_axis(context) != "key" and len(context.subject.steps) > 1


def _steps(context: Context) -> dict[int, str]:
    return {step: f"step {step:,}" for step in context.subject.steps}


def _usual_first(context: Context) -> int:
    """The opening step, or the first where that is the last."""
    opening, steps = context.subject.opening_step(), context.subject.steps
    return opening if opening != steps[-1] else steps[0]


SNAPSHOT: dict[str, Any] = {"widget": "list", "width": 184, "labelled": True, "place": "end", "when": _has_units}


@dataclass(frozen=True)
class Options:
    hook: str = choice(
        "Hook point",
        _hooks,
        preferred=lambda context: USUAL_HOOK if USUAL_HOOK in _hooks(context) else hook_names(context.subject)[-1],
        widget="list",
        width=360,
        labelled=True,
    )
    kind: str = choice(
        "Activation or gradient",
        same_labels(KINDS),
        labelled=True,
        help="The gradient is that of the mean loss on the example's answers.",
    )
    form: str = choice("As", {"heatmap": "heatmap", "histogram": "histogram", "training": "over training"})
    heads: Chosen = several("Heads", _places("heads"), place="more", per="hook")
    positions: Chosen = several("Positions", _places("positions"), place="more", per="hook")
    units: Chosen = several(_unit_axis, _places("units"), place="more", per="hook")
    first: int = choice("from", _steps, preferred=_usual_first, **SNAPSHOT)
    last: int = choice("to", _steps, preferred=lambda context: context.subject.steps[-1], **SNAPSHOT)


class Activations(View[Options]):
    name, title, icon, place = "activations", "Activations", "blur_on", (1, 1)
    options_type = Options

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        chosen = (options.heads, options.positions, options.units)
        return film(subject, example, options.hook, options.kind, options.form, *chosen)

    def below(self, subject: Subject, example: str, options: Options) -> Sequence[Item]:
        if axes(subject, example, options.hook).unit_axis == "key":
            return ()
        heading = Note("Changed most between two snapshots", is_heading=True)
        if len(subject.steps) < 2:
            return [heading, Note("This run has one snapshot yet.")]
        items: list[Item] = [heading, Choices(["first", "last"])]
        try:
            found = most_changed(subject, options.hook, options.first, options.last)
        except UserError as error:
            return [*items, Note(str(error), is_error=True)]
        return [*items, Links([_link(head, unit, change) for head, unit, change in found])]


def _link(head: str, unit: int, change: float) -> Link:
    """A look at one unit alone, over training."""
    options: dict[str, Any] = {"form": "training", "units": (unit,)}
    if head:
        options["heads"] = (int(head.rsplit("H", 1)[1]),)
    return Link(
        f"{head} {unit}".strip() + f" · {change:.3g}",
        help="Mean absolute difference on unseen examples. Click to see this unit alone, over training.",
        options=options,
    )


@dataclass(frozen=True)
class Values:
    """What a hook point has on one example, at every snapshot."""

    title: str
    maps: tuple[str, ...]  # heads, or one nameless map
    values: Tensor  # (snapshot map pos unit)
    positions: tuple[str, ...]
    units: tuple[str, ...]
    unit_axis: str
    over_keys: bool  # whether positions are queries and units are keys


@dataclass(frozen=True)
class Axes:
    """What may be chosen of a hook point: a name for each head, position and unit."""

    heads: tuple[str, ...]
    positions: tuple[str, ...]
    units: tuple[str, ...]
    unit_axis: str


def hook_names(subject: Subject) -> tuple[str, ...]:
    """The hook points of the run's model."""
    return tuple(activation_shapes(subject.info.model, 1))


def axes(subject: Subject, text: str, hook: str) -> Axes:
    """What there is to choose from.

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
    heads = (
        tuple(head_name(hook, head) for head in range(shapes[hook][1 + names.index("head")])) if "head" in names else ()
    )
    positions = _numbered(subject, example)
    units = positions if names[-1] == "key" else tuple(str(unit) for unit in range(shapes[hook][-1]))
    return Axes(heads, positions, units, names[-1])


def head_name(hook: str, head: int) -> str:
    return f"L{hook.split('.')[1]}H{head}"


def _numbered(subject: Subject, example: Example) -> tuple[str, ...]:
    """The tokens of an example with their positions."""
    return tuple(f"{label} ({i})" for i, label in enumerate(panels.token_labels(subject, example)))


def film(
    subject: Subject,
    text: str,
    hook: str,
    kind: str,
    form: str = FORMS[0],
    heads: Chosen = (),
    positions: Chosen = (),
    units: Chosen = (),
) -> Film:
    """One hook point, as one of `KINDS` in one of `FORMS`.

    Raises:
        UserError: ``text`` is not an example of the run's task, or there is no such hook point.
    """
    found = _chosen(_values(subject.ensemble, subject, text, hook, kind), heads, positions, units)
    draw = {"heatmap": _heatmap, "histogram": _histogram, "training": _over_training}[form]
    return Film(subject.steps, [panels.timeline(subject), *draw(subject, found)])


def most_changed(subject: Subject, hook: str, before: int, after: int) -> list[tuple[str, int, float]]:
    """The units that differ most between two snapshots, on unseen examples.

    Returns:
        Head or "", unit, and the mean absolute difference, the largest first.

    Raises:
        UserError: no such hook point, or it has no units; the snapshots are one.
    """
    if before == after:
        raise UserError(f"Both snapshots are at step {before:,}; choose two.")
    at = sorted((subject.steps.index(before), subject.steps.index(after)))
    two = subject.ensemble.select(slice(at[0], at[1] + 1, at[1] - at[0]))
    change = mean_absolute_change(two, subject.unseen().tokens, hook)
    best = change.flatten().topk(min(MOST_CHANGED, change.numel()))
    width = change.shape[-1]
    heads = [head_name(hook, head) for head in range(len(change))] if change.ndim > 1 else [""]
    return [
        (heads[place // width], place % width, value)
        for place, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _values(ensemble: Ensemble, subject: Subject, text: str, hook: str, kind: str) -> Values:
    example = subject.task.encode(text)
    batch = example.batch
    _, cache = ensemble.run(batch.tokens, [hook], subject.loss_on(batch) if kind == "gradient" else None)
    values = cache[f"{hook}_grad" if kind == "gradient" else hook]
    if values.shape[1] == 1:
        values = values[:, 0]  # positions have no batch axis of their own, everything else a batch of one
    names = hook_axes(hook)
    if names[-1] == "key":  # what lies in the future is no attention, whatever stands there
        future = torch.ones(values.shape[-2:], dtype=torch.bool).triu(1)
        values = values.masked_fill(future, torch.nan)
    maps = ("",)
    if "head" in names:
        if names[0] != "head":
            values = rearrange(values, "snapshot pos head unit -> snapshot head pos unit")
        maps = tuple(head_name(hook, head) for head in range(values.shape[1]))
    else:
        values = values[:, None]
    over_keys = names[-1] == "key"
    tokens = _numbered(subject, example)
    return Values(
        f"{'gradient at ' if kind == 'gradient' else ''}{hook} on {panels.brief(example.text)}{panels.given(example)}",
        maps,
        values,
        tokens,
        tokens if over_keys else tuple(str(i) for i in range(values.shape[-1])),
        "key" if over_keys else names[-1],
        over_keys,
    )


def _chosen(found: Values, heads: Chosen, positions: Chosen, units: Chosen) -> Values:
    """Only what was chosen, as far as it is there: a choice may have been made on another example."""
    kept, said = [], [found.title]
    unit = "key" if found.over_keys else found.unit_axis
    for name, chosen, labels in (
        ("", heads, found.maps),
        ("position ", positions, found.positions),
        (f"{unit} ", units, found.units),
    ):
        there = sorted(i for i in chosen if i < len(labels)) or list(range(len(labels)))
        if len(there) < len(labels):
            said.append(name + ", ".join(labels[i] for i in there[:MOST_NAMED]) + ", …" * (len(there) > MOST_NAMED))
        kept.append(there)
    maps, rows, columns = kept
    return Values(
        "; ".join(said),
        tuple(found.maps[i] for i in maps),
        found.values[:, maps][:, :, rows][..., columns],
        tuple(found.positions[i] for i in rows),
        tuple(found.units[i] for i in columns),
        found.unit_axis,
        found.over_keys,
    )


def _heatmap(subject: Subject, found: Values) -> list[Panel]:
    rows, columns = ([_label(place) for place in places] for places in (found.positions, found.units))
    row_axis = "query" if found.over_keys else "position"
    return [
        panels.signed_maps("values", found.title, found.maps, found.values, rows, columns, row_axis, found.unit_axis)
    ]


def _label(place: str) -> str:
    """A place without its number, which stands beside it in a map anyway."""
    return place.rsplit(" (", 1)[0]


def _histogram(subject: Subject, found: Values) -> list[Panel]:
    edges, shares = histogram(found.values[:, :MOST_SERIES].flatten(2), BINS)
    middles = [f"{value:.3g}" for value in ((edges[:-1] + edges[1:]) / 2).tolist()]
    title = f"Values of {found.title}"
    return [
        Columns(
            "histogram", title, middles, found.maps[:MOST_SERIES], shares.numpy(), unit="share", category_axis="value"
        )
    ]


def _over_training(subject: Subject, found: Values) -> list[Panel]:
    """How large they are together and at each position; of few, the values themselves, of one unit also of many."""
    by_head = {
        name or "all": values
        for name, values in zip(found.maps, root_mean_square(found.values.flatten(2)).T, strict=True)
    }
    drawn: list[Panel] = [panels.over_snapshots(subject, "rms", f"Root mean square, {found.title}", by_head, unit="")]
    if 1 < len(found.positions) <= MOST_CURVES:
        at_each = root_mean_square(found.values.transpose(1, 2).flatten(2)).T
        curves = dict(zip(found.positions, at_each, strict=True))
        drawn.append(
            panels.over_snapshots(
                subject, "rms-by-position", f"Root mean square at each position, {found.title}", curves, unit=""
            )
        )
    if found.values[0].numel() <= MOST_CURVES:
        values = {
            f"{name} {position} {found.unit_axis} {unit}".strip(): found.values[:, m, p, u]
            for m, name in enumerate(found.maps)
            for p, position in enumerate(found.positions)
            for u, unit in enumerate(found.units)
        }
        drawn.append(panels.over_snapshots(subject, "values", f"Values, {found.title}", values, unit=""))
    elif len(found.units) == 1:
        high = float(found.values.nan_to_num().abs().max()) or 1.0
        for m, name in enumerate(found.maps):
            title = f"Values at each position, {name} {found.title}".replace("  ", " ")
            rows, steps = found.values[:, m, :, 0].T.numpy(), np.array(subject.steps)
            drawn.append(
                Raster(
                    f"values-{name or 'all'}", title, found.positions, steps, rows, -high, high, "", scale="diverging"
                )
            )
    return drawn
