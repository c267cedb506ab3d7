"""The logits at the positions that are asked for, and nothing else: the forward pass of training.

This is `explorer.transformer` a second time, for speed. It reads the same weights and gives, to rounding, the same
logits and the same gradients. Five things make it fast, and each is exact:

1.  Only the logits at asked positions reach the loss. So the last block computes queries, the residual stream and the
    MLP at these positions alone; the others matter only as keys and values.
2.  Products may be done in any order. The residual stream is kept as the factors that it is a product of until
    something reads it, and then they are multiplied in the order that takes fewest multiplications. With 12 tokens, an
    MLP reads a small table instead of a large batch, and with ten answers, W_out W_U is a narrow matrix.
3.  The first block reads nothing but W_E[token] + W_pos[position]. Without a norm in between, a key is the sum of the
    keys of two *sources*, its token and its position, and so is a query's score with it. A value is such a sum too, so
    what a head gives is the sum over all sources, each weighted by the attention that it gets in total. There are
    d_vocab + n_pos sources, however large the batch, and no key or value is ever made for a place in an example.
4.  Or all n_pos * d_vocab *places* where a token can stand are gone through once, with their scores for each other,
    and everything else is looked up.
5.  Otherwise attention is fused: softmax and weighted sum go through the keys in pieces, and no pattern is kept for
    the way back.

Axes as in `explorer.transformer`, and
    asked     the positions that are asked for, of each example
    row       (batch asked)
    source    every token, and then every position, in the order of W_E and W_pos
    place     (pos token), every token at every position
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import embedding, embedding_bag, pad, scaled_dot_product_attention

from explorer.hooks import HookedModel
from explorer.transformer import Attention, Block, Transformer

PATTERN = "hook_pattern"  # the one kind of hook point that this forward pass has
NEVER = -1e30  # a score of which softmax leaves exactly nothing, and 0 * NEVER is 0
NARROW = 128  # columns
LOOK_UP = 8  # multiplications in a product that take as long as one with a row that is looked up


def asked_logits(model: HookedModel, tokens: Tensor, positions: Tensor) -> Tensor:
    """What ``model(tokens)`` gives at ``positions``, as fast as it can be had.

    Hooks at attention patterns are called, in the last block with the rows of asked queries only. With hooks
    elsewhere, and for another model than a transformer, this is the hooked forward pass.

    Args:
        model: one model, no stack.
        tokens: (batch pos) int64, no longer than the model reads.
        positions: (batch asked) int64.

    Returns:
        (batch asked d_vocab_out).
    """
    others = [name for name in model.listening if not name.endswith(PATTERN)]
    if others or not isinstance(model, Transformer):
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        return model(tokens)[..., rows, positions, :]
    everywhere = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)  # (batch pos)
    W_U, norms = model.unembed.W_U, model.cfg.layer_norm
    x = None  # the residual stream, (row d_model)
    for block in model.blocks:
        last = block is model.blocks[-1]
        asked = positions if last else everywhere
        if x is None and (shortcut := _shortcut(model, tokens, asked)):
            attended = shortcut(model, tokens, asked)
        else:
            x = embedding(tokens, model.embed.W_E) + _positions(model, tokens.shape[1]) if x is None else x
            attended = [_attend(block, x.view(*tokens.shape, -1), asked if last else None)]
        terms = [attended]  # products of matrices; the residual stream is their sum
        if not block.attn_only:
            mlp = block.mlp
            normed = [block.ln2(_product(attended)[None])[0]] if norms else attended
            post = mlp.act_fn(_product([*normed, mlp.W_in]) + mlp.b_in)
            terms += [[post, mlp.W_out], [mlp.b_out[None]]]
        read = [W_U] if last and not norms else []
        x, *rest = [_product([*term, *read]) for term in terms]
        x = sum(rest, x)
    logits = model.ln_final(x[None])[0] @ W_U if norms else x
    return logits.contiguous().view(*positions.shape, -1)


def _product(factors: list[Tensor]) -> Tensor:
    """The product of matrices, in the order that takes fewest multiplications."""
    if len(factors) == 1:
        return factors[0]
    if factors[-1].shape[1] < NARROW:  # BLAS is slow along a short axis, so the result is stored along the long one
        return torch.linalg.multi_dot([factor.T for factor in reversed(factors)]).T
    return torch.linalg.multi_dot(factors)


def _attend(block: Block, x: Tensor, asked: Tensor | None) -> Tensor:
    """The residual stream at positions ``asked``, or at all, after attention to ``x``, (batch pos d_model):
    (row d_model)."""
    attn, normed = block.attn, block.ln1(x)
    heads = {"head": len(attn.W_Q)}

    def project(x: Tensor, weight: Tensor) -> Tensor:
        flat = x @ rearrange(weight, "head d_model d_head -> d_model (head d_head)")
        return rearrange(flat, "batch pos (head d_head) -> batch head pos d_head", **heads)

    k, v = project(normed, attn.W_K), project(normed, attn.W_V)
    if asked is not None:
        x, normed = (values.gather(1, asked[..., None].expand(-1, -1, x.shape[-1])) for values in (x, normed))
    q = project(normed, attn.W_Q)
    if attn.hook_pattern.listening or asked is not None:
        key = torch.arange(k.shape[-2], device=x.device)
        seen = (key <= (key[None] if asked is None else asked)[..., None])[:, None]  # (batch 1 query key)
    if attn.hook_pattern.listening:
        scores = (q @ k.mT / attn.scale).masked_fill(~seen, -torch.inf)
        z = attn.hook_pattern(scores.softmax(-1)) @ v
    elif asked is None:
        z = scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        z = scaled_dot_product_attention(q, k, v, attn_mask=seen)
    z = rearrange(z, "batch head pos d_head -> (batch pos) (head d_head)")
    x = x.flatten(0, 1)
    return torch.addmm(x if block.gain == 1 else block.gain * x, z, attn.W_O.flatten(0, 1))


# --- Shortcuts through the attention of the first block. They give factors of the residual stream after it. ---


def _shortcut(model: Transformer, tokens: Tensor, asked: Tensor) -> Callable[..., list[Tensor]] | None:
    """The one that takes fewest multiplications; None if `_attend` takes fewer."""
    cfg, n_pos, n_keys, n_rows = model.cfg, tokens.shape[1], tokens.numel(), asked.numel()
    n_heads, width, d_model = cfg.n_heads, cfg.n_heads * cfg.d_head, cfg.d_model
    places, sources = cfg.d_vocab * n_pos, cfg.d_vocab + n_pos
    takes = {
        None: 2 * (n_keys + n_rows) * d_model * width + 2 * n_rows * n_pos * width,
        _by_place: places * (4 * d_model + places) * width + LOOK_UP * n_rows * (1 + n_heads * n_pos) * d_model,
    }
    if not cfg.layer_norm:
        per_row = sources * (n_heads * sources + (1 + n_heads) * d_model)
        takes[_by_source] = sources * (4 * d_model + sources) * width + n_rows * per_row
    return min(takes, key=takes.get)


def _by_source(model: Transformer, tokens: Tensor, asked: Tensor) -> list[Tensor]:
    block, d_vocab, n_pos, n_heads = model.blocks[0], model.cfg.d_vocab, tokens.shape[1], model.cfg.n_heads
    sources = torch.cat([model.embed.W_E, _positions(model, n_pos)])
    later = pad(_later(n_pos, tokens.device), (d_vocab, 0, d_vocab, 0))
    by_source, adds = _tables(block, sources, later)

    # What a row is itself: one token and one position. What it asks is the sum of what they ask.
    own = torch.stack([tokens.gather(1, asked), asked + d_vocab], -1).flatten(0, 1)
    own = torch.zeros_like(by_source[0, 0]).repeat(asked.numel(), 1).scatter_(1, own, 1)  # (row source)
    by_source = (own @ by_source.transpose(0, 1).flatten(1)).unflatten(1, (n_heads, -1))  # (row head source)

    # The score with a key is that with its token and that with its position.
    token = _per_row(tokens, asked)[:, None].expand(-1, n_heads, -1)  # (row head key)
    scores = by_source.gather(2, token) + by_source[..., d_vocab:]
    pattern = _hooked(block.attn, scores.softmax(2), "(batch asked) head key", asked)

    # What a token gets is the sum over its places; a position has one place.
    got = pad(pattern, (d_vocab, 0)).scatter_add_(2, token, pattern)  # (row head source)
    return [torch.cat([block.gain * own, got.flatten(1)], 1), torch.cat([sources, adds.flatten(0, 1)])]


def _by_place(model: Transformer, tokens: Tensor, asked: Tensor) -> list[Tensor]:
    block, d_vocab, n_pos, n_heads = model.blocks[0], model.cfg.d_vocab, tokens.shape[1], model.cfg.n_heads
    places = (_positions(model, n_pos)[:, None] + model.embed.W_E).flatten(0, 1)
    later = _later(n_pos, tokens.device).repeat_interleave(d_vocab, 0).repeat_interleave(d_vocab, 1)
    by_place, adds = _tables(block, places, later)

    place = tokens + d_vocab * torch.arange(n_pos, device=tokens.device)  # (batch pos)
    own = place.gather(1, asked).flatten()
    key = _per_row(place, asked).T
    head = len(places) * torch.arange(n_heads, device=tokens.device)[:, None, None]
    score = (head + own) * len(places) + key  # (head key row): which of all scores
    scores = by_place.flatten().gather(0, score.flatten()).view_as(score)
    pattern = _hooked(block.attn, scores.softmax(1), "head key (batch asked)", asked)

    # What is added up for each row: the place itself, and of each head what it gets from each key.
    what = torch.cat([own[None], (len(places) + head + key).flatten(0, 1)]).T
    weight = torch.cat([torch.full_like(pattern[:1, 0], block.gain), pattern.flatten(0, 1)]).T
    table = torch.cat([places, adds.flatten(0, 1)])
    return [embedding_bag(what, table, per_sample_weights=weight, mode="sum")]


def _positions(model: Transformer, n_pos: int) -> Tensor:
    """What each position adds to the residual stream, (pos d_model)."""
    if model.cfg.positions == "none":
        return model.embed.W_E.new_zeros(n_pos, model.cfg.d_model)
    return model.pos_embed.W_pos[:n_pos]


def _later(n_pos: int, device: torch.device) -> Tensor:  # (query key), for the positions of both
    return torch.ones(n_pos, n_pos, device=device).triu(1)


def _tables(block: Block, x: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
    """What attention makes of residual streams ``x``, (entry d_model).

    Returns:
        The score of each as a query with each as a key, (head query key), which is NEVER or less where the key is
        ``later``, 1 in (query key), and what each adds to a query that attends to it, (head entry d_model).
    """
    attn = block.attn
    projections = torch.cat([attn.W_Q, attn.W_K, attn.W_V])
    q, k, v = (block.ln1(x[None]).expand(len(projections), -1, -1) @ projections).chunk(3)  # (head entry d_head)
    return torch.baddbmm(NEVER * later, q, k.mT, alpha=1 / attn.scale), v @ attn.W_O


def _per_row(values: Tensor, asked: Tensor) -> Tensor:  # (batch key) -> (row key)
    return values[:, None].expand(-1, asked.shape[1], -1).flatten(0, 1)


def _hooked(attn: Attention, pattern: Tensor, axes: str, asked: Tensor) -> Tensor:
    """The attention pattern as hooks on it leave it."""
    if not attn.hook_pattern.listening:
        return pattern
    pattern = rearrange(pattern, f"{axes} -> batch head asked key", asked=asked.shape[1])
    return rearrange(attn.hook_pattern(pattern), f"batch head asked key -> {axes}")
