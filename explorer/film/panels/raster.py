"""Rows of values over the steps, drawn as one picture that serves as a timeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int, Num, Real

from explorer.film import palette
from explorer.film.palette import Mode, Scale
from explorer.film.panels import figures
from explorer.film.panels.figures import Figure
from explorer.film.panels.panel import Panel, gaps_of, place_of, taken

MAX_HEIGHT = 1800  # pixels, of the rows of a figure


@dataclass(frozen=True)
class Raster(Panel):
    """Rows of values over the steps, with colours for values; dragging on the panel moves through the film."""

    kind: ClassVar[str] = "raster"

    rows: Sequence[str]
    steps: Real[np.ndarray, " point"]  # ascending
    values: Num[np.ndarray, "row point"]  # nan: an empty cell
    low: float
    high: float
    unit: str
    marks: Num[np.ndarray, " row"] | None = None  # the step that is marked in each row; nan: none
    mark: str = "marked"  # what the marked steps are
    scale: Scale = "sequential"
    by_frame: bool = False  # whether the steps are those of the frames, because values were computed at the snapshots

    def fits(self, n_frames: int) -> bool:
        """Whether every row has a label and a value for each of the panel's own steps."""
        fits = self.values.shape == (len(self.rows), len(self.steps))
        return fits and (self.marks is None or self.marks.shape == (len(self.rows),))

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Raster":
        """The panel in a film of other frames. Values that were computed at the snapshots have gaps there.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """
        if not self.by_frame:
            return self
        values = taken(self.values.T, places).T
        return replace(self, steps=np.array(steps), values=values, gaps=gaps_of(places))

    def packed(self, steps: Sequence[int]) -> Mapping[str, Any]:
        """The data for the player.

        Args:
            steps: of the film, one for each frame.

        Returns:
            Besides the fields: ``frames`` (frame,), the place in the panel's own ``steps`` of the last one up to each
            frame.
        """
        frames = np.searchsorted(self.steps, np.array(steps), side="right") - 1  # (frame,)
        return {**super().packed(steps), "frames": frames.clip(0)}

    def value(self, frame: int, steps: Sequence[int], names: Sequence[str]) -> float:
        """The value of a row at the last point up to a frame.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame.
            names: the row.

        Raises:
            LookupError: there is no such number.
        """
        row = place_of("/".join(names), self.rows, "row")
        point = int(np.searchsorted(self.steps, steps[frame], side="right")) - 1
        if point < 0:
            raise LookupError(f"{self.rows[row]} begins later")
        return float(self.values[row, point])

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """All rows over all steps, with the marked step of each.

        Args:
            frame: not used: a raster shows the whole training.
            steps: not used.
            mode: of the page on which the figure is shown.
        """
        figure, shown, labels = figures.titled(self.title), figures.few(len(self.rows)), figures.unique(self.rows)
        figure.add_heatmap(
            z=self.values,
            x=self.steps,
            zmin=self.low,
            zmax=self.high,
            colorscale=figures.colorscale(self.scale, mode),
            hovertemplate=f"row %{{y}}, step %{{x:,}}: %{{z:.6g}} {figures.escaped(self.unit)}<extra></extra>",
        )
        if self.marks is not None:
            figure.add_scatter(
                x=self.marks,
                y=list(range(len(self.rows))),
                mode="markers",
                marker={"symbol": "line-ns-open", "size": 12, "color": palette.CURSOR[mode]},
                hovertemplate=f"{figures.escaped(self.mark)} at step %{{x:,}}<extra></extra>",
            )
        figure.update_yaxes(tickvals=shown, ticktext=[labels[i] for i in shown], autorange="reversed")
        height = 240 + min(18 * len(self.rows), MAX_HEIGHT)
        figure.update_layout(xaxis_title="step", height=height, showlegend=False)
        return figure
