"""Columns up or down from zero: a value for each category of one or several series."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Int, Num

from explorer.film import palette
from explorer.film.palette import Mode
from explorer.film.panels import figures
from explorer.film.panels.figures import Figure
from explorer.film.panels.panel import Panel, gaps_of, place_of, taken


@dataclass(frozen=True)
class Columns(Panel):
    """A column for each category of one or several series, on an axis that is fixed over all frames."""

    kind: ClassVar[str] = "columns"

    categories: Sequence[str]
    series: Sequence[str]  # drawn beside each other
    values: Num[np.ndarray, "frame series category"]
    unit: str
    category_axis: str
    marked: Sequence[int] = ()  # places of categories whose labels are bold
    height: int = 280  # pixels

    def fits(self, n_frames: int) -> bool:
        """Whether there is a value for each frame, series and category."""
        return self.values.shape == (n_frames, len(self.series), len(self.categories))

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Columns":
        """The panel with other frames, some of which may be gaps, which have no values.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """
        return replace(self, values=taken(self.values, places), gaps=gaps_of(places))

    def value(self, frame: int, steps: Sequence[int], names: Sequence[str]) -> float:
        """The value of a column.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame.
            names: the series and the category; the category, if there is one series.

        Raises:
            LookupError: there is no such number.
        """
        series, category = [*names] if len(names) == 2 else [*self.series[:1], "/".join(names)]
        place = place_of(category, self.categories, "category")
        return float(self.values[frame, place_of(series, self.series, "series"), place])

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """One frame's columns, on the axis of all frames.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame; empty for a panel outside a film.
            mode: of the page on which the figure is shown.
        """
        figure, unit = figures.titled(self.named(frame, steps)), figures.escaped(self.unit)
        axis, labels = figures.escaped(self.category_axis), [figures.escaped(name) for name in self.categories]
        for i, (name, row) in enumerate(zip(self.series, self.values[frame], strict=True)):
            figure.add_bar(
                x=list(range(len(labels))),
                y=row,
                name=figures.escaped(name),
                marker_color=palette.category(i, mode),
                customdata=labels,
                hovertemplate=f"{axis} %{{customdata}}: %{{y:.6g}} {unit}<extra></extra>",
            )
        shown = figures.few(len(labels))
        figure.update_xaxes(tickvals=shown, ticktext=[labels[i] for i in shown], title_text=axis)
        low, high = min(float(np.nanmin(self.values)), 0), max(float(np.nanmax(self.values)), 0)
        room = 0.05 * (high - low) or 1.0
        ends = [low - room if low < 0 else 0.0, high + room]
        figure.update_layout(yaxis={"title": unit, "range": ends}, showlegend=len(self.series) > 1)
        return figure
