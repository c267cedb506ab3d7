"""Circuits read from weights agree with forward passes of the model."""

import itertools

import pytest
import torch
from einops import rearrange

from explorer.analysis import circuits
from explorer.analysis.circuits import (
    composition_scores,
    copying_scores,
    ov_circuit,
    positional_qk_circuit,
    qk_circuit,
    scores_from_token,
)
from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.model.transformer import ModelConfig
from explorer.tasks.skip_trigram import SkipTrigram
from tests.conftest import random_ensemble

SCORES = "blocks.{}.attn.hook_attn_scores"
GAIN = ModelConfig(12, 10, 9, 2, 16, 2, 8, attn_only=True, residual_gain=2.0)
NO_POSITIONS = ModelConfig(12, 10, 9, 2, 16, 2, 8, attn_only=True, residual_gain=2.0, positions="none")
WITH_MLP = ModelConfig(12, 10, 9, 2, 16, 3, 4, 32)
TABLE = SkipTrigram().model_config(n_layers=1, n_heads=1, architecture="table")
close = {"rtol": 1e-4, "atol": 1e-4}


def changed(ensemble: Ensemble, **weights) -> Ensemble:
    """The ensemble with some weights replaced in every layer, by the last part of their name."""
    found = {name: weights.get(name.rsplit(".", 1)[-1], weight) for name, weight in ensemble.weights.items()}
    return Ensemble(ensemble.cfg, ensemble.steps, found)


def direct(ensemble: Ensemble) -> Ensemble:
    """The ensemble with a first layer that writes nothing, so that the second reads only the embedding."""
    name = "blocks.0.attn.W_O"
    weights = {**ensemble.weights, name: torch.zeros_like(ensemble.weights[name])}
    return Ensemble(ensemble.cfg, ensemble.steps, weights)


# --- QK ---


@pytest.mark.parametrize("layer", [0, 1])
def test_the_qk_circuit_is_the_attention_scores_of_two_tokens(layer):
    ensemble = direct(random_ensemble(NO_POSITIONS))
    texts = torch.tensor([(key, query) for query in range(12) for key in range(12)])
    _, cache = ensemble.run(texts, [SCORES.format(layer)])
    seen = rearrange(
        cache[SCORES.format(layer)][..., 1, 0], "snapshot (query key) head -> snapshot head query key", key=12
    )
    torch.testing.assert_close(qk_circuit(ensemble, layer), seen, **close)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
@pytest.mark.parametrize("layer", [0, 1])
def test_the_positional_qk_circuit_is_the_attention_scores_without_token_embeddings(positions, layer):
    cfg = ModelConfig(12, 10, 9, 2, 16, 2, 8, attn_only=True, residual_gain=2.0, positions=positions)
    ensemble = changed(direct(random_ensemble(cfg)), W_E=torch.zeros(3, 12, 16))
    _, cache = ensemble.run(torch.zeros(1, 9, dtype=torch.int64), [SCORES.format(layer)])
    found, seen = positional_qk_circuit(ensemble, layer), cache[SCORES.format(layer)][:, 0]
    assert torch.equal(found.isnan(), seen.isinf())
    torch.testing.assert_close(found.nan_to_num(0), seen.masked_fill(seen.isinf(), 0), **close)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("cfg", [GAIN, NO_POSITIONS], ids=["positions", "no positions"])
def test_scores_from_a_token_are_those_of_sequences_that_end_with_it(cfg, layer):
    """Only the embedding of the query's position is not zero, so the positions of keys add nothing to the scores."""
    ensemble = direct(random_ensemble(cfg))
    if cfg is GAIN:
        ensemble = changed(ensemble, W_pos=ensemble.weights["pos_embed.W_pos"] * (torch.arange(9) == 5)[:, None])
    texts = torch.tensor([[key] * 5 + [7] for key in range(12)])
    _, cache = ensemble.run(texts, [SCORES.format(layer)])
    seen = rearrange(cache[SCORES.format(layer)][..., 5, 2], "snapshot key head -> snapshot head key")
    torch.testing.assert_close(scores_from_token(ensemble, layer, 7, 5), seen, **close)


def test_models_without_positions_have_no_positional_circuit():
    for cfg in (NO_POSITIONS, TABLE):
        with pytest.raises(UserError, match="no positions"):
            positional_qk_circuit(random_ensemble(cfg), 0)


# --- OV ---


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_the_ov_circuit_is_what_a_head_adds_to_the_logits_of_one_token(layer, gain):
    """The logits without the head are subtracted."""
    cfg = ModelConfig(12, 10, 9, 2, 16, 2, 8, attn_only=True, residual_gain=gain, positions="none")
    ensemble = random_ensemble(cfg)
    if layer:
        ensemble = direct(ensemble)
    else:
        ensemble.weights["blocks.1.attn.W_O"].zero_()
    texts, found = torch.arange(12)[:, None], ov_circuit(ensemble, layer)
    whole, _ = ensemble.run(texts)
    for head in range(2):
        others = (torch.arange(2) != head)[:, None]
        place = f"blocks.{layer}.attn.hook_result"
        without, _ = ensemble.run(
            texts, hooks=lambda _, place=place, others=others: {place: lambda x, name: x * others}
        )
        torch.testing.assert_close(found[:, head], (whole - without)[:, :, 0], **close)


def test_the_weights_of_a_table_are_its_circuits():
    ensemble = random_ensemble(TABLE)
    scores, rows = ensemble.weights["blocks.0.attn.QK"], ensemble.weights["blocks.0.attn.OV"]
    text = SkipTrigram().sample(1, torch.Generator().manual_seed(0)).tokens
    _, cache = ensemble.run(text, [SCORES.format(0)])
    torch.testing.assert_close(qk_circuit(ensemble, 0)[:, 0, 1, text[0]], cache[SCORES.format(0)][:, 0, 0, -1])
    assert torch.equal(scores_from_token(ensemble, 0, 1, 41)[:, 0], scores)
    assert torch.equal(ov_circuit(ensemble, 0)[:, 0], rows)
    assert qk_circuit(ensemble, 0).shape == (3, 1, 22, 22)


# --- Copying ---


@pytest.mark.parametrize(("sign", "score", "share"), [(1, 1, 1), (-1, -1, 0)])
@pytest.mark.parametrize("gain", [1.0, 2.0, -1.0])
def test_a_head_whose_ov_circuit_is_diagonal_copies(sign, score, share, gain):
    """Output i stands for input i + 2. With two blocks, the direct path is multiplied by the gain once."""
    cfg = ModelConfig(7, 5, 9, 2, 7, 1, 7, attn_only=True, residual_gain=gain)
    one = torch.eye(7).expand(2, 7, 7)
    ensemble = changed(
        random_ensemble(cfg, 2), W_E=one, W_V=one[:, None], W_O=sign / gain * one[:, None], W_U=one[:, :, 2:]
    )
    scores, shares = copying_scores(ensemble, range(2, 7))
    torch.testing.assert_close(scores, torch.full((2, 2), float(score)))
    torch.testing.assert_close(shares, torch.full((2, 2), float(share)))


@pytest.mark.parametrize(
    "cfg", [GAIN, WITH_MLP, ModelConfig(12, 10, 9, 1, 16, 2, 14)], ids=["8 wide", "4 wide", "14 wide"]
)
def test_copying_scores_are_those_of_the_full_ov_circuit(cfg):
    """With d_head below and above d_vocab_out, and with outputs in another order than inputs."""
    ensemble, inputs = random_ensemble(cfg), [11, 3, 5, 1, 0, 2, 9, 8, 4, 7]
    scores, shares = copying_scores(ensemble, inputs)
    square = torch.cat([ov_circuit(ensemble, layer) for layer in range(cfg.n_layers)], 1)[:, :, inputs]
    values = torch.linalg.eigvals(square.double())
    torch.testing.assert_close(scores.double(), values.real.sum(-1) / values.abs().sum(-1), **close)
    torch.testing.assert_close(shares, (square.argmax(-1) == torch.arange(10)).float().mean(-1))


def test_a_table_with_a_diagonal_copies():
    task = SkipTrigram()
    rows = torch.zeros(3, 22, 10)
    rows[:, task.answered_inputs] = torch.eye(10)
    scores, shares = copying_scores(changed(random_ensemble(TABLE), OV=rows), task.answered_inputs)
    assert scores.tolist() == shares.tolist() == [[1], [1], [1]]


# --- Composition ---


def full_products(ensemble: Ensemble, layer: int, kind: str) -> torch.Tensor:
    weights = {name: ensemble.weights[f"blocks.{layer}.attn.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O")}
    return {
        "Q": weights["W_Q"] @ weights["W_K"].mT,
        "K": weights["W_K"] @ weights["W_Q"].mT,
        "V": weights["W_V"] @ weights["W_O"],
    }[kind]


@pytest.mark.parametrize("kind", ["Q", "K", "V"])
def test_composition_scores_are_norms_of_full_products(kind):
    """Minus the random baseline, which is the same for every pair."""
    cfg = ModelConfig(12, 10, 9, 3, 16, 2, 8, attn_only=True)
    ensemble = random_ensemble(cfg)
    pairs, scores = composition_scores(ensemble, kind)
    expected, norm = [], torch.linalg.matrix_norm
    for i, j in itertools.combinations(range(3), 2):
        for a, b in itertools.product(range(2), repeat=2):
            writes, reads = full_products(ensemble, i, "V")[:, a], full_products(ensemble, j, kind)[:, b]
            expected.append(norm(writes @ reads) / norm(writes) / norm(reads))
    expected = torch.stack(expected, 1)
    baseline = expected - scores
    torch.testing.assert_close(baseline, baseline[:1, :1].expand_as(baseline), rtol=1e-4, atol=1e-5)
    assert 0.1 < baseline[0, 0] < 0.4
    assert pairs[:4] == [("L0H0", "L1H0"), ("L0H0", "L1H1"), ("L0H1", "L1H0"), ("L0H1", "L1H1")]
    assert pairs[4:6] == [("L0H0", "L2H0"), ("L0H0", "L2H1")]
    assert pairs[-1] == ("L1H1", "L2H1")


@pytest.mark.parametrize("kind", ["Q", "K", "V"])
def test_a_head_composes_with_a_head_that_reads_the_direction_it_writes(kind):
    """Layer 0 writes one direction. Layer 1 reads it with one of W_Q, W_K and W_V, and another one with the others."""
    cfg = ModelConfig(12, 10, 9, 2, 16, 1, 1, attn_only=True)
    written, other = torch.eye(16)[0], torch.eye(16)[1]
    weights = dict(random_ensemble(cfg).weights)
    weights["blocks.0.attn.W_O"] = written.expand(3, 1, 1, 16)
    for name in ("Q", "K", "V"):
        reads = written if name == kind else other
        weights[f"blocks.1.attn.W_{name}"] = reads[:, None].expand(3, 1, 16, 1)
    found = {name: composition_scores(Ensemble(cfg, range(3), weights), name)[1] for name in ("Q", "K", "V")}
    for name in {"Q", "K", "V"} - {kind}:
        torch.testing.assert_close(found[kind] - found[name], torch.ones(3, 1))


@pytest.mark.parametrize("kind", ["Q", "K", "V"])
def test_random_heads_have_composition_scores_near_zero(kind):
    cfg = ModelConfig(12, 10, 9, 2, 48, 4, 12, attn_only=True)
    _, scores = composition_scores(random_ensemble(cfg, 10), kind)
    assert scores.shape == (10, 16)
    assert abs(scores.mean()) < 0.003
    assert scores.abs().max() < 0.05


def test_composition_needs_two_layers():
    for cfg in (TABLE, ModelConfig(12, 10, 9)):
        with pytest.raises(UserError, match="Composition needs two layers; this model has one"):
            composition_scores(random_ensemble(cfg), "K")


# --- Singular values ---


@pytest.mark.parametrize("cfg", [GAIN, ModelConfig(12, 10, 9, 1, 6, 2, 8)], ids=["narrow heads", "wide heads"])
@pytest.mark.parametrize(("circuit", "kind"), [("QK", "Q"), ("OV", "V")])
def test_singular_values_are_those_of_the_full_product(cfg, circuit, kind):
    ensemble = random_ensemble(cfg)
    found = circuits.singular_values(ensemble, circuit)
    whole = torch.cat([full_products(ensemble, layer, kind) for layer in range(cfg.n_layers)], 1)
    n = min(cfg.d_head, cfg.d_model)
    assert found.shape == (3, cfg.n_layers * cfg.n_heads, n)
    torch.testing.assert_close(found, torch.linalg.svdvals(whole)[..., :n], **close)
    assert (found.diff(dim=-1) <= 0).all()


def test_a_table_has_no_singular_values():
    with pytest.raises(UserError, match="no products of weights"):
        circuits.singular_values(random_ensemble(TABLE), "OV")


def test_each_snapshot_is_measured_on_its_own_weights(small):
    ensemble = small.ensemble()
    measures = {
        "qk": lambda e: qk_circuit(e, 1),
        "positions": lambda e: positional_qk_circuit(e, 1),
        "ov": lambda e: ov_circuit(e, 1),
        "scores": lambda e: scores_from_token(e, 1, 11, 5),
        "eigenvalues": lambda e: copying_scores(e, range(10))[0],
        "largest": lambda e: copying_scores(e, range(10))[1],
        "composition": lambda e: composition_scores(e, "K")[1],
        "singular values": lambda e: circuits.singular_values(e, "QK"),
    }
    for name, measure in measures.items():
        found = measure(ensemble)
        for i in range(len(ensemble)):
            alone = measure(ensemble.select(slice(i, i + 1)))
            torch.testing.assert_close(alone, found[i : i + 1], rtol=1e-4, atol=1e-5, equal_nan=True, msg=name)


def test_effective_rank_of_equal_values_is_their_number():
    values = torch.tensor([[2.0, 2.0, 2.0, 0.0], [5.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(circuits.effective_rank(values), torch.tensor([3.0, 1.0]))
