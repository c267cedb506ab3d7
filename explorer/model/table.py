"""Attention reduced to a table: one attention score and one row of logits for every token.

    attention pattern   the softmax of the scores of the tokens up to the query
    logits              the sum of these tokens' rows, weighted by the pattern

A one-layer attention-only transformer reduces to this if neither positions nor the query token matter. The hook points
are named as in the transformer.

Axes as in `explorer.model.transformer`; ``head`` has one entry, and a head's width is d_vocab_out.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from einops import einsum, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from explorer.errors import UserError
from explorer.model.hooks import HookedModel, HookPoint
from explorer.model.transformer import Embed, ModelConfig, future_mask


class TableAttention(nn.Module):
    """``QK`` are the scores (d_vocab,), ``OV`` the output rows (d_vocab, d_vocab_out)."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.QK = nn.Parameter(torch.empty(cfg.d_vocab))
        self.OV = nn.Parameter(torch.empty(cfg.d_vocab, cfg.d_vocab_out))
        self.hook_v = HookPoint()
        self.hook_attn_scores = HookPoint()
        self.hook_pattern = HookPoint()
        self.hook_z = HookPoint()

    def forward(self, tokens: Int[Tensor, "... batch pos"]) -> Float[Tensor, "... batch pos d_vocab_out"]:
        """Logits.

        Args:
            tokens: (batch pos), for a stack also (snapshot batch pos).
        """
        n_pos = tokens.shape[-1]
        v = self.hook_v(Embed.look_up(self.OV, tokens)[..., None, :])  # (... batch pos head d_vocab_out)
        keys = Embed.look_up(self.QK[..., None], tokens)[..., 0]  # (... batch key)
        scores = repeat(keys, "... key -> ... 1 query key", query=n_pos)
        future = future_mask(n_pos, tokens.device)
        scores = self.hook_attn_scores(scores.masked_fill(future, -torch.inf))  # (... batch head query key)
        pattern = self.hook_pattern(scores.softmax(-1))
        mix = "... batch head query key, ... batch key head d_head -> ... batch query head d_head"
        return self.hook_z(einsum(pattern, v, mix)).sum(-2)


class TableBlock(nn.Module):
    """The only block of a table."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.attn = TableAttention(cfg)


class TableModel(HookedModel):
    """The table model. Its weights are drawn from a normal distribution with standard deviation 1 / sqrt(d_vocab).

    Args:
        cfg: its vocabularies and n_ctx are used.
        seed: of the generator that draws the weights; None leaves them uninitialised.
    """

    def __init__(self, cfg: ModelConfig, seed: int | None = None):
        super().__init__()
        self.cfg = cfg
        self.blocks = cast(Sequence[TableBlock], nn.ModuleList([TableBlock(cfg)]))
        self.name_points()
        if seed is not None:
            rng = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for weight in (self.blocks[0].attn.QK, self.blocks[0].attn.OV):
                    weight.copy_(torch.randn(weight.shape, generator=rng) / math.sqrt(cfg.d_vocab))

    def forward(self, tokens: Int[Tensor, "... batch pos"]) -> Float[Tensor, "... batch pos d_vocab_out"]:
        """Logits.

        Args:
            tokens: (batch pos), for a stack also (snapshot batch pos).

        Raises:
            UserError: there are more tokens than n_ctx.
        """
        if tokens.shape[-1] > self.cfg.n_ctx:
            raise UserError(f"The input has {tokens.shape[-1]} tokens; this model reads at most {self.cfg.n_ctx}.")
        return self.blocks[0].attn(tokens)
