"""Decompositions are computed of finite matrices only; analyses of weights that are not finite return nan."""

import pytest
import torch

from explorer.analysis.circuits import composition_scores, copying_scores, singular_values
from explorer.analysis.finite import of_finite
from explorer.analysis.fourier import frequency_plane
from explorer.analysis.weights import trajectory
from explorer.model.ensemble import Ensemble
from tests.conftest import MODEL, TASK, random_ensemble

DECOMPOSITIONS = {
    "eigvals": torch.linalg.eigvals,
    "eigh": torch.linalg.eigh,
    "svdvals": torch.linalg.svdvals,
    "qr": torch.linalg.qr,
    "r": lambda matrices: torch.linalg.qr(matrices, mode="r").R,
}


@pytest.mark.parametrize("name", DECOMPOSITIONS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_finite_matrices_are_decomposed_as_without_the_others(name, bad):
    square = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    matrices = square + square.mT
    spoilt = matrices.clone()
    spoilt[0, 1, 2, 3] = spoilt[1, 2] = bad
    is_good = torch.tensor([[True, False, True], [True, True, False]])
    found, expected = of_finite(DECOMPOSITIONS[name], spoilt), DECOMPOSITIONS[name](matrices)
    expected = (expected,) if isinstance(expected, torch.Tensor) else tuple(expected)
    assert len(found) == len(expected)
    for part, whole in zip(found, expected, strict=True):
        assert torch.equal(part[is_good], whole[is_good])
        assert part[~is_good].isnan().all()


def test_one_matrix_without_leading_axes():
    values, vectors = of_finite(torch.linalg.eigh, torch.eye(3))
    assert torch.equal(values, torch.ones(3))
    assert torch.equal(vectors.abs(), torch.eye(3))
    assert all(part.isnan().all() for part in of_finite(torch.linalg.eigh, torch.full((3, 3), torch.nan)))


def spoilt(value: float) -> Ensemble:
    """Three snapshots. In the last, one weight of each matrix has this value; for 1e30, all are of that size."""
    ensemble = random_ensemble(MODEL)
    weights = {name: weight.clone() for name, weight in ensemble.weights.items()}
    for weight in weights.values():
        if value == 1e30:
            weight[2] *= value
        else:
            weight[(2, *[0] * (weight.ndim - 1))] = value
    return Ensemble(MODEL, ensemble.steps, weights)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])  # products of 1e30 overflow
def test_circuits_of_bad_weights_are_nan_and_those_of_other_snapshots_as_ever(value):
    bad, good = spoilt(value), random_ensemble(MODEL)
    inputs = TASK.answered_inputs
    for measure in (
        lambda ensemble: copying_scores(ensemble, inputs)[0],
        lambda ensemble: composition_scores(ensemble, "Q")[1],
        lambda ensemble: singular_values(ensemble, "QK"),
        lambda ensemble: singular_values(ensemble, "OV"),
    ):
        found, expected = measure(bad), measure(good)
        torch.testing.assert_close(found[:2], expected[:2])
        assert found[2].isnan().any()


def test_the_path_of_weights_of_which_one_is_not_finite_is_nan():
    path = trajectory(spoilt(torch.inf))
    assert path.coordinates.isnan().all()
    assert path.explained.isnan().all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_the_plane_of_a_final_model_that_is_not_finite_is_nan(value):
    assert frequency_plane(spoilt(value), TASK.cycle, 1).isnan().all()
