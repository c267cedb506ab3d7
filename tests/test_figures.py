"""Panels of one snapshot as plotly figures."""

import math

import numpy as np
import pytest

from explorer.film import palette
from explorer.film.film import Film
from explorer.film.panels.bars import Bars
from explorer.film.panels.columns import Columns
from explorer.film.panels.curves import Curves, Line
from explorer.film.panels.figures import Figure
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.panel import Panel
from explorer.film.panels.raster import Raster
from explorer.film.panels.scatter import Colouring, Scatter
from explorer.runs import Runs, recorder
from explorer.tasks.addition import Addition
from explorer.views import (
    compare,
    components,
    fourier,
    heads,
    losses,
    overview,
    weights,
)
from explorer.views.classes import class_films
from explorer.views.subject import Subject
from tests.conftest import TRAINING
from tests.films import of


@pytest.mark.parametrize("kind", [Curves, Raster, Heatmaps, Columns, Scatter])
def test_a_figure_of_each_kind_of_panel_has_its_values(shipped, kind):
    films = {
        Curves: lambda: weights.film(shipped),
        Raster: lambda: losses.film(shipped, "12345+67890"),
        Heatmaps: lambda: heads.example_film(shipped, "12345+67890", "pattern"),
        Columns: lambda: components.film(shipped, "12345+67890", 0),
        Scatter: lambda: weights.film(shipped),
    }
    film = films[kind]()
    panel = of(kind, film)[-1]
    drawn = film.figure(panel.id, shipped.steps[7])
    data = drawn.data
    if kind is Curves:
        np.testing.assert_allclose(data[0].y, panel.lines[0].values)
        assert [trace.name for trace in data] == [line.label for line in panel.lines]
    elif kind is Raster:
        np.testing.assert_allclose(data[0].z, panel.values)
        np.testing.assert_allclose(data[1].x, panel.marks)
    elif kind is Heatmaps:
        np.testing.assert_allclose(np.stack([trace.z for trace in data]), panel.values[7])
    elif kind is Columns:
        np.testing.assert_allclose(data[0].y, panel.values[7, 0])
    else:
        np.testing.assert_allclose(data[0].x, panel.x[:, 0])
    assert f"step {shipped.steps[7]:,}" in drawn.layout.title.text or kind in (Curves, Raster)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_smoothed_curves_show_the_values_that_their_flags_mark(shipped, mode):
    film = losses.film(shipped, "12345+67890")
    panel = of(Curves, film)[0]
    drawn = film.figure(panel.id, shipped.steps[7], mode)
    assert drawn.layout.yaxis.title.text == "nats, smoothed"
    assert [trace.name for trace in drawn.data] == [line.label for line in panel.lines]
    for trace, line in zip(drawn.data, panel.lines, strict=True):
        np.testing.assert_allclose(trace.y, line.smoothed[np.searchsorted(line.steps, trace.x)])
        assert trace.line.color == (palette.STRONG[mode] if line.strong else palette.category(line.colour, mode))
        assert "nats, smoothed" in trace.hovertemplate
    *lines, cursor = drawn.layout.shapes
    assert {line.x0 for line in lines if line.x0 == line.x1} == {mark.step for mark in panel.marks}
    assert panel.marks
    assert {line.line.color for line in lines} == {palette.MUTED[mode]}
    assert (cursor.x0, cursor.line.color) == (shipped.steps[7], palette.CURSOR[mode])


def test_curves_outside_a_film_have_no_cursor():
    line = Line("norm", np.arange(3), np.array([1.0, 2.0, 4.0]), 1)
    drawn = Curves("norm", "Norm", [line], "norm").figure(0, ())
    np.testing.assert_array_equal(drawn.data[0].y, line.values)
    assert drawn.layout.shapes == ()
    assert drawn.layout.yaxis.title.text == "norm"


def test_a_figure_in_dark_mode_has_the_colours_of_dark_pages(subject, shipped):
    def dark(kind: type[Panel], film: Film) -> tuple[Panel, Figure]:
        panel = of(kind, film)[-1]
        return panel, film.figure(panel.id, film.steps[-1], "dark")

    panel, drawn = dark(Heatmaps, heads.example_film(shipped, "12345+67890", "gradient"))
    ramps = palette.RAMPS["dark"]
    assert panel.scale == "diverging"
    assert [colour for _, colour in drawn.layout.coloraxis.colorscale] == [
        *reversed(ramps["negative"]),
        palette.PAPER["dark"],
        *ramps["positive"],
    ]
    assert drawn.layout.coloraxis.cmax == -drawn.layout.coloraxis.cmin == (panel.full_colour_at or panel.high)
    panel, drawn = dark(Bars, overview.film(subject, "48+76"))
    for group, bar in enumerate(drawn.data):
        colours = list(bar.marker.color)
        assert colours.pop(panel.targets[group]) == palette.RIGHT["dark"]
        assert set(colours) == {palette.CATEGORIES["dark"][0]}
    _, drawn = dark(Raster, losses.film(shipped, "12345+67890"))
    assert drawn.data[1].marker.color == palette.CURSOR["dark"]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_points_have_the_colours_of_the_player(mode):
    x, y = np.arange(12.0).reshape(2, 6), np.ones((2, 6))
    labels = list("abcdef")
    plain, ring, trail = (
        Scatter("points", "Points", labels, x, y, "x", "y", trail=trail, ring=ring)
        for trail, ring in [(False, False), (False, True), (True, False)]
    )
    (points,) = plain.figure(1, (0, 5), mode).data
    assert list(points.marker.color) == list(palette.CATEGORIES[mode][:6])
    np.testing.assert_array_equal(points.x, x[1])
    line, points = ring.figure(1, (0, 5), mode).data
    assert list(line.x) == [*x[1], x[1, 0]]
    saturation, lightness = palette.RING[mode]
    assert points.marker.color[1] == f"hsl(60, {saturation}%, {lightness}%)"
    *paths, points = trail.figure(1, (0, 5), mode).data
    assert [path.line.color for path in paths] == list(palette.CATEGORIES[mode][:6])
    np.testing.assert_array_equal(np.stack([path.x for path in paths], 1), x)
    assert paths[0].text == ("a, step 0", "a, step 5")
    assert points.marker.color == palette.CURSOR[mode]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_points_have_the_colour_of_their_category_or_number(mode):
    x, y, labels = np.arange(6.0).reshape(2, 3), np.ones((2, 3)), ["<a>", "b", "c"]
    few = Colouring("token", np.array([[1, 0, 1]]), ["even", "<odd>"])
    even, odd = Scatter("few", "Few", labels, x, y, "x", "y", colouring=few).figure(1, (0, 5), mode).data
    assert (even.name, odd.name) == ("even", "&lt;odd&gt;")
    assert (even.marker.color, odd.marker.color) == palette.CATEGORIES[mode][:2]
    np.testing.assert_array_equal(odd.x, x[1, [0, 2]])
    assert list(odd.text) == ["&lt;a&gt;", "c"]
    many = Colouring("token", np.array([[0, 1, 7]]), list("abcdefgh"))  # more than the palette has
    traces = Scatter("many", "Many", labels, x, y, "x", "y", colouring=many).figure(1, (0, 5), mode).data
    assert [trace.marker.color for trace in traces] == palette.ring(8, mode)
    losses = Colouring("loss", np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]), low=0.0, high=4.0)
    (points,) = Scatter("loss", "Loss", labels, x, y, "x", "y", colouring=losses).figure(1, (0, 5), mode).data
    assert list(points.marker.color) == [3, 4, 5]
    assert (points.marker.cmin, points.marker.cmax) == (0, 4)
    assert points.marker.colorscale[0][1] == palette.RAMPS[mode]["sequential"][0]


def test_every_panel_with_numbers_can_be_a_figure(subject, copies):
    for film in (
        overview.film(subject, "48+76"),
        losses.film(copies, "abcabc"),
        fourier.film(subject, "circles", ""),
        fourier.film(subject, "progress", "units"),
        overview.film(copies, "abcabc"),
        compare.film(subject, copies, "48+76", "loss"),
    ):
        assert film.figures()
        for id in film.figures():
            assert film.figure(id, 20).data


def test_labels_are_escaped(copies):
    """The token < must not open an HTML tag."""
    film = heads.example_film(copies, "<b>ab<b>a", "pattern")
    drawn = film.figure(list(film.figures())[1], 0)
    assert drawn.layout.yaxis.ticktext[1] == "&lt; (1)"
    assert "&lt;b&gt;" in drawn.layout.title.text


def test_the_basis_and_its_gram_matrix(subject):
    basis, gram = (panel.figure(0, ()) for panel in fourier.basis_panels(subject))
    np.testing.assert_allclose(gram.data[0].z, np.eye(10), atol=1e-12)
    assert basis.data[0].z[0].tolist() == pytest.approx([1 / math.sqrt(10)] * 10)


def test_ten_digits_have_panels_too(tmp_path):
    """Six classes of sums, ten columns, more lines than the palette has colours."""
    task = Addition(n_digits=10)
    run = recorder.create(
        Runs(tmp_path), "ten", task, task.model_config(d_model=8, n_heads=1, d_head=8, d_mlp=8), TRAINING
    )
    recorder.train(run)
    subject = Subject.load(run)
    text = next(iter(task.examples.values()))
    assert len(fourier.answers(subject)) == 10
    assert next(class_films(subject))[0].panels
    assert losses.film(subject, text).panels
    assert components.film(subject, text, 10).panels
