"""Which snapshots can be computed with, and which are the same."""

import pytest
import torch

from explorer.model.ensemble import Ensemble
from explorer.model.soundness import LARGEST_NORM, identical, sound
from explorer.tasks.skip_trigram import SkipTrigram
from tests.conftest import MODEL, TASK, random_ensemble

TRIGRAM = SkipTrigram()
CONFIGS = {"transformer": MODEL, "table": TRIGRAM.model_config(**TRIGRAM.presets["table"].model)}


def changed(ensemble: Ensemble, name: str, snapshot: int, value: float) -> Ensemble:
    """The ensemble with another value of one weight."""
    weights = {key: weight.clone() for key, weight in ensemble.weights.items()}
    weights[name][(snapshot, *[-1] * (weights[name].ndim - 1))] = value
    return Ensemble(ensemble.cfg, ensemble.steps, weights)


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 2 * LARGEST_NORM, 1e30])
def test_one_bad_weight_of_any_parameter_is_found(architecture, value):
    ensemble, prompt = random_ensemble(CONFIGS[architecture]), torch.zeros(1, 2, dtype=torch.int64)
    assert sound(ensemble, prompt).tolist() == [True] * 3
    for name in ensemble.weights:
        assert sound(changed(ensemble, name, 1, value), prompt).tolist() == [True, False, True], name


def test_weights_of_allowed_norms_whose_activations_are_too_large_are_found():
    ensemble = random_ensemble(MODEL)
    weights = {
        name: weight * (torch.arange(3) * 500 + 1).view(3, *[1] * (weight.ndim - 1))
        for name, weight in ensemble.weights.items()
    }
    tokens = TASK.encode("48+76").tokens[None]
    norms = [weight[1].norm() for weight in weights.values()]
    assert max(norms) < LARGEST_NORM
    assert sound(Ensemble(MODEL, ensemble.steps, weights), tokens).tolist() == [True, False, False]


@pytest.mark.parametrize("architecture", CONFIGS)
def test_snapshots_are_the_same_only_if_every_weight_is(architecture):
    ensemble = random_ensemble(CONFIGS[architecture])
    assert identical(ensemble) == []
    twice = ensemble.select([0, 1, 0])
    twice = Ensemble(ensemble.cfg, (5, 6, 7), twice.weights)
    assert identical(twice) == [(5, 7)]
    for name, weight in twice.weights.items():
        other = float(weight[(2, *[-1] * (weight.ndim - 1))]) + 1
        assert identical(changed(twice, name, 2, other)) == [], name


def test_an_ensemble_of_chosen_snapshots_has_their_steps_and_weights():
    ensemble = Ensemble(MODEL, (0, 10, 20), random_ensemble(MODEL).weights)
    some = ensemble.select([0, 2])
    assert some.steps == (0, 20)
    for name, weight in some.weights.items():
        assert torch.equal(weight, ensemble.weights[name][[0, 2]])
        assert weight.stride() == ensemble.weights[name].stride()
