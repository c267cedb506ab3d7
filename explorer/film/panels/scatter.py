"""Points that move on two axes of one scale."""

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


@dataclass(frozen=True)
class Scatter(Panel):
    """Points that move, on axes that stay fixed over all frames and have one scale."""

    kind: ClassVar[str] = "scatter"

    labels: Sequence[str]  # (point,)
    x: Num[np.ndarray, "frame point"]
    y: Num[np.ndarray, "frame point"]
    x_axis: str
    y_axis: str
    trail: bool = False  # each point draws its path through all frames
    ring: bool = False  # a line joins the points, the last with the first
    span: int = field(default=6, kw_only=True)

    def fits(self, n_frames: int) -> bool:
        """Whether every point has a place in each frame."""
        return self.x.shape == self.y.shape == (n_frames, len(self.labels))

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """One frame's points, or the paths through all frames.

        Args:
            frame: which.
            steps: of the film, one for each frame.
            mode: of the page on which the figure is shown.
        """
        x, y = (self.x, self.y) if self.trail else (self.x[frame], self.y[frame])
        labels = [f"step {step:,}" for step in steps] if self.trail else self.labels
        figure = figures.titled(self.named(frame, steps))
        figure.add_scatter(
            x=x.flatten(),
            y=y.flatten(),
            mode="lines+markers" if self.trail else "markers+text",
            text=[figures.escaped(label) for label in labels],
            textposition="top center",
            marker={"color": np.arange(x.size), "colorscale": "Viridis" if self.trail else "HSV", "size": 7},
            line={"width": 1, "color": palette.MUTED[mode]},
            hovertemplate="%{text}: %{x:.6g}, %{y:.6g}<extra></extra>",
        )
        figure.update_layout(
            xaxis_title=figures.escaped(self.x_axis),
            yaxis={"title": figures.escaped(self.y_axis), "scaleanchor": "x"},
            height=560,
            showlegend=False,
        )
        return figure
