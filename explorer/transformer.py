"""A small decoder-only transformer in which every intermediate activation has a name.

Axes
    batch     independent sequences
    pos       places in the sequence; ``query`` and ``key`` are its two roles inside attention
    head      attention heads
    d_model, d_head, d_mlp, d_vocab, d_vocab_out    widths, as in `ModelConfig`
    ...       nothing for one model; ``snapshot`` for a stack of them

Every weight may carry one axis more in front, ``snapshot``. The forward pass is written so that it does not care:
one model gives logits (batch, pos, d_vocab_out), a stack gives (snapshot, batch, pos, d_vocab_out), and hooks,
caches and gradients work alike on both. `explorer.ensemble` builds such stacks.

Names and layouts of weights and of hook points are those of TransformerLens.
"""

import difflib
import functools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from explorer.errors import UserError, quoted

Hook = Callable[[Tensor, str], Tensor | None]
Direction = Literal["forward", "backward"]
DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a transformer and how its weights are drawn. Widths are in numbers, none has a unit."""

    d_vocab: int  # tokens that can be read
    d_vocab_out: int  # tokens that can be predicted
    n_ctx: int  # positions
    n_layers: int = 1
    d_model: int = 128
    n_heads: int = 4
    d_head: int = 32
    d_mlp: int = 512  # ignored when attn_only
    act_fn: Literal["relu", "gelu"] = "relu"
    attn_only: bool = False  # blocks without an MLP
    positions: Literal["learned", "sinusoidal", "none"] = "learned"
    layer_norm: bool = False
    residual_gain: float = 1.0  # each block computes gain * x + its outputs
    init: Literal["d_model", "d_head"] = "d_model"  # scale of W_Q, W_K, W_V: 1 / sqrt of this width

    def __post_init__(self):
        for name in ("d_vocab", "d_vocab_out", "n_ctx", "n_layers", "d_model", "n_heads", "d_head", "d_mlp"):
            largest = 64 if name in ("n_layers", "n_heads") else 65_536
            if not 1 <= getattr(self, name) <= largest:
                raise UserError(f"{name} is {getattr(self, name)}; it must lie between 1 and {largest:,}.")
        for name, allowed in (
            ("act_fn", ("relu", "gelu")),
            ("positions", ("learned", "sinusoidal", "none")),
            ("init", ("d_model", "d_head")),
        ):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} is {quoted(getattr(self, name))}; it must be one of {', '.join(allowed)}.")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise UserError(f"d_model is {self.d_model}; sinusoidal positions need an even d_model.")
        if not math.isfinite(self.residual_gain):
            raise UserError(f"residual_gain is {self.residual_gain}; it must be a finite number.")


# --- Hook points ------------------------------------------------------------------------------------------------


class _ThreadHooks(threading.local):
    """The hooks that this thread has put on, by hook point.

    They belong to the thread and not to the model, so two browser sessions that share one model cannot see each
    other's hooks.
    """

    def __init__(self):
        self.at: WeakKeyDictionary[HookPoint, list[_Registered]] = WeakKeyDictionary()


@dataclass(eq=False)
class _Registered:
    hook: Hook
    direction: Direction


_hooks = _ThreadHooks()


class HookPoint(nn.Module):
    """An identity with a name. What flows through it can be read or replaced, forwards and backwards."""

    name = ""

    def forward(self, x: Tensor) -> Tensor:
        registered = _hooks.at.get(self)
        if not registered:
            return x
        for entry in tuple(registered):
            if entry.direction == "forward":
                replaced = entry.hook(x, self.name)
                x = x if replaced is None else replaced
        backward = [entry.hook for entry in registered if entry.direction == "backward"]
        if backward and torch.is_grad_enabled():
            # A node of its own, so that two points on one tensor keep their order; a graph begins here if none has.
            x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            for hook in backward:
                x.register_hook(lambda grad, hook=hook: hook(grad, self.name))
        return x

    @property
    def listening(self) -> bool:
        """Whether this thread has a hook here."""
        return bool(_hooks.at.get(self))


class HookHandle:
    """One hook that has been put on; `remove` takes it off, and may be called again."""

    def __init__(self, point: HookPoint, hook: Hook, direction: Direction):
        self._entry = _Registered(hook, direction)
        self._registered = _hooks.at.setdefault(point, [])
        self._registered.append(self._entry)

    def remove(self) -> None:
        if self._entry in self._registered:
            self._registered.remove(self._entry)


def hook_axes(name: str) -> tuple[str, ...]:
    """The axes after ``batch`` of the activation called ``name``, e.g. ``("head", "query", "key")``."""
    place = name.rsplit(".", 1)[-1].removesuffix("_grad")
    if place in ("hook_pattern", "hook_attn_scores"):
        return ("head", "query", "key")
    if place in ("hook_q", "hook_k", "hook_v", "hook_z"):
        return ("pos", "head", "d_head")
    if place == "hook_result":
        return ("pos", "head", "d_model")
    if place in ("hook_pre", "hook_post"):
        return ("pos", "d_mlp")
    if place == "hook_scale":
        return ("pos", "one")
    return ("pos", "d_model")


# --- The model, from the inside out -----------------------------------------------------------------------------


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape))


class LayerNorm(nn.Module):
    """(x - mean) / (std + 1e-4) * w + b, with the unbiased standard deviation."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.w = _weight(cfg.d_model)
        self.b = _weight(cfg.d_model)
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(self, x: Tensor) -> Tensor:  # (... batch pos d_model)
        x = x - x.mean(-1, keepdim=True)
        x = x / self.hook_scale(x.std(-1, keepdim=True) + 1e-4)
        return self.hook_normalized(x * self.w[..., None, None, :] + self.b[..., None, None, :])


class Attention(nn.Module):
    """Causal multi-head attention without biases."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.scale = math.sqrt(cfg.d_head)
        self.W_Q = _weight(cfg.n_heads, cfg.d_model, cfg.d_head)
        self.W_K = _weight(cfg.n_heads, cfg.d_model, cfg.d_head)
        self.W_V = _weight(cfg.n_heads, cfg.d_model, cfg.d_head)
        self.W_O = _weight(cfg.n_heads, cfg.d_head, cfg.d_model)
        self.hook_q = HookPoint()
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.hook_attn_scores = HookPoint()
        self.hook_pattern = HookPoint()
        self.hook_z = HookPoint()
        self.hook_result = HookPoint()

    def forward(self, x: Tensor) -> Tensor:  # (... batch pos d_model)
        project = "... batch pos d_model, ... head d_model d_head -> ... batch pos head d_head"
        q = self.hook_q(einsum(x, self.W_Q, project))
        k = self.hook_k(einsum(x, self.W_K, project))
        v = self.hook_v(einsum(x, self.W_V, project))

        dots = "... batch query head d_head, ... batch key head d_head -> ... batch head query key"
        scores = einsum(q, k, dots) / self.scale
        n_pos = x.shape[-2]
        future = torch.ones(n_pos, n_pos, dtype=torch.bool, device=x.device).triu(1)
        scores = self.hook_attn_scores(scores.masked_fill(future, -torch.inf))
        pattern = self.hook_pattern(scores.softmax(-1))  # (... batch head query key)

        mix = "... batch head query key, ... batch key head d_head -> ... batch query head d_head"
        z = self.hook_z(einsum(pattern, v, mix))
        if self.hook_result.listening:  # n_heads times the memory of the sum, so only when somebody looks
            split = "... batch pos head d_head, ... head d_head d_model -> ... batch pos head d_model"
            return self.hook_result(einsum(z, self.W_O, split)).sum(-2)
        return einsum(z, self.W_O, "... batch pos head d_head, ... head d_head d_model -> ... batch pos d_model")


class MLP(nn.Module):
    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.W_in = _weight(cfg.d_model, cfg.d_mlp)
        self.b_in = _weight(cfg.d_mlp)
        self.W_out = _weight(cfg.d_mlp, cfg.d_model)
        self.b_out = _weight(cfg.d_model)
        self.act_fn = {"relu": nn.functional.relu, "gelu": nn.functional.gelu}[cfg.act_fn]
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    def forward(self, x: Tensor) -> Tensor:  # (... batch pos d_model)
        pre = einsum(x, self.W_in, "... batch pos d_model, ... d_model d_mlp -> ... batch pos d_mlp")
        pre = self.hook_pre(pre + self.b_in[..., None, None, :])
        post = self.hook_post(self.act_fn(pre))
        out = einsum(post, self.W_out, "... batch pos d_mlp, ... d_mlp d_model -> ... batch pos d_model")
        return out + self.b_out[..., None, None, :]


class Block(nn.Module):
    """gain * x + attention(x), then + MLP of that sum, each behind a layer norm if the model has them."""

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

    def forward(self, x: Tensor) -> Tensor:  # (... batch pos d_model)
        x = self.hook_resid_pre(x)
        x = self.gain * x + self.hook_attn_out(self.attn(self.ln1(x)))
        if not self.attn_only:
            x = self.hook_resid_mid(x)
            x = x + self.hook_mlp_out(self.mlp(self.ln2(x)))
        return self.hook_resid_post(x)


class Embed(nn.Module):
    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.W_E = _weight(cfg.d_vocab, cfg.d_model)

    def forward(self, tokens: Tensor) -> Tensor:  # (batch pos), or (snapshot batch pos) for a stack
        if self.W_E.ndim == 2:
            return self.W_E[tokens]
        snapshot = torch.arange(len(self.W_E), device=tokens.device)[:, None, None]
        return self.W_E[snapshot, tokens]


class PosEmbed(nn.Module):
    """Learned positions, or fixed ones: even columns cosine, odd columns sine, over sqrt(d_model)."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        if cfg.positions == "learned":
            self.W_pos = _weight(cfg.n_ctx, cfg.d_model)
            return
        rate = 10_000 ** (-torch.arange(cfg.d_model // 2) / cfg.d_model)
        angle = torch.arange(cfg.n_ctx)[:, None] * rate
        waves = rearrange([angle.cos(), angle.sin()], "wave pos half -> pos (half wave)")
        self.register_buffer("W_pos", waves / math.sqrt(cfg.d_model))

    def forward(self, n_pos: int) -> Tensor:  # -> (... 1 pos d_model)
        return self.W_pos[..., None, :n_pos, :]


class Unembed(nn.Module):
    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.W_U = _weight(cfg.d_model, cfg.d_vocab_out)

    def forward(self, x: Tensor) -> Tensor:  # (... batch pos d_model)
        return einsum(x, self.W_U, "... batch pos d_model, ... d_model d_vocab_out -> ... batch pos d_vocab_out")


class Transformer(nn.Module):
    """The model of every run.

    >>> model = Transformer(ModelConfig(d_vocab=12, d_vocab_out=10, n_ctx=18), seed=0)
    >>> logits, cache = model.run_with_cache(tokens)
    >>> cache["blocks.0.attn.hook_pattern"]  # (batch head query key)

    Args:
        cfg: the shape.
        seed: draws the weights; None leaves them empty, for weights that come from elsewhere.
    """

    def __init__(self, cfg: ModelConfig, seed: int | None = None):
        super().__init__()
        self.cfg = cfg
        self.embed = Embed(cfg)
        self.hook_embed = HookPoint()
        if cfg.positions != "none":
            self.pos_embed = PosEmbed(cfg)
            self.hook_pos_embed = HookPoint()
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.n_layers))
        self.ln_final = LayerNorm(cfg) if cfg.layer_norm else nn.Identity()
        self.unembed = Unembed(cfg)
        self._points: dict[str, HookPoint] = {}
        for name, module in self.named_modules():
            if isinstance(module, HookPoint):
                module.name = name
                self._points[name] = module
        if seed is not None:
            self._draw_weights(seed)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (... batch pos d_vocab_out) for tokens (batch pos); a stack also takes (snapshot batch pos)."""
        if tokens.shape[-1] > self.cfg.n_ctx:
            raise UserError(f"The input has {tokens.shape[-1]} tokens; this model reads at most {self.cfg.n_ctx}.")
        x = self.hook_embed(self.embed(tokens))
        if self.cfg.positions != "none":
            x = x + self.hook_pos_embed(self.pos_embed(tokens.shape[-1]))
        for block in self.blocks:
            x = block(x)
        return self.unembed(self.ln_final(x))

    @torch.no_grad()
    def _draw_weights(self, seed: int) -> None:
        """Fill the weights from a normal stream, in the order and the shapes in which the golden runs drew them.

        The order of the axes below is part of the stream: drawn one way, stored the other.
        """
        cfg, rng = self.cfg, torch.Generator().manual_seed(seed)
        size = {"pos": cfg.n_ctx, "head": cfg.n_heads}
        size |= {axis: getattr(cfg, axis) for axis in ("d_vocab", "d_vocab_out", "d_model", "d_head", "d_mlp")}

        def draw(weight: Tensor, width: int, pattern: str) -> None:
            drawn = torch.randn([size[axis] for axis in pattern.split(" -> ")[0].split()], generator=rng)
            weight.copy_(rearrange(drawn / math.sqrt(width), pattern))

        draw(self.embed.W_E, cfg.d_model, "d_model d_vocab -> d_vocab d_model")
        if cfg.positions == "learned":
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
                block.mlp.b_in.zero_()
                block.mlp.b_out.zero_()
        draw(self.unembed.W_U, cfg.d_vocab_out, "d_model d_vocab_out -> d_model d_vocab_out")
        for module in self.modules():
            if isinstance(module, LayerNorm):
                module.w.fill_(1.0)
                module.b.zero_()

    @classmethod
    def from_weights(cls, cfg: ModelConfig, weights: Mapping[str, Tensor]) -> "Transformer":
        """A model that reads ``weights`` without copying them: as in `state_dict`, or all with a snapshot axis.

        The module is new, the memory is shared, and nothing in it asks for gradients.

        Raises:
            UserError: names are missing or unexpected, or a shape does not fit.
        """
        with torch.device("meta"):
            model = cls(cfg)
        check_weights(cfg, weights, stacked=True)
        for name, weight in weights.items():
            path, leaf = name.rsplit(".", 1)
            owner = model.get_submodule(path)
            if leaf in owner._parameters:
                weight = nn.Parameter(weight, requires_grad=False)
            setattr(owner, leaf, weight)
        return model

    # --- Hooks and cache ---

    @property
    def hook_names(self) -> tuple[str, ...]:
        """Every hook point, in the order in which activations are computed."""
        return tuple(self._points)

    def _point(self, name: str) -> HookPoint:
        if name not in self._points:
            near = difflib.get_close_matches(str(name), self._points, n=1) or ["blocks.0.attn.hook_pattern"]
            raise UserError(f"There is no hook point {quoted(name)} in this model; did you mean {near[0]!r}?")
        return self._points[name]

    def add_hook(self, name: str, hook: Hook, direction: Direction = "forward") -> HookHandle:
        """Call ``hook(activation, name)`` at each forward pass of this thread, or with the gradient, backwards.

        What the hook returns, if anything, takes the place of what it was given. Hooks on one point run in the
        order in which they were put on. Prefer `hooks`, which takes them off again.

        Raises:
            UserError: no such hook point, or a direction other than "forward" and "backward".
        """
        if direction not in DIRECTIONS:
            raise UserError(f"A hook's direction is 'forward' or 'backward', not {quoted(direction)}.")
        return HookHandle(self._point(name), hook, direction)

    def remove_hooks(self) -> None:
        """Take every hook of this thread off this model."""
        for point in self._points.values():
            _hooks.at.pop(point, None)

    @contextmanager
    def hooks(
        self, forward: Mapping[str, Hook] | None = None, backward: Mapping[str, Hook] | None = None
    ) -> Iterator["Transformer"]:
        """Hooks that are gone when the block ends, however it ends."""
        with ExitStack() as stack:
            for direction, named in zip(DIRECTIONS, (forward or {}, backward or {}), strict=True):
                for name, hook in named.items():
                    stack.callback(self.add_hook(name, hook, direction).remove)
            yield self

    def run_with_cache(
        self,
        tokens: Tensor,
        names: Iterable[str] | None = None,
        loss: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One forward pass and its activations by name.

        Args:
            tokens: (batch pos) int64.
            names: the hook points wanted; None means all.
            loss: logits -> loss. If given, the gradient of its sum at each activation is there too, as
                ``name + "_grad"``: for a stack, each snapshot's own.

        Returns:
            Logits and a dictionary of activations, all detached. No weight's ``.grad`` is touched.

        Raises:
            UserError: no such hook point.
        """
        seen: dict[str, Tensor] = {}

        def keep(x: Tensor, name: str) -> Tensor:
            if loss is not None and not x.requires_grad:
                x = x.detach().requires_grad_()
            seen[name] = x
            return x

        names = self.hook_names if names is None else tuple(names)
        with torch.set_grad_enabled(loss is not None), self.hooks(forward=dict.fromkeys(names, keep)):
            logits = self(tokens)
            cache = {name: x.detach() for name, x in seen.items()}
            if loss is not None and seen:
                grads = torch.autograd.grad(loss(logits).sum(), list(seen.values()), allow_unused=True)
                for (name, x), grad in zip(seen.items(), grads, strict=True):
                    cache[f"{name}_grad"] = torch.zeros_like(x) if grad is None else grad
        return logits.detach(), cache


@functools.lru_cache(maxsize=64)
def weight_shapes(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight that a model of this configuration keeps."""
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in Transformer(cfg).state_dict().items()}


def check_weights(cfg: ModelConfig, weights: Mapping[str, Tensor], stacked: bool = False) -> None:
    """See that ``weights`` are those of a model of this configuration; ``stacked`` allows all of them
    one axis more in front.

    Raises:
        UserError: names are missing or unexpected, or a shape or type does not fit.
    """
    shapes = weight_shapes(cfg)
    missing, unexpected = sorted(shapes.keys() - weights.keys()), sorted(weights.keys() - shapes.keys())
    if missing or unexpected:
        raise UserError(
            "The weights are not those of this model"
            + (f"; missing: {quoted(', '.join(missing), 200)}" if missing else "")
            + (f"; unexpected: {quoted(', '.join(unexpected), 200)}" if unexpected else "")
            + "."
        )
    snapshots = set()
    for name, shape in shapes.items():
        found, dtype = tuple(weights[name].shape), weights[name].dtype
        is_stack = stacked and found[1:] == shape
        if found != shape and not is_stack:
            raise UserError(f"{name} has shape {found} where this model has {shape}.")
        if dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise UserError(f"{name} holds {dtype} where weights are floating-point numbers.")
        snapshots.add(found[0] if is_stack else None)
    if len(snapshots) > 1:
        raise UserError("The weights do not all hold the same number of snapshots.")
