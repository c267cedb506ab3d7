"""A small decoder-only transformer in which every intermediate activation has a hook point.

Axes
    batch     independent sequences
    pos       positions in the sequence; ``query`` and ``key`` are its two roles inside attention
    head      attention heads
    d_model, d_head, d_mlp, d_vocab, d_vocab_out    widths, as in `ModelConfig`
    ...       nothing for one model; ``snapshot`` for a stack of them

Every weight may have a leading axis, ``snapshot``; the same code then runs a stack of models. The logits of one model
are (batch pos d_vocab_out), those of a stack (snapshot batch pos d_vocab_out). Hooks, activation caches and gradients
work on both. `explorer.model.ensemble` builds such stacks.

Weights and hook points have the names and layouts of TransformerLens.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from explorer.errors import UserError
from explorer.model.hooks import HookedModel, HookPoint
from explorer.settings import Values, check_settings, setting

LEARNED = ("learned", "shortformer")  # kinds of positions whose embeddings are weights
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **{"relu": nn.functional.relu, "gelu": nn.functional.gelu},
    "gelu_new": functools.partial(nn.functional.gelu, approximate="tanh"),
}


def _is_transformer(values: Values) -> bool:
    return bool(values["architecture"] == "transformer")


def _has_mlp(values: Values) -> bool:
    return _is_transformer(values) and not values["attn_only"]


def _has_norm(values: Values) -> bool:
    return _is_transformer(values) and bool(values["layer_norm"])


def _has_variance(values: Values) -> bool:
    return _has_norm(values) and values["norm_scale"] == "variance"


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model and how its weights are initialised. Widths are counts without a unit."""

    d_vocab: int = setting("tokens that can be read", 1, 65_536)
    d_vocab_out: int = setting("tokens that can be predicted", 1, 65_536)
    n_ctx: int = setting("positions", 1, 65_536)
    n_layers: int = setting("blocks", 1, 64, default=1, label="Layers")
    d_model: int = setting("width of the residual stream", 1, 65_536, default=128, when=_is_transformer)
    n_heads: int = setting("attention heads of each block", 1, 64, default=4, label="Heads")
    d_head: int = setting("width of a head", 1, 65_536, default=32, when=_is_transformer)
    d_mlp: int = setting("neurons of each block; ignored when attn_only", 1, 65_536, default=512, when=_has_mlp)
    act_fn: Literal["relu", "gelu", "gelu_new"] = setting(
        "the neurons' activation function; gelu_new: approximated by tanh", default="relu", when=_has_mlp
    )
    attn_only: bool = setting("blocks without an MLP", default=False, when=_is_transformer)
    attn_bias: bool = setting("biases of queries, keys, values and attention", default=False, when=_is_transformer)
    unembed_bias: bool = setting("a bias of the logits", default=False, when=_is_transformer)
    positions: Literal["learned", "sinusoidal", "shortformer", "none"] = setting(
        "position embedding; shortformer: learned, and added to the inputs of queries and keys only",
        default="learned",
        when=_is_transformer,
    )
    layer_norm: bool = setting("normalise before attention, MLP and unembedding", default=False, when=_is_transformer)
    norm_scale: Literal["deviation", "variance"] = setting(
        "a layer norm divides by: deviation + 1e-4, which is unbiased, or sqrt(variance + eps)",
        default="deviation",
        when=_has_norm,
    )
    eps: float = setting("of layer norms that divide by sqrt(variance + eps)", 0, 1, default=1e-5, when=_has_variance)
    residual_gain: float = setting(
        "each block computes gain * x + its outputs", -100, 100, default=1.0, when=_is_transformer
    )
    init: Literal["d_model", "d_head"] = setting(
        "scale of W_Q, W_K, W_V: 1 / sqrt of this width", default="d_model", when=_is_transformer
    )
    architecture: Literal["transformer", "table"] = setting(
        "table: one score for each token and one row of logits, no other weights; its widths are not used",
        default="transformer",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise UserError(f"d_model is {self.d_model}; sinusoidal positions need an even d_model.")
        if self.positions == "shortformer" and self.residual_gain != 1:
            raise UserError(f"residual_gain is {self.residual_gain:g}; with shortformer positions it must be 1.")
        if self.architecture == "table" and (self.n_layers, self.n_heads) != (1, 1):
            raise UserError("A table has one layer with one head; set n_layers=1 and n_heads=1.")


# --- The modules of the model; each forward pass has the shapes of its annotations ---


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape))


def future_mask(n_pos: int, device: torch.device | None = None) -> Bool[Tensor, "query key"]:
    """The causal mask: True where the key is later than the query, so the query must not attend to it.

    Args:
        n_pos: the number of queries and of keys.
        device: of the mask; None for the current default.
    """
    return torch.ones(n_pos, n_pos, dtype=torch.bool, device=device).triu(1)


class LayerNorm(nn.Module):
    """(x - mean) / scale * w + b, where the scale is the unbiased standard deviation + 1e-4 or sqrt(variance + eps)."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.eps = cfg.eps if cfg.norm_scale == "variance" else None
        self.w = _weight(cfg.d_model)
        self.b = _weight(cfg.d_model)
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(self, x: Float[Tensor, "... batch pos d_model"]) -> Float[Tensor, "... batch pos d_model"]:
        x = x - x.mean(-1, keepdim=True)
        if self.eps is None:
            scale = x.std(-1, keepdim=True) + 1e-4
        else:
            scale = (x.square().mean(-1, keepdim=True) + self.eps).sqrt()
        x = x / self.hook_scale(scale)
        return self.hook_normalized(x * self.w[..., None, None, :] + self.b[..., None, None, :])


class Attention(nn.Module):
    """Causal multi-head attention."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.scale = math.sqrt(cfg.d_head)
        self.W_Q = _weight(cfg.n_heads, cfg.d_model, cfg.d_head)
        self.W_K = _weight(cfg.n_heads, cfg.d_model, cfg.d_head)
        self.W_V = _weight(cfg.n_heads, cfg.d_model, cfg.d_head)
        self.W_O = _weight(cfg.n_heads, cfg.d_head, cfg.d_model)
        self.has_bias = cfg.attn_bias
        if cfg.attn_bias:
            self.b_Q = _weight(cfg.n_heads, cfg.d_head)
            self.b_K = _weight(cfg.n_heads, cfg.d_head)
            self.b_V = _weight(cfg.n_heads, cfg.d_head)
            self.b_O = _weight(cfg.d_model)
        self.hook_q = HookPoint()
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.hook_attn_scores = HookPoint()
        self.hook_pattern = HookPoint()
        self.hook_z = HookPoint()
        self.hook_result = HookPoint()

    def forward(
        self,
        x: Float[Tensor, "... batch pos d_model"],
        positions: Float[Tensor, "... #batch pos d_model"] | None = None,
    ) -> Float[Tensor, "... batch pos d_model"]:
        """What the heads write.

        Args:
            x: what they read.
            positions: added to what queries and keys are made from; None for nothing.
        """
        project = "... batch pos d_model, ... head d_model d_head -> ... batch pos head d_head"
        placed = x if positions is None else x + positions
        q, k, v = (
            einsum(read, weight, project) for read, weight in ((placed, self.W_Q), (placed, self.W_K), (x, self.W_V))
        )
        if self.has_bias:
            q, k, v = (
                made + bias[..., None, None, :, :] for made, bias in ((q, self.b_Q), (k, self.b_K), (v, self.b_V))
            )
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)

        dots = "... batch query head d_head, ... batch key head d_head -> ... batch head query key"
        scores = einsum(q / self.scale, k, dots)
        scores = self.hook_attn_scores(scores.masked_fill(future_mask(x.shape[-2], x.device), -torch.inf))
        pattern = self.hook_pattern(scores.softmax(-1))  # (... batch head query key)

        mix = "... batch head query key, ... batch key head d_head -> ... batch query head d_head"
        z = self.hook_z(einsum(pattern, v, mix))
        if self.hook_result.listening:  # takes n_heads times the memory of the sum
            split = "... batch pos head d_head, ... head d_head d_model -> ... batch pos head d_model"
            out = self.hook_result(einsum(z, self.W_O, split)).sum(-2)
        else:
            out = einsum(z, self.W_O, "... batch pos head d_head, ... head d_head d_model -> ... batch pos d_model")
        return out + self.b_O[..., None, None, :] if self.has_bias else out


class MLP(nn.Module):
    """act_fn(x W_in + b_in) W_out + b_out."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.W_in = _weight(cfg.d_model, cfg.d_mlp)
        self.b_in = _weight(cfg.d_mlp)
        self.W_out = _weight(cfg.d_mlp, cfg.d_model)
        self.b_out = _weight(cfg.d_model)
        self.act_fn = ACTIVATIONS[cfg.act_fn]
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    def forward(self, x: Float[Tensor, "... batch pos d_model"]) -> Float[Tensor, "... batch pos d_model"]:
        pre = einsum(x, self.W_in, "... batch pos d_model, ... d_model d_mlp -> ... batch pos d_mlp")
        pre = self.hook_pre(pre + self.b_in[..., None, None, :])
        post = self.hook_post(self.act_fn(pre))
        out = einsum(post, self.W_out, "... batch pos d_mlp, ... d_mlp d_model -> ... batch pos d_model")
        return out + self.b_out[..., None, None, :]


class Block(nn.Module):
    """resid_mid = gain * x + attention(x), resid_post = resid_mid + MLP(resid_mid).

    With layer norms, attention and MLP read normalised inputs.
    """

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.gain, self.attn_only = cfg.residual_gain, cfg.attn_only
        self.hook_resid_pre = HookPoint()
        self.ln1 = LayerNorm(cfg) if cfg.layer_norm else nn.Identity()
        self.attn = Attention(cfg)
        self.hook_attn_out = HookPoint()
        if not cfg.attn_only:
            self.hook_resid_mid = HookPoint()
            self.ln2 = LayerNorm(cfg) if cfg.layer_norm else nn.Identity()
            self.mlp = MLP(cfg)
            self.hook_mlp_out = HookPoint()
        self.hook_resid_post = HookPoint()

    def forward(
        self,
        x: Float[Tensor, "... batch pos d_model"],
        positions: Float[Tensor, "... #batch pos d_model"] | None = None,
    ) -> Float[Tensor, "... batch pos d_model"]:
        """The residual stream after this block.

        Args:
            x: before it.
            positions: as in `Attention.forward`.
        """
        x = self.hook_resid_pre(x)
        return self.after_attention(self.gain * x + self.hook_attn_out(self.attn(self.ln1(x), positions)))

    def after_attention(self, x: Float[Tensor, "... batch pos d_model"]) -> Float[Tensor, "... batch pos d_model"]:
        """The rest of the block, on the residual stream to which attention has been added."""
        if not self.attn_only:
            x = self.hook_resid_mid(x)
            x = x + self.hook_mlp_out(self.mlp(self.ln2(x)))
        return self.hook_resid_post(x)


class Embed(nn.Module):
    """Token embeddings."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.W_E = _weight(cfg.d_vocab, cfg.d_model)

    def forward(self, tokens: Int[Tensor, "... batch pos"]) -> Float[Tensor, "... batch pos d_model"]:
        return self.look_up(self.W_E, tokens)

    @staticmethod
    def look_up(
        rows: Float[Tensor, "*snapshot d_vocab width"], tokens: Int[Tensor, "... batch pos"]
    ) -> Float[Tensor, "*snapshot batch pos width"]:
        """The row of each token.

        Args:
            rows: the rows of all tokens, of one model or of a stack.
            tokens: (batch pos), for a stack also (snapshot batch pos).
        """
        if rows.ndim == 2:  # unlike rows[tokens], its gradient is deterministic on several threads
            return nn.functional.embedding(tokens, rows)
        snapshot = torch.arange(len(rows), device=tokens.device)[:, None, None]
        return rows[snapshot, tokens]


class PosEmbed(nn.Module):
    """Position embeddings: learned, or fixed (even columns cosine, odd columns sine, over sqrt(d_model))."""

    W_pos: Tensor

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        if cfg.positions in LEARNED:
            self.W_pos = _weight(cfg.n_ctx, cfg.d_model)
            return
        rate = 10_000 ** (-torch.arange(cfg.d_model // 2) / cfg.d_model)
        angle = torch.arange(cfg.n_ctx)[:, None] * rate
        waves = rearrange([angle.cos(), angle.sin()], "wave pos half -> pos (half wave)")
        self.register_buffer("W_pos", waves / math.sqrt(cfg.d_model))

    def forward(self, n_pos: int) -> Float[Tensor, "... 1 pos d_model"]:
        return self.W_pos[..., None, :n_pos, :]  # a view of the weights


class Unembed(nn.Module):
    """The map from the residual stream to logits."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.W_U = _weight(cfg.d_model, cfg.d_vocab_out)
        self.has_bias = cfg.unembed_bias
        if cfg.unembed_bias:
            self.b_U = _weight(cfg.d_vocab_out)

    def forward(self, x: Float[Tensor, "... batch pos d_model"]) -> Float[Tensor, "... batch pos d_vocab_out"]:
        logits = einsum(x, self.W_U, "... batch pos d_model, ... d_model d_vocab_out -> ... batch pos d_vocab_out")
        return logits + self.b_U[..., None, None, :] if self.has_bias else logits


class Transformer(HookedModel):
    """A decoder-only transformer.

    >>> model = Transformer(ModelConfig(d_vocab=12, d_vocab_out=10, n_ctx=18), seed=0)
    >>> logits, cache = model.run_with_cache(tokens)
    >>> cache["blocks.0.attn.hook_pattern"]  # (batch head query key)

    Args:
        cfg: its configuration.
        seed: of the generator that draws the weights; None leaves them uninitialised.
    """

    def __init__(self, cfg: ModelConfig, seed: int | None = None):
        super().__init__()
        self.cfg = cfg
        self.embed = Embed(cfg)
        self.hook_embed = HookPoint()
        if cfg.positions != "none":
            self.pos_embed = PosEmbed(cfg)
            self.hook_pos_embed = HookPoint()
        self.blocks = cast(Sequence[Block], nn.ModuleList(Block(cfg) for _ in range(cfg.n_layers)))
        self.ln_final = LayerNorm(cfg) if cfg.layer_norm else nn.Identity()
        self.unembed = Unembed(cfg)
        self.name_points()
        if seed is not None:
            self._draw_weights(seed)

    def forward(self, tokens: Int[Tensor, "... batch pos"]) -> Float[Tensor, "... batch pos d_vocab_out"]:
        """Logits.

        Args:
            tokens: (batch pos), for a stack also (snapshot batch pos).

        Raises:
            UserError: there are more tokens than n_ctx.
        """
        if tokens.shape[-1] > self.cfg.n_ctx:
            raise UserError(f"The input has {tokens.shape[-1]} tokens; this model reads at most {self.cfg.n_ctx}.")
        x = self.hook_embed(self.embed(tokens))
        if self.cfg.positions == "none":
            return self.after_block(-1, x)
        positions = self.pos_embed(tokens.shape[-1])  # (... 1 pos d_model)
        if self.hook_pos_embed.listening:  # a hook may change it in place, and it is a view of the weights
            positions = positions.expand(*positions.shape[:-3], tokens.shape[-2], -1, -1).clone()
        positions = self.hook_pos_embed(positions)
        if self.cfg.positions == "shortformer":
            return self.after_block(-1, x, positions)
        return self.after_block(-1, x + positions)

    def after_block(
        self,
        layer: int,
        x: Float[Tensor, "... batch pos d_model"],
        positions: Float[Tensor, "... #batch pos d_model"] | None = None,
    ) -> Float[Tensor, "... batch pos d_vocab_out"]:
        """The rest of the forward pass.

        Args:
            layer: the block whose output is given; -1 for the embedding.
            x: the residual stream after it. After the last block these may be any positions.
            positions: what shortformer blocks add to the inputs of queries and keys; None for the position embeddings.

        Returns:
            Logits.
        """
        if positions is None and self.cfg.positions == "shortformer" and layer + 1 < self.cfg.n_layers:
            positions = self.pos_embed(x.shape[-2])
        for block in self.blocks[layer + 1 :]:
            x = block(x, positions)
        return self.unembed(self.ln_final(x))

    @torch.no_grad()
    def _draw_weights(self, seed: int) -> None:
        """Draw the weights from a normal distribution, in the order and the shapes in which the golden runs drew them.

        Each pattern has the axes as drawn, which the golden losses depend on, and the axes as stored.
        """
        cfg, rng = self.cfg, torch.Generator().manual_seed(seed)
        size = {"pos": cfg.n_ctx, "head": cfg.n_heads}
        size |= {axis: getattr(cfg, axis) for axis in ("d_vocab", "d_vocab_out", "d_model", "d_head", "d_mlp")}

        def draw(weight: Tensor, width: int, pattern: str) -> None:
            drawn = torch.randn([size[axis] for axis in pattern.split(" -> ")[0].split()], generator=rng)
            weight.copy_(rearrange(drawn / math.sqrt(width), pattern))

        draw(self.embed.W_E, cfg.d_model, "d_model d_vocab -> d_vocab d_model")
        if cfg.positions in LEARNED:
            draw(self.pos_embed.W_pos, cfg.d_model, "pos d_model -> pos d_model")
        for block in self.blocks:
            width = size[cfg.init]
            draw(block.attn.W_K, width, "head d_head d_model -> head d_model d_head")
            draw(block.attn.W_Q, width, "head d_head d_model -> head d_model d_head")
            draw(block.attn.W_V, width, "head d_head d_model -> head d_model d_head")
            # The golden runs with init "d_head" drew W_O flat, (d_model, head * d_head); the others head by head.
            order = "head d_model d_head" if cfg.init == "d_model" else "d_model head d_head"
            draw(block.attn.W_O, cfg.d_model, f"{order} -> head d_head d_model")
            if not cfg.attn_only:
                draw(block.mlp.W_in, cfg.d_model, "d_mlp d_model -> d_model d_mlp")
                draw(block.mlp.W_out, cfg.d_model, "d_model d_mlp -> d_mlp d_model")
        draw(self.unembed.W_U, cfg.d_vocab_out, "d_model d_vocab_out -> d_model d_vocab_out")
        for module in self.modules():
            if isinstance(module, LayerNorm):
                module.w.fill_(1.0)
        for name, weight in self.named_parameters():
            if name.rsplit(".", 1)[-1].startswith("b"):  # a bias
                weight.zero_()
