"""Panels of one snapshot as plotly figures."""

import math

import numpy as np
import pytest

from explorer.film.panels.columns import Columns
from explorer.film.panels.curves import Curves
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.raster import Raster
from explorer.film.panels.scatter import Scatter
from explorer.runs import Runs, recorder
from explorer.tasks.addition import Addition
from explorer.views import (
    attention,
    attribution,
    compare,
    fourier,
    phase_changes,
    watch,
    weights,
)
from explorer.views.subject import Subject
from tests.conftest import TRAINING
from tests.films import of


@pytest.mark.parametrize("kind", [Curves, Raster, Heatmaps, Columns, Scatter])
def test_a_figure_of_each_kind_of_panel_has_its_values(shipped, kind):
    films = {
        Curves: lambda: weights.film(shipped),
        Raster: lambda: phase_changes.film(shipped, "12345+67890"),
        Heatmaps: lambda: attention.example_film(shipped, "12345+67890", "pattern"),
        Columns: lambda: attribution.film(shipped, "12345+67890", 0),
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
        np.testing.assert_allclose(data[1].x, panel.onsets)
    elif kind is Heatmaps:
        np.testing.assert_allclose(np.stack([trace.z for trace in data]), panel.values[7])
    elif kind is Columns:
        np.testing.assert_allclose(data[0].y, panel.values[7, 0])
    else:
        np.testing.assert_allclose(data[0].x, panel.x[:, 0])
    assert f"step {shipped.steps[7]:,}" in drawn.layout.title.text or kind in (Curves, Raster)


def test_every_panel_with_numbers_can_be_a_figure(subject, copies):
    for film in (
        watch.film(subject, "48+76"),
        phase_changes.film(copies, "abcabc"),
        fourier.film(subject, "circles", ""),
        fourier.film(subject, "progress", "units"),
        watch.film(copies, "abcabc"),
        compare.film(subject, copies, "48+76", "loss"),
    ):
        assert film.figures()
        for id in film.figures():
            assert film.figure(id, 20).data


def test_labels_are_escaped(copies):
    """The token < does not open a tag."""
    film = attention.example_film(copies, "<b>ab<b>a", "pattern")
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
    assert phase_changes.class_film(subject).panels
    assert phase_changes.film(subject, text).panels
    assert attribution.film(subject, text, 10).panels
