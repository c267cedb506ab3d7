"""Charts to zoom into, to point at and to download.

Axes: map · row · column, as in a film; series · category.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

Scale = Literal["sequential", "diverging"]
PLOTLY_SCALES: Mapping[str, str] = {"sequential": "Blues", "diverging": "RdBu"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#9467bd", "#b8860b", "#56b4e9", "#8c6d46")  # after Okabe and Ito
MOST_ACROSS = 4  # maps in a row of a grid
MOST_TICKS = 24  # labels along an axis
HERE = "#b3124f"  # where the snapshot is
APART = "#8795a3"  # seen on white and on black


@dataclass(frozen=True)
class Curve:
    label: str
    x: np.ndarray  # (point,)
    y: np.ndarray  # (point,)
    dashed: bool = False
    colour: int | None = None  # a place among `COLOURS`; None for what is drawn apart from them


def lines(
    title: str,
    curves: Sequence[Curve],
    unit: str,
    log: bool = False,
    references: Mapping[str, float] | None = None,
    marks: Mapping[str, int] | None = None,
    here: float | None = None,
) -> go.Figure:
    """Curves over steps, on a linear or logarithmic axis that a button changes.

    Args:
        references: horizontal lines; marks: vertical ones, by their labels.
        here: the step to be marked.
    """
    figure, dotted = _titled(title), {"dash": "dot", "width": 1, "color": APART}
    for curve in curves:
        colour = APART if curve.colour is None else COLOURS[curve.colour % len(COLOURS)]
        figure.add_scatter(
            x=curve.x,
            y=curve.y,
            name=_text(curve.label),
            mode="lines" if len(curve.x) > 120 else "lines+markers",
            line={"color": colour, "dash": "dash" if curve.dashed else "solid", "width": 1.5},
            marker={"size": 4},
            hovertemplate=f"{_text(curve.label)}, step %{{x:,}}: %{{y:.6g}} {_text(unit)}<extra></extra>",
        )
    for label, value in (references or {}).items():
        figure.add_hline(y=value, line=dotted, annotation_text=_text(f"{label} {value:.4g}"))
    for label, step in (marks or {}).items():
        figure.add_vline(x=step, line=dotted, annotation={"text": _text(label), "textangle": -90, "font": {"size": 10}})
    if here is not None:
        figure.add_vline(x=here, line={"color": HERE, "width": 2})
    buttons = [{"label": kind, "method": "relayout", "args": [{"yaxis.type": kind}]} for kind in ("linear", "log")]
    figure.update_layout(
        xaxis_title="step",
        yaxis={"title": _text(unit), "type": "log" if log else "linear"},
        updatemenus=[
            {
                "type": "buttons",
                "direction": "right",
                "buttons": buttons,
                "showactive": False,
                "bgcolor": "rgba(135, 149, 163, 0.15)",
                "bordercolor": APART,
                "x": 1,
                "xanchor": "right",
                "y": 1.14,
            }
        ],
    )
    return figure


def heatmaps(
    title: str,
    maps: Sequence[str],
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    axes: tuple[str, str],
    limits: tuple[float, float],
    scale: Scale,
) -> go.Figure:
    """A grid of maps, (map row column), on one colour scale."""
    across = min(MOST_ACROSS, len(maps))
    down = math.ceil(len(maps) / across)
    figure = make_subplots(down, across, subplot_titles=[_text(name) for name in maps])
    shown_rows, shown_columns = _few(len(rows)), _few(len(columns))
    unique_rows, unique_columns = _unique(rows), _unique(columns)
    for i, one in enumerate(values):
        trace = go.Heatmap(
            z=one,
            coloraxis="coloraxis",
            hovertemplate=(
                f"{_text(axes[0])} %{{y}}, {_text(axes[1])} %{{x}}: %{{z:.6g}}<extra>{_text(maps[i])}</extra>"
            ),
        )
        figure.add_trace(trace, 1 + i // across, 1 + i % across)
    figure.update_xaxes(tickvals=shown_columns, ticktext=[unique_columns[i] for i in shown_columns])
    figure.update_yaxes(tickvals=shown_rows, ticktext=[unique_rows[i] for i in shown_rows], autorange="reversed")
    if len(maps) == 1:
        figure.update_xaxes(title_text=_text(axes[1]))
        figure.update_yaxes(title_text=_text(axes[0]))
    figure.update_layout(
        title=_text(title),
        height=min(1600, 80 + down * max(320, min(720, 14 * len(rows) + 80))),
        coloraxis={"colorscale": PLOTLY_SCALES[scale], "cmin": limits[0], "cmax": limits[1]},
    )
    return figure


def heatmap(
    title: str,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    row_axis: str,
    column_axis: str,
) -> go.Figure:
    """One map, (row column), with zero in the middle of its scale."""
    high = float(np.nanmax(np.abs(values))) or 1.0
    return heatmaps(title, [""], values[None], rows, columns, (row_axis, column_axis), (-high, high), "diverging")


def raster(
    title: str,
    values: np.ndarray,
    rows: Sequence[str],
    steps: np.ndarray,
    unit: str,
    limits: tuple[float, float],
    scale: Scale,
    onsets: np.ndarray | None = None,
) -> go.Figure:
    """Rows of values over steps, (row point), and a step to be marked in each, (row,)."""
    figure, shown, labels = _titled(title), _few(len(rows)), _unique(rows)
    figure.add_heatmap(
        z=values,
        x=steps,
        zmin=limits[0],
        zmax=limits[1],
        colorscale=PLOTLY_SCALES[scale],
        hovertemplate=f"row %{{y}}, step %{{x:,}}: %{{z:.6g}} {_text(unit)}<extra></extra>",
    )
    if onsets is not None:
        figure.add_scatter(
            x=onsets,
            y=list(range(len(rows))),
            mode="markers",
            marker={"symbol": "line-ns-open", "size": 12, "color": HERE},
            hovertemplate="onset at step %{x:,}<extra></extra>",
        )
    figure.update_yaxes(tickvals=shown, ticktext=[labels[i] for i in shown], autorange="reversed")
    figure.update_layout(xaxis_title="step", height=240 + 18 * len(rows), showlegend=False)
    return figure


def columns(
    title: str,
    series: Sequence[str],
    values: np.ndarray,
    categories: Sequence[str],
    unit: str,
    category_axis: str,
    limits: tuple[float, float],
) -> go.Figure:
    """A column for each category, (series category), beside each other."""
    figure = _titled(title)
    for i, (name, row) in enumerate(zip(series, values, strict=True)):
        figure.add_bar(
            x=list(range(len(categories))),
            y=row,
            name=_text(name),
            marker_color=COLOURS[i % len(COLOURS)],
            customdata=[_text(category) for category in categories],
            hovertemplate=f"{_text(category_axis)} %{{customdata}}: %{{y:.6g}} {_text(unit)}<extra></extra>",
        )
    shown = _few(len(categories))
    figure.update_xaxes(tickvals=shown, ticktext=[_text(categories[i]) for i in shown], title_text=_text(category_axis))
    room = 0.05 * (limits[1] - limits[0]) or 1.0
    low = limits[0] - room if limits[0] < 0 else 0.0
    figure.update_layout(yaxis={"title": _text(unit), "range": [low, limits[1] + room]}, showlegend=len(series) > 1)
    return figure


def scatter(
    title: str, x: np.ndarray, y: np.ndarray, labels: Sequence[str], x_axis: str, y_axis: str, joined: bool
) -> go.Figure:
    """Points, (point,) each, on axes of one scale."""
    figure = _titled(title)
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers" if joined else "markers+text",
        text=[_text(label) for label in labels],
        textposition="top center",
        marker={"color": np.arange(len(x)), "colorscale": "Viridis" if joined else "HSV", "size": 7},
        line={"width": 1, "color": APART},
        hovertemplate="%{text}: %{x:.6g}, %{y:.6g}<extra></extra>",
    )
    figure.update_layout(
        xaxis_title=_text(x_axis),
        yaxis={"title": _text(y_axis), "scaleanchor": "x"},
        height=560,
        showlegend=False,
    )
    return figure


def bars(
    title: str,
    groups: Sequence[str],
    categories: Sequence[Sequence[str]],
    values: np.ndarray,
    targets: Sequence[int],
) -> go.Figure:
    """A probability for each category of each group, (group category), the groups beside each other; the right
    category of each is green."""
    figure = make_subplots(1, len(groups), subplot_titles=[_text(group) for group in groups], shared_xaxes=True)
    for i, (labels, row) in enumerate(zip(categories, values, strict=True)):
        bar = go.Bar(
            x=row,
            y=list(range(len(labels))),
            orientation="h",
            marker_color=[COLOURS[2] if place == targets[i] else COLOURS[0] for place in range(len(labels))],
            customdata=[_text(label) for label in labels],
            hovertemplate="%{customdata}: %{x:.6g}<extra></extra>",
        )
        figure.add_trace(bar, 1, i + 1)
        figure.update_yaxes(
            tickvals=list(range(len(labels))), ticktext=[_text(label) for label in labels], row=1, col=i + 1
        )
    figure.update_xaxes(range=[0, 1])
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(title=_text(title), showlegend=False, height=420)
    return figure


def _titled(title: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(title=_text(title), height=480, hovermode="closest")
    return figure


def _text(text: str) -> str:
    """Text as it is written: plotly reads a few tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _few(n: int) -> list[int]:
    """As many of n places as can be read beside each other."""
    return list(range(0, n, max(1, math.ceil(n / MOST_TICKS))))


def _unique(labels: Sequence[str]) -> list[str]:
    """The labels with their places, where one comes twice."""
    twice = len(set(labels)) < len(labels)
    return [_text(f"{label} ({i})" if twice else label) for i, label in enumerate(labels)]
