"""Fourier measures, on functions whose Fourier components are known."""

import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.analysis.fourier import (
    basis,
    frequency_plane,
    gini,
    inverse_participation_ratio,
    key_frequencies,
    loss_and_neuron_grids,
    neuron_frequencies,
    norms_by_frequency,
    progress_measures,
    split_logits,
    sum_directions,
    top_terms,
    transform_1d,
    transform_2d,
    variance_explained,
    weight_norms,
)
from explorer.errors import UserError
from explorer.model.architectures import new_model, weight_shapes
from explorer.model.ensemble import Ensemble
from explorer.tasks.addition import Addition
from explorer.tasks.data import Grid
from explorer.tasks.modular_addition import ModularAddition
from explorer.tasks.task import Task

MODULAR = ModularAddition(p=7)
SUBTRACT = ModularAddition(p=7, function="subtract")
DIGITS = Addition(n_digits=1)
PLACES: Mapping[type[Task], tuple[int, int, int]] = {ModularAddition: (0, 1, 2), Addition: (0, 2, 4)}  # x, y, answer
SIZES = pytest.mark.parametrize("n", [2, 5, 10, 59])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wave(n: int, k: int, sign: int = 1) -> torch.Tensor:
    """cos(w_k (x + sign y - z)), (pair z) float64."""
    x, y, z = torch.arange(n)[:, None, None], torch.arange(n)[:, None], torch.arange(n)
    return torch.cos(2 * math.pi * k * (x + sign * y - z).double() / n).flatten(0, 1)


def lookup_ensemble(task: Task, functions: torch.Tensor) -> Ensemble:
    """Snapshots with given logits at the answer's position.

    One head copies x to that position and one copies y, each number as a direction of its own. The neuron of a pair has
    the activation 1 if both numbers are there, and writes the logits of the pair.

    Args:
        functions: (snapshot pair d_vocab_out).
    """
    n, places = task.cycle.n, PLACES[type(task)]
    number, place, out = torch.arange(n), n, n + task.n_ctx  # the first of their directions in the residual stream
    cfg = task.model_config(d_model=out + 3 * n, n_heads=2, d_head=n, d_mlp=n * n)
    weights = {name: torch.zeros(shape) for name, shape in weight_shapes(cfg).items()}
    weights["embed.W_E"][number, number] = 1
    weights["pos_embed.W_pos"][range(task.n_ctx), range(place, out)] = 1
    for head in (0, 1):
        weights["blocks.0.attn.W_Q"][head, place + places[2], 0] = 100
        weights["blocks.0.attn.W_K"][head, place + places[head], 0] = 100
        weights["blocks.0.attn.W_V"][head, number, number] = 1
        weights["blocks.0.attn.W_O"][head, number, out + head * n + number] = 1
    x, y = torch.cartesian_prod(number, number).unbind(1)
    weights["blocks.0.mlp.W_in"][out + x, range(n * n)] = 1
    weights["blocks.0.mlp.W_in"][out + n + y, range(n * n)] = 1
    weights["blocks.0.mlp.b_in"][:] = -1
    weights["unembed.W_U"][out + 2 * n :] = torch.eye(n)
    stack = {name: weight.repeat(len(functions), *[1] * weight.ndim) for name, weight in weights.items()}
    stack["blocks.0.mlp.W_out"][..., out + 2 * n :] = functions
    return Ensemble(cfg, range(len(functions)), stack)


def only_grid(task: Task) -> Grid:
    (grid,) = task.cycle.grids.values()
    return grid


@pytest.mark.parametrize("task", [MODULAR, DIGITS], ids=lambda task: task.title)
def test_the_lookup_ensemble_has_the_given_logits(task):
    grid, n = only_grid(task), task.cycle.n
    functions = torch.randn(2, n * n, n, generator=rng())
    logits, cache = lookup_ensemble(task, functions).run(grid.batch.tokens, ["blocks.0.mlp.hook_post"])
    torch.testing.assert_close(grid.batch.at_answers(logits)[:, :, 0], functions)
    torch.testing.assert_close(grid.batch.at_answers(cache["blocks.0.mlp.hook_post"])[0, :, 0], torch.eye(n * n))


# --- One input ---


@SIZES
def test_the_basis_is_orthonormal_and_complete(n):
    names, waves = basis(n)
    assert waves.shape == (n, n)
    assert len(set(names)) == n
    torch.testing.assert_close(waves @ waves.T, torch.eye(n, dtype=torch.float64))
    assert names[0] == "constant"
    assert (names[-1] == "alternating") == (n % 2 == 0)
    if n == 10:
        assert names == ("constant", *(f"{f} {k}" for k in range(1, 5) for f in ("cos", "sin")), "alternating")
        assert (waves[-1] * math.sqrt(10)).tolist() == pytest.approx([1, -1] * 5)
    if n == 59:
        assert names[-2:] == ("cos 29", "sin 29")  # the frequencies end at (n - 1) / 2


@pytest.mark.parametrize("n", [10, 59])
def test_a_pure_cosine_has_one_component(n):
    names, _ = basis(n)
    cosine = torch.cos(2 * math.pi * 3 * torch.arange(n) / n).double()
    found = transform_1d(cosine, 0)
    assert found[names.index("cos 3")].item() == pytest.approx(math.sqrt(n / 2))
    assert found.abs().sum().item() == pytest.approx(math.sqrt(n / 2), abs=1e-4)


@SIZES
def test_transform_1d_keeps_norms_and_the_order_of_axes(n):
    x = torch.randn(3, n, 4, generator=rng(), dtype=torch.float64)
    found = transform_1d(x, 1)
    assert found.shape == x.shape
    torch.testing.assert_close(found.norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(transform_1d(x.movedim(1, 2), -1), found.movedim(1, 2))
    torch.testing.assert_close(found[2, :, 3], basis(n)[1] @ x[2, :, 3])
    assert transform_1d(x.float(), 1).dtype == torch.float32


def test_the_norm_of_a_frequency_is_that_of_its_cosine_and_sine():
    odd = norms_by_frequency(torch.tensor([[9.0, 3.0, 4.0, 0.0, 2.0]]))
    assert odd.tolist() == [[5.0, 2.0]]
    even = norms_by_frequency(torch.tensor([9.0, 3.0, 4.0, 7.0]))
    assert even.tolist() == [5.0, 7.0]


def test_weight_norms_are_those_of_the_numbers_at_each_snapshot():
    task, n = MODULAR, 7
    cfg = task.model_config(d_model=12, n_heads=2, d_head=6, d_mlp=9)
    models = [new_model(cfg, seed) for seed in range(3)]
    states = [model.state_dict() for model in models]
    ensemble = Ensemble(cfg, range(3), {name: torch.stack([s[name] for s in states]) for name in states[0]})
    norms = weight_norms(ensemble, task.cycle)
    assert list(norms) == ["W_E", "W_U", "W_out W_U"]
    waves = basis(n)[1].float()
    for i, model in enumerate(models):
        torch.testing.assert_close(norms["W_E"][i], (waves @ model.embed.W_E[:n]).norm(dim=1))
        torch.testing.assert_close(norms["W_U"][i], (model.unembed.W_U @ waves.T).norm(dim=0))
        map_ = model.blocks[0].mlp.W_out @ model.unembed.W_U
        torch.testing.assert_close(norms["W_out W_U"][i], (map_ @ waves.T).norm(dim=0))
    bare = task.model_config(d_model=12, n_heads=2, d_head=6, attn_only=True)
    weights = {name: weight[None] for name, weight in new_model(bare, 0).state_dict().items()}
    assert list(weight_norms(Ensemble(bare, [0], weights), task.cycle)) == ["W_E", "W_U"]


def test_a_table_has_no_embedding():
    cfg = MODULAR.model_config(architecture="table", n_heads=1)
    weights = {name: weight[None] for name, weight in new_model(cfg, 0).state_dict().items()}
    with pytest.raises(UserError, match="A table has no embedding to transform"):
        weight_norms(Ensemble(cfg, [0], weights), MODULAR.cycle)
    with pytest.raises(UserError, match="no MLP, so there are no neurons"):
        variance_explained(Ensemble(cfg, [0], weights), only_grid(MODULAR), 7, "neurons")


def test_sparsity_of_equal_values_and_of_one_nonzero_value():
    equal, single = torch.full((2, 8), 3.0), torch.eye(8)[:2] * 5
    torch.testing.assert_close(gini(equal), torch.zeros(2))
    torch.testing.assert_close(gini(single), torch.full((2,), 7 / 8))
    torch.testing.assert_close(inverse_participation_ratio(equal), torch.full((2,), 1 / 8))
    torch.testing.assert_close(inverse_participation_ratio(single), torch.ones(2))
    # 1, 2, 3: 2 (1 + 4 + 9) / (3 * 6) - 4 / 3 = 2 / 9, in any order
    assert gini(torch.tensor([2.0, 3.0, 1.0])).item() == pytest.approx(2 / 9)
    assert gini(torch.zeros(4)).isnan()
    assert inverse_participation_ratio(torch.zeros(4)).isnan()


@settings(deadline=None)
@given(
    st.lists(st.floats(0.001, 1000), min_size=2, max_size=20), st.randoms(use_true_random=False), st.floats(0.01, 100)
)
def test_sparsity_depends_on_neither_order_nor_scale_and_stays_in_its_bounds(values, random, scale):
    shuffled = random.sample(values, len(values))
    x, y = torch.tensor(values).double(), scale * torch.tensor(shuffled).double()
    for measure, low, high in [(gini, 0, 1 - 1 / len(x)), (inverse_participation_ratio, 1 / len(x), 1)]:
        assert measure(x).item() == pytest.approx(measure(y).item(), abs=1e-9)
        assert low - 1e-9 <= measure(x).item() <= high + 1e-9


def test_key_frequencies_are_those_above_a_share_of_the_largest():
    norms = torch.tensor([0.5, 4.0, 1.0, 1.1])
    assert key_frequencies(norms) == (2, 4)  # a quarter of the largest is not above it
    assert key_frequencies(norms, 0.1) == (1, 2, 3, 4)


# --- Both inputs ---


@SIZES
def test_transform_2d_keeps_norms_and_is_inverted_by_the_basis(n):
    x = torch.randn(2, n * n, 3, generator=rng(), dtype=torch.float64)
    found = transform_2d(x, n)
    assert found.shape == (2, n, n, 3)
    torch.testing.assert_close(found.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))
    _, waves = basis(n)
    torch.testing.assert_close(torch.einsum("bfgc,fx,gy->bxyc", found, waves, waves).flatten(1, 2), x)


@pytest.mark.parametrize("n", [10, 11])
def test_a_product_of_two_waves_has_one_component(n):
    names, waves = basis(n)
    product = torch.outer(waves[names.index("cos 2")], waves[names.index("sin 4")]).reshape(n * n, 1)
    found = transform_2d(product, n)[..., 0]
    expected = torch.zeros(n, n, dtype=torch.float64)
    expected[names.index("cos 2"), names.index("sin 4")] = 1
    torch.testing.assert_close(found, expected)


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
        terms = top_terms(energy[snapshot], names, n=5)
        assert {term[:2] for term in terms[:4]} == {
            (f"{f} {k}", f"{g} {k}") for f in ("cos", "sin") for g in ("cos", "sin")
        }
        assert [term[2] for term in terms] == pytest.approx([1 / 4] * 4 + [0], abs=1e-6)
        assert [term[3] for term in terms] == pytest.approx([1 / 4, 1 / 2, 3 / 4, 1, 1], abs=1e-6)


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


def test_top_terms_are_in_descending_order_with_cumulative_shares():
    energy = torch.tensor([[0.0, 0.1], [0.6, 0.3]])
    terms = top_terms(energy, ("constant", "alternating"), n=2)
    assert [term[:2] for term in terms] == [("alternating", "constant"), ("alternating", "alternating")]
    assert [term[2] for term in terms] == pytest.approx([0.6, 0.3])
    assert [term[3] for term in terms] == pytest.approx([0.6, 0.9])
    assert len(top_terms(energy, ("constant", "alternating"))) == 4


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


# --- Progress measures ---


@pytest.mark.parametrize(("n", "keys", "count"), [(7, (1, 3), 4), (10, (2, 5), 3), (10, (), 0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_directions_are_orthonormal_functions_of_the_sum_or_the_difference(n, keys, count, sign):
    along = sum_directions(n, keys, sign)
    assert along.shape == (count, n * n)
    torch.testing.assert_close(along @ along.T, torch.eye(count, dtype=torch.float64))
    x, y = torch.cartesian_prod(torch.arange(n), torch.arange(n)).unbind(1)
    for value in range(n):
        same = along[:, (x + sign * y) % n == value]
        torch.testing.assert_close(same, same[:, :1].expand(-1, n))


def test_restricted_and_excluded_logits_sum_to_the_logits_and_their_mean():
    logits = torch.randn(2, 49, 7, generator=rng(), dtype=torch.float64) + 3
    restricted, excluded = split_logits(logits, sum_directions(7, (1, 2), 1))
    torch.testing.assert_close(restricted + excluded, logits + logits.mean(1, keepdim=True))
    torch.testing.assert_close(restricted.mean(1), logits.mean(1))
    torch.testing.assert_close(excluded.mean(1), logits.mean(1))
    nothing, everything = split_logits(logits, sum_directions(7, (), 1))
    torch.testing.assert_close(nothing, logits.mean(1, keepdim=True).expand_as(logits))
    assert torch.equal(everything, logits)


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


def test_embeddings_of_one_frequency_lie_on_a_circle():
    """Embeddings that are cosine and sine of one frequency in two directions, and in the first snapshot zero."""
    n, k = 7, 2
    cfg = MODULAR.model_config(d_model=5, n_heads=1, d_head=2, d_mlp=3)
    weights = {name: torch.zeros(2, *shape) for name, shape in weight_shapes(cfg).items()}
    angle = 2 * math.pi * k * torch.arange(n) / n
    directions, _ = torch.linalg.qr(torch.randn(5, 2, generator=rng()))
    weights["embed.W_E"][1, :n] = torch.stack([angle.cos(), angle.sin()], 1) @ directions.T
    places = frequency_plane(Ensemble(cfg, (0, 1), weights), MODULAR.cycle, k)
    assert places.shape == (2, n, 2)
    assert places[0].abs().max() == 0
    torch.testing.assert_close(places[1], torch.stack([angle.cos(), angle.sin()], 1), atol=1e-5, rtol=0)


def test_the_grids_hold_the_loss_and_the_activation_of_each_pair():
    """Of an ensemble with given logits, in which each neuron is active for one pair."""
    n, logits = MODULAR.p, torch.randn(2, MODULAR.p**2, MODULAR.p, generator=rng())
    ensemble, grid = lookup_ensemble(MODULAR, logits), MODULAR.cycle.grids["answer"]
    losses, neurons = loss_and_neuron_grids(ensemble, grid, n, neuron=9)
    x, y = torch.arange(n)[:, None], torch.arange(n)
    answers = ((x + y) % n).flatten()
    expected = torch.nn.functional.cross_entropy(logits[1].double(), answers, reduction="none").view(n, n)
    torch.testing.assert_close(losses[1], expected, atol=1e-4, rtol=1e-4)
    assert neurons.shape == (2, n, n)
    assert (neurons[0] > 0.5).sum() == 1
    assert neurons[0, 9 // n, 9 % n] == pytest.approx(1, abs=1e-4)
    assert loss_and_neuron_grids(ensemble, grid, n)[1] is None
