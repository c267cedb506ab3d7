"""Curves over the steps: a timeline to drag on.

Axes
    frame    one per snapshot
    point    measurements along the training
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Num, Real

from explorer.film import palette
from explorer.film.palette import Mode
from explorer.film.panels import figures
from explorer.film.panels.figures import Figure
from explorer.film.panels.panel import Panel

BUCKETS = 2000  # of a curve's steps in a panel of all columns: more than a screen has pixels


@dataclass(frozen=True)
class Line:
    """One curve. ``colour`` is a place in the palette; ``dashed`` tells a pair apart, as test from train.

    Curves of one ``group`` stand in the legend as one, by its name and with their mean.
    """

    label: str
    steps: Real[np.ndarray, " point"]  # ascending
    values: Num[np.ndarray, " point"]  # nan: a gap
    colour: int
    dashed: bool = False
    strong: bool = False  # drawn in the text colour and wider: the overall curve among its parts
    group: str = ""  # if it is one of several
    smoothed: Num[np.ndarray, " point"] | None = None  # the same after smoothing, if the panel has a switch for it

    def packed(self, stands: Real[np.ndarray, " frame"], buckets: int = BUCKETS) -> dict[str, Any]:
        """What travels: the curve as far as a screen can show it, and its exact values where the panel stands.

        Args:
            stands: the panel's step in each frame.
            buckets: see `thinned`.
        """
        shown = {"raw": self.values} if self.smoothed is None else {"raw": self.values, "smoothed": self.smoothed}
        at = np.searchsorted(self.steps, stands, side="right") - 1  # (frame,) the last point that is not later
        at = at.clip(0)[: len(self.steps) and None]  # no frames where nothing is measured
        drawn = {}
        for name, values in shown.items():
            kept = thinned(self.steps, values, buckets)
            drawn[name] = {"steps": self.steps[kept], "values": values[kept], "frames": values[at]}
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
    """A step to be seen on a timeline, in the colour of the line that it belongs to."""

    label: str
    step: int
    colour: int
    group: str  # of the lines that it belongs to


@dataclass(frozen=True)
class Curves(Panel):
    """Curves over the steps; the panel is a timeline to drag on."""

    kind: ClassVar[str] = "curves"

    lines: Sequence[Line]
    unit: str = "nats"
    references: Sequence[tuple[str, float]] = ()  # horizontal lines
    marks: Sequence[Mark] = ()
    smoothing: float = 0.0  # a step, of the exponential average that gave the lines' ``smoothed``; 0: they have none
    at: Real[np.ndarray, " frame"] | None = None  # ascending: where a panel stands that shows another run
    log: bool = False  # whether the scale is logarithmic to begin with
    height: int = 320  # pixels

    def fits(self, n_frames: int) -> bool:
        """Whether there are curves, all smoothed or none, and a place in them for each frame."""
        shapes = all(line.steps.shape == line.values.shape for line in self.lines)
        smoothed = [line.smoothed for line in self.lines if line.smoothed is not None]
        shapes = shapes and len(smoothed) == (len(self.lines) if self.smoothing else 0)
        shapes = shapes and all(line.smoothed is None or line.smoothed.shape == line.steps.shape for line in self.lines)
        return bool(self.lines) and shapes and (self.at is None or self.at.shape == (n_frames,))

    def packed(self, steps: Sequence[int]) -> Mapping[str, Any]:
        """What travels: curves thinned to what a screen can show, and exact values at the frames.

        Args:
            steps: of the film, one for each frame.
        """
        stands = np.array(steps) if self.at is None else self.at
        buckets = BUCKETS * self.span // 12
        return {**super().packed(steps), "lines": [line.packed(stands, buckets) for line in self.lines]}

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """Curves over all steps, on a linear or logarithmic axis that a button changes, with the frame's step marked.

        Args:
            frame: which.
            steps: of the film, one for each frame.
            mode: of the page on which the figure is shown.
        """
        figure, dotted, unit = figures.titled(self.title), figures.dotted(mode), figures.escaped(self.unit)
        for line in self.lines:
            label, kept = figures.escaped(line.label), thinned(line.steps, line.values)
            colour = palette.STRONG[mode] if line.strong else figures.colour(line.colour, mode)
            figure.add_scatter(
                x=line.steps[kept],
                y=line.values[kept],
                name=label,
                mode="lines" if len(line.steps) > 120 else "lines+markers",
                line={"color": colour, "dash": "dash" if line.dashed else "solid", "width": 1.5},
                marker={"size": 4},
                hovertemplate=f"{label}, step %{{x:,}}: %{{y:.6g}} {unit}<extra></extra>",
            )
        for label, value in self.references:
            figure.add_hline(y=value, line=dotted, annotation_text=figures.escaped(f"{label} {value:.4g}"))
        for mark in self.marks:
            flag = {"text": figures.escaped(mark.label), "textangle": -90, "font": {"size": 10}}
            figure.add_vline(x=mark.step, line=dotted, annotation=flag)
        here = steps[frame] if self.at is None else self.at[frame]
        figure.add_vline(x=here, line={"color": palette.CURSOR[mode], "width": 2})
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
                    "bgcolor": "rgba(135, 149, 163, 0.15)",
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
    """The points that a screen can show: the first, the last, the lowest and the highest of each of many stretches.

    Args:
        steps: ascending.
        values: nan is a gap.
        buckets: into how many stretches of equal length the steps are divided.

    Returns:
        The places of at most four points in each stretch, ascending; of a curve with few points, all of them.
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
