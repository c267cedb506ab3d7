"""Norms and principal components of weights, against torch on all weights at once."""

import pytest
import torch

from explorer.analysis import weights
from explorer.analysis.weights import parameter_norms, trajectory
from explorer.model.ensemble import Ensemble
from explorer.model.transformer import ModelConfig
from explorer.tasks.skip_trigram import SkipTrigram
from tests.conftest import random_ensemble

CFG = ModelConfig(12, 10, 9, 2, 16, 2, 8, 32)
TABLE = SkipTrigram().model_config(n_layers=1, n_heads=1, architecture="table")


def flat(ensemble: Ensemble) -> torch.Tensor:
    return torch.cat([weight.flatten(1) for weight in ensemble.weights.values()], 1).double()


def test_parameter_norms_are_those_of_each_snapshot(small):
    ensemble = small.ensemble()
    found = parameter_norms(ensemble)
    assert next(iter(found)) == "total"
    assert set(found) == {"total", *ensemble.weights}
    torch.testing.assert_close(found["total"].double(), flat(ensemble).norm(dim=1))
    for i, step in enumerate(small.steps()):
        for name, weight in small.model(step).named_parameters():
            torch.testing.assert_close(found[name][i], weight.detach().norm())


def test_sinusoidal_positions_are_no_parameter():
    fixed = parameter_norms(random_ensemble(ModelConfig(12, 10, 9, positions="sinusoidal")))
    assert "pos_embed.W_pos" not in fixed
    assert "pos_embed.W_pos" in parameter_norms(random_ensemble(ModelConfig(12, 10, 9)))
    assert list(parameter_norms(random_ensemble(TABLE))) == ["total", "blocks.0.attn.QK", "blocks.0.attn.OV"]


@pytest.mark.parametrize("chunk", [1, 1000, 2**20])
def test_the_trajectory_is_the_projection_on_the_principal_components(chunk, monkeypatch):
    monkeypatch.setattr(weights, "CHUNK", chunk)
    ensemble = random_ensemble(CFG if chunk > 1 else TABLE, 7)
    found = trajectory(ensemble)
    left, values, _ = torch.linalg.svd(flat(ensemble) - flat(ensemble).mean(0), full_matrices=False)
    torch.testing.assert_close(found.coordinates.abs(), (left * values)[:, :3].abs())
    torch.testing.assert_close(found.explained, (values**2 / (values**2).sum())[:3])
    assert (found.coordinates[-1] >= 0).all()
    assert 0 < found.explained.sum() < 1


def test_all_components_together_explain_all_variance_and_keep_distances():
    ensemble = random_ensemble(CFG, 5)
    found = trajectory(ensemble, 10)
    assert found.coordinates.shape == (5, 5)
    torch.testing.assert_close(found.explained.sum().item(), 1.0)
    torch.testing.assert_close(
        torch.cdist(found.coordinates, found.coordinates), torch.cdist(flat(ensemble), flat(ensemble))
    )


def test_a_straight_path_has_one_component():
    one = random_ensemble(CFG, 2)
    along = torch.tensor([0.0, 1.0, 3.0])
    straight = {
        name: weight[0] + along.reshape(-1, *[1] * (weight.ndim - 1)) * (weight[1] - weight[0])
        for name, weight in one.weights.items()
    }
    found = trajectory(Ensemble(CFG, range(3), straight), 2)
    length = (flat(one)[1] - flat(one)[0]).norm()
    torch.testing.assert_close(found.coordinates[:, 0], (along - along.mean()).double() * length, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.explained, torch.tensor([1.0, 0.0]).double(), rtol=1e-6, atol=1e-6)


def test_constant_weights_have_no_variance():
    found = trajectory(random_ensemble(CFG, 1))
    assert found.coordinates.tolist() == [[0]]
    assert found.explained.tolist() == [0]


def test_each_snapshot_is_measured_on_its_own_weights(small):
    ensemble = small.ensemble()
    found = parameter_norms(ensemble)
    for i in range(len(ensemble)):
        for name, norm in parameter_norms(ensemble.select(slice(i, i + 1))).items():
            torch.testing.assert_close(norm, found[name][i : i + 1])
