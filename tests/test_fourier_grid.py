"""Fourier measures over all pairs of numbers, of models whose logits are known."""

import math
from dataclasses import replace

import pytest
import torch

from explorer.analysis.fourier import basis, weight_norms
from explorer.analysis.fourier_2d import split_logits, sum_directions, transform_2d
from explorer.analysis.fourier_grid import (
    channel_coefficients,
    component_norms,
    loss_and_activation_grids,
    neuron_frequencies,
    progress_measures,
    shares,
    strongest_channels,
    top_terms,
    variance_explained,
)
from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.tasks.modular_addition import ModularAddition
from tests.lookup import DIGITS, MODULAR, SUBTRACT, lookup_ensemble, only_grid, rng, wave


@pytest.mark.parametrize("task", [MODULAR, DIGITS], ids=lambda task: task.title)
def test_the_lookup_ensemble_has_the_given_logits(task):
    grid, n = only_grid(task), task.cycle.n
    functions = torch.randn(2, n * n, n, generator=rng())
    logits, cache = lookup_ensemble(task, functions).run(grid.batch.tokens, ["blocks.0.mlp.hook_post"])
    torch.testing.assert_close(grid.batch.at_answers(logits)[:, :, 0], functions)
    torch.testing.assert_close(grid.batch.at_answers(cache["blocks.0.mlp.hook_post"])[0, :, 0], torch.eye(n * n))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_rotation_has_all_its_variance_in_the_four_products_of_its_frequency(sign):
    task, (names, _) = (MODULAR if sign == 1 else SUBTRACT), basis(7)
    ensemble = lookup_ensemble(task, torch.stack([wave(7, 2, sign), 5 * wave(7, 3, sign) + 100]))
    energy = variance_explained(ensemble, only_grid(task), 7)
    for snapshot, k in enumerate([2, 3]):
        pair = [names.index(f"cos {k}"), names.index(f"sin {k}")]
        expected = torch.zeros(7, 7, dtype=torch.float64)
        expected[pair[0], pair] = expected[pair[1], pair] = 1 / 4
        torch.testing.assert_close(energy[snapshot], expected, rtol=0, atol=1e-6)


def test_shares_of_variance_sum_to_one_or_are_all_zero():
    functions = torch.randn(3, 100, 10, generator=rng()) + 20
    functions[1] = torch.randn(10, generator=rng())  # the same for all pairs
    energy = variance_explained(lookup_ensemble(DIGITS, functions), only_grid(DIGITS), 10)
    torch.testing.assert_close(energy.sum((1, 2)), torch.tensor([1.0, 0.0, 1.0]).double())
    assert (energy[:, 0, 0] == 0).all()
    assert energy.min() >= 0
    centred = functions.double() - functions.double().mean(1, keepdim=True)
    by_hand = transform_2d(centred, 10).square().sum(-1) / centred.square().sum((1, 2))[:, None, None]
    torch.testing.assert_close(energy[[0, 2]], by_hand[[0, 2]], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_terms_of_one_logit_have_its_signs(sign):
    """2 cos(w (x + y)) is 2 cos cos - 2 sin sin, of x - y 2 cos cos + 2 sin sin; each basis term has 2 / 7 of that."""
    task, (names, _) = (MODULAR if sign == 1 else SUBTRACT), basis(7)
    functions = torch.stack([2 * wave(7, 2, sign) - 3, torch.zeros(49, 7).double()])
    found = channel_coefficients(lookup_ensemble(task, functions), only_grid(task), 7, "logits", [0, 4])
    assert found.shape == (2, 7, 7, 2)
    constant, *terms = top_terms(found[0, ..., 0], names, n=4)
    assert (constant.x, constant.y) == ("constant", "constant")
    assert constant.coefficient == pytest.approx(-21, abs=1e-3)  # seven times the mean
    assert (constant.of_variance, constant.cumulative_of_variance) == (0, 0)
    assert constant.of_mean_square == pytest.approx(9 / 11, abs=1e-5)  # mean square 9 + 4 / 2
    signs = {(term.x, term.y): term.coefficient for term in terms[:2]}
    assert signs == {
        ("cos 2", "cos 2"): pytest.approx(7, abs=1e-3),
        ("sin 2", "sin 2"): pytest.approx(-7 * sign, abs=1e-3),
    }
    assert [term.of_variance for term in terms] == pytest.approx([1 / 2, 1 / 2, 0], abs=1e-5)
    assert [term.cumulative_of_variance for term in terms] == pytest.approx([1 / 2, 1, 1], abs=1e-5)
    assert [term.cumulative_of_mean_square for term in terms] == pytest.approx([10 / 11, 1, 1], abs=1e-5)
    assert {term.of_variance for term in top_terms(found[1, ..., 0], names)} == {0}


def test_norms_over_channels_are_those_of_their_coefficients():
    functions = torch.randn(2, 49, 7, generator=rng()) + 2
    ensemble, grid = lookup_ensemble(MODULAR, functions), only_grid(MODULAR)
    norms = component_norms(ensemble, grid, 7)
    torch.testing.assert_close(norms, transform_2d(functions.double(), 7).norm(dim=-1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        channel_coefficients(ensemble, grid, 7, "logits", range(7)).norm(dim=-1), norms, rtol=1e-4, atol=1e-5
    )
    of_mean_square = norms.square() / norms.square().sum((1, 2), keepdim=True)
    torch.testing.assert_close(shares(norms, constant=True), of_mean_square)
    assert (shares(norms)[:, 0, 0] == 0).all()


def test_the_strongest_logits_vary_most_in_the_last_snapshot():
    functions = torch.randn(2, 49, 7, generator=rng()) * torch.tensor([1, 9, 2, 8, 3, 7, 4])
    functions[0] *= torch.tensor([99, 1, 1, 1, 1, 1, 1])
    functions[1, :, 0] += 100  # the mean does not count
    ensemble, grid = lookup_ensemble(MODULAR, functions), only_grid(MODULAR)
    assert strongest_channels(ensemble, grid, "logits", 3) == (1, 3, 5)
    assert len(strongest_channels(ensemble, grid, "logits", 99)) == 7


def test_top_terms_are_in_descending_order_of_size():
    coefficients = torch.tensor([[0.0, 1.0], [-3.0, 2.0]])
    terms = top_terms(coefficients, ("constant", "alternating"), n=2)
    assert [(term.x, term.y) for term in terms] == [("alternating", "constant"), ("alternating", "alternating")]
    assert [term.coefficient for term in terms] == [-3, 2]
    assert [term.of_variance for term in terms] == pytest.approx([9 / 14, 4 / 14])
    assert [term.cumulative_of_mean_square for term in terms] == pytest.approx([9 / 14, 13 / 14])
    assert len(top_terms(coefficients, ("constant", "alternating"))) == 4


def test_a_neuron_that_is_active_for_one_pair_has_equal_shares_everywhere():
    energy = variance_explained(lookup_ensemble(MODULAR, torch.zeros(1, 49, 7)), only_grid(MODULAR), 7, "neurons")
    expected = torch.full((7, 7), 1 / 48).double()
    expected[0, 0] = 0
    torch.testing.assert_close(energy[0], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("task", [MODULAR, DIGITS], ids=lambda task: task.title)
def test_neurons_have_the_frequency_of_their_input_weights(task):
    grid, n = only_grid(task), task.cycle.n
    ensemble, out = lookup_ensemble(task, torch.zeros(1, n * n, n)), n + task.n_ctx
    names, waves = basis(n)
    cos, sin = waves[names.index("cos 3")], waves[names.index("sin 3")]
    other = waves[names.index("cos 1")]
    W_in, b_in = (ensemble.weights[f"blocks.0.mlp.{name}"][0] for name in ("W_in", "b_in"))
    W_in[:, :5] = 0
    b_in[:5] = torch.tensor([9, 9, 9, -9, 9])  # positive for all pairs, except the fourth, which is never active
    x, y = slice(out, out + n), slice(out + n, out + 2 * n)
    W_in[x, 0], W_in[y, 0] = cos, sin
    W_in[x, 1], W_in[y, 1] = 2 * cos, other  # four fifths of the variance
    W_in[y, 2] = waves[-1]
    W_in[x, 3] = cos
    frequency, share = neuron_frequencies(ensemble, grid, n)
    assert frequency.dtype == torch.int64
    assert frequency[:5].tolist() == [3, 3, n // 2, 0, 0]
    assert share[:5].tolist() == pytest.approx([1, 0.8, 1, 0, 0], abs=1e-5)
    # The others are active for one pair, with equal shares everywhere: eight of them belong to one frequency.
    assert share[5:].tolist() == pytest.approx([8 / (n * n - 1)] * (n * n - 5), abs=1e-5)


def test_the_grids_hold_the_loss_and_the_activation_of_each_pair():
    """Of an ensemble with given logits, in which each neuron is active for one pair and each head copies a number."""
    n, logits = MODULAR.p, torch.randn(2, MODULAR.p**2, MODULAR.p, generator=rng())
    ensemble, grid = lookup_ensemble(MODULAR, logits), MODULAR.cycle.grids["answer"]
    losses, neuron = loss_and_activation_grids(ensemble, grid, n, "blocks.0.mlp.hook_post", (2, 9))
    x, y = torch.arange(n)[:, None], torch.arange(n)
    answers = ((x + y) % n).flatten()
    expected = torch.nn.functional.cross_entropy(logits[1].double(), answers, reduction="none").view(n, n)
    torch.testing.assert_close(losses[1], expected, atol=1e-4, rtol=1e-4)
    only = torch.zeros(2, n, n)
    only[:, 9 // n, 9 % n] = 1
    torch.testing.assert_close(neuron, only, atol=1e-4, rtol=0)
    _, copied = loss_and_activation_grids(ensemble, grid, n, "blocks.0.attn.hook_z", (2, 1, 3))
    torch.testing.assert_close(copied[0], (y == 3).float().expand(n, n), atol=1e-4, rtol=0)  # the second head copies y
    _, attention = loss_and_activation_grids(ensemble, grid, n, "blocks.0.attn.hook_pattern", (0, 2, 0))
    torch.testing.assert_close(attention, torch.ones(2, n, n), atol=1e-4, rtol=0)
    assert loss_and_activation_grids(ensemble, grid, n)[1] is None


# --- Progress measures ---


@pytest.mark.parametrize(
    ("task", "sign"), [(MODULAR, 1), (SUBTRACT, -1), (DIGITS, 1)], ids=["add", "subtract", "digits"]
)
def test_a_rotation_needs_its_key_frequency_and_no_other(task, sign):
    """Restricted to its frequency it keeps its loss, without it guesses; with another key, the reverse."""
    n, grid = task.cycle.n, only_grid(task)
    trained_on = torch.rand(n * n, generator=rng()) < 0.4
    ensemble = lookup_ensemble(task, torch.stack([3 * wave(n, 2, sign), 9 * wave(n, 2, sign)]))
    found = progress_measures(ensemble, task.cycle, grid, trained_on, (2,))
    logits = torch.stack([3 * wave(n, 2, sign), 9 * wave(n, 2, sign)])
    expected = task.losses(logits[:, :, None], grid.batch)[..., 0].mean(1)
    assert found.key_frequencies == (2,)
    for loss in (found.all_pairs, found.restricted, found.train, found.test):  # all pairs have the same loss
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.excluded, torch.full((2,), math.log(n)).double(), rtol=1e-5, atol=1e-6)
    elsewhere = progress_measures(ensemble, task.cycle, grid, trained_on, (1,))
    torch.testing.assert_close(elsewhere.excluded, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(elsewhere.restricted, torch.full((2,), math.log(n)).double(), rtol=1e-5, atol=1e-6)


def test_each_loss_is_measured_on_its_own_pairs():
    """A model that memorised is right on the training pairs alone."""
    grid, trained_on = only_grid(MODULAR), torch.rand(49, generator=rng()) < 0.4
    memorised = 20 * torch.nn.functional.one_hot(grid.batch.targets[:, 0], 7) * trained_on[:, None]
    found = progress_measures(lookup_ensemble(MODULAR, memorised[None].float()), MODULAR.cycle, grid, trained_on, (1,))
    assert found.train.item() == pytest.approx(6 * math.exp(-20), rel=1e-2)  # in float64, or it would be 0
    assert found.test.item() == pytest.approx(math.log(7))
    assert found.all_pairs.item() == pytest.approx((~trained_on).double().mean().item() * math.log(7), rel=1e-5)
    restricted, excluded = split_logits(memorised.double(), sum_directions(7, (1,), 1))

    def losses(logits):
        return MODULAR.losses(logits[:, None], grid.batch)[:, 0]

    assert found.restricted.item() == pytest.approx(losses(restricted).mean().item(), rel=1e-5)
    assert found.excluded.item() == pytest.approx(losses(excluded)[trained_on].mean().item(), rel=1e-5)
    endless = progress_measures(lookup_ensemble(MODULAR, memorised[None].float()), MODULAR.cycle, grid, None, (1,))
    assert torch.equal(endless.train, endless.all_pairs)
    assert torch.equal(endless.test, endless.all_pairs)
    assert endless.excluded.item() == pytest.approx(losses(excluded).mean().item(), rel=1e-5)
    untrained = progress_measures(
        lookup_ensemble(MODULAR, memorised[None].float()), MODULAR.cycle, grid, torch.zeros_like(trained_on), (1,)
    )
    assert untrained.train.isnan()
    assert torch.equal(untrained.test, endless.all_pairs)
    assert torch.equal(untrained.excluded, endless.excluded)


def test_an_answer_that_is_no_sum_has_no_progress_measures():
    task = ModularAddition(p=7, function="quadratic")
    with pytest.raises(UserError, match=r"no function of x \+ y or x - y"):
        progress_measures(lookup_ensemble(task, torch.zeros(1, 49, 7)), task.cycle, only_grid(task), None, (1,))


def test_snapshots_alone_and_in_chunks_give_the_same(monkeypatch):
    grid, functions = only_grid(MODULAR), torch.randn(3, 49, 7, generator=rng())
    ensemble, trained_on = lookup_ensemble(MODULAR, functions), torch.arange(49) % 3 == 0

    def everything(ensemble: Ensemble) -> list[torch.Tensor]:
        found = progress_measures(ensemble, MODULAR.cycle, grid, trained_on, (1, 3))
        energies = [variance_explained(ensemble, grid, 7, name) for name in ("logits", "neurons")]
        norms = weight_norms(ensemble, MODULAR.cycle)
        return [*energies, *norms.values(), found.all_pairs, found.restricted, found.excluded, found.train, found.test]

    whole = everything(ensemble)
    for i in range(3):
        for together, alone in zip(whole, everything(ensemble.select(slice(i, i + 1))), strict=True):
            torch.testing.assert_close(alone[0], together[i])
    monkeypatch.setattr("explorer.model.ensemble.activation_bytes", lambda cfg, n_pos: 2**60)
    assert len(list(ensemble.passes(grid.batch.tokens))) == len(ensemble)
    for together, one_by_one in zip(whole, everything(ensemble), strict=True):
        torch.testing.assert_close(one_by_one, together)


def test_an_output_that_is_no_number_is_no_part_of_the_logits_variance():
    """The same logits of the numbers, with and without a logit of "=" that depends on the pair."""
    with_equals = replace(MODULAR, equals_output=True)
    logits = torch.randn(2, 49, 8, generator=torch.Generator().manual_seed(0))
    found, expected = (
        variance_explained(lookup_ensemble(task, x), only_grid(task), 7)
        for task, x in ((with_equals, logits), (MODULAR, logits[..., :7]))
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    measures = progress_measures(
        lookup_ensemble(with_equals, logits), MODULAR.cycle, only_grid(with_equals), None, (2,)
    )
    targets = only_grid(MODULAR).batch.targets[:, 0].expand(2, -1)
    losses = torch.nn.functional.cross_entropy(logits.double().mT, targets, reduction="none").mean(1)
    torch.testing.assert_close(measures.all_pairs, losses, rtol=1e-5, atol=1e-6)  # but every output is in the loss
