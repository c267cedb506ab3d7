"""Curves over the steps, which serve as a timeline.

Axes
    frame    one per snapshot
    point    measurements during the training
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int, Num, Real

from explorer.film import palette
from explorer.film.palette import Mode
from explorer.film.panels import figures
from explorer.film.panels.figures import Figure
from explorer.film.panels.panel import Panel, gaps_of, place_of, taken

BUCKETS = 2000  # into which a curve is thinned in a panel of full width: more than a screen has pixels


@dataclass(frozen=True)
class Line:
    """One curve."""

    label: str
    steps: Real[np.ndarray, " point"]  # ascending
    values: Num[np.ndarray, " point"]  # nan: a gap
    colour: int  # place in the palette
    dashed: bool = False  # tells two curves of one colour apart, such as train and test
    strong: bool = False  # drawn wider and in the colour of text: the total among its parts
    group: str = ""  # the legend shows all curves of a group as one entry, with their mean; empty: an entry of its own
    smoothed: Num[np.ndarray, " point"] | None = None  # the values after smoothing, if any
    interval: Num[np.ndarray, " point"] | None = None  # how far each value may be from the truth, on either side

    def fits(self) -> bool:
        """Whether everything that belongs to a point has one value for each point."""
        beside = (self.values, self.smoothed, self.interval)
        return all(values is None or values.shape == self.steps.shape for values in beside)

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Line":
        """A curve with a point at each frame, at other frames; as `Curves.framed`."""
        interval = None if self.interval is None else taken(self.interval, places)
        return replace(self, steps=np.array(steps), values=taken(self.values, places), interval=interval)

    def packed(self, frames: Real[np.ndarray, " frame"], buckets: int = BUCKETS) -> dict[str, Any]:
        """The data of the curve for the player: thinned to what a screen can show, and exact at the frames.

        Args:
            frames: the step that the panel shows in each frame.
            buckets: see `thinned`.

        Returns:
            Besides the fields: ``measured``, the step of the last point up to each frame; under ``raw`` and
            ``smoothed``, the thinned ``steps`` and ``values``, and the exact values at ``measured`` as ``frames``. A
            curve without points has empty arrays. Values with an interval have it beside them, as ``interval`` and
            ``margins``, the exact one at each frame.
        """
        shown = {"raw": self.values} if self.smoothed is None else {"raw": self.values, "smoothed": self.smoothed}
        if len(self.steps):
            at = (np.searchsorted(self.steps, frames, side="right") - 1).clip(0)  # (frame,) places of points
        else:
            at = np.zeros(0, dtype=np.int64)
        drawn = {}
        for name, values in shown.items():
            kept = thinned(self.steps, values, buckets)
            drawn[name] = {"steps": self.steps[kept], "values": values[kept], "frames": values[at]}
            if name == "raw" and self.interval is not None:
                drawn[name] |= {"interval": self.interval[kept], "margins": self.interval[at]}
        return {
            "label": self.label,
            "colour": self.colour,
            "dashed": self.dashed,
            "strong": self.strong,
            "group": self.group or self.label,
            "measured": self.steps[at],
            **drawn,
        }


@dataclass(frozen=True)
class Mark:
    """A flag at a step of a timeline, or on a stretch of it."""

    label: str
    step: int
    colour: int  # place in the palette
    group: str  # of lines; the flag is hidden with them
    until: int | None = None  # the last step of a stretch


@dataclass(frozen=True)
class Curves(Panel):
    """Curves over the steps; dragging on the panel moves through the film."""

    kind: ClassVar[str] = "curves"

    lines: Sequence[Line]
    unit: str = "nats"
    references: Sequence[tuple[str, float]] = ()  # horizontal lines
    marks: Sequence[Mark] = ()
    smoothing: float = 0.0  # beta per step of the exponential average in the lines' ``smoothed``; 0: they have none
    at: Real[np.ndarray, " frame"] | None = None  # ascending, the step that each frame shows; None: the film's
    log: bool = False  # whether the scale is logarithmic until the reader changes it
    height: int = 320  # pixels
    axes: str = ""  # panels of a film with the same name here have the same axes; empty: axes of its own
    by_frame: bool = False  # whether the steps are those of the frames, because values were computed at the snapshots

    def fits(self, n_frames: int) -> bool:
        """Whether there is a curve, either all or none are smoothed, and ``at`` has a step for each frame."""
        smoothed = [line.smoothed for line in self.lines if line.smoothed is not None]
        shapes = all(line.fits() for line in self.lines)
        shapes = shapes and len(smoothed) == (len(self.lines) if self.smoothing else 0)
        return bool(self.lines) and shapes and (self.at is None or self.at.shape == (n_frames,))

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Curves":
        """The panel in a film of other frames. Curves that were computed at the snapshots have gaps there.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """
        if self.at is not None:
            return replace(self, at=self.at[np.maximum.accumulate(places).clip(0)])
        if not self.by_frame:
            return self
        lines = [line.framed(places, steps) for line in self.lines]
        return replace(self, lines=lines, gaps=gaps_of(places))

    def packed(self, steps: Sequence[int]) -> Mapping[str, Any]:
        """The data for the player, with each line as `Line.packed` gives it.

        Args:
            steps: of the film, one for each frame.
        """
        frames = np.array(steps) if self.at is None else self.at  # (frame,)
        buckets = BUCKETS * self.span // 12
        return {**super().packed(steps), "lines": [line.packed(frames, buckets) for line in self.lines]}

    def value(self, frame: int, steps: Sequence[int], names: Sequence[str]) -> float:
        """The value of a curve at the last point up to a frame, smoothed if the curve is.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame.
            names: the curve's label.

        Raises:
            LookupError: there is no such number.
        """
        line = self.lines[place_of("/".join(names), [line.label for line in self.lines], "curve")]
        shown = steps if self.at is None else self.at
        point = int(np.searchsorted(line.steps, shown[frame], side="right")) - 1
        if point < 0:
            raise LookupError(f"the curve {line.label} begins later")
        return float((line.values if line.smoothed is None else line.smoothed)[point])

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """Curves over all steps, with the frame's step marked, and a button each for a linear and a logarithmic axis.

        Curves that have smoothed values show those, and the axis says so.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame; empty for a panel outside a film.
            mode: of the page on which the figure is shown.
        """
        figure, dotted, unit = figures.titled(self.title), figures.dotted(mode), figures.escaped(self.unit)
        if self.smoothing:
            unit += ", smoothed"
        for line in self.lines:
            values = line.values if line.smoothed is None else line.smoothed
            label, kept = figures.escaped(line.label), thinned(line.steps, values)
            colour = palette.STRONG[mode] if line.strong else palette.category(line.colour, mode)
            margin = "" if line.interval is None else " ± %{error_y.array:.2g}"
            bars = None if line.interval is None else {"array": line.interval[kept], "thickness": 1, "width": 0}
            figure.add_scatter(
                error_y=bars,
                x=line.steps[kept],
                y=values[kept],
                name=label,
                mode="lines" if len(line.steps) > 120 else "lines+markers",
                line={"color": colour, "dash": "dash" if line.dashed else "solid", "width": 1.5},
                marker={"size": 4},
                hovertemplate=f"{label}, step %{{x:,}}: %{{y:.6g}}{margin} {unit}<extra></extra>",
            )
        for label, value in self.references:
            figure.add_hline(y=value, line=dotted, annotation_text=figures.escaped(f"{label} {value:.4g}"))
        for mark in self.marks:
            flag = {"text": figures.escaped(mark.label), "textangle": -90, "font": {"size": 10}}
            if mark.until is None:
                figure.add_vline(x=mark.step, line=dotted, annotation=flag)
            else:
                fill = palette.category(mark.colour, mode)
                figure.add_vrect(mark.step, mark.until, fillcolor=fill, opacity=0.15, line=dotted, annotation=flag)
        shown = steps if self.at is None else self.at
        if len(shown):
            figure.add_vline(x=shown[frame], line={"color": palette.CURSOR[mode], "width": 2})
        buttons = [{"label": kind, "method": "relayout", "args": [{"yaxis.type": kind}]} for kind in ("linear", "log")]
        figure.update_layout(
            xaxis_title="step",
            yaxis={"title": unit, "type": "log" if self.log else "linear"},
            updatemenus=[
                {
                    "type": "buttons",
                    "direction": "right",
                    "buttons": buttons,
                    "showactive": False,
                    "bgcolor": palette.WASH[mode],
                    "bordercolor": palette.MUTED[mode],
                    "x": 1,
                    "xanchor": "right",
                    "y": 1.14,
                }
            ],
        )
        return figure


def thinned(
    steps: Real[np.ndarray, " point"], values: Num[np.ndarray, " point"], buckets: int = BUCKETS
) -> Real[np.ndarray, " kept"] | slice:
    """The points of a curve that a screen can show: the first, last, lowest and highest point of each bucket.

    Args:
        steps: ascending.
        values: nan is a gap.
        buckets: intervals of equal length into which the steps are divided.

    Returns:
        Places of points, ascending, at most four for each bucket; all places if there are few.
    """
    n = len(steps)
    if n <= 2 * buckets:
        return slice(None)
    span = float(steps[-1] - steps[0]) or 1.0
    bucket = np.minimum((steps - steps[0]) * (buckets / span), buckets - 1).astype(np.int64)  # (point,)
    changes = np.flatnonzero(np.diff(bucket))
    firsts, lasts = np.append(0, changes + 1), np.append(changes, n - 1)
    row = np.repeat(np.arange(len(firsts)), lasts - firsts + 1)  # (point,) of ``firsts``
    finite = np.where(np.isfinite(values), values, np.nan)
    kept = [firsts, lasts]
    for extreme in (np.fmin, np.fmax):
        places = np.flatnonzero(finite == extreme.reduceat(finite, firsts)[row])
        kept.append(places[np.diff(row[places], prepend=-1) > 0])  # the first of each bucket
    return np.unique(np.concatenate(kept))
