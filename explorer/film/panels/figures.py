"""What the plotly figures of several kinds of panels share. Plotly is imported only when a figure is asked for: it
takes long to load."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.film import palette
from explorer.film.palette import Mode, Scale

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    Figure = Any  # plotly is not there before a figure is asked for

MOST_TICKS = 24  # labels along an axis


def titled(title: str) -> Figure:
    """An empty figure with a title, which may hold any characters."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(title=escaped(title), height=480, hovermode="closest")
    return figure


def escaped(text: str) -> str:
    """Text that plotly shows letter by letter: it reads a few HTML tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def few(n: int) -> list[int]:
    """As many of n places as can be labelled beside each other."""
    return list(range(0, n, max(1, math.ceil(n / MOST_TICKS))))


def unique(labels: Sequence[str]) -> list[str]:
    """The labels, escaped, with their places where a label occurs twice."""
    twice = len(set(labels)) < len(labels)
    return [escaped(f"{label} ({i})" if twice else label) for i, label in enumerate(labels)]


def colour(place: int, mode: Mode) -> str:
    """A place in the palette, which begins again where it ends."""
    colours = palette.CATEGORIES[mode]
    return colours[place % len(colours)]


def colorscale(scale: Scale, mode: Mode) -> list[tuple[float, str]]:
    """A scale of the palette as plotly takes it."""
    stops = palette.stops(scale, mode)
    return [(i / (len(stops) - 1), stop) for i, stop in enumerate(stops)]


def dotted(mode: Mode) -> dict[str, Any]:
    """The style of reference lines."""
    return {"dash": "dot", "width": 1, "color": palette.MUTED[mode]}


def sparkline(losses: Mapping[str, tuple[np.ndarray, np.ndarray]], mode: Mode = "light") -> Figure:
    """Loss over steps with almost nothing around it.

    Args:
        losses: "train" and, where there is one, "test" -> (steps, nats).
        mode: of the page on which the figure is shown.
    """
    import plotly.graph_objects as go

    colours = {"train": palette.MUTED[mode], "test": palette.CATEGORIES[mode][0]}
    figure = go.Figure()
    for name, (steps, values) in losses.items():
        figure.add_scatter(
            x=steps,
            y=values,
            mode="lines",
            name=name,
            line={"width": 2, "color": colours[name]},
            hovertemplate=f"{name}, step %{{x:,}}: %{{y:.4f}} nats<extra></extra>",
        )
    figure.update_layout(
        height=96,
        margin={"l": 0, "r": 0, "t": 4, "b": 0},
        showlegend=False,
        xaxis={"visible": False, "fixedrange": True},
        yaxis={"visible": False, "fixedrange": True, "rangemode": "tozero"},
        hovermode="closest",
    )
    return figure
