"""The map of pairs of snapshots."""

import numpy as np
import pytest

from explorer.film.film import Film
from explorer.film.panels.pairs import Pairs
from tests.films import panels_of


def pairs(n: int = 4) -> tuple[Pairs, list[int]]:
    values = np.arange(n * n, dtype=float).reshape(n, n)
    return Pairs("map", "Map", values, "from", "to", low=0.0, high=9.0, unit="nats"), list(range(0, 10 * n, 10))


def test_a_map_of_pairs_has_names_and_gaps_and_is_sent_as_it_is():
    shown, steps = pairs()
    assert shown.value(1, steps, ["20"]) == shown.values[2, 1]
    with pytest.raises(LookupError):
        shown.value(1, steps, ["25"])
    film = Film(steps, [shown]).with_gaps([15])
    (found,) = film.panels
    assert found.gaps == [2]
    assert np.isnan(found.values[2]).all()
    assert np.isnan(found.values[:, 2]).all()
    np.testing.assert_array_equal(found.values[np.ix_([0, 1, 3, 4], [0, 1, 3, 4])], shown.values)
    np.testing.assert_array_equal(panels_of(film.packed)["map"]["values"], found.values)
    with pytest.raises(ValueError, match="does not fit"):
        Film(steps[:3], [shown])


def test_the_figure_of_a_map_marks_the_snapshot_on_both_axes():
    shown, steps = pairs()
    figure = shown.figure(2, steps)
    lines = [(line.x0, line.x1, line.y0, line.y1) for line in figure.layout.shapes]
    assert (2, 2) in [(x0, x1) for x0, x1, _, _ in lines]
    assert (2, 2) in [(y0, y1) for _, _, y0, y1 in lines]
    np.testing.assert_array_equal(figure.data[0].z, shown.values)
    assert "step 20" in figure.layout.title.text
