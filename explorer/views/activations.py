"""Any activation or gradient of one example, at every snapshot."""

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor

from explorer.analysis.activations import change_of_units, histogram, norms
from explorer.errors import UserError
from explorer.film.film import Columns, Film
from explorer.hooks import hook_axes
from explorer.views import panels
from explorer.views.subject import Subject

KINDS = ("activation", "gradient")
FORMS = ("heatmap", "histogram", "over training")
MOST_SERIES = 8  # in one histogram
MOST_CURVES = 24  # in one panel; of more, only the mean
MOST_CHANGED = 10  # units that are named

Chosen = tuple[int, ...]  # places on an axis; none means all


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
    """The hook points there are."""
    return subject.ensemble.model(slice(0, 1)).hook_names


def axes(subject: Subject, text: str, hook: str) -> Axes:
    """What there is to choose from.

    Raises:
        UserError: ``text`` is not an example of the run's task, or there is no such hook point.
    """
    found = _values(subject.ensemble.select(slice(0, 1)), subject, text, hook, KINDS[0])
    heads = found.maps if found.maps != ("",) else ()
    positions = tuple(f"{i}: {label}" for i, label in enumerate(found.positions))
    units = tuple(f"{i}: {label}" for i, label in enumerate(found.units)) if found.over_keys else found.units
    return Axes(heads, positions, units, found.unit_axis)


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
    panel = {"heatmap": _heatmap, "histogram": _histogram, "over training": _over_training}[form](subject, found)
    return Film(subject.steps, [panels.timeline(subject), *(panel if isinstance(panel, list) else [panel])])


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
    change = change_of_units(two, subject.unseen().tokens, hook)
    best = change.flatten().topk(min(MOST_CHANGED, change.numel()))
    width = change.shape[-1]
    heads = [f"L{hook.split('.')[1]}H{head}" for head in range(len(change))] if change.ndim > 1 else [""]
    return [
        (heads[place // width], place % width, value)
        for place, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _values(ensemble, subject: Subject, text: str, hook: str, kind: str) -> Values:
    example = subject.task.encode(text)
    batch = example.batch
    _, cache = ensemble.run(batch.tokens, [hook], subject.loss_on(batch) if kind == "gradient" else None)
    values = cache[f"{hook}_grad" if kind == "gradient" else hook]
    if values.shape[1] == 1:
        values = values[:, 0]  # positions have no batch axis of their own, everything else a batch of one
    names = hook_axes(hook)
    maps = ("",)
    if "head" in names:
        if names[0] != "head":
            values = rearrange(values, "snapshot pos head unit -> snapshot head pos unit")
        maps = tuple(f"L{hook.split('.')[1]}H{head}" for head in range(values.shape[1]))
    else:
        values = values[:, None]
    tokens = tuple(panels.token_labels(subject, example))
    over_keys = names[-1] == "key"
    return Values(
        f"{'gradient at ' if kind == 'gradient' else ''}{hook} on {panels.brief(example.text)}",
        maps,
        values,
        tokens,
        tokens if over_keys else tuple(str(i) for i in range(values.shape[-1])),
        "key" if over_keys else names[-1],
        over_keys,
    )


def _chosen(found: Values, heads: Chosen, positions: Chosen, units: Chosen) -> Values:
    """Only what was chosen, as far as it is there: a choice may have been made at another hook point."""
    kept = []
    for chosen, labels in zip((heads, positions, units), (found.maps, found.positions, found.units), strict=True):
        there = sorted(i for i in chosen if i < len(labels))
        kept.append(there or list(range(len(labels))))
    maps, rows, columns = kept
    return Values(
        found.title,
        tuple(found.maps[i] for i in maps),
        found.values[:, maps][:, :, rows][..., columns],
        tuple(found.positions[i] for i in rows),
        tuple(found.units[i] for i in columns),
        found.unit_axis,
        found.over_keys,
    )


def _heatmap(subject: Subject, found: Values):
    row_axis = "query" if found.over_keys else "position"
    return panels.signed_maps(
        found.title, found.maps, found.values, found.positions, found.units, row_axis, found.unit_axis
    )


def _histogram(subject: Subject, found: Values):
    shown = found.values[:, :MOST_SERIES]
    edges, shares = histogram(shown.flatten(2))
    middles = (edges[:-1] + edges[1:]) / 2
    return Columns(
        f"Values of {found.title}",
        [f"{value:.3g}" for value in middles.tolist()],
        found.maps[:MOST_SERIES],
        shares.numpy(),
        unit="share",
        category_axis="value",
    )


def _over_training(subject: Subject, found: Values):
    """The size of all, by head and by position; of a few units, the values themselves."""
    curves = [("Root mean square", norms(found.values.flatten(2)), found.maps, "root mean square")]
    places = [f"{label} ({i})" for i, label in enumerate(found.positions)]
    if 1 < len(places) <= MOST_CURVES:
        curves.append(("Root mean square at each position", norms(found.values.transpose(1, 2).flatten(2)), places, ""))
    single = [
        (f"{name} {label} {found.unit_axis} {unit}".strip(), found.values[:, m, p, u])
        for m, name in enumerate(found.maps)
        for p, label in enumerate(places)
        for u, unit in enumerate(found.units)
        if found.values[0].numel() <= MOST_CURVES
    ]
    drawn = [
        panels.over_snapshots(
            subject,
            f"{title}, {found.title}",
            {name or "all": values[:, i] for i, name in enumerate(names)},
            unit="",
        )
        for title, values, names, _ in curves
    ]
    if single:
        drawn.append(panels.over_snapshots(subject, f"Values, {found.title}", dict(single), unit=""))
    return drawn
