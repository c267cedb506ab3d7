"""What to look at: a sentence for each snapshot, computed from the panels of a film, so that both say the same."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float

from explorer.film.film import Film
from explorer.film.panels.columns import Columns
from explorer.film.panels.curves import Curves
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.panel import Panel
from explorer.film.panels.raster import Raster
from explorer.views.subject import Subject

LOOKED_BACK = 6  # a frame is compared with the one that is this part of the film before it
MOST_NAMED = 4  # names in a list; of more, the number of the others is said
LEAST_CHANGE = 0.02  # of the largest absolute value in the film; smaller changes are not told

Said = Callable[[str, str], str]  # (the value here, the value before) -> a clause


def at_falls(subject: Subject, steps: Sequence[int]) -> list[str]:
    """Which losses fall at each frame, which have fallen and which will, by their deepest falls.

    Args:
        subject: the run. Its losses on unseen data are told where there are any.
        steps: (frame,)

    Returns:
        (frame,) sentences.
    """
    losses = subject.losses()[0]
    found = []
    for group, members in subject.groups.items():
        measured = losses.of(members, group)
        (fall,) = measured.deepest
        if fall is not None:
            name = group if len(subject.groups) > 1 else "the loss on unseen data" if losses.kind else "the loss"
            depth = f"{name} (from {fall.before:.2g} to {fall.after:.2g} nats)"
            found.append((measured.step(fall.begins), measured.step(fall.ends), name, depth))
    found.sort()
    sentences = []
    for step in steps:
        parts = []
        if now := [depth for begins, ends, _, depth in found if begins <= step < ends]:
            parts.append(f"Falling now: {listed(now)}.")
        if done := [name for _, ends, name, _ in found if ends <= step]:
            parts.append(f"Fallen: {listed(done)}.")
        if later := [(begins, name) for begins, _, name, _ in found if step < begins]:
            parts.append(f"Still to fall: {listed(name for _, name in later)}, from step {later[0][0]:,} on.")
        sentences.append(" ".join(parts) or "No loss of this run falls by more than its noise.")
    return sentences


def from_first_fall(subject: Subject, steps: Sequence[int], sentences: Sequence[str]) -> list[str]:
    """What to look at, and before the first phase change that there is little to see yet.

    Args:
        subject: the run.
        steps: (frame,)
        sentences: (frame,) or none.

    Returns:
        (frame,) sentences; none if there were none.
    """
    begins = subject.first_fall()
    return [
        f"Little to see yet: the first phase change begins at step {begins:,}. End shows the finished model."
        if begins is not None and step < begins
        else sentence
        for step, sentence in zip(steps, sentences, strict=False)
    ]


def largest_change(film: Film, ids: Sequence[str] = ()) -> list[str]:
    """What has changed most in a panel at each frame, compared with an earlier one.

    Args:
        film: the panels.
        ids: of the panel to look at, the first that the film has; none: the first one whose changes can be told.

    Returns:
        (frame,) sentences; none if no panel's changes can be told.
    """
    panels = [panel for panel in film.panels if panel.id in ids] if ids else film.panels
    for panel in panels:
        told = _told(panel, film.steps)
        if told is not None:
            return told
    return []


def highest(film: Film, id: str, what: str) -> list[str]:
    """Which curve of a panel is the highest at each frame.

    Args:
        film: the panels.
        id: of a panel of curves with a value at each frame.
        what: the name of the values, "induction score".

    Returns:
        (frame,) sentences; none if the film has no such panel.
    """
    for panel in film.panels:
        if panel.id == id and isinstance(panel, Curves) and panel.by_frame:
            values = np.stack([line.values for line in panel.lines], 1)
            values = np.where(np.isfinite(values), values, -np.inf)
            best, final = values.argmax(1), values[-1]
            return [
                f"{panel.lines[one].label} has the highest {what}, {row[one]:.2f}; "
                f"at step {film.steps[-1]:,} it has {final[one]:.2f}."
                for one, row in zip(best.tolist(), values, strict=True)
            ]
    return []


def beside_the_first(film: Film, id: str, clause: str) -> list[str]:
    """The value of a panel's second curve at each frame beside that of its first.

    Args:
        film: the panels.
        id: of a panel of curves with a value at each frame.
        clause: "with {name} the loss is {value} nats, without {first}": of the second curve its name and value, and
            the value of the first.

    Returns:
        (frame,) sentences; none if the film has no such panel.
    """
    for panel in film.panels:
        if panel.id == id and isinstance(panel, Curves) and panel.by_frame and len(panel.lines) > 1:
            one, other = panel.lines[:2]
            pairs = zip(one.values.tolist(), other.values.tolist(), strict=True)
            return [
                clause.format(name=other.label, value=f"{value:.2f}", first=f"{first:.2f}") for first, value in pairs
            ]
    return []


def listed(names: Iterable[str]) -> str:
    """Names as a list in words, "a, b and c"; of many, the first ones and how many others there are.

    Args:
        names: at least one.
    """
    every = list(names)
    shown = every[:MOST_NAMED] if len(every) > MOST_NAMED + 1 else every
    if len(shown) < len(every):
        shown = [*shown, f"{len(every) - len(shown)} others"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _told(panel: Panel, steps: Sequence[int]) -> list[str] | None:
    match panel:
        case Heatmaps():
            values = panel.values.reshape(len(steps), -1)
            shape = panel.values.shape[1:]

            def of_cell(place: int) -> Said:
                one, row, column = (int(i) for i in np.unravel_index(place, shape))
                name, query, key = panel.maps[one], _placed(panel.rows, row), _placed(panel.columns, column)
                if panel.id == "patterns":
                    return lambda now, then: f"{name} puts {now} of its attention from {query} on {key}{then}"
                where = f"{name}, " if name else ""
                return lambda now, then: f"{where}{panel.row_axis} {query}, {panel.column_axis} {key}: {now}{then}"

            return _sentences(values, steps, of_cell)
        case Columns():
            names = [f"{series} {one}".strip() for series in panel.series for one in panel.categories]
            if len(panel.series) == 1:
                names = list(panel.categories)
            return _sentences(panel.values.reshape(len(steps), -1), steps, _named(names, panel.category_axis))
        case Raster(by_frame=True):
            return _sentences(panel.values.T, steps, _named(panel.rows))
        case Curves(by_frame=True):
            values = np.stack([line.values for line in panel.lines], 1)
            return _sentences(values, steps, _named([line.label for line in panel.lines], unit=panel.unit))
    return None


def _sentences(
    values: Float[np.ndarray, "frame value"], steps: Sequence[int], name: Callable[[int], Said]
) -> list[str] | None:
    """The largest change of a frame's values from those of an earlier frame; of the first frame's, to the last's."""
    if len(values) != len(steps):
        return None
    values = np.where(np.isfinite(values), values, 0)
    least = LEAST_CHANGE * float(np.abs(values).max(initial=0))
    back = max(1, len(steps) // LOOKED_BACK)
    sentences = []
    for frame, step in enumerate(steps):
        other = frame - min(back, frame) if frame else len(steps) - 1
        change = np.abs(values[frame] - values[other])
        place = int(change.argmax())
        when = f"at step {steps[other]:,}"
        if change[place] <= least:
            sentences.append(f"Hardly anything differs here from what it is {when}.")
            continue
        now, then = (f"{values[at, place]:.2f}" for at in (frame, other))
        if now == then:
            now, then = (f"{values[at, place]:.3g}" for at in (frame, other))
        verb = "it was" if steps[other] < step else "it will be"
        sentences.append(f"Changed most: {name(place)(now, f'; {when} {verb} {then}')}.")
    return sentences


def _named(names: Sequence[str], axis: str = "", unit: str = "") -> Callable[[int], Said]:
    before, after = f"{axis} " if axis else "", f" ({unit})" if unit else ""
    return lambda place: lambda now, then: f"{before}{names[place]}{after}: {now}{then}"


def _placed(labels: Sequence[str], place: int) -> str:
    """A label, with its place if it stands for a token."""
    label = labels[place]
    return f"‘{label}’ at {place}" if len(set(labels)) < len(labels) else label
