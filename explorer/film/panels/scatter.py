"""Points that move in a plane, with one scale for both axes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int, Num

from explorer.film import palette
from explorer.film.palette import Mode
from explorer.film.panels import figures
from explorer.film.panels.figures import Figure
from explorer.film.panels.panel import Panel, gaps_of, taken

HOVER = "%{text}: %{x:.6g}, %{y:.6g}<extra></extra>"


@dataclass(frozen=True)
class Colouring:
    """What the colours of points mean: a category each, or a number."""

    name: str
    values: Num[np.ndarray, "frame_or_one point"]  # places of categories, or numbers; one row: the same in all frames
    categories: Sequence[str] = ()  # none: the values are numbers
    low: float = 0.0  # of numbers: the value with the first colour
    high: float = 1.0  # of numbers: the value with the last colour

    def fits(self, n_frames: int, n_points: int) -> bool:
        """Whether every point has a value in each frame, and a category if there are any."""
        if self.values.shape not in ((1, n_points), (n_frames, n_points)):
            return False
        return not self.categories or bool(np.isin(self.values, np.arange(len(self.categories))).all())

    def framed(self, places: Int[np.ndarray, " frame"]) -> "Colouring":
        """The colouring in other frames; what a gap is coloured by does not matter."""
        return self if len(self.values) == 1 else replace(self, values=self.values[places.clip(0)])

    def at(self, frame: int) -> Num[np.ndarray, " point"]:
        """The values in a frame."""
        return self.values[frame if len(self.values) > 1 else 0]


@dataclass(frozen=True)
class Scatter(Panel):
    """Points that move in a plane. The axes have one scale and stay fixed over all frames."""

    kind: ClassVar[str] = "scatter"

    labels: Sequence[str]  # (point,)
    x: Num[np.ndarray, "frame point"]
    y: Num[np.ndarray, "frame point"]
    x_axis: str
    y_axis: str
    trail: bool = False  # draw each point's path through all frames
    ring: bool = False  # join neighbouring points by a line, the last with the first
    colouring: Colouring | None = None  # None: each point has a colour of its own
    span: int = field(default=6, kw_only=True)

    def fits(self, n_frames: int) -> bool:
        """Whether every point has a place in each frame, and a colour."""
        places = self.x.shape == self.y.shape == (n_frames, len(self.labels))
        return places and (self.colouring is None or self.colouring.fits(n_frames, len(self.labels)))

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Scatter":
        """The panel with other frames, some of which may be gaps, which have no values.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """
        colouring = None if self.colouring is None else self.colouring.framed(places)
        x, y = taken(self.x, places), taken(self.y, places)
        return replace(self, x=x, y=y, colouring=colouring, gaps=gaps_of(places))

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """One frame's points; with ``trail`` also each point's path through all frames.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame.
            mode: of the page on which the figure is shown.
        """
        figure = figures.titled(self.named(frame, steps))
        figure.update_layout(
            xaxis_title=figures.escaped(self.x_axis),
            yaxis={"title": figures.escaped(self.y_axis), "scaleanchor": "x"},
            height=560,
            showlegend=False,
        )
        if self.colouring is not None:
            self._add_coloured(figure, self.colouring, frame, mode)
            return figure
        labels = [figures.escaped(label) for label in self.labels]
        colours = [palette.category(place, mode) for place in range(len(labels))]
        if self.ring:
            colours = palette.ring(len(labels), mode)
            around = [*range(len(labels)), 0]
            figure.add_scatter(
                x=self.x[frame, around],
                y=self.y[frame, around],
                mode="lines",
                line={"width": 1, "color": palette.LINE[mode]},
                hoverinfo="skip",
            )
        for place, label in enumerate(labels if self.trail else ()):
            figure.add_scatter(
                x=self.x[:, place],
                y=self.y[:, place],
                mode="lines+markers",
                marker={"color": colours[place], "size": 4},
                line={"width": 1, "color": colours[place]},
                text=[f"{label}, step {step:,}" for step in steps],
                hovertemplate=HOVER,
            )
        figure.add_scatter(
            x=self.x[frame],
            y=self.y[frame],
            mode="markers" if self.trail else "markers+text",
            text=labels,
            textposition="top center",
            marker={"color": palette.CURSOR[mode] if self.trail else colours, "size": 7},
            hovertemplate=HOVER,
        )
        return figure

    def _add_coloured(self, figure: Figure, colouring: Colouring, frame: int, mode: Mode) -> None:
        """Add a trace for each category, or one with a scale of colours."""
        values = colouring.at(frame)
        labels = np.array([figures.escaped(label) for label in self.labels], dtype=object)
        name = figures.escaped(colouring.name)
        traces: list[tuple[str, Any, Any]] = []
        if colouring.categories:
            colours = palette.categories(len(colouring.categories), mode)
            for place, category in enumerate(colouring.categories):
                marker: dict[str, Any] = {"color": colours[place]}
                traces.append((figures.escaped(category), values == place, marker))
            figure.update_layout(showlegend=True, legend_title=name)
        else:
            stops = palette.RAMPS[mode]["sequential"]
            scale = [(i / (len(stops) - 1), stop) for i, stop in enumerate(stops)]
            ends = {"cmin": colouring.low, "cmax": colouring.high}
            marker = {"color": values, "colorscale": scale, "colorbar": {"title": name}, **ends}
            traces.append(("", slice(None), marker))
        for category, shown, marker in traces:
            figure.add_scatter(
                x=self.x[frame, shown],
                y=self.y[frame, shown],
                mode="markers",
                name=category,
                text=labels[shown],
                marker={"size": 7, **marker},
                hovertemplate=HOVER,
            )
