"""What the plotly figures of several kinds of panels share.

Plotly takes long to import, so it is imported by the functions that make a figure.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.film import palette
from explorer.film.palette import Mode, Scale

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    Figure = Any  # at run time, plotly is not imported yet

MOST_TICKS = 24  # labels along an axis


def titled(title: str) -> Figure:
    """An empty figure with a title.

    Args:
        title: plain text, of any characters.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(title=escaped(title), height=480, hovermode="closest")
    return figure


def escaped(text: str) -> str:
    """Text that plotly shows as it is: plotly would read some HTML tags in it.

    Args:
        text: any.
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def few(n: int) -> list[int]:
    """Evenly spaced places along an axis that leave room for their labels.

    Args:
        n: how many places the axis has.
    """
    return list(range(0, n, max(1, math.ceil(n / MOST_TICKS))))


def unique(labels: Sequence[str]) -> list[str]:
    """The labels, escaped; if two are equal, each with its place.

    Args:
        labels: in order.
    """
    twice = len(set(labels)) < len(labels)
    return [escaped(f"{label} ({i})" if twice else label) for i, label in enumerate(labels)]


def colorscale(scale: Scale, mode: Mode) -> list[tuple[float, str]]:
    """A scale of the palette in plotly's form.

    Args:
        scale: which.
        mode: of the page on which the figure is shown.

    Returns:
        (position from 0 to 1, colour) pairs.
    """
    stops = palette.stops(scale, mode)
    return [(i / (len(stops) - 1), stop) for i, stop in enumerate(stops)]


def dotted(mode: Mode) -> dict[str, Any]:
    """The style of reference lines.

    Args:
        mode: of the page on which the figure is shown.
    """
    return {"dash": "dot", "width": 1, "color": palette.MUTED[mode]}


def sparkline(losses: Mapping[str, tuple[np.ndarray, np.ndarray]], mode: Mode = "light") -> Figure:
    """Loss over steps, without axes.

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
