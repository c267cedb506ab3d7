"""Circuits and composition, read from the weights of one snapshot.

W_QK = W_Q W_K^T and W_OV = W_V W_O of a head, both (d_model d_model). The embedding reaches block i times g^i, and the
output of block i of n reaches the unembedding times g^(n-1-i), with the residual gain g.
"""

import math

import numpy as np

from tests.plain.model import Array


def w_qk(w: dict, layer: int, head: int) -> Array:
    return w[f"blocks.{layer}.attn.W_Q"][head] @ w[f"blocks.{layer}.attn.W_K"][head].T


def w_ov(w: dict, layer: int, head: int) -> Array:
    return w[f"blocks.{layer}.attn.W_V"][head] @ w[f"blocks.{layer}.attn.W_O"][head]


def scores(cfg: dict, w: dict, layer: int, queries: Array, keys: Array) -> Array:
    """Attention scores of each head between two sets of embeddings, (head query key)."""
    scale = cfg["residual_gain"] ** (2 * layer) / math.sqrt(cfg["d_head"])
    return np.array([scale * queries @ w_qk(w, layer, head) @ keys.T for head in range(cfg["n_heads"])])


def ov(cfg: dict, w: dict, layer: int) -> Array:
    """What attention to each token adds to each logit, (head d_vocab d_vocab_out)."""
    gain = cfg["residual_gain"] ** (cfg["n_layers"] - 1)  # g^layer before the block, g^(n-1-layer) behind it
    return np.array([gain * w["embed.W_E"] @ w_ov(w, layer, head) @ w["unembed.W_U"] for head in range(cfg["n_heads"])])


def copying(cfg: dict, w: dict, inputs: list[int]) -> tuple[Array, Array]:
    """Of all heads: sum of the eigenvalues over the sum of their absolute values; share of tokens copied."""
    eigen, shares = [], []
    for layer in range(cfg["n_layers"]):
        for circuit in ov(cfg, w, layer):
            square = circuit[inputs]
            values = np.linalg.eigvals(square)
            eigen.append(values.real.sum() / np.abs(values).sum())
            shares.append(np.mean(square.argmax(1) == np.arange(len(inputs))))
    return np.array(eigen), np.array(shares)


def composition(early: Array, late: Array) -> float:
    """norm(early late) / (norm(early) norm(late)), Frobenius."""
    return np.linalg.norm(early @ late) / (np.linalg.norm(early) * np.linalg.norm(late))


def compositions(cfg: dict, w: dict, kind: str) -> dict[str, float]:
    """Of each head with each head of a later layer, without a baseline."""
    found, heads = {}, range(cfg["n_heads"])
    for layer in range(cfg["n_layers"]):
        for later in range(layer + 1, cfg["n_layers"]):
            for a in heads:
                for b in heads:
                    late = {"Q": w_qk(w, later, b), "K": w_qk(w, later, b).T, "V": w_ov(w, later, b)}[kind]
                    found[f"L{layer}H{a} → L{later}H{b}"] = composition(w_ov(w, layer, a), late)
    return found


def random_compositions(d_model: int, d_head: int, n: int) -> Array:
    """The composition of ``n`` pairs of random heads, (n,)."""
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(n, 2, 2, d_model, d_head))
    return np.array([composition(*(a @ b.T for a, b in pair)) for pair in pairs])


def singular_values(cfg: dict, w: dict, layer: int, circuit: str) -> Array:
    """(head rank), descending."""
    product = {"QK": w_qk, "OV": w_ov}[circuit]
    rank = min(cfg["d_head"], cfg["d_model"])
    return np.array([np.linalg.svd(product(w, layer, head), compute_uv=False)[:rank] for head in range(cfg["n_heads"])])


def effective_rank(values: Array) -> float:
    """The exponential of the entropy of the normalised singular values."""
    shares = values / values.sum()
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))
