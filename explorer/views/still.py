"""One snapshot of a film as figures that stand still."""

import numpy as np

from explorer.film.film import Bars, Columns, Curves, Film, Heatmaps, Raster, Scatter


def titles(film: Film) -> list[str]:
    """The panels that can be figures, by their titles."""
    return [panel.title for panel in film.panels if isinstance(panel, _DRAWN)]


def figure(film: Film, title: str, step: int) -> object:
    """The panel of that title at the film's snapshot nearest to ``step``, as a figure."""
    from explorer.figures import charts  # plotly takes long to load

    frame = int(np.abs(np.array(film.steps) - step).argmin())
    panel = next(panel for panel in film.panels if isinstance(panel, _DRAWN) and panel.title == title)
    named = f"{panel.title}, step {film.steps[frame]:,}"
    match panel:
        case Curves():
            here = panel.at[frame] if panel.at is not None else film.steps[frame]
            curves = [
                charts.Curve(line.label, line.steps, line.values, line.dashed, None if line.strong else line.colour)
                for line in panel.lines
            ]
            marks = {mark.label: mark.step for mark in panel.marks}
            return charts.lines(panel.title, curves, panel.unit, panel.log, dict(panel.references), marks, here)
        case Raster():
            limits = (panel.low, panel.high)
            return charts.raster(
                panel.title, panel.values, panel.rows, panel.steps, panel.unit, limits, panel.scale, panel.onsets
            )
        case Heatmaps():
            high = panel.most or panel.high
            low = -high if panel.scale == "diverging" else panel.low
            return charts.heatmaps(
                named,
                panel.maps,
                panel.values[frame],
                panel.rows,
                panel.columns,
                (panel.row_axis, panel.column_axis),
                (low, high),
                panel.scale,
            )
        case Columns():
            low, high = float(np.nanmin(panel.values)), float(np.nanmax(panel.values))
            return charts.columns(
                named,
                panel.series,
                panel.values[frame],
                panel.categories,
                panel.unit,
                panel.category_axis,
                (min(low, 0), max(high, 0)),
            )
        case Scatter():
            x, y = (panel.x, panel.y) if panel.trail else (panel.x[frame], panel.y[frame])
            labels = [f"step {step:,}" for step in film.steps] if panel.trail else panel.labels
            return charts.scatter(named, x.flatten(), y.flatten(), labels, panel.x_axis, panel.y_axis, panel.trail)
        case Bars():
            own = not isinstance(panel.categories[0], str)
            labels = panel.categories if own else [panel.categories] * len(panel.groups)
            return charts.bars(named, panel.groups, labels, panel.values[frame], panel.targets)


_DRAWN = (Curves, Raster, Heatmaps, Columns, Scatter, Bars)
