"""Any activation or gradient of one example, at every snapshot."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explorer.analysis.activations import histogram, mean_absolute_change
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.columns import Columns
from explorer.film.panels.panel import Panel
from explorer.model.architectures import activation_shapes
from explorer.options import Context, choice, several
from explorer.views import activation_points, panels
from explorer.views.activation_curves import over_training
from explorer.views.activation_points import Points
from explorer.views.activation_values import (
    KINDS,
    Activation,
    Axes,
    Selection,
    axes,
    axes_of_batch,
    head_names,
    read,
    select,
)
from explorer.views.subject import Subject
from explorer.views.view import Choices, Item, Link, Links, Note, View, same_labels

PLOTS: Mapping[str, str] = {
    "heatmap": "heatmap",
    "histogram": "histogram",
    "training": "over training",
    "scatter": "scatter",
}
DEFAULT_HOOK = "blocks.0.hook_resid_post"
MAX_SERIES = 8  # in one histogram
N_CHANGED = 10  # units listed as most changed
BINS = 48


def _hooks(context: Context) -> dict[str, str]:
    return {name: name for name in hook_names(context.subject)}


def _labels(which: str) -> Callable[[Context], dict[int, str]]:
    """The choices of the option called ``which``: the labels of an axis of the chosen hook point."""
    return lambda context: dict(enumerate(getattr(_axes(context), which)))


def _axes(context: Context) -> Axes:
    """Of the example, or, in a scatter plot, of unseen examples."""
    subject, hook = context.subject, context.chosen["hook"]
    if _is_scatter(context):
        return axes_of_batch(subject, subject.unseen(2), hook)
    return axes(subject, context.example, hook)


def _is_scatter(context: Context) -> bool:
    return bool(context.chosen["form"] == "scatter")


def _unit_axis(context: Context) -> str:
    return _axes(context).unit_axis


def _quantities(context: Context) -> dict[str, str]:
    return activation_points.quantities(_axes(context)) if _is_scatter(context) else {}


def _colours(context: Context) -> dict[str, str]:
    """What can be coloured by; in a plot over training, the axes of the hook point."""
    found = _axes(context)
    if _is_scatter(context):
        return activation_points.colours(context.subject.unseen())
    position = "query" if found.unit_axis == "key" else "position"
    heads = {"head": "head"} if found.heads else {}
    return {"position": position, **heads, "unit": found.unit_axis}


def _has_units(context: Context) -> bool:
    return _unit_axis(context) != "key" and len(context.subject.steps) > 1


def _steps(context: Context) -> dict[int, str]:
    return {step: f"step {step:,}" for step in context.subject.steps}


def _default_first(context: Context) -> int:
    """The opening step, or the first step if the opening step is the last."""
    opening, steps = context.subject.opening_step(), context.subject.steps
    return opening if opening != steps[-1] else steps[0]


def _default_colour(context: Context) -> str:
    return "answer" if _is_scatter(context) and len(context.chosen["positions"]) == 1 else "position"


def _answered(context: Context) -> Selection:
    """In a scatter plot the position that predicts the first answer, otherwise all."""
    return activation_points.answered_at(context.subject) if _is_scatter(context) else ()


LIST: dict[str, Any] = {"widget": "list", "width": 176, "labelled": True}
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
    positions: Selection = several("Positions", _labels("positions"), preferred=_answered, place="more", per="hook")
    units: Selection = several(
        _unit_axis, _labels("units"), place="more", per="hook", when=lambda context: not _is_scatter(context)
    )
    across: str = choice("Across", _quantities, per="hook", when=_is_scatter, **LIST)
    up: str = choice("Up", _quantities, preferred=lambda context: "PC2", per="hook", when=_is_scatter, **LIST)
    colour: str = choice(
        "Colour",
        _colours,
        preferred=_default_colour,
        per="form",
        when=lambda context: context.chosen["form"] in ("training", "scatter"),
        **LIST,
    )
    first: int = choice("from", _steps, preferred=_default_first, **SNAPSHOT)
    last: int = choice("to", _steps, preferred=lambda context: context.subject.steps[-1], **SNAPSHOT)


class Activations(View[Options]):
    name, title, icon, order = "activations", "Activations", "blur_on", 5
    heading = "What do the neurons and heads compute?"
    sentence = "The activations at one hook point, on one example or over a batch."
    options_type = Options

    def uses_example(self, subject: Subject, options: Options) -> bool:
        return options.form != "scatter"

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        selected = (options.heads, options.positions)
        if options.form == "scatter":
            is_gradient = options.kind == "gradient"
            shown = (options.across, options.up, options.colour)
            return points_film(subject, Points(options.hook, is_gradient, *selected, *shown))
        return film(
            subject, example, options.hook, options.kind, options.form, *selected, options.units, options.colour
        )

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


def hook_names(subject: Subject) -> tuple[str, ...]:
    """The names of all hook points of the run's model.

    Args:
        subject: the run.
    """
    return tuple(activation_shapes(subject.info.model, 1))


def film(
    subject: Subject,
    text: str,
    hook: str,
    kind: str,
    form: str = "heatmap",
    heads: Selection = (),
    positions: Selection = (),
    units: Selection = (),
    colour: str = "position",
) -> Film:
    """The activation or gradient at one hook point, on one example.

    Args:
        subject: the run.
        text: an example of the run's task.
        hook: the name of a hook point.
        kind: one of `KINDS`; the gradient is that of the mean loss over the example's answers.
        form: one of `PLOTS`, but not "scatter".
        heads: the heads to show.
        positions: the positions to show.
        units: the units to show. Indices that this example or hook point does not have are ignored.
        colour: over training, what values share a colour: "head", "position" or "unit".

    Raises:
        UserError: ``text`` is not an example of the run's task, or there is no such hook point.
    """
    activation = select(read(subject, text, hook, kind), heads, positions, units)
    if form == "training":
        shown = over_training(subject, activation, colour)
    else:
        shown = _heatmap(activation) if form == "heatmap" else _histogram(activation)
    return Film(subject.steps, [panels.timeline(subject), *shown])


def points_film(subject: Subject, points: Points) -> Film:
    """The activations of unseen examples at one hook point as points in a plane.

    Args:
        subject: the run.
        points: what is shown.

    Raises:
        UserError: there is no such hook point.
    """
    return Film(subject.steps, [panels.timeline(subject), *activation_points.scatter(subject, points)])


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
    heads = head_names(hook, len(change)) if change.ndim > 1 else ("",)
    return [
        (heads[index // width], index % width, value)
        for index, value in zip(largest.indices.tolist(), largest.values.tolist(), strict=True)
    ]


def _heatmap(activation: Activation) -> list[Panel]:
    rows, columns = ([_without_index(label) for label in labels] for labels in (activation.positions, activation.units))
    return [
        panels.signed_maps(
            "values",
            activation.title,
            activation.maps,
            activation.values,
            rows,
            columns,
            activation.position_axis,
            activation.unit_axis,
        )
    ]


def _without_index(label: str) -> str:
    """A label without its index, which the map's axis shows already."""
    return label.rsplit(" (", 1)[0]


def _histogram(activation: Activation) -> list[Panel]:
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
