"""Lines, moves and sharpness, against cases whose answer is known and against the whole Hessian."""

import math

import pytest
import torch
from torch.func import functional_call

from explorer.analysis import between
from explorer.analysis.between import (
    barrier,
    line_losses,
    losses_along,
    moves,
    sharpness,
    top_eigenvalue,
)
from explorer.analysis.grafts import elementary_parts, parts
from explorer.model.architectures import model_from_weights
from explorer.model.ensemble import Ensemble
from tests.conftest import random_ensemble
from tests.stacks import BATCH, MLPS, NORMED, TASK, stack, with_weights

TINY = {"d_model": 4, "n_heads": 2, "d_head": 2, "d_mlp": 3}
TINY_MODELS = {
    "MLP": TASK.model_config(**TINY),
    "layer norm": TASK.model_config(**TINY, layer_norm=True, act_fn="gelu", positions="sinusoidal"),
    "table": TASK.model_config(n_layers=1, n_heads=1, architecture="table"),
}
RNG = torch.Generator().manual_seed(0)
ROTATION = torch.linalg.qr(torch.randn(30, 30, generator=RNG, dtype=torch.float64))[0]


# --- Lines ---


def double_well(weights) -> torch.Tensor:
    """Minima near -1 and 1, of which the one at 1 is 1 higher."""
    w = weights["w"]
    return ((w**2 - 1) ** 2 + w / 2).sum()


def test_the_barrier_of_a_double_well_is_its_height_over_the_slope():
    start, end = {"w": torch.tensor([-1.0]).double()}, {"w": torch.tensor([1.0]).double()}
    found = losses_along(double_well, start, end)
    assert found.shape == (between.POINTS,)
    assert found[[0, 5, 10]].tolist() == pytest.approx([-0.5, 1, 0.5])
    assert barrier(found).item() == pytest.approx(1)
    assert barrier(losses_along(lambda weights: weights["w"].square().sum(), start, end, 7)).item() == 0  # no barrier


def test_the_ends_of_a_line_are_the_snapshots(ensemble):
    own = TASK.per_token(TASK.losses(ensemble.logits_at(BATCH.tokens, BATCH.positions), BATCH), BATCH)
    found = line_losses(ensemble, TASK, BATCH, 0, 2, 3)
    assert found.shape == (3, len(TASK.loss_names))
    torch.testing.assert_close(found[[0, -1]], own[[0, 2]])
    halfway = model_from_weights(ensemble.cfg, {name: (w[0] + w[2]) / 2 for name, w in ensemble.weights.items()})
    logits = BATCH.at_answers(halfway(BATCH.tokens))
    torch.testing.assert_close(found[1], TASK.per_token(TASK.losses(logits, BATCH), BATCH), rtol=1e-5, atol=1e-5)
    assert (barrier(found) >= 0).all()


def test_identical_snapshots_have_no_barrier(ensemble):
    same = ensemble.select([1, 1])
    found = line_losses(same, TASK, BATCH, 0, 1)
    torch.testing.assert_close(found, found[:1].expand_as(found))
    torch.testing.assert_close(barrier(found), torch.zeros(len(TASK.loss_names)).double())


# --- Moves ---


def walk(*places: tuple[float, float]) -> Ensemble:
    """A model of which two weights walk, one of head 1 and one of the unembedding."""
    ensemble = random_ensemble(NORMED, 1).select([0] * len(places))

    def change(weights) -> None:
        for snapshot, (x, y) in enumerate(places):
            weights["blocks.0.attn.W_V"][snapshot, 1, 0, 0] = x
            weights["unembed.W_U"][snapshot, 3, 4] = y

    return with_weights(ensemble, change)


@pytest.mark.parametrize("chunk", [1, 2**20])
def test_distances_and_angles_are_those_of_the_walk(chunk, monkeypatch):
    monkeypatch.setattr(between, "CHUNK", chunk)
    found = moves(walk((0, 0), (3, 0), (3, 4), (3, 6), (3, 5), (3, 5)))
    assert found.from_first.tolist() == pytest.approx([0, 3, 5, 45**0.5, 34**0.5, 34**0.5])
    assert found.moved.tolist() == [0, 3, 4, 2, 1, 0]
    assert found.length.tolist() == [0, 3, 7, 9, 10, 10]
    assert found.cosine.tolist() == pytest.approx([math.nan, 0, 1, -1, math.nan, math.nan], nan_ok=True)


def test_a_part_moves_by_its_own_weights():
    ensemble = walk((0, 0), (3, 4), (6, 4))
    of = {name: moves(ensemble, part) for name, part in elementary_parts(NORMED).items()}
    assert of["L0H1"].moved.tolist() == [0, 3, 3]
    assert of["unembedding"].moved.tolist() == [0, 4, 0]
    assert of["L0H0"].length.tolist() == [0, 0, 0]
    assert moves(ensemble, parts(NORMED)["everything"]).moved.tolist() == [0, 5, 3]
    assert moves(ensemble, ()).moved.tolist() == [0, 0, 0]


def test_parts_add_up_to_the_distance_of_the_model(ensemble):
    squares = [moves(ensemble, part).from_first.square() for part in elementary_parts(ensemble.cfg).values()]
    flat = torch.cat([weight.flatten(1) for weight in ensemble.weights.values()], 1).double()
    torch.testing.assert_close(torch.stack(squares).sum(0).sqrt(), (flat - flat[0]).norm(dim=1))


@pytest.mark.parametrize("n", [1, 2])
def test_a_short_path_has_no_angles(n):
    found = moves(stack(MLPS, n))
    assert found.moved[0] == 0
    assert found.cosine.isnan().tolist() == [True] * n


# --- Sharpness ---


@pytest.mark.parametrize("top", [5.0, 0.25, -0.5])
def test_the_top_eigenvalue_of_a_quadratic_is_known(top):
    """The one of largest size is negative: it is not the sharpness."""
    values = torch.cat([torch.tensor([top]), torch.linspace(-9, top - 0.5, 29)]).double()
    hessian = ROTATION * values @ ROTATION.T

    def loss(weights) -> torch.Tensor:
        x = torch.cat([weights["a"].flatten(), weights["b"]])
        return x @ hessian @ x / 2 + x.sum()

    weights = {"a": torch.ones(5, 4).double(), "b": torch.zeros(10).double()}
    found = top_eigenvalue(loss, weights)
    assert found == pytest.approx(top, rel=1e-3)
    assert found == top_eigenvalue(loss, weights)
    assert not weights["a"].requires_grad


def test_two_weights_are_enough():
    assert top_eigenvalue(lambda w: 3 * w["w"].square().sum() + w["w"].prod(), {"w": torch.ones(2)}) == pytest.approx(7)


@pytest.mark.parametrize("cfg", TINY_MODELS.values(), ids=TINY_MODELS)
def test_the_sharpness_is_the_top_eigenvalue_of_the_whole_hessian(cfg):
    ensemble = random_ensemble(cfg, 2)
    ensemble = Ensemble(cfg, ensemble.steps, {name: weight.double() for name, weight in ensemble.weights.items()})
    found = list(sharpness(ensemble, BATCH))
    for place, one in enumerate(found):
        model = model_from_weights(cfg, {name: weight[place] for name, weight in ensemble.weights.items()})
        flat = torch.cat([weight.flatten() for weight in model.parameters()])

        def loss(flat: torch.Tensor, model=model) -> torch.Tensor:
            sizes = [weight.numel() for weight in model.parameters()]
            named = zip(model.named_parameters(), flat.split(sizes), strict=True)
            logits = functional_call(model, {name: x.view_as(weight) for (name, weight), x in named}, BATCH.tokens)
            return TASK.losses(BATCH.at_answers(logits), BATCH).mean()

        hessian = torch.autograd.functional.hessian(loss, flat, vectorize=True)
        assert one == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-3)


def test_the_sharpness_in_float32_is_that_in_float64(ensemble):
    doubled = {name: weight.double() for name, weight in ensemble.weights.items()}
    exact = list(sharpness(Ensemble(ensemble.cfg, ensemble.steps, doubled), BATCH))
    assert list(sharpness(ensemble, BATCH)) == pytest.approx(exact, rel=2e-3)
    assert all(one > 0 for one in exact)


def test_a_snapshot_that_is_not_finite_has_no_sharpness():
    ensemble = stack(MLPS)
    ensemble.weights["blocks.0.attn.W_O"][1] = torch.nan
    found = list(sharpness(ensemble, BATCH))
    assert [math.isnan(one) for one in found] == [False, True, False]


def test_an_iteration_that_does_not_end_finds_nothing(monkeypatch):
    monkeypatch.setattr(between, "RESTARTS", 1)
    monkeypatch.setattr(between, "TOLERANCE", 1e-12)
    weights = {"w": torch.ones(500).double()}
    dense = torch.linspace(1, 2, 500).double()
    assert math.isnan(top_eigenvalue(lambda w: (dense * w["w"] ** 2).sum() / 2, weights))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda w: w["w"].sum(), 0.0),
        (lambda w: 0 * w["w"].square().sum(), 0.0),
        (lambda w: w["w"].abs().pow(1.5).sum(), math.nan),  # its slope is 0, and its curvature is not finite
    ],
    ids=["linear", "flat", "not finite"],
)
def test_a_hessian_that_is_zero_has_no_curvature_and_one_that_is_not_finite_no_answer(loss, expected):
    assert top_eigenvalue(loss, {"w": torch.zeros(20).double()}) == pytest.approx(expected, nan_ok=True)
