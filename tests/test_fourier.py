"""Fourier measures of one number, on functions whose Fourier components are known."""

import math

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
    modular_division,
    norms_by_frequency,
    transform_1d,
    weight_norms,
)
from explorer.analysis.fourier_grid import variance_explained
from explorer.errors import UserError
from explorer.model.architectures import new_model, weight_shapes
from explorer.model.ensemble import Ensemble
from tests.lookup import MODULAR, only_grid, rng

SIZES = pytest.mark.parametrize("n", [2, 5, 10, 59])


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


@pytest.mark.parametrize("n", [7, 10])
def test_modular_division_is_undone_by_multiplication(n):
    a = torch.arange(n)
    for b in (1, 3, -1, n + 3):
        quotients = modular_division(a, b, n)
        assert (quotients * b % n).tolist() == a.tolist()
        assert quotients.sort().values.tolist() == a.tolist()
    waves = basis(n)[1]
    torch.testing.assert_close(waves[2 * 3 - 1][modular_division(a, 3, n)], waves[1])  # cos 3 becomes cos 1
    with pytest.raises(UserError, match=f"Modulo {n}, {2 * n} divides no number in one way only"):
        modular_division(a, 2 * n, n)
