"""Films: packing keeps all values, and panels that do not fit are refused."""

import json

import numpy as np
import pytest

from explorer.film.film import Film, message
from explorer.film.palette import for_player
from explorer.film.panels.bars import Bars
from explorer.film.panels.columns import Columns
from explorer.film.panels.curves import BUCKETS, Curves, Line, Mark, thinned
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.panel import Panel
from explorer.film.panels.plane import Axis
from explorer.film.panels.raster import Raster
from explorer.film.panels.scatter import Colouring, Scatter
from explorer.film.panels.text import Text
from explorer.film.panels.tokens import Tokens
from tests.films import plane, strip


def heatmaps(values: np.ndarray, low: float = 0.0, high: float = 1.0) -> Heatmaps:
    _, _, rows, columns = values.shape
    labels = [str(i) for i in range(max(rows, columns))]
    names = [f"L0H{i}" for i in range(values.shape[1])]
    return Heatmaps("maps", "map", names, values, labels[:rows], labels[:columns], "query", "key", low, high)


def with_arrays(thing: Panel | Line, **values: np.ndarray) -> Panel | Line:
    """The same with other arrays, which the tests' run-time type checks would refuse in the constructor."""
    for name, value in values.items():
        object.__setattr__(thing, name, value)
    return thing


def unpack(packed: bytes) -> tuple[dict, list[np.ndarray]]:
    """Decode a film as the player does."""
    length = int.from_bytes(packed[:4], "little")
    header = json.loads(packed[4 : 4 + length])
    arrays = []

    def walk(thing):
        if isinstance(thing, list):
            return [walk(item) for item in thing]
        if not isinstance(thing, dict):
            return thing
        if "dtype" in thing:
            count, at = int(np.prod(thing["shape"])), 4 + length + thing["at"]
            assert at % 4 == 0
            array = np.frombuffer(packed, f"<{thing['dtype']}", count, at).reshape(thing["shape"])
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
    sent = message(film, start=5)
    length = int.from_bytes(sent[:4], "little")
    assert length % 4 == 0
    assert json.loads(sent[4 : 4 + length])["start"] == 5
    header, _ = unpack(sent[4 + length :])
    assert header["steps"] == [0, 5, 20]
    assert [panel["kind"] for panel in header["panels"]] == ["curves", "heatmaps", "bars", "tokens", "text"]
    curves, packed_maps, bars, tokens, text = header["panels"]
    np.testing.assert_allclose(curves["lines"][0]["raw"]["values"], film.panels[0].lines[0].values, rtol=1e-6)
    assert curves["references"] == [["uniform", 2.3]]
    np.testing.assert_allclose(packed_maps["values"].reshape(maps.shape), maps, rtol=1e-6)
    np.testing.assert_allclose(bars["values"], film.panels[2].values, rtol=1e-6)
    assert tokens["answers"].ravel().tolist() == [0, 1, 1]
    assert text["blocks"][2] == "</script>"


def test_timelines_columns_and_points_survive_packing():
    rng = np.random.default_rng(0)
    line = Line("all", np.arange(9), rng.random(9), 0)
    marks = np.array([3.0, np.nan])
    colouring = Colouring("token", np.array([[1]]), ["a", "b"])
    film = Film(
        [0, 5, 20],
        [
            Curves("loss", "loss", [line], marks=[Mark("units: falls", 7, 2, "units")], at=np.array([0, 4, 4])),
            Raster("losses", "losses", ["a", "b"], np.arange(4), rng.random((2, 4)), 0.0, 1.0, "nats", marks),
            Columns("norms", "norms", ["1", "2"], ["W_E"], rng.random((3, 1, 2)), "norm", "frequency", marked=[1]),
            Scatter("path", "path", ["weights"], rng.random((3, 1)), rng.random((3, 1)), "PC1", "PC2", trail=True),
            Scatter("points", "points", ["a"], rng.random((3, 1)), rng.random((3, 1)), "x", "y", colouring=colouring),
            heatmaps(rng.random((3, 1, 2, 2))),
        ],
    )
    header, _ = unpack(film.packed)
    curves, raster, columns, scatter, points, maps = header["panels"]
    assert scatter["colouring"] is None
    assert points["colouring"] | {"values": None} == {
        **{"name": "token", "values": None, "categories": ["a", "b"]},
        **{"low": 0, "high": 1},
    }
    assert points["colouring"]["values"].tolist() == [[1]]
    assert curves["marks"] == [{"label": "units: falls", "step": 7, "colour": 2, "group": "units", "until": None}]
    assert curves["at"].tolist() == [0, 4, 4]
    np.testing.assert_allclose(raster["values"], film.panels[1].values, rtol=1e-6)
    np.testing.assert_array_equal(raster["marks"], marks)
    np.testing.assert_allclose(columns["values"], film.panels[2].values, rtol=1e-6)
    np.testing.assert_allclose(scatter["x"], film.panels[3].x, rtol=1e-6)
    assert maps["outlines"] == []


def test_values_that_are_not_finite_leave_cells_empty():
    values = np.array([[[[0.0, np.nan, 1.0, -np.inf, 0.5]]], [[[0.25, np.nan, np.inf, -np.inf, 0.5]]]])
    header, _ = unpack(Film([0, 1], [heatmaps(values)]).packed)
    (maps,) = header["panels"]
    assert maps["cells"].tolist() == [0, 2, 4]
    np.testing.assert_array_equal(maps["values"], [[[0.0, 1.0, 0.5]], [[0.25, np.nan, 0.5]]])


def test_a_map_without_range_is_packed():
    header, _ = unpack(Film([0], [heatmaps(np.zeros((1, 1, 2, 2)), 0.0, 0.0)]).packed)
    (maps,) = header["panels"]
    assert maps["values"].ravel().tolist() == [0] * 4
    assert maps["cells"] is None


def test_values_of_any_size_keep_four_digits():
    """Late in training, gradients are a millionth of those at the start."""
    values = 10.0 ** -np.arange(0, 36, 3)[:, None, None, None] * np.linspace(1, 2, 6).reshape(1, 1, 2, 3)
    header, _ = unpack(Film(range(12), [heatmaps(values)]).packed)
    np.testing.assert_allclose(header["panels"][0]["values"].reshape(values.shape), values, rtol=1e-5)


def test_frames_that_repeat_are_sent_once():
    """In a comparison, the run with fewer snapshots shows the same one in several frames."""
    one, other = np.random.default_rng(0).random((2, 2, 3, 3))
    one[:, 0, 1] = other[:, 0, 1] = np.nan
    film = Film(range(6), [heatmaps(np.stack([one, one, other, other, other, one]))])
    header, _ = unpack(film.packed)
    (maps,) = header["panels"]
    assert maps["frames"].tolist() == [0, 0, 1, 1, 1, 2]
    assert maps["values"].shape == (3, 2, 8)
    np.testing.assert_allclose(maps["values"][1], other.reshape(2, 9)[:, maps["cells"]], rtol=1e-6)


def test_a_film_is_packed_once_for_all_messages():
    film = Film([0], [Text("text", "text", ["one"])])
    assert film.packed is film.packed
    sent = message(film, 0, 3, [("losses", "log", True), ("losses", "hidden", ["units"])])
    length = int.from_bytes(sent[:4], "little")
    said = {
        "start": 0,
        "move": 3,
        "switches": [["losses", "log", True], ["losses", "hidden", ["units"]]],
        "asks": False,
    }
    assert json.loads(sent[4 : 4 + length]) == said
    assert sent[4 + length :] == film.packed


@pytest.mark.parametrize("n", [1, 7, 3999, 4001, 250_000])
def test_thinned_curves_keep_what_a_screen_shows(n):
    rng = np.random.default_rng(n)
    steps, values = np.sort(rng.choice(10 * n, n, replace=False)), rng.normal(size=n)
    values[n // 2] = 99
    values[rng.random(n) < 0.2] = np.nan
    values[n // 3 : n // 3 + n // 10] = np.nan  # a gap that can be seen
    values[n // 2] = -99
    kept = np.arange(n)[thinned(steps, values)]
    assert len(kept) <= 4 * BUCKETS
    assert (np.diff(kept) > 0).all()
    assert {0, n // 2, n - 1} <= set(kept.tolist())
    bucket = np.minimum((steps - steps[0]) * BUCKETS // max(1, steps[-1] - steps[0]), BUCKETS - 1)
    for extreme in (np.fmin, np.fmax):
        ends = np.full((2, BUCKETS), np.nan)
        extreme.at(ends[0], bucket, values)
        extreme.at(ends[1], bucket[kept], values[kept])
        np.testing.assert_array_equal(*ends)
    gap = (steps[kept] > steps[n // 3]) & (steps[kept] < steps[min(n // 3 + n // 10, n - 1)])
    assert np.isnan(values[kept][gap & (kept != n // 2)]).all()


def test_a_line_has_exact_values_at_the_frames_however_it_is_thinned():
    steps = np.arange(0, 300_000, 3)
    values = np.random.default_rng(0).random(len(steps))
    line = Line("all", steps, values, 0, smoothed=values / 2)
    panel = Curves("loss", "loss", [line], smoothing=0.9)
    header, _ = unpack(Film([0, 7, 150_001, 400_000], [panel]).packed)
    (sent,) = header["panels"][0]["lines"]
    assert sent["measured"].tolist() == [0, 6, 150_000, 299_997]  # measured last
    rows = [0, 2, 50_000, 99_999]
    np.testing.assert_allclose(sent["raw"]["frames"], values[rows], rtol=1e-6)
    np.testing.assert_allclose(sent["smoothed"]["frames"], values[rows] / 2, rtol=1e-6)


def test_curves_without_points_are_packed():
    nothing = np.zeros(0)
    header, _ = unpack(Film([0, 1], [Curves("loss", "loss", [Line("all", nothing, nothing, 0)])]).packed)
    (sent,) = header["panels"][0]["lines"]
    assert [len(sent["measured"]), len(sent["raw"]["values"]), len(sent["raw"]["frames"])] == [0, 0, 0]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_figures_have_the_colours_of_the_player(mode):
    line = Line("all", np.arange(3), np.arange(3.0), 1)
    film = Film([0, 2], [Curves("loss", "loss", [line]), heatmaps(np.ones((2, 1, 2, 2))), Text("text", "t", ["a"])])
    assert film.figures() == {"loss": "loss", "maps": "map"}
    assert film.figure("loss", 1, mode).data[0].line.color == for_player()[mode]["categories"][1]
    scale = film.figure("maps", 2, mode).layout.coloraxis.colorscale
    assert [colour for _, colour in scale][1:] == list(for_player()[mode]["ramps"]["sequential"])
    with pytest.raises(KeyError):
        film.figure("nothing", 0)


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
        Bars("answers", "answers", np.zeros((2, 1, 1)), ["a"], [["x"]], [0], predicted=[["x"]]),
        with_arrays(
            Tokens("tokens", "tokens", [], np.zeros((2, 1)), np.zeros((2, 1)), [0], [0], ["0"]),
            probabilities=np.zeros((2, 2)),
        ),
        Tokens("places", "places", ["a"], np.zeros((2, 1)), np.zeros((2, 1)), [0], [2], ["0"]),
        Text("text", "text", ["a", "b", "c"]),
        Curves("at", "at", [Line("a", np.zeros(2), np.zeros(2), 0)], at=np.zeros(3)),
        Curves("line", "line", [with_arrays(Line("a", np.zeros(2), np.zeros(2), 0), values=np.zeros(3))]),
        Curves("smoothing", "smoothing", [Line("a", np.zeros(2), np.zeros(2), 0)], smoothing=0.9),
        with_arrays(
            Raster("raster", "raster", ["a"], np.zeros(3), np.zeros((1, 3)), 0, 1, ""), values=np.zeros((1, 2))
        ),
        with_arrays(Raster("marks", "marks", ["a"], np.zeros(3), np.zeros((1, 3)), 0, 1, ""), marks=np.zeros(2)),
        Columns("columns", "columns", ["x"], ["a", "b"], np.zeros((2, 1, 1)), "", ""),
        with_arrays(
            Scatter("scatter", "scatter", ["a"], np.zeros((2, 1)), np.zeros((2, 1)), "x", "y"), y=np.zeros((2, 2))
        ),
        plane(3)[0],
        *(
            with_arrays(plane(2)[0], **{name: np.zeros(shape)})
            for name, shape in {
                "values": (2, 4, 5),
                "n": (4, 5),
                "agree": (2, 5, 5),
                "curves": (5, 4, 2, 44),
                "points": 45,
            }.items()
        ),
        plane(2, lines=["training data"])[0],
        plane(2, points=None)[0],
        plane(2, n=None)[0],
        plane(2, kinds=["confusion", "memorisation"])[0],
        plane(2, runs=[["a"] * 5] * 4)[0],
        plane(2, rows=Axis("four labels", list("abcd")))[0],
        plane(2, rows=Axis("descending", list("abcde"), [5, 4, 3, 2, 1]))[0],
        plane(2, rows=Axis("zero on a logarithmic axis", list("abcde"), [0, 1, 2, 3, 4], log=True))[0],
        plane(2, rows=Axis("words on a logarithmic axis", list("abcde"), log=True))[0],
        plane(2, rows=Axis("not finite", list("abcde"), [0, 1, 2, 3, np.inf]))[0],
        plane(2, kinds=(), low=2.0, high=1.0)[0],
        plane(2, kinds=(), log_colour=True)[0],
        plane(2, kinds=(), low=0.1, scale="diverging", log_colour=True)[0],
        strip(0),
        strip(3),
        strip(rows=["units"]),
        strip(names=[["seed 0"]]),
        with_arrays(strip(), median=np.zeros((6, 1))),
        *(
            Scatter("colours", "colours", ["a"], np.zeros((2, 1)), np.zeros((2, 1)), "x", "y", colouring=colouring)
            for colouring in (
                Colouring("loss", np.zeros((3, 1))),
                Colouring("loss", np.zeros((1, 2))),
                Colouring("token", np.array([[2]]), ["a", "b"]),
                Colouring("token", np.array([[0.5]]), ["a", "b"]),
            )
        ),
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
