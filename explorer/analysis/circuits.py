"""QK and OV circuits: what attention heads do, read from their weights alone.

Axes
    snapshot       snapshots of the run
    head           heads of one layer; for the whole model those of layer 0, then those of layer 1...
    query, key     tokens, or positions, in their two roles inside attention
    d_vocab, d_vocab_out    input and output tokens
    pair           a head and a head of a later layer

Circuits are those of the direct path: what a head reads from the embedding alone, and what it adds to the logits
without passing through later blocks. Layer norms are left out. The residual gain g is included: the embedding reaches
block i times g**i, and the output of block i of n reaches the unembedding times g**(n-1-i). A table model is one head
whose weights are its circuits.

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from einops import einsum, repeat
from jaxtyping import Float
from torch import Tensor

from explorer.analysis.finite import of_finite
from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.model.transformer import ModelConfig, future_mask

MOST_ROWS = 512  # rows of a circuit that are compared
RANDOM_DRAWS = 300  # random heads over which the baseline of composition scores is averaged

# --- QK: which token attends to which ---


def qk_circuit(
    ensemble: Ensemble, layer: int, tokens: Sequence[int] | None = None
) -> Float[Tensor, "snapshot head query key"]:
    """The full QK circuit, W_E W_QK W_E^T / sqrt(d_head): attention scores between tokens.

    Positions and biases are left out.

    Args:
        ensemble: the snapshots.
        layer: whose heads.
        tokens: the queries and keys; None for all d_vocab tokens.

    Returns:
        Scores before the softmax.
    """
    rows = slice(None) if tokens is None else list(tokens)
    if _is_table(ensemble.cfg):
        scores = ensemble.weights["blocks.0.attn.QK"][:, rows]
        return repeat(scores, "snapshot key -> snapshot 1 query key", query=scores.shape[1])
    W_E = ensemble.weights["embed.W_E"][:, rows]
    return _scores(ensemble, layer, W_E, W_E)


def positional_qk_circuit(
    ensemble: Ensemble, layer: int, n: int | None = None
) -> Float[Tensor, "snapshot head query key"]:
    """The QK circuit of positions, W_pos W_QK W_pos^T / sqrt(d_head): attention scores, tokens and biases left out.

    Args:
        ensemble: the snapshots.
        layer: whose heads.
        n: the first how many positions; None for all n_ctx.

    Returns:
        Scores before the softmax; nan where the causal mask hides the key.

    Raises:
        UserError: the model has no positions.
    """
    if _is_table(ensemble.cfg) or ensemble.cfg.positions == "none":
        raise UserError("This model has no positions, so it has no QK circuit between them; choose the one of tokens.")
    W_pos = ensemble.weights["pos_embed.W_pos"][:, :n]
    return _scores(ensemble, layer, W_pos, W_pos).masked_fill(future_mask(W_pos.shape[1]), torch.nan)


def scores_from_token(
    ensemble: Ensemble, layer: int, token: int, position: int, keys: Sequence[int] | None = None
) -> Float[Tensor, "snapshot head key"]:
    """Attention scores of one query, a token at a position, with tokens as keys.

    Args:
        ensemble: the snapshots.
        layer: whose heads.
        token: the query's token.
        position: the query's position; ignored by a model without positions.
        keys: None for all d_vocab tokens.

    Returns:
        Scores before the softmax; the positions of the keys and all biases are left out.
    """
    if _is_table(ensemble.cfg):
        return qk_circuit(ensemble, layer, keys)[:, :, 0]  # the same for every query
    W_E = ensemble.weights["embed.W_E"]
    query = W_E[:, token]  # (snapshot d_model)
    if ensemble.cfg.positions != "none":
        query = query + ensemble.weights["pos_embed.W_pos"][:, position]
    return _scores(ensemble, layer, query[:, None], W_E if keys is None else W_E[:, list(keys)])[:, :, 0]


def _scores(
    ensemble: Ensemble,
    layer: int,
    queries: Float[Tensor, "snapshot query d_model"],
    keys: Float[Tensor, "snapshot key d_model"],
) -> Float[Tensor, "snapshot head query key"]:
    W_Q, W_K = (ensemble.weights[f"blocks.{layer}.attn.{name}"] for name in ("W_Q", "W_K"))
    project = "snapshot row d_model, snapshot head d_model d_head -> snapshot head row d_head"
    q, k = einsum(queries, W_Q, project), einsum(keys, W_K, project)
    scale = ensemble.cfg.residual_gain ** (2 * layer) / math.sqrt(ensemble.cfg.d_head)
    return einsum(scale * q, k, "snapshot head query d_head, snapshot head key d_head -> snapshot head query key")


# --- OV: what attention to a token adds to the logits ---


def ov_circuit(
    ensemble: Ensemble, layer: int, inputs: Sequence[int] | None = None, outputs: Sequence[int] | None = None
) -> Float[Tensor, "snapshot head input output"]:
    """The full OV circuit, W_E W_OV W_U: the logits that a head adds when it attends to one token alone.

    Args:
        ensemble: the snapshots.
        layer: whose heads.
        inputs, outputs: tokens; None for all d_vocab and all d_vocab_out.
    """
    into, out = _ov_factors(ensemble, layer, range(ensemble.cfg.d_vocab) if inputs is None else inputs)
    return into @ (out if outputs is None else out[..., list(outputs)])


def copying_scores(
    ensemble: Ensemble, inputs: Sequence[int]
) -> tuple[Float[Tensor, "snapshot head"], Float[Tensor, "snapshot head"]]:
    """Whether heads raise the logit of the token that they attend to.

    Both scores are of a square matrix: the OV circuit between ``inputs`` and the outputs that stand for them.

    Source: Elhage et al. 2021; TransformerLens, Main Demo.

    Args:
        ensemble: the snapshots.
        inputs: for each output token the input token that it stands for, `Task.answered_inputs`.

    Returns:
        The sum of the real parts of the eigenvalues over the sum of their absolute values, from -1 to 1, nan where all
        are 0; and the share of ``inputs`` whose own logit is the largest of their row, of `MOST_ROWS` of them, evenly
        spaced, if there are more. Both of all heads of the model.
    """
    rows = torch.arange(0, len(inputs), -(-len(inputs) // MOST_ROWS))
    scores, shares = [], []
    for layer in range(ensemble.cfg.n_layers):
        into, out = _ov_factors(ensemble, layer, inputs)
        # The nonzero eigenvalues of A B are those of B A, which is only d_head wide.
        (values,) = of_finite(torch.linalg.eigvals, into @ out if len(inputs) <= into.shape[-1] else out @ into)
        scores.append(values.real.sum(-1) / values.abs().sum(-1))
        largest = torch.stack([(a @ b).argmax(-1) for a, b in zip(into[:, :, rows], out, strict=True)])
        shares.append((largest == rows).float().mean(-1))
    return torch.cat(scores, -1), torch.cat(shares, -1)


def _ov_factors(
    ensemble: Ensemble, layer: int, tokens: Sequence[int]
) -> tuple[Float[Tensor, "snapshot head token d_head"], Float[Tensor, "snapshot head d_head d_vocab_out"]]:
    """The OV circuit of some tokens as a product of two matrices; for a table model the second is the identity."""
    cfg, weights, tokens = ensemble.cfg, ensemble.weights, list(tokens)
    if _is_table(cfg):
        return weights["blocks.0.attn.OV"][:, None, tokens], torch.eye(cfg.d_vocab_out).expand(len(ensemble), 1, -1, -1)
    W_V, W_O = (weights[f"blocks.{layer}.attn.{name}"] for name in ("W_V", "W_O"))
    read = "snapshot token d_model, snapshot head d_model d_head -> snapshot head token d_head"
    into = einsum(weights["embed.W_E"][:, tokens], W_V, read)
    write = "snapshot head d_head d_model, snapshot d_model d_vocab_out -> snapshot head d_head d_vocab_out"
    out = einsum(W_O, weights["unembed.W_U"], write)
    return cfg.residual_gain ** (cfg.n_layers - 1) * into, out


# --- Composition scores and singular values ---
#
# W_QK and W_OV of a head are d_model wide but of rank d_head: A B^T, both factors (d_model d_head). With a QR
# decomposition of each, A B^T = Q_A (R_A R_B^T) Q_B^T, and orthonormal columns change neither norms nor singular
# values. So it is enough to multiply matrices of the size of a head.


def composition_scores(
    ensemble: Ensemble, kind: Literal["Q", "K", "V"]
) -> tuple[list[tuple[str, str]], Float[Tensor, "snapshot pair"]]:
    """How much heads read, as their queries, keys or values, of what the heads of earlier layers write.

    The Frobenius norm of W_OV^a W_QK^b (Q), W_OV^a W_QK^b transposed (K) or W_OV^a W_OV^b (V), over the product of the
    norms of the two matrices, minus the mean of that over random normal weights of these shapes.

    Source: Elhage et al. 2021; TransformerLens, ``all_composition_scores``.

    Args:
        ensemble: the snapshots.
        kind: Q-, K- or V-composition.

    Returns:
        The pairs of head names, ("L0H0", "L1H0") first, then ("L0H0", "L1H1")..., and their scores; 0 is chance.

    Raises:
        UserError: the model has only one layer.
    """
    cfg = ensemble.cfg
    if cfg.n_layers == 1:
        raise UserError("Composition needs two layers; this model has one, so choose a run with more.")
    # The later head reads with its first factor: W_QK = W_Q W_K^T, transposed W_K W_Q^T, W_OV = W_V W_O.
    names = {"Q": ("W_Q", "W_K"), "K": ("W_K", "W_Q"), "V": ("W_V", "W_O")}[kind]
    pairs, scores = [], []
    for earlier, later in itertools.combinations(range(cfg.n_layers), 2):
        v, o = (_factor(ensemble, earlier, name)[:, :, None] for name in ("W_V", "W_O"))
        read, other = (_factor(ensemble, later, name)[:, None] for name in names)
        scores.append(_composition(v, o, read, other).flatten(1))  # (snapshot head head) -> (snapshot pair)
        heads = itertools.product(range(cfg.n_heads), repeat=2)
        pairs += [(f"L{earlier}H{a}", f"L{later}H{b}") for a, b in heads]
    return pairs, torch.cat(scores, 1) - _random_composition(cfg.d_model, cfg.d_head)


def _factor(ensemble: Ensemble, layer: int, name: str) -> Float[Tensor, "snapshot head d_model d_head"]:
    weight = ensemble.weights[f"blocks.{layer}.attn.{name}"]
    return weight.mT if name == "W_O" else weight


def _composition(
    v: Float[Tensor, "*#heads d_model d_head"],
    o: Float[Tensor, "*#heads d_model d_head"],
    read: Float[Tensor, "*#heads d_model d_head"],
    other: Float[Tensor, "*#heads d_model d_head"],
) -> Float[Tensor, "*heads"]:
    """The norm of (v o^T)(read other^T) over the product of the norms of the two."""
    r_v, r_o, r_read, r_other = map(_r_factor, (v, o, read, other))
    both = r_v @ (o.mT @ read) @ r_other.mT
    return _norm(both) / (_norm(r_v @ r_o.mT) * _norm(r_read @ r_other.mT))


def _r_factor(matrix: Float[Tensor, "*axes d_model d_head"]) -> Float[Tensor, "*axes rank d_head"]:
    """R of the QR decomposition; its rank is the smaller of d_model and d_head."""
    (r,) = of_finite(lambda finite: torch.linalg.qr(finite, mode="r").R, matrix)
    return r


def _norm(matrices: Float[Tensor, "*axes row column"]) -> Float[Tensor, "*axes"]:
    return torch.linalg.matrix_norm(matrices)


@functools.lru_cache(maxsize=32)
def _random_composition(d_model: int, d_head: int) -> float:
    """The mean composition of random heads, which scores are measured from."""
    rng = torch.Generator().manual_seed(0)
    return _composition(*torch.randn(4, RANDOM_DRAWS, d_model, d_head, generator=rng)).mean().item()


def singular_values(ensemble: Ensemble, circuit: Literal["QK", "OV"]) -> Float[Tensor, "snapshot head rank"]:
    """Singular values of W_QK = W_Q W_K^T or of W_OV = W_V W_O, of all heads of the model.

    Args:
        ensemble: the snapshots.
        circuit: which of the two products.

    Returns:
        Descending; as many as the smaller of d_head and d_model.

    Raises:
        UserError: the model is a table, which has no such weights.
    """
    if _is_table(ensemble.cfg):
        raise UserError(
            "A table model has one score and one row of logits per token, and no products of weights; choose a run of "
            "a transformer."
        )
    names = {"QK": ("W_Q", "W_K"), "OV": ("W_V", "W_O")}[circuit]
    products = []
    for layer in range(ensemble.cfg.n_layers):
        one, other = (_r_factor(_factor(ensemble, layer, name)) for name in names)
        products.append(one @ other.mT)  # (snapshot head rank rank)
    (values,) = of_finite(torch.linalg.svdvals, torch.cat(products, 1))
    return values


def effective_rank(values: Float[Tensor, "*axes rank"]) -> Float[Tensor, "*axes"]:
    """The effective rank of matrices: the exponential of the entropy of their normalised singular values.

    Source: Roy and Vetterli 2007, The Effective Rank.

    Args:
        values: singular values.

    Returns:
        From 1, if one value is not zero, to their number, if all are equal.
    """
    return torch.special.entr(values / values.sum(-1, keepdim=True)).sum(-1).exp()


def _is_table(cfg: ModelConfig) -> bool:
    return cfg.architecture == "table"
