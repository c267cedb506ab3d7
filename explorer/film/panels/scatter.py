"""Points that move in a plane, with one scale for both axes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Num

from explorer.film import palette
from explorer.film.palette import Mode
from explorer.film.panels import figures
from explorer.film.panels.figures import Figure
from explorer.film.panels.panel import Panel

HOVER = "%{text}: %{x:.6g}, %{y:.6g}<extra></extra>"


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
    span: int = field(default=6, kw_only=True)

    def fits(self, n_frames: int) -> bool:
        """Whether every point has a place in each frame."""
        return self.x.shape == self.y.shape == (n_frames, len(self.labels))

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """One frame's points; with ``trail`` also each point's path through all frames.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame.
            mode: of the page on which the figure is shown.
        """
        figure = figures.titled(self.named(frame, steps))
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
        figure.update_layout(
            xaxis_title=figures.escaped(self.x_axis),
            yaxis={"title": figures.escaped(self.y_axis), "scaleanchor": "x"},
            height=560,
            showlegend=False,
        )
        return figure
