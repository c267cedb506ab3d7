"""A grid of maps that share labels and one colour scale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int, Num

from explorer.film.palette import Mode, Scale
from explorer.film.panels import figures
from explorer.film.panels.figures import Figure
from explorer.film.panels.panel import Panel, gaps_of, place_of, taken

MOST_ACROSS = 4  # maps in a row of a figure's grid


@dataclass(frozen=True)
class Heatmaps(Panel):
    """A grid of maps that share labels and one colour scale, which is fixed over all frames."""

    kind: ClassVar[str] = "heatmaps"

    maps: Sequence[str]
    values: Num[np.ndarray, "frame map row column"]  # not finite: an empty cell
    rows: Sequence[str]
    columns: Sequence[str]
    row_axis: str
    column_axis: str
    low: float
    high: float
    scale: Scale = "sequential"
    full_colour_at: float | None = None  # from this absolute value on, the colour is the scale's last; None: ``high``
    outlines: Sequence[tuple[int, int, int, int]] = ()  # row, column, height and width of cells to frame, in each map
    outlined: str = ""  # what the framed cells are, for the legend

    def fits(self, n_frames: int) -> bool:
        """Whether there is a value for each frame, map, row and column."""
        return self.values.shape == (n_frames, len(self.maps), len(self.rows), len(self.columns))

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Heatmaps":
        """The panel with other frames, some of which may be gaps, which have no values.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """
        return replace(self, values=taken(self.values, places), gaps=gaps_of(places))

    def packed(self, steps: Sequence[int]) -> Mapping[str, Any]:
        """The data for the player, without cells that have no value in any frame and without repeats of a frame.

        Args:
            steps: of the film, one for each frame.

        Returns:
            Besides the labels: ``values`` float32 (sent frame, map, sent cell); ``frames`` (frame,) the place of each
            frame on the first axis of ``values``, None if all frames are sent; ``cells`` (sent cell,) the place of each
            among the cells of a map, row by row, None if all cells are sent.
        """
        values = np.asarray(self.values, np.float32).reshape(*self.values.shape[:2], -1)  # (frame, map, cell)
        values = np.where(np.isfinite(values), values, np.float32("nan"))
        shown = ~np.isnan(values).all((0, 1))  # (cell,)
        bits = values.view(np.uint32)
        new = np.append(True, (bits[1:] != bits[:-1]).any((1, 2)))  # (frame,)
        values = values[new][..., shown]
        return {
            **super().packed(steps),
            "values": values,
            "frames": None if new.all() else np.cumsum(new) - 1,
            "cells": None if shown.all() else np.flatnonzero(shown),
        }

    def value(self, frame: int, steps: Sequence[int], names: Sequence[str]) -> float:
        """The value of a cell.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame.
            names: the map, the row and the column.

        Raises:
            LookupError: there is no such number.
        """
        if len(names) != 3:
            raise LookupError(f"a cell of {self.id} is MAP/ROW/COLUMN")
        labels = ((self.maps, "map"), (self.rows, "row"), (self.columns, "column"))
        places = [place_of(name, *each) for name, each in zip(names, labels, strict=True)]
        return float(self.values[frame, *places])

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """One frame's maps on one colour scale.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame; empty for a panel outside a film.
            mode: of the page on which the figure is shown.
        """
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots

        across = min(MOST_ACROSS, len(self.maps))
        down = math.ceil(len(self.maps) / across)
        figure = make_subplots(down, across, subplot_titles=[figures.escaped(name) for name in self.maps])
        rows, columns = figures.unique(self.rows), figures.unique(self.columns)
        shown_rows, shown_columns = figures.few(len(rows)), figures.few(len(columns))
        row_axis, column_axis = figures.escaped(self.row_axis), figures.escaped(self.column_axis)
        for i, name in enumerate(self.maps):
            trace = go.Heatmap(
                z=self.values[frame, i],
                coloraxis="coloraxis",
                hovertemplate=(
                    f"{row_axis} %{{y}}, {column_axis} %{{x}}: %{{z:.6g}}<extra>{figures.escaped(name)}</extra>"
                ),
            )
            figure.add_trace(trace, 1 + i // across, 1 + i % across)
        figure.update_xaxes(tickvals=shown_columns, ticktext=[columns[i] for i in shown_columns])
        figure.update_yaxes(tickvals=shown_rows, ticktext=[rows[i] for i in shown_rows], autorange="reversed")
        if len(self.maps) == 1:
            figure.update_xaxes(title_text=column_axis)
            figure.update_yaxes(title_text=row_axis)
        high = self.full_colour_at or self.high
        figure.update_layout(
            title=figures.escaped(self.named(frame, steps)),
            height=min(1600, 80 + down * max(320, min(720, 14 * len(rows) + 80))),
            coloraxis={
                "colorscale": figures.colorscale(self.scale, mode),
                "cmin": -high if self.scale == "diverging" else self.low,
                "cmax": high,
            },
        )
        return figure
