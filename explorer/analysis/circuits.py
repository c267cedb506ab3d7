"""What heads would do, read from their weights: which token looks at which (QK), and what that writes (OV).

Axes
    snapshot       snapshots of the run
    head           heads of a layer; for the whole model those of layer 0, then of layer 1...
    query, key     tokens, or positions, in the two roles inside attention
    d_vocab, d_vocab_out    input and output tokens
    pair           a head and one of a later layer

The circuits are those of the direct path: what the embedding alone brings to a head, and what the head alone brings to
the logits. Layer norms are left out. The residual gain g is in: the embedding reaches block i times g**i, and what
block i writes reaches the end of n blocks times g**(n-1-i). A table is its own circuits, of one head.

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from einops import einsum, repeat
from torch import Tensor

from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.model.transformer import ModelConfig

RANDOM_DRAWS = 300

# --- Which token looks at which ---


def qk_circuit(ensemble: Ensemble, layer: int) -> Tensor:
    """Attention scores between tokens, (snapshot head query key), before the softmax, positions left out."""
    if _is_table(ensemble.cfg):
        scores = ensemble.weights["blocks.0.attn.QK"]
        return repeat(scores, "snapshot key -> snapshot 1 query key", query=ensemble.cfg.d_vocab)
    rows = ensemble.weights["embed.W_E"]
    return _scores(ensemble, layer, rows, rows)


def positional_qk_circuit(ensemble: Ensemble, layer: int) -> Tensor:
    """Attention scores between positions, (snapshot head query key), tokens left out; nan where a key is yet to come.

    Raises:
        UserError: the model has no positions.
    """
    if _is_table(ensemble.cfg) or ensemble.cfg.positions == "none":
        raise UserError("This model has no positions, so none can look at another.")
    rows = ensemble.weights["pos_embed.W_pos"]
    future = torch.ones(rows.shape[1], rows.shape[1], dtype=torch.bool).triu(1)
    return _scores(ensemble, layer, rows, rows).masked_fill(future, torch.nan)


def scores_from_token(ensemble: Ensemble, layer: int, token: int, position: int) -> Tensor:
    """Attention scores that a token at a position gives each token, (snapshot head d_vocab).

    Where the key stands is left out. Without positions, the query's is of no account.
    """
    if _is_table(ensemble.cfg):
        return qk_circuit(ensemble, layer)[:, :, token]
    rows = ensemble.weights["embed.W_E"]
    query = rows[:, token]
    if ensemble.cfg.positions != "none":
        query = query + ensemble.weights["pos_embed.W_pos"][:, position]
    return _scores(ensemble, layer, query[:, None], rows)[:, :, 0]


def _scores(ensemble: Ensemble, layer: int, queries: Tensor, keys: Tensor) -> Tensor:
    """Scores (snapshot head query key) between rows (snapshot query d_model) and (snapshot key d_model)."""
    W_Q, W_K = (ensemble.weights[f"blocks.{layer}.attn.{name}"] for name in ("W_Q", "W_K"))
    project = "snapshot row d_model, snapshot head d_model d_head -> snapshot head row d_head"
    q, k = einsum(queries, W_Q, project), einsum(keys, W_K, project)
    scale = ensemble.cfg.residual_gain ** (2 * layer) / math.sqrt(ensemble.cfg.d_head)
    return einsum(scale * q, k, "snapshot head query d_head, snapshot head key d_head -> snapshot head query key")


# --- What that writes ---


def ov_circuit(ensemble: Ensemble, layer: int) -> Tensor:
    """Logits that a head adds when it attends to one token alone, (snapshot head d_vocab d_vocab_out)."""
    into, out = _ov_halves(ensemble, layer, range(ensemble.cfg.d_vocab))
    return into @ out


def copying_scores(ensemble: Ensemble, inputs: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Whether heads say the token that they look at.

    Both scores are of the square matrix that the OV circuit is between ``inputs`` and the outputs they go with.

    Source: Elhage et al. 2021; TransformerLens, Main Demo.

    Args:
        inputs: for each output token the input token that it answers for, `Task.answered_inputs`.

    Returns:
        The sum of the eigenvalues' real parts over the sum of their sizes, from -1 to 1, nan where all are 0; and the
        share of ``inputs`` whose own logit is the largest in their row. Each (snapshot head), of all layers.
    """
    scores, shares = [], []
    for layer in range(ensemble.cfg.n_layers):
        into, out = _ov_halves(ensemble, layer, inputs)
        square = into @ out  # (snapshot head d_vocab_out d_vocab_out)
        # The other way round the product is d_head wide and has the same eigenvalues, but for some that are 0.
        values = torch.linalg.eigvals(min(square, out @ into, key=lambda matrix: matrix.shape[-1]))
        scores.append(values.real.sum(-1) / values.abs().sum(-1))
        shares.append((square.argmax(-1) == torch.arange(len(inputs))).float().mean(-1))
    return torch.cat(scores, -1), torch.cat(shares, -1)


def _ov_halves(ensemble: Ensemble, layer: int, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The OV circuit of some tokens as a product, (snapshot head token d_head) @ (snapshot head d_head d_vocab_out).

    A table is its own first factor; the second says each logit as it is.
    """
    cfg, weights, tokens = ensemble.cfg, ensemble.weights, list(tokens)
    if _is_table(cfg):
        return weights["blocks.0.attn.OV"][:, None, tokens], torch.eye(cfg.d_vocab_out).expand(len(ensemble), 1, -1, -1)
    W_V, W_O = (weights[f"blocks.{layer}.attn.{name}"] for name in ("W_V", "W_O"))
    read = "snapshot token d_model, snapshot head d_model d_head -> snapshot head token d_head"
    into = einsum(weights["embed.W_E"][:, tokens], W_V, read)
    say = "snapshot head d_head d_model, snapshot d_model d_vocab_out -> snapshot head d_head d_vocab_out"
    out = einsum(W_O, weights["unembed.W_U"], say)
    return cfg.residual_gain ** (cfg.n_layers - 1) * into, out


# --- Products of weights alone ---
#
# A head's W_QK and W_OV are d_model wide but of rank d_head: A B^T, both factors (d_model d_head). With a QR
# decomposition of each, that is Q_A (R_A R_B^T) Q_B^T, and orthonormal columns change neither norms nor singular
# values. So it is enough to multiply matrices of the size of a head.


def composition_scores(ensemble: Ensemble, kind: Literal["Q", "K", "V"]) -> tuple[list[tuple[str, str]], Tensor]:
    """How much the heads of a layer read of what heads of earlier layers write, from the weights alone.

    The Frobenius norm of W_OV^a W_QK^b (Q), W_OV^a transposed W_QK^b (K) or W_OV^a W_OV^b (V), over the product of the
    norms of the two, minus the mean that random normal weights of these shapes have.

    Source: Elhage et al. 2021; TransformerLens, ``all_composition_scores``.

    Returns:
        The pairs, ("L0H0", "L1H0") first, then with L1H1..., and their scores (snapshot pair), 0 as by chance.

    Raises:
        UserError: the model has one layer.
    """
    cfg = ensemble.cfg
    if cfg.n_layers == 1:
        raise UserError("Composition needs two layers; this model has one.")
    # The later head reads with its first factor: W_QK = W_Q W_K^T, transposed W_K W_Q^T, W_OV = W_V W_O.
    names = {"Q": ("W_Q", "W_K"), "K": ("W_K", "W_Q"), "V": ("W_V", "W_O")}[kind]
    pairs, scores = [], []
    for earlier, later in itertools.combinations(range(cfg.n_layers), 2):
        writes = [_factor(ensemble, earlier, name)[:, :, None] for name in ("W_V", "W_O")]
        reads = [_factor(ensemble, later, name)[:, None] for name in names]
        scores.append(_composed(*writes, *reads).flatten(1))  # (snapshot head head) -> (snapshot pair)
        heads = itertools.product(range(cfg.n_heads), repeat=2)
        pairs += [(f"L{earlier}H{a}", f"L{later}H{b}") for a, b in heads]
    return pairs, torch.cat(scores, 1) - _by_chance(cfg.d_model, cfg.d_head)


def _factor(ensemble: Ensemble, layer: int, name: str) -> Tensor:
    """One of a layer's weights as (snapshot head d_model d_head)."""
    weight = ensemble.weights[f"blocks.{layer}.attn.{name}"]
    return weight.mT if name == "W_O" else weight


def _composed(v: Tensor, o: Tensor, read: Tensor, other: Tensor) -> Tensor:
    """The norm of (v o^T)(read other^T) over those of the two, from factors (... d_model d_head)."""
    (r_v, r_o), (r_read, r_other) = (map(_triangle, factors) for factors in ((v, o), (read, other)))
    both = r_v @ (o.mT @ read) @ r_other.mT
    return _norm(both) / (_norm(r_v @ r_o.mT) * _norm(r_read @ r_other.mT))


def _triangle(factor: Tensor) -> Tensor:
    """R of the QR decomposition, (... d_head d_head), or less high where d_model is smaller."""
    return torch.linalg.qr(factor, mode="r").R


def _norm(matrices: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrices)


@functools.lru_cache(maxsize=32)
def _by_chance(d_model: int, d_head: int) -> float:
    """The mean composition of random heads."""
    rng = torch.Generator().manual_seed(0)
    return _composed(*torch.randn(4, RANDOM_DRAWS, d_model, d_head, generator=rng)).mean().item()


def singular_values(ensemble: Ensemble, circuit: Literal["QK", "OV"]) -> Tensor:
    """Singular values of W_Q W_K^T or of W_V W_O, descending, (snapshot head d_head), of all layers.

    There are no more than d_model of them.

    Raises:
        UserError: the model is a table, which has no such weights.
    """
    if _is_table(ensemble.cfg):
        raise UserError("A table has one score and one row of logits for each token, and no products of weights.")
    names = {"QK": ("W_Q", "W_K"), "OV": ("W_V", "W_O")}[circuit]
    products = []
    for layer in range(ensemble.cfg.n_layers):
        one, other = (_triangle(_factor(ensemble, layer, name)) for name in names)
        products.append(one @ other.mT)
    return torch.linalg.svdvals(torch.cat(products, 1))


def effective_rank(values: Tensor) -> Tensor:
    """How many singular values (... value) count: the exponential of the entropy of their shares, (...,).

    Source: Roy and Vetterli 2007, The Effective Rank.
    """
    return torch.special.entr(values / values.sum(-1, keepdim=True)).sum(-1).exp()


def _is_table(cfg: ModelConfig) -> bool:
    return cfg.architecture == "table"
