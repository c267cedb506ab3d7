"""Films: what is packed can be unpacked, and what does not fit is refused."""

import json

import numpy as np
import pytest

from explorer.film.film import Bars, Columns, Curves, Film, Heatmaps, Line, Mark, Raster, Scatter, Text, Tokens


def heatmaps(values: np.ndarray, low: float = 0.0, high: float = 1.0) -> Heatmaps:
    _, _, rows, columns = values.shape
    labels = [str(i) for i in range(max(rows, columns))]
    names = [f"L0H{i}" for i in range(values.shape[1])]
    return Heatmaps("maps", "map", names, values, labels[:rows], labels[:columns], "query", "key", low, high)


def unpack(message: bytes) -> tuple[dict, list[np.ndarray]]:
    """As the player does it."""
    length = int.from_bytes(message[:4], "little")
    header = json.loads(message[4 : 4 + length])
    arrays = []

    def walk(thing):
        if isinstance(thing, list):
            return [walk(item) for item in thing]
        if not isinstance(thing, dict):
            return thing
        if "dtype" in thing:
            count, at = int(np.prod(thing["shape"])), 4 + length + thing["at"]
            assert at % 4 == 0
            array = np.frombuffer(message, f"<{thing['dtype']}", count, at).reshape(thing["shape"])
            arrays.append(array)
            return array
        return {name: walk(value) for name, value in thing.items()}

    return walk(header), arrays


def test_a_film_survives_packing():
    rng = np.random.default_rng(0)
    maps = rng.random((3, 2, 5, 7))
    film = Film(
        [0, 5, 20],
        [
            Curves(
                "loss",
                "loss",
                [Line("all", np.arange(9), rng.random(9), 0, strong=True)],
                references=[("uniform", 2.3)],
            ),
            heatmaps(maps),
            Bars("bars", "bars", rng.random((3, 2, 3)), ["a", "b"], ["x", "y", "z"], [0, 2]),
            Tokens("tokens", "tokens", ["1", "+"], np.array([[0], [1], [1]]), rng.random((3, 1)), [1], [2], ["0", "1"]),
            Text("text", "text", ["one", "two", "</script>"]),
        ],
    )
    header, _ = unpack(film.pack(start=5))
    assert (header["steps"], header["start"]) == ([0, 5, 20], 5)
    assert [panel["kind"] for panel in header["panels"]] == ["curves", "heatmaps", "bars", "tokens", "text"]
    curves, packed_maps, bars, tokens, text = header["panels"]
    np.testing.assert_allclose(curves["lines"][0]["values"], film.panels[0].lines[0].values, rtol=1e-6)
    assert curves["references"] == [["uniform", 2.3]]
    np.testing.assert_allclose((packed_maps["values"].astype(float) - 1) / 65534, maps, atol=1e-5)
    np.testing.assert_allclose(bars["values"], film.panels[2].values, rtol=1e-6)
    assert tokens["answers"].ravel().tolist() == [0, 1, 1]
    assert text["blocks"][2] == "</script>"


def test_timelines_columns_and_points_survive_packing():
    rng = np.random.default_rng(0)
    line = Line("all", np.arange(9), rng.random(9), 0)
    onsets = np.array([3.0, np.nan])
    film = Film(
        [0, 5, 20],
        [
            Curves("loss", "loss", [line], marks=[Mark("units: onset", 7, 2, "units")], at=np.array([0, 4, 4])),
            Raster("losses", "losses", ["a", "b"], np.arange(4), rng.random((2, 4)), 0.0, 1.0, "nats", onsets),
            Columns("norms", "norms", ["1", "2"], ["W_E"], rng.random((3, 1, 2)), "norm", "frequency", marked=[1]),
            Scatter("path", "path", ["weights"], rng.random((3, 1)), rng.random((3, 1)), "PC1", "PC2", trail=True),
            heatmaps(rng.random((3, 1, 2, 2))),
        ],
    )
    header, _ = unpack(film.pack(start=0))
    curves, raster, columns, scatter, maps = header["panels"]
    assert curves["marks"] == [{"label": "units: onset", "step": 7, "colour": 2, "group": "units"}]
    assert curves["at"].tolist() == [0, 4, 4]
    np.testing.assert_allclose(raster["values"], film.panels[1].values, rtol=1e-6)
    np.testing.assert_array_equal(raster["onsets"], onsets)
    np.testing.assert_allclose(columns["values"], film.panels[2].values, rtol=1e-6)
    np.testing.assert_allclose(scatter["x"], film.panels[3].x, rtol=1e-6)
    assert maps["outlines"] == []


def test_what_is_not_finite_is_drawn_as_nothing():
    values = np.array([[[[0.0, np.nan, 1.0, -np.inf, 0.5]]]])
    _, (levels,) = unpack(Film([0], [heatmaps(values)]).pack(0))
    assert levels.ravel().tolist() == [1, 0, 65535, 0, 32768]


def test_a_map_without_range_is_packed_all_the_same():
    _, (levels,) = unpack(Film([0], [heatmaps(np.zeros((1, 1, 2, 2)), 0.0, 0.0)]).pack(0))
    assert levels.ravel().tolist() == [1] * 4


@pytest.mark.parametrize("steps", [[], [5, 0], [1, 1]])
def test_steps_must_ascend(steps):
    with pytest.raises(ValueError, match="ascending"):
        Film(steps, [])


@pytest.mark.parametrize(
    "panel",
    [
        heatmaps(np.zeros((3, 1, 2, 2))),
        Curves("curves", "curves", []),
        Bars("bars", "bars", np.zeros((2, 2, 3)), ["a"], ["x", "y", "z"], [0]),
        Bars("own", "own categories", np.zeros((2, 2, 3)), ["a", "b"], [["x", "y", "z"], ["x", "y"]], [0, 0]),
        Bars("answers", "answers", np.zeros((2, 1, 1)), ["a"], [["x"]], [0], said=[["x"]]),
        Tokens("tokens", "tokens", [], np.zeros((2, 1)), np.zeros((2, 2)), [0], [0], ["0"]),
        Tokens("places", "places", ["a"], np.zeros((2, 1)), np.zeros((2, 1)), [0], [2], ["0"]),
        Text("text", "text", ["a", "b", "c"]),
        Curves("at", "at", [Line("a", np.zeros(2), np.zeros(2), 0)], at=np.zeros(3)),
        Raster("raster", "raster", ["a"], np.zeros(3), np.zeros((1, 2)), 0, 1, ""),
        Raster("onsets", "onsets", ["a"], np.zeros(3), np.zeros((1, 3)), 0, 1, "", onsets=np.zeros(2)),
        Columns("columns", "columns", ["x"], ["a", "b"], np.zeros((2, 1, 1)), "", ""),
        Scatter("scatter", "scatter", ["a"], np.zeros((2, 1)), np.zeros((2, 2)), "x", "y"),
    ],
    ids=lambda panel: panel.kind,
)
def test_panels_must_fit_their_film(panel):
    with pytest.raises(ValueError, match="does not fit"):
        Film([0, 1], [panel])


@pytest.mark.parametrize("ids", [("a", "a"), ("a", "b c"), ("a", ""), ("a", "b.c")])
def test_every_panel_has_an_id_of_its_own_in_plain_characters(ids):
    with pytest.raises(ValueError, match="plain id of its own"):
        Film([0], [Text(id, "title", [""]) for id in ids])
