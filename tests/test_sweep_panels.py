"""The panels of sweeps: the plane of two settings, and the strip of the steps at which losses fell."""

import numpy as np
import pytest

from explorer.film import palette
from explorer.film.film import Film
from explorer.film.panels.plane import Axis, Plane
from explorer.film.panels.strip import Strip
from tests.films import KINDS, panels_of, plane, strip


def numeric(n_frames: int = 3, **more) -> tuple[Plane, list[int]]:
    values = np.random.default_rng(0).random((n_frames, 5, 4)) + 0.01
    return plane(n_frames, **{"kinds": (), "values": values, "low": 0.01, "high": 1.01, "unit": "nats"} | more)


# --- Axes ---


def test_the_borders_of_cells_lie_midway_and_as_far_beyond_the_ends():
    assert Axis("words", ["a", "b", "c"]).borders == [-0.5, 0.5, 1.5, 2.5]
    assert Axis("linear", ["a", "b", "c"], [0, 1, 5]).borders == [-0.5, 0.5, 3, 7]
    assert Axis("log", ["a", "b"], [0.01, 1], log=True).borders == pytest.approx([0.001, 0.1, 10])
    assert Axis("one", ["a"]).borders == [-0.5, 0.5]
    assert Axis("one", ["a"], [3.0], log=True).borders == pytest.approx([3 / np.e**0.5, 3 * np.e**0.5])


@pytest.mark.parametrize("log", [False, True])
def test_every_value_of_an_axis_lies_within_its_own_cell(log):
    at = np.sort(np.random.default_rng(1).random(30)) + 1e-3
    axis = Axis("random", [str(place) for place in at], at.tolist(), log)
    assert axis.fits()
    borders = np.array(axis.borders)
    assert (borders[:-1] < at).all()
    assert (at < borders[1:]).all()


# --- Packing ---


def test_a_plane_and_a_strip_survive_packing():
    shown, steps = plane(12)
    marks = strip(2)
    packed = panels_of(Film(steps, [shown, marks]).packed)
    cells, falls = packed["plane"], packed["falls"]
    frames = range(12) if cells["frames"] is None else cells["frames"]
    np.testing.assert_array_equal(cells["values"][list(frames)], shown.values.astype("f4"))
    np.testing.assert_array_equal(cells["agree"][list(frames)], shown.agree)
    np.testing.assert_allclose(cells["curves"], shown.curves, rtol=1e-6)
    assert cells["columns"]["borders"] == shown.columns.borders
    assert cells["columns"]["places"] == shown.columns.at
    assert cells["runs"][4][3] == "decay-4 rate-3"
    np.testing.assert_array_equal(falls["marks"], marks.marks.astype("f4"))
    np.testing.assert_allclose(falls["median"], marks.median, rtol=1e-6)
    assert falls["names"][1][19] == "seed 19"


def test_frames_of_a_plane_that_repeat_are_sent_once():
    shown, _ = plane(6)
    values, agree = shown.values[[0, 0, 0, 3, 3, 0]], shown.agree[[0, 0, 1, 1, 1, 1]]
    again, _ = plane(6, values=values, agree=agree)
    sent = panels_of(Film(range(6), [again]).packed)["plane"]
    assert sent["frames"].tolist() == [0, 0, 1, 2, 2, 3]
    assert sent["values"].shape == sent["agree"].shape == (4, 5, 4)
    alone, _ = plane(6, values=values, agree=None)
    assert panels_of(Film(range(6), [alone]).packed)["plane"]["frames"].tolist() == [0, 0, 0, 1, 1, 2]


# --- Names of numbers ---


def test_the_cells_of_a_plane_have_names():
    shown, steps = plane(12)
    assert shown.value(11, steps, ["1", "0.001"]) == shown.values[11, 3, 2] == 3
    assert shown.value(11, steps, ["#0", "#1"]) == shown.values[11, 0, 1]
    for names in (["1"], ["1", "0.5"], ["7", "0.001"], ["1", "0.001", "seed"]):
        with pytest.raises(LookupError):
            shown.value(0, steps, names)


def test_the_marks_of_a_strip_have_names():
    alone, both = strip(), strip(2)
    steps = [0, 2600, 20_000]
    assert [alone.value(frame, steps, ["ten thousands"]) for frame in range(3)] == [0, 0, 17]
    assert alone.value(1, steps, ["tens"]) == (alone.marks[0, 1] <= 2600).sum()
    assert alone.value(0, steps, ["tens", "seed 3"]) == alone.marks[0, 1, 3]
    assert alone.value(0, steps, ["tens", "median"]) == alone.median[0, 1]
    assert both.value(1, steps, ["tens", "10,000 examples"]) == (both.marks[1, 1] <= 2600).sum()
    assert both.value(1, steps, ["tens", "10,000 examples", "high"]) == both.high[1, 1]
    assert both.value(1, steps, ["tens", "10,000 examples", "seed 19"]) == both.marks[1, 1, 19]
    for panel, names in ((both, ["tens"]), (alone, []), (alone, ["tens", "seed 99"]), (alone, ["tens", "low", "low"])):
        with pytest.raises(LookupError):
            panel.value(0, steps, names)


# --- Figures ---


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_a_figure_of_a_plane_has_its_kinds_at_their_true_places(mode):
    shown, steps = plane(12)
    drawn = Film(steps, [shown]).figure("plane", steps[6], mode)
    (cells,) = drawn.data
    np.testing.assert_array_equal(cells.z, shown.values[6])
    assert list(cells.x) == shown.columns.borders
    assert drawn.layout.xaxis.type == "log"
    assert list(drawn.layout.xaxis.ticktext) == list(shown.columns.labels)
    assert list(drawn.layout.xaxis.tickvals) == shown.columns.at
    assert [colour for _, colour in cells.colorscale][::2] == palette.categories(4, mode)
    assert cells.colorbar.ticktext == KINDS
    assert cells.text[1][0] == f"{shown.agree[6, 1, 0]}/3"
    assert cells.text[0][3] == ""
    assert cells.customdata[0][3][2] == "nothing yet"
    assert cells.customdata[4][0][2].startswith(f"{KINDS[int(shown.values[6, 4, 0])]}, ")
    assert f"step {steps[6]:,}" in drawn.layout.title.text


def test_a_figure_of_numbers_has_them_in_their_cells():
    shown, steps = numeric()
    (cells,) = shown.figure(1, steps).data
    assert cells.text[2][1] == f"{shown.values[1, 2, 1]:.3g}"
    assert cells.customdata[2][1][2] == f"{shown.values[1, 2, 1]:.6g} nats, {shown.agree[1, 2, 1]} of 3 seeds"
    assert (cells.zmin, cells.zmax) == (0.01, 1.01)
    (cells,) = numeric(log_colour=True)[0].figure(1, steps).data
    np.testing.assert_allclose(cells.z, np.log10(shown.values[1]))
    assert (cells.zmin, cells.zmax) == pytest.approx((-2, np.log10(1.01)))
    assert cells.colorbar.ticktext[0] == "0.01"
    (cells,) = numeric(scale="diverging")[0].figure(1, steps).data
    assert (cells.zmin, cells.zmax) == (-1.01, 1.01)


def test_labels_in_figures_are_escaped():
    names = [[f"<{seed}>" for seed in range(20)]]
    drawn = strip(names=names, groups=["<b>"]).figure(0, [10])
    assert drawn.data[0].name == "&lt;b&gt;"
    assert drawn.data[0].text[0] == "units, &lt;0&gt;"
    shown, steps = plane(2, rows=Axis("<i>", list("<bcde")))
    (cells,) = shown.figure(0, steps).data
    assert cells.customdata[0][0][0] == "&lt;"
    assert "&lt;i&gt;" in cells.hovertemplate


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_a_figure_of_a_strip_has_hollow_marks_after_its_cursor(mode):
    panel = strip(2)
    steps = [0, 3000]
    drawn = Film(steps, [panel]).figure("falls", 3000, mode)
    for group in range(2):
        marks, middle = drawn.data[2 * group : 2 * group + 2]
        np.testing.assert_array_equal(marks.x, panel.marks[group].ravel())
        assert marks.marker.color == palette.category(group, mode)
        hollow = np.array(marks.marker.symbol) == "circle-open"
        np.testing.assert_array_equal(hollow, ~(panel.marks[group].ravel() <= 3000))
        np.testing.assert_allclose(middle.x + middle.error_x.array, panel.high[group])
        np.testing.assert_allclose(middle.x - middle.error_x.arrayminus, panel.low[group])
    assert drawn.data[0].y[0] < 0 < drawn.data[2].y[0]  # above each other in a row
    (cursor,) = drawn.layout.shapes
    assert (cursor.x0, cursor.line.color) == (3000, palette.CURSOR[mode])


def test_a_strip_outside_a_film_has_no_cursor():
    drawn = strip(log=True).figure(0, ())
    assert drawn.layout.shapes == ()
    assert drawn.layout.xaxis.type == "log"
    assert strip(log=True).figure(0, [0, 9]).layout.shapes == ()  # a logarithmic axis has no place for step 0
    assert isinstance(strip().framed(np.array([0, -1]), [0, 1]), Strip)
