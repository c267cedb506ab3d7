"""When the loss of each part fell, for many seeds: a mark for each, their median, and how sure it is.

Axes
    row    a loss, of a token or of another part of the answer
    group  a sweep, of one or two that are compared
    mark   a seed
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int, Num

from explorer.film import palette
from explorer.film.palette import Mode
from explorer.film.panels import figures
from explorer.film.panels.figures import Figure
from explorer.film.panels.panel import Panel, place_of

SUMMARY = ("median", "low", "high")


@dataclass(frozen=True)
class Strip(Panel):
    """Rows of marks at steps, which are reached one after the other; dragging on the panel moves through the film."""

    kind: ClassVar[str] = "strip"

    rows: Sequence[str]
    groups: Sequence[str]  # one or two; drawn above each other within each row
    marks: Num[np.ndarray, "group row mark"]  # steps; nan: it never comes
    names: Sequence[
        Sequence[str]
    ]  # (group, mark) what each mark stands for, such as "seed 3"; "": none, where a group has fewer
    median: Num[np.ndarray, "group row"]  # steps; nan: not known
    low: Num[np.ndarray, "group row"]
    high: Num[np.ndarray, "group row"]
    middle: str = "median"  # what ``median`` is: of a single mark, what is dated
    interval: str = "interval"  # what reaches from low to high, such as "95 % interval of the median"
    log: bool = False  # whether equal ratios of steps are equal distances

    def fits(self, n_frames: int) -> bool:
        """Whether there are one or two groups, and a step and a name for each mark."""
        shape = (len(self.groups), len(self.rows))
        fits = len(self.groups) in (1, 2) and bool(self.rows) and self.marks.shape[:2] == shape
        fits = fits and [len(names) for names in self.names] == [self.marks.shape[2]] * len(self.groups)
        return fits and all(steps.shape == shape for steps in (self.median, self.low, self.high))

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Strip":
        """The same panel: its marks lie at steps, whatever the frames.

        Args:
            places: not used.
            steps: not used.
        """
        return self

    def value(self, frame: int, steps: Sequence[int], names: Sequence[str]) -> float:
        """How many marks of a row are reached, or the step of one of them, or of their median.

        Args:
            frame: place of the step.
            steps: of the film, one for each frame.
            names: the row, then the group unless there is only one, then maybe a mark, or median, low or high.

        Raises:
            LookupError: there is no such number.
        """
        alone = len(self.groups) == 1
        if not 1 <= len(names) - (not alone) <= 2:
            raise LookupError(
                f"a number of {self.id} is {'ROW or ROW/MARK' if alone else 'ROW/GROUP or ROW/GROUP/MARK'}"
            )
        row = place_of(names[0], self.rows, "row")
        group = 0 if alone else place_of(names[1], self.groups, "group")
        rest = names[1:] if alone else names[2:]
        if not rest:
            return float((self.marks[group, row] <= steps[frame]).sum())
        if rest[0] in SUMMARY:
            return float(getattr(self, rest[0])[group, row])
        return float(self.marks[group, row, place_of(rest[0], self.names[group], "mark")])

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """All marks over the steps, hollow if the frame has not reached them, with the median of each row.

        Args:
            frame: place of the step.
            steps: of the film, one for each frame; empty for a panel outside a film.
            mode: of the page on which the figure is shown.
        """
        figure, rows = figures.titled(self.named(frame, steps)), figures.unique(self.rows)
        n, here = len(self.groups), steps[frame] if steps else np.inf
        for g, group in enumerate(self.groups):
            name, colour = figures.escaped(group), palette.category(g, mode)
            y = np.arange(len(rows)) + (g + 0.5) / n - 0.5  # (row,)
            marks = self.marks[g]  # (row, mark)
            reached = (marks <= here).ravel()
            figure.add_scatter(
                x=marks.ravel(),
                y=np.repeat(y, marks.shape[1]),
                text=[figures.escaped(f"{row}, {mark}") for row in self.rows for mark in self.names[g]],
                name=name,
                mode="markers",
                marker={"color": colour, "size": 8, "symbol": np.where(reached, "circle", "circle-open").tolist()},
                hovertemplate="%{text}: step %{x:,}<extra></extra>",
            )
            figure.add_scatter(
                x=self.median[g],
                y=y,
                error_x={
                    "array": self.high[g] - self.median[g],
                    "arrayminus": self.median[g] - self.low[g],
                    "color": colour,
                },
                name=f"{name}, {figures.escaped(self.middle)}",
                mode="markers",
                marker={"symbol": "line-ns-open", "size": 18, "color": palette.STRONG[mode]},
                customdata=np.stack([self.low[g], self.high[g]], 1),
                hovertemplate=(
                    f"{figures.escaped(self.middle)}: step %{{x:,}}; {figures.escaped(self.interval)}: "
                    "%{customdata[0]:,} to %{customdata[1]:,}<extra></extra>"
                ),
            )
        if steps and (steps[frame] > 0 or not self.log):
            figure.add_vline(x=steps[frame], line={"color": palette.CURSOR[mode], "width": 2})
        figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=rows, autorange="reversed")
        figure.update_layout(
            xaxis={"title": "step", "type": "log" if self.log else "linear"}, height=160 + 48 * len(rows)
        )
        return figure
