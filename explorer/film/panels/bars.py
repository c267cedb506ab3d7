"""A probability for each category in each group."""

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
class Bars(Panel):
    """A probability for each category in each group. The right category of each group is marked."""

    kind: ClassVar[str] = "bars"

    values: Num[np.ndarray, "frame group category"]  # between 0 and 1
    groups: Sequence[str]
    categories: Sequence[str] | Sequence[Sequence[str]]  # the same for all groups, or (group category)
    targets: Sequence[int]  # (group,) place of the right category
    predicted: Sequence[Sequence[str]] = ()  # (frame group) the most probable category, if not all are shown

    @property
    def labels(self) -> Sequence[Sequence[str]]:
        """The categories of each group."""
        own = [labels for labels in self.categories if not isinstance(labels, str)]
        return own or [[str(label) for label in self.categories]] * len(self.groups)

    def fits(self, n_frames: int) -> bool:
        """Whether there is a probability for each frame, group and category, and a right category for each group."""
        n = len(self.groups)
        fits = {len(labels) for labels in self.labels} == {self.values.shape[-1]}
        fits = fits and self.values.shape[:2] == (n_frames, n)
        return fits and len(self.targets) == len(self.labels) == n and len(self.predicted) in (0, n_frames)

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Bars":
        """The panel with other frames, some of which may be gaps, which have no values.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """
        none, named = [""] * len(self.groups), bool(self.predicted)
        predicted = [self.predicted[place] if place >= 0 else none for place in places.tolist()] if named else ()
        return replace(self, values=taken(self.values, places), predicted=predicted, gaps=gaps_of(places))

    def value(self, frame: int, steps: Sequence[int], names: Sequence[str]) -> float:
        """A probability.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame.
            names: the group and the category.

        Raises:
            LookupError: there is no such number.
        """
        if len(names) != 2:
            raise LookupError(f"a bar of {self.id} is GROUP/CATEGORY")
        group = place_of(names[0], self.groups, "group")
        return float(self.values[frame, group, place_of(names[1], self.labels[group], "category")])

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """One frame's probabilities, a plot for each group, in which the right category is green.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame; empty for a panel outside a film.
            mode: of the page on which the figure is shown.
        """
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots

        titles = [figures.escaped(group) for group in self.groups]
        figure = make_subplots(1, len(self.groups), subplot_titles=titles, shared_xaxes=True)
        for i, (categories, row) in enumerate(zip(self.labels, self.values[frame], strict=True)):
            labels, places = [figures.escaped(label) for label in categories], list(range(len(categories)))
            right, other = palette.RIGHT[mode], palette.CATEGORIES[mode][0]
            bar = go.Bar(
                x=row,
                y=places,
                orientation="h",
                marker_color=[right if place == self.targets[i] else other for place in places],
                customdata=labels,
                hovertemplate="%{customdata}: %{x:.6g}<extra></extra>",
            )
            figure.add_trace(bar, 1, i + 1)
            figure.update_yaxes(tickvals=places, ticktext=labels, row=1, col=i + 1)
        figure.update_xaxes(range=[0, 1])
        figure.update_yaxes(autorange="reversed")
        figure.update_layout(title=figures.escaped(self.named(frame, steps)), showlegend=False, height=420)
        return figure
