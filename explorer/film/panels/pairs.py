"""A value for each pair of snapshots, as a square map with the cursor on both axes.

Axes
    frame    one per snapshot
    row      the same snapshots
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Int, Num

from explorer.film import palette
from explorer.film.palette import Mode, Scale
from explorer.film.panels import figures
from explorer.film.panels.figures import Figure
from explorer.film.panels.panel import Panel, gaps_of, place_of, taken


@dataclass(frozen=True)
class Pairs(Panel):
    """A map with a row and a column for each snapshot; dragging on it moves through the film.

    All snapshots have equal room, since they are dense where the model changes.
    """

    kind: ClassVar[str] = "pairs"

    values: Num[np.ndarray, "row frame"]  # nan: an empty cell
    row_axis: str  # what is of the snapshot of a row
    column_axis: str
    low: float
    high: float
    unit: str
    scale: Scale = "sequential"

    def fits(self, n_frames: int) -> bool:
        """Whether there is a row and a column for each frame."""
        return self.values.shape == (n_frames, n_frames)

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Pairs":
        """The panel with other frames, some of which may be gaps.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """
        values = taken(taken(self.values, places).T, places).T
        return replace(self, values=values, gaps=gaps_of(places))

    def value(self, frame: int, steps: Sequence[int], names: Sequence[str]) -> float:
        """The value in the column of a frame.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame.
            names: the step of the row.

        Raises:
            LookupError: there is no such number.
        """
        row = place_of("/".join(names), [str(step) for step in steps], "step")
        return float(self.values[row, frame])

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """The map, with the frame's snapshot marked on both axes.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame; empty for a panel outside a film.
            mode: of the page on which the figure is shown.
        """
        figure, labels = figures.titled(self.named(frame, steps)), [f"{step:,}" for step in steps]
        shown = figures.few(len(labels))
        figure.add_heatmap(
            z=self.values,
            zmin=self.low,
            zmax=self.high,
            colorscale=figures.colorscale(self.scale, mode),
            text=np.array([[f"{row}, {column}" for column in labels] for row in labels]) if labels else None,
            hovertemplate=f"%{{text}}: %{{z:.6g}} {figures.escaped(self.unit)}<extra></extra>",
        )
        line = {"color": palette.CURSOR[mode], "width": 2}
        figure.add_vline(x=frame, line=line)
        figure.add_hline(y=frame, line=line)
        ticks = {"tickvals": shown, "ticktext": [labels[i] for i in shown]}
        figure.update_xaxes(title=figures.escaped(self.column_axis), constrain="domain", **ticks)
        figure.update_yaxes(title=figures.escaped(self.row_axis), scaleanchor="x", constrain="domain", **ticks)
        figure.update_layout(height=640, showlegend=False)
        return figure
