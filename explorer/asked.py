"""The logits at the positions that are asked for, and nothing else: the forward pass of training.

This is `explorer.transformer` a second time, for speed. It reads the same weights and gives, to rounding, the same
logits and the same gradients. Five things make it fast, and each is exact:

1.  Only the logits at asked positions reach the loss. So the last block computes queries, the residual stream and the
    MLP at these positions alone; the others matter only as keys and values.
2.  A product of several matrices is the same in any order. So the residual stream is kept as the factors of sums of
    products until something reads it, and then each product is done in the order of fewest multiplications. With 12
    tokens, W_in is applied to a small table instead of a large batch; with ten answers, W_out W_U is a narrow matrix.
3.  The first block reads nothing but W_E[token] + W_pos[position]. Without a norm in between, a key is the sum of the
    keys of two *sources*, its token and its position, and so is a query's score with it. A value is such a sum too, so
    what a head gives is the sum over all sources, each weighted by the attention that it gets in total. There are
    d_vocab + n_pos sources, however large the batch, and no key or value is ever made for a place in an example.
4.  Every token at every position is one of n_pos * d_vocab *places*. Where these are few, each is scored with each
    once, and then scores are looked up, and so is what a head gets from a key.
5.  Otherwise attention is fused: softmax and weighted sum go through the keys in pieces, and no pattern is kept for
    the way back.

Axes as in `explorer.transformer`, and
    asked     the positions that are asked for, of each example
    row       (batch asked)
    source    every token, and then every position, in the order of W_E and W_pos
    place     (pos token), every token at every position
"""

import functools
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import embedding, embedding_bag, pad, scaled_dot_product_attention

from explorer.hooks import HookedModel
from explorer.transformer import Block, Transformer

PATTERN = "hook_pattern"  # the one kind of hook point that this forward pass has
NEVER = -1e30  # a score of which softmax leaves exactly nothing; unlike -inf it may be multiplied by 0
NARROW = 128  # columns below which a product is stored column by column
LOOK_UP = 8  # multiplications of a product take as long as one of an entry that is looked up


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
    W_U, norms = model.unembed.W_U, model.cfg.layer_norm
    x = None  # the residual stream, (row d_model)
    for block in model.blocks:
        last = block is model.blocks[-1]
        asked = positions if last else torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
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
    if factors[-1].shape[1] < NARROW:  # BLAS is slow where the axis stored last is short, also on the way back
        first, *others = [factor.T for factor in reversed(factors)]
        return torch.linalg.multi_dot([first.contiguous(), *others]).T
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


# --- Shortcuts through the attention of the first block: they give factors of the residual stream after it ---


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
    """Rows are weights, (row ((own, head) source)), of what a source is and of what each head makes of it."""
    block, d_vocab, n_pos = model.blocks[0], model.cfg.d_vocab, tokens.shape[1]
    sources = torch.cat([model.embed.W_E, _positions(model, n_pos)])
    later = pad(_later(n_pos, sources.dtype, sources.device), (d_vocab, 0, d_vocab, 0))
    by_source, made = _tables(block, sources, later)

    # What a row asks is what its own token and its own position ask.
    own = sources.new_zeros(*asked.shape, len(sources))
    own.scatter_(2, tokens.gather(1, asked)[..., None], 1).scatter_(2, asked[..., None] + d_vocab, 1)
    own = own.flatten(0, 1)  # (row source)
    by_source = (own / block.attn.scale) @ by_source.transpose(0, 1).flatten(1)

    # The score with a key is that with its token and that with its position. Axes: (batch asked head key or source).
    with_token, with_position = by_source.view(*asked.shape, -1, len(sources)).split([d_vocab, n_pos], 3)
    token = tokens[:, None, None].expand_as(with_position)
    pattern = (with_token.gather(3, token) + with_position).softmax(3)
    if block.attn.hook_pattern.listening:
        pattern = block.attn.hook_pattern(pattern.transpose(1, 2)).transpose(1, 2)

    # What a token gets is the sum over its places; a position has one place.
    gets = torch.cat([torch.zeros_like(with_token).scatter_add_(3, token, pattern), pattern], 3)
    own = own if block.gain == 1 else block.gain * own
    return [torch.cat([own, gets.view(len(own), -1)], 1), torch.cat([sources, made.flatten(0, 1)])]


def _by_place(model: Transformer, tokens: Tensor, asked: Tensor) -> list[Tensor]:
    """Rows are sums of what a place is and of what heads make of places, looked up. There is one factor."""
    block, d_vocab, n_pos = model.blocks[0], model.cfg.d_vocab, tokens.shape[1]
    places = (_positions(model, n_pos)[:, None] + model.embed.W_E).flatten(0, 1)
    later = _later(n_pos, places.dtype, places.device).repeat_interleave(d_vocab, 0).repeat_interleave(d_vocab, 1)
    by_place, made = _tables(block, places, later)

    place = tokens + d_vocab * torch.arange(n_pos, device=tokens.device)  # (batch pos)
    own, key = place.gather(1, asked), place.T[..., None, None]
    head = len(places) * torch.arange(model.cfg.n_heads, device=tokens.device)[:, None]
    score = (head + own[:, None]) * len(places) + key  # (key batch head asked): which of all scores
    scores = (by_place / block.attn.scale).flatten().gather(0, score.flatten()).view_as(score)
    pattern = block.attn.hook_pattern(scores.softmax(0).movedim(0, 3))  # (batch head asked key)

    # The place itself is entry `own` of the table, and what a head makes of a key comes after all places.
    entry = (len(places) + head + key).expand_as(score)
    entry = rearrange(entry, "key batch head asked -> (batch asked) (head key)")
    weight = rearrange(pattern, "batch head asked key -> (batch asked) (head key)")
    entry = torch.cat([own.view(-1, 1), entry], 1)
    weight = torch.cat([torch.full_like(weight[:, :1], block.gain), weight], 1)
    return [_weighted_sums(torch.cat([places, made.flatten(0, 1)]), entry, weight)]


def _positions(model: Transformer, n_pos: int) -> Tensor:
    """What each position adds to the residual stream, (pos d_model)."""
    if model.cfg.positions == "none":
        return model.embed.W_E.new_zeros(n_pos, model.cfg.d_model)
    W_pos = model.pos_embed.W_pos
    return W_pos if n_pos == len(W_pos) else W_pos[:n_pos]


@functools.lru_cache(maxsize=16)
def _later(n_pos: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """NEVER where the position of a key is later than that of a query, else 0; (query key)."""
    return torch.full((n_pos, n_pos), NEVER, dtype=dtype, device=device).triu(1)


def _tables(block: Block, x: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
    """What attention makes of residual streams ``x``, (entry d_model), alone.

    Returns:
        Products of each as a query with each as a key, plus ``later``, (head query key); and what each adds to a
        query that attends to it, (head entry d_model).
    """
    attn = block.attn
    weights = torch.cat([attn.W_Q, attn.W_K, attn.W_V], 2)  # (head d_model (3 d_head))
    q, k, v = torch.bmm(block.ln1(x[None]).expand(len(weights), -1, -1), weights).chunk(3, 2)  # (head entry d_head)
    return torch.baddbmm(later, q, k.mT), torch.bmm(v, attn.W_O)


def _weighted_sums(table: Tensor, entry: Tensor, weight: Tensor) -> Tensor:
    """sums[row] = sum over n of weight[row, n] * table[entry[row, n]], from (entry d_model) and twice (row n)."""
    sums = embedding_bag(entry, table.detach(), per_sample_weights=weight, mode="sum")
    return _GradientOfTable.apply(sums, table, entry, weight.detach())


class _GradientOfTable(torch.autograd.Function):
    """Gives ``table`` its gradient, which embedding_bag itself would add up one row after another.

    By the formula above, the gradient of an entry is a sum of the same kind turned round: of the gradients of the rows
    that it went into, with the same weights. So embedding_bag does it, with what it needs sorted by entry.
    """

    @staticmethod
    def forward(ctx, sums: Tensor, table: Tensor, entry: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(entry, weight)
        ctx.n_entries = len(table)
        return sums.view_as(sums)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        entry, weight = ctx.saved_tensors
        entries, order = entry.flatten().sort()
        first = torch.searchsorted(entries, torch.arange(ctx.n_entries, device=entry.device))
        weights, rows = weight.flatten()[order], order // entry.shape[1]
        return gradient, embedding_bag(rows, gradient, first, per_sample_weights=weights, mode="sum"), None, None
