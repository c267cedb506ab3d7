"""Measures of similarity, on vectors whose angles are known."""

import math

import pytest
import torch

from explorer.analysis.similarity import closeness, cosines, normalised, relative_distance


def test_rows_have_norm_one_and_zero_stays_zero():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]])
    torch.testing.assert_close(normalised(rows), torch.tensor([[0.6, 0.8], [0.0, 0.0], [-1.0, 0.0]]))
    assert normalised(rows.expand(5, 3, 2)).shape == (5, 3, 2)


def test_cosines_are_those_of_the_angles_between_rows():
    angles = torch.tensor([0.0, 60.0, 90.0, 180.0]).deg2rad()
    rows = torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([[1.0], [5.0], [0.1], [2.0]])
    expected = (angles[:, None] - angles).cos()
    torch.testing.assert_close(cosines(rows), expected)
    torch.testing.assert_close(cosines(torch.stack([rows, -rows]))[1], expected)
    assert cosines(torch.tensor([[0.0, 0.0], [1.0, 0.0]])).tolist() == [[0, 0], [0, 1]]


def test_closeness_depends_on_the_angle_alone_and_distance_on_the_norms_too():
    a, b = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert closeness(a, b) == pytest.approx(math.sqrt(1 / 2))
    assert closeness(a, -3 * b) == pytest.approx(-math.sqrt(1 / 2))
    assert (closeness(a, a), relative_distance(a, a)) == (1, 0)
    assert relative_distance(a, torch.tensor([[0.0, 1.0], [0.0, 0.0]])) == pytest.approx(2)
    assert math.isnan(closeness(a, torch.zeros(2, 2)))
    ratio = a.norm().item() / b.norm().item()
    assert relative_distance(a, b) == pytest.approx(ratio + 1 / ratio - 2 * closeness(a, b))
    assert relative_distance(a, b) == pytest.approx(relative_distance(b, a))
