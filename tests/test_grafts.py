"""Grafts: parts that make up the model, losses that are those of the donor and the receiver, one head that does all."""

import math
from dataclasses import replace

import pytest
import torch

from explorer.analysis.grafts import (
    ANSWERS,
    NOTHING,
    carried,
    elementary_parts,
    graft_losses,
    grafted,
    measured_on,
    parts,
)
from explorer.model.architectures import model_from_weights, weight_shapes
from explorer.model.ensemble import Ensemble
from explorer.model.transformer import ModelConfig
from explorer.tasks.data import Batch
from tests.conftest import random_ensemble
from tests.stacks import ATTENTION, BATCH, CONFIGS, MLPS, NORMED, TABLE, TASK, stack

BIASES = replace(NORMED, attn_bias=True, unembed_bias=True)
KINDS = {
    **CONFIGS,
    "biases": BIASES,
    "one head": replace(BIASES, n_heads=1),
    "sinusoidal": replace(MLPS, positions="sinusoidal"),
    "shortformer": replace(MLPS, positions="shortformer"),
    "no positions": replace(MLPS, positions="none"),
}


def matrix(ensemble: Ensemble, part, batch: Batch = BATCH, **places) -> torch.Tensor:
    return torch.stack(list(graft_losses(ensemble, TASK, batch, part, **places)))


def own_losses(ensemble: Ensemble) -> torch.Tensor:
    logits = ensemble.logits_at(BATCH.tokens, BATCH.positions)
    return TASK.per_token(TASK.losses(logits, BATCH), BATCH)


def covered(cfg: ModelConfig, *found) -> dict[str, torch.Tensor]:
    """How often each number of each weight is in some parts."""
    times = {name: torch.zeros(shape) for name, shape in weight_shapes(cfg).items()}
    for name, head in sum(found, NOTHING):
        times[name][slice(None) if head is None else head] += 1
    return times


# --- Parts ---


@pytest.mark.parametrize("cfg", KINDS.values(), ids=KINDS)
def test_every_weight_belongs_to_exactly_one_elementary_part(cfg):
    assert all((times == 1).all() for times in covered(cfg, *elementary_parts(cfg).values()).values())
    assert all(elementary_parts(cfg).values())  # none is empty


@pytest.mark.parametrize("cfg", KINDS.values(), ids=KINDS)
def test_unions_are_the_sums_of_their_parts(cfg):
    small, every = elementary_parts(cfg), parts(cfg)
    mlps = [name for name in small if name.endswith("MLP")]
    attention = [name for name in small if name not in ("embeddings", "unembedding", *mlps)]
    made_of = {"everything": list(small), "all attention": attention, "all MLPs": mlps}
    if cfg.n_layers > 1:
        layers = range(cfg.n_layers)
        made_of |= {f"L{i} attention": [name for name in attention if name.startswith(f"L{i}")] for i in layers}
    made_of = {name: names for name, names in made_of.items() if names}
    assert list(every)[: len(small)] == list(small)
    assert every.keys() - small.keys() == made_of.keys()
    for name, names in made_of.items():
        one, other = covered(cfg, every[name]), covered(cfg, *(small[part] for part in names))
        assert all(torch.equal(one[weight], other[weight]) for weight in one)


def test_a_model_has_the_parts_that_it_has():
    assert list(parts(MLPS)) == [
        *("embeddings", "L0H0", "L0H1", "L0 MLP", "L1H0", "L1H1", "L1 MLP", "unembedding"),
        *("L0 attention", "L1 attention", "all attention", "all MLPs", "everything"),
    ]
    assert list(elementary_parts(ATTENTION)) == ["embeddings", "L0H0", "L0H1", "L1H0", "L1H1", "unembedding"]
    assert list(parts(TABLE)) == ["L0H0", "all attention", "everything"]


def test_a_layer_norm_belongs_to_what_reads_through_it():
    found = {part: {name for name, _ in pieces} for part, pieces in elementary_parts(BIASES).items()}
    assert found["L0 shared"] == {"blocks.0.ln1.w", "blocks.0.ln1.b", "blocks.0.attn.b_O"}
    assert {"blocks.0.ln2.w", "blocks.0.ln2.b", "blocks.0.mlp.W_in"} < found["L0 MLP"]
    assert found["unembedding"] == {"ln_final.w", "ln_final.b", "unembed.W_U", "unembed.b_U"}
    alone = {name for name, _ in elementary_parts(replace(BIASES, n_heads=1))["L0H0"]}
    assert alone == found["L0 shared"] | found["L0H0"]


# --- Losses ---


def test_grafting_everything_or_nothing_is_exact(ensemble):
    own = own_losses(ensemble)
    assert own.isfinite().all()
    n = len(ensemble)
    assert torch.equal(matrix(ensemble, parts(ensemble.cfg)["everything"]), own.expand(n, -1, -1))
    assert torch.equal(matrix(ensemble, NOTHING), own[:, None].expand(-1, n, -1))


@pytest.mark.parametrize("cfg", KINDS.values(), ids=KINDS)
def test_losses_are_those_of_plain_models_with_the_weights_replaced(cfg):
    ensemble = random_ensemble(cfg, 2)
    own = own_losses(ensemble)
    for part in parts(cfg).values():
        found, is_part = matrix(ensemble, part), covered(cfg, part)
        torch.testing.assert_close(found.diagonal().T, own)
        weights = {name: torch.where(is_part[name] == 1, w[1], w[0]) for name, w in ensemble.weights.items()}
        logits = BATCH.at_answers(model_from_weights(cfg, weights)(BATCH.tokens))
        plain = TASK.per_token(TASK.losses(logits, BATCH), BATCH)
        torch.testing.assert_close(found[0, 1], plain, rtol=1e-5, atol=1e-5)


def test_parts_can_be_added():
    ensemble, found = stack(MLPS), parts(MLPS)
    torch.testing.assert_close(matrix(ensemble, found["L0H0"] + found["L0H1"]), matrix(ensemble, found["L0 attention"]))


def test_grafts_change_no_snapshot():
    ensemble = stack(NORMED)
    before = {name: weight.clone() for name, weight in ensemble.weights.items()}
    for part in parts(NORMED).values():
        weights = grafted(ensemble, part, 0, 2)
        whole = {name for name, head in part if head is None}
        assert all(weights[name].data_ptr() == ensemble.weights[name][2].data_ptr() for name in whole)
    matrix(ensemble, parts(NORMED)["L0H0"])
    assert all(torch.equal(weight, before[name]) for name, weight in ensemble.weights.items())


def test_some_receivers_and_donors_are_rows_and_columns_as_they_come():
    ensemble, part = stack(MLPS, 4), parts(MLPS)["L1H0"]
    every = matrix(ensemble, part)
    assert torch.equal(matrix(ensemble, part, receivers=[3, 0], donors=[1, 2, 3]), every[[3, 0]][:, 1:])
    rows = graft_losses(ensemble, TASK, BATCH, part)
    assert torch.equal(next(rows), every[0])
    assert torch.equal(next(rows), every[1])


def test_a_snapshot_that_is_not_finite_spoils_its_own_row_and_column_only():
    ensemble = stack(MLPS)
    ensemble.weights["blocks.0.attn.W_O"][1] = torch.nan
    found = matrix(ensemble, parts(MLPS)["all attention"]).isnan().all(-1)
    assert found.tolist() == [[False, True, False]] * 3


def test_losses_are_measured_on_the_first_examples_that_have_enough_answers():
    sums = TASK.sample(1000, torch.Generator().manual_seed(0))
    assert measured_on(sums) == sums.rows(slice(ANSWERS // 3))
    assert measured_on(BATCH) == BATCH
    one = sums.rows(slice(1))
    assert measured_on(replace(one, positions=one.positions.repeat(1, ANSWERS))).tokens.shape == one.tokens.shape


# --- What carries the fall ---


def one_head_does_all() -> tuple[Ensemble, Batch]:
    """Two snapshots that differ in both heads. At the last, head 1 copies the first token to the logits.

    The residual stream has the token, the position and the output side by side. Head 0 writes to the position, which
    nothing reads.
    """
    n, n_pos = 8, 4
    cfg = ModelConfig(n, n, n_pos, 1, 2 * n + n_pos, 2, n, attn_only=True)
    rng = torch.Generator().manual_seed(0)
    draw = {name: torch.randn(2, *shape, generator=rng) for name, shape in weight_shapes(cfg).items()}
    weights = {name: torch.zeros_like(weight) for name, weight in draw.items()}
    weights["embed.W_E"][:, :, :n] = torch.eye(n)
    weights["pos_embed.W_pos"][:, :, n : n + n_pos] = torch.eye(n_pos)
    weights["unembed.W_U"][:, n + n_pos :] = torch.eye(n)
    for name in ("W_Q", "W_K", "W_V"):
        weights[f"blocks.0.attn.{name}"][:, 0] = draw[f"blocks.0.attn.{name}"][:, 0]
    weights["blocks.0.attn.W_O"][:, 0, :, n : n + n_pos] = draw["blocks.0.attn.W_O"][:, 0, :, n : n + n_pos]
    weights["blocks.0.attn.W_Q"][1, 1, n : n + n_pos, 0] = 100  # every query looks for the first position
    weights["blocks.0.attn.W_K"][1, 1, n, 0] = 1
    weights["blocks.0.attn.W_V"][1, 1, :n] = torch.eye(n)
    weights["blocks.0.attn.W_O"][1, 1, :, n + n_pos :] = 10 * torch.eye(n)
    tokens = torch.randint(n, (16, n_pos), generator=rng)
    return Ensemble(cfg, range(2), weights), Batch(tokens, torch.full((16, 1), n_pos - 1), tokens[:, :1])


def test_the_loss_falls_only_with_the_head_that_carries_everything():
    ensemble, batch = one_head_does_all()
    early, late = math.log(8), math.log1p(7 * math.exp(-10))
    carrying = {"L0H1", "all attention", "everything"}
    assert set(parts(ensemble.cfg)) - carrying == {"embeddings", "L0H0", "unembedding"}
    for name, part in parts(ensemble.cfg).items():
        found = matrix(ensemble, part, batch)
        expected = [[early, late], [early, late]] if name in carrying else [[early, early], [late, late]]
        torch.testing.assert_close(found[..., 0], torch.tensor(expected).double(), rtol=1e-4, atol=1e-7)
        share = carried(found[..., 0])
        assert share.diagonal().isnan().all()
        assert share[0, 1].item() == pytest.approx(float(name in carrying), abs=1e-6)
        assert share[1, 0].item() == pytest.approx(float(name in carrying), abs=1e-6)


def test_shares_are_of_the_fall_between_the_two_snapshots():
    losses = torch.tensor([[4.0, 3.0, 5.0], [3.9, 2.0, 1.5], [2.0, 2.5, 1.995]])
    expected = torch.tensor([[torch.nan, 1 / 2, -1 / 2.005], [1.9 / 2, torch.nan, torch.nan]])
    torch.testing.assert_close(carried(losses)[:2], expected, equal_nan=True)
