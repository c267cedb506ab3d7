"""The plane of two settings that were swept: what became of the runs of each cell, and the curves of one cell.

Axes
    frame        one per step of the film
    row, column  values of the two settings
    line         curves of a cell
    point        steps at which the curves were measured
"""

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


@dataclass(frozen=True)
class Axis:
    """The values of a setting, ascending."""

    name: str
    labels: Sequence[str]
    at: Sequence[float] | None = None  # (label,) ascending, where each value truly lies; None: at even distances
    log: bool = False  # whether equal ratios of ``at`` are equal distances

    def fits(self) -> bool:
        """Whether there is a label, and a place for each that the axis can show."""
        if self.at is None:
            return bool(self.labels) and not self.log
        at = np.array(self.at, float)
        fits = (
            at.shape == (len(self.labels),) and len(at) > 0 and bool(np.isfinite(at).all() and (np.diff(at) > 0).all())
        )
        return fits and (not self.log or bool(at[0] > 0))

    @property
    def places(self) -> list[float]:
        """(label,) where each value lies."""
        return [float(place) for place in (range(len(self.labels)) if self.at is None else self.at)]

    @property
    def borders(self) -> list[float]:
        """(label + 1,) the ends of the cells: midway between two places, and as far beyond the first and the last."""
        places = np.log(self.places) if self.log else np.array(self.places)
        middles = (places[1:] + places[:-1]) / 2
        if len(middles):
            ends = 2 * places[0] - middles[0], 2 * places[-1] - middles[-1]
        else:
            ends = places[0] - 0.5, places[0] + 0.5
        borders = np.array([ends[0], *middles, ends[1]])
        return [float(border) for border in (np.exp(borders) if self.log else borders)]


@dataclass(frozen=True)
class Plane(Panel):
    """Cells in the plane of two settings, and beside it the curves of the cell at which the reader points.

    A cell has the colour of its kind or, where there are no kinds, of its number. Dragging on the curves moves through
    the film; a click on a cell asks for its run.
    """

    kind: ClassVar[str] = "plane"

    rows: Axis  # upwards
    columns: Axis  # to the right
    values: Num[np.ndarray, "frame row column"]  # a place among ``kinds``, or a number; not finite: an empty cell
    kinds: Sequence[str] = ()  # what may become of a run; empty: the values are numbers
    low: float = 0.0  # of the colour scale of numbers
    high: float = 1.0
    unit: str = ""  # of numbers
    scale: Scale = "sequential"
    log_colour: bool = False  # whether equal ratios of numbers are equal distances on the colour scale
    n: Int[np.ndarray, "row column"] | None = None  # seeds of each cell; None: one
    agree: Int[np.ndarray, "frame row column"] | None = None  # how many of them are as the value says; None: not known
    curves: Num[np.ndarray, "row column line point"] | None = None  # nan: a gap; None: the plane stands alone
    lines: Sequence[str] = ()  # names of the curves of a cell
    points: Real[np.ndarray, " point"] | None = None  # ascending steps
    curve_unit: str = ""
    threshold: float | None = None  # a value of the curves that decides what became of a run
    runs: Sequence[Sequence[str]] = ()  # (row, column) the run to open; "": none

    def fits(self, n_frames: int) -> bool:
        """Whether the axes can be drawn, and there is a value for each frame and cell, and a curve for each line."""
        cells = (len(self.rows.labels), len(self.columns.labels))
        fits = self.rows.fits() and self.columns.fits() and self.values.shape == (n_frames, *cells)
        fits = fits and (self.n is None or self.n.shape == cells)
        fits = fits and (self.agree is None or (self.agree.shape == self.values.shape and self.n is not None))
        fits = fits and (not self.runs or [len(row) for row in self.runs] == [cells[1]] * cells[0])
        if fits and self.kinds:
            places = self.values[np.isfinite(self.values)]
            fits = bool(np.isin(places, np.arange(len(self.kinds))).all())
        elif fits:
            fits = self.low <= self.high and (not self.log_colour or (self.low > 0 and self.scale == "sequential"))
        return fits and self._curves_fit(cells)

    def _curves_fit(self, cells: tuple[int, int]) -> bool:
        if self.curves is None or self.points is None:
            return self.curves is None and self.points is None and not self.lines
        shape = (*cells, len(self.lines), len(self.points))
        return self.curves.shape == shape and self.curves.size > 0 and bool((np.diff(self.points) > 0).all())

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Plane":
        """The panel with other frames, some of which may be gaps, which have no values. Its curves stay.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """
        agree = None if self.agree is None else np.where((places < 0)[:, None, None], 0, self.agree[places])
        return replace(self, values=taken(self.values, places), agree=agree, gaps=gaps_of(places))

    def packed(self, steps: Sequence[int]) -> Mapping[str, Any]:
        """The data for the player, without repeats of a frame.

        Args:
            steps: of the film, one for each frame.

        Returns:
            Besides the fields: ``values`` and ``agree`` (sent frame, row, column); ``frames`` (frame,) the place of
            each frame on their first axis, None if all frames are sent; of each axis its ``places`` and ``borders``.
        """
        values = np.asarray(self.values, np.float32)
        values = np.where(np.isfinite(values), values, np.float32("nan"))
        bits = values.view(np.uint32)
        differs = bits[1:] != bits[:-1]  # (frame - 1, row, column)
        if self.agree is not None:
            differs = differs | (self.agree[1:] != self.agree[:-1])
        new = np.append(True, differs.any((1, 2)))  # (frame,)
        axes = {
            name: {
                "name": axis.name,
                "labels": axis.labels,
                "log": axis.log,
                "places": axis.places,
                "borders": axis.borders,
            }
            for name, axis in (("rows", self.rows), ("columns", self.columns))
        }
        return {
            **super().packed(steps),
            **axes,
            "values": values[new],
            "agree": None if self.agree is None else self.agree[new],
            "frames": None if new.all() else np.cumsum(new) - 1,
        }

    def value(self, frame: int, steps: Sequence[int], names: Sequence[str]) -> float:
        """The value of a cell.

        Args:
            frame: place of the step.
            steps: of the film, one for each frame.
            names: the row and the column.

        Raises:
            LookupError: there is no such number.
        """
        if len(names) != 2:
            raise LookupError(f"a cell of {self.id} is ROW/COLUMN")
        row, column = place_of(names[0], self.rows.labels, "row"), place_of(names[1], self.columns.labels, "column")
        return float(self.values[frame, row, column])

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """One frame's cells, at their true places, with a colour bar that names the kinds.

        Args:
            frame: place of the step.
            steps: of the film, one for each frame; empty for a panel outside a film.
            mode: of the page on which the figure is shown.
        """
        figure = figures.titled(self.named(frame, steps))
        values = self.values[frame]  # (row, column)
        row_axis, column_axis = figures.escaped(self.rows.name), figures.escaped(self.columns.name)
        figure.add_heatmap(
            z=np.log10(values) if self.log_colour and not self.kinds else values,
            x=self.columns.borders,
            y=self.rows.borders,
            xgap=1,
            ygap=1,
            text=[[self._written(frame, r, c) for c in range(values.shape[1])] for r in range(values.shape[0])],
            texttemplate="%{text}",
            customdata=[
                [
                    [figures.escaped(row), figures.escaped(column), self._said(frame, r, c)]
                    for c, column in enumerate(self.columns.labels)
                ]
                for r, row in enumerate(self.rows.labels)
            ],
            hovertemplate=(
                f"{row_axis} %{{customdata[0]}}, {column_axis} %{{customdata[1]}}: %{{customdata[2]}}<extra></extra>"
            ),
            **self._colours(mode),
        )
        for axis, update in ((self.rows, figure.update_yaxes), (self.columns, figure.update_xaxes)):
            shown = figures.few(len(axis.labels))
            update(
                type="log" if axis.log else "linear",
                title_text=figures.escaped(axis.name),
                tickvals=[axis.places[i] for i in shown],
                ticktext=[figures.escaped(axis.labels[i]) for i in shown],
                showgrid=False,
                zeroline=False,
            )
        return figure

    def _colours(self, mode: Mode) -> dict[str, Any]:
        """The colour scale of a figure."""
        if self.kinds:
            n, colours = len(self.kinds), palette.categories(len(self.kinds), mode)
            steps = [(end / n, colour) for i, colour in enumerate(colours) for end in (i, i + 1)]
            named = {"tickvals": list(range(n)), "ticktext": [figures.escaped(kind) for kind in self.kinds]}
            return {"zmin": -0.5, "zmax": n - 0.5, "colorscale": steps, "colorbar": named}
        low, high = -self.high if self.scale == "diverging" else self.low, self.high
        bar: dict[str, Any] = {"title": figures.escaped(self.unit)}
        if self.log_colour:
            ends = [low, high]
            low, high = np.log10(ends).tolist()
            bar |= {"tickvals": [low, (low + high) / 2, high]}
            bar |= {"ticktext": [f"{10**value:.3g}" for value in bar["tickvals"]]}
        return {"zmin": low, "zmax": high, "colorscale": figures.colorscale(self.scale, mode), "colorbar": bar}

    def _seeds(self, row: int, column: int) -> int:
        return 1 if self.n is None else int(self.n[row, column])

    def _written(self, frame: int, row: int, column: int) -> str:
        """What is written in a cell of a figure."""
        value = float(self.values[frame, row, column])
        if not np.isfinite(value):
            return ""
        if not self.kinds:
            return f"{value:.3g}"
        many = self.agree is not None and self._seeds(row, column) > 1
        return f"{self.agree[frame, row, column]}/{self._seeds(row, column)}" if many and self.agree is not None else ""

    def _said(self, frame: int, row: int, column: int) -> str:
        """What the pointer says of a cell of a figure."""
        value = float(self.values[frame, row, column])
        if not np.isfinite(value):
            return "nothing yet"
        said = self.kinds[int(value)] if self.kinds else f"{value:.6g} {self.unit}".strip()
        n = self._seeds(row, column)
        if n < 2:
            return figures.escaped(said)
        of = "" if self.agree is None else f"{self.agree[frame, row, column]} of "
        return figures.escaped(f"{said}, {of}{n} seeds")
