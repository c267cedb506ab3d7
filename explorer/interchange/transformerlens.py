"""Weights as TransformerLens 4 reads them: its property format, and the configuration of its bridge."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from explorer.errors import UserError
from explorer.model.transformer import ModelConfig


def exported(cfg: ModelConfig, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same model for TransformerLens' ``convert_tl_checkpoint`` and ``TransformerBridge.boot_native``.

    A residual gain g is folded in: in the units of their residual stream, that of block l is g^l times smaller, so the
    block reads through weights that are larger by g^l and writes through weights that are smaller by g^(l+1).
    Biases that the model does not have are zero, and so are the positions of a model without any.

    Args:
        cfg: of the model.
        weights: as in its `state_dict`.

    Returns:
        Name -> weight in property format, and the keyword arguments of ``TransformerBridgeConfig``, which are JSON.

    Raises:
        UserError: TransformerLens has no such model.
    """
    _check(cfg)
    gain, found = cfg.residual_gain, {name: weight.float() for name, weight in weights.items()}
    for layer in range(cfg.n_layers):
        before, after = gain**layer, gain ** (layer + 1)
        scales = {"W_Q": before, "W_K": before, "W_V": before, "W_O": 1 / after, "b_O": 1 / after}
        scales |= {"W_in": after, "W_out": 1 / after, "b_out": 1 / after}
        for name, scale in scales.items():
            place = f"blocks.{layer}.{'attn' if name in ('W_Q', 'W_K', 'W_V', 'W_O', 'b_O') else 'mlp'}.{name}"
            if scale != 1 and place in found:
                found[place] = found[place] * scale
    found["unembed.W_U"] = found["unembed.W_U"] * gain**cfg.n_layers
    for name, shape in _always_there(cfg).items():
        found.setdefault(name, torch.zeros(shape))
    arguments = {
        **{name: getattr(cfg, name) for name in ("n_layers", "d_model", "n_ctx", "d_head", "n_heads", "d_vocab")},
        **{"d_vocab_out": cfg.d_vocab_out, "attn_only": cfg.attn_only, "act_fn": cfg.act_fn},
        **{"normalization_type": "LN" if cfg.layer_norm else None, "eps": cfg.eps},
        **{"positional_embedding_type": "standard"},
        **({} if cfg.attn_only else {"d_mlp": cfg.d_mlp}),
    }
    return found, arguments


def _check(cfg: ModelConfig) -> None:
    what = ""
    if cfg.architecture != "transformer":
        what = "a table, which is no transformer"
    elif cfg.positions == "shortformer":
        what = "shortformer positions, which TransformerLens 4 does not have"
    elif cfg.layer_norm and cfg.norm_scale == "deviation":
        what = "layer norms that divide by the unbiased deviation, which TransformerLens does not have"
    elif cfg.layer_norm and cfg.residual_gain != 1:
        what = "a residual gain and layer norms, so that the gain cannot be folded into weights exactly"
    elif not math.isfinite(1 / cfg.residual_gain if cfg.residual_gain else math.inf):
        what = "a residual gain of 0, which cannot be folded into weights"
    if what:
        raise UserError(f"This model has {what}; choose a run without.")


def _always_there(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights that every model of theirs has."""
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed.W_pos": (cfg.n_ctx, cfg.d_model),
        "unembed.b_U": (cfg.d_vocab_out,),
    }
    for layer in range(cfg.n_layers):
        for part in "QKV":
            shapes[f"blocks.{layer}.attn.b_{part}"] = (cfg.n_heads, cfg.d_head)
        shapes[f"blocks.{layer}.attn.b_O"] = (cfg.d_model,)
    return shapes
