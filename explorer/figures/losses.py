"""Small pictures of losses."""

import numpy as np
import plotly.graph_objects as go

COLOURS = {"train": "#8795a3", "test": "#0072b2"}


def sparkline(losses: dict[str, tuple[np.ndarray, np.ndarray]]) -> go.Figure:
    """Loss over steps with almost nothing around it.

    Args:
        losses: "train" and, where there is one, "test" -> (steps, nats).
    """
    figure = go.Figure()
    for name, (steps, values) in losses.items():
        figure.add_scatter(
            x=steps,
            y=values,
            mode="lines",
            name=name,
            line={"width": 2, "color": COLOURS[name]},
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
