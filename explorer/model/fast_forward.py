"""The logits at the positions that are asked for, and nothing else: the forward pass of training.

This is the transformer a second time, for speed. It reads the same weights and gives, to rounding, the same
logits and the same gradients. Six things make it fast, and each is exact:

1.  Only the logits at asked positions reach the loss. So the last block computes queries, the residual stream and the
    MLP at these positions alone; earlier ones matter only as keys and values, and later ones not at all.
2.  A product of several matrices is the same in any order. So after attention the residual stream is kept as factors,
    and each of its products is done in the order of fewest multiplications. With 12 tokens, W_in is applied to a small
    table instead of a large batch; with ten answers, W_out W_U is a narrow matrix.
3.  The first block reads nothing but W_E[token] + W_pos[position]. Without a norm in between, a key is the sum of the
    keys of two *sources*, its token and its position, and so is a query's score with it. A value is such a sum too, so
    what a head gives is the sum over all sources, each weighted by the attention that it gets in total. There are
    d_vocab + n_pos sources, however large the batch, and no key or value is ever made for a place in an example.
4.  Every token at every position is one of n_pos * d_vocab *places*. Where few of these occur, each is scored with each
    once, and then scores are looked up, and so is what a head gets from a key.
5.  Otherwise attention is fused: softmax and weighted sum go through the keys in pieces, and no pattern is kept for
    the way back.
6.  After attention no row depends on another. So the MLP takes some rows at a time, whose neurons stay in the cache.

Axes as in `explorer.model.transformer`, and
    asked     the positions that are asked for, of each example
    row       (batch asked)
    source    every position, and then every token, in the order of W_pos and W_E
    place     (pos token), every token at every position
"""

import functools
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, embedding_bag, pad, scaled_dot_product_attention

from explorer.model.hooks import HookedModel
from explorer.model.transformer import Block, Transformer, future_mask

PATTERN = "hook_pattern"  # the one kind of hook point that this forward pass has
NEVER = -1e30  # a score of which softmax leaves exactly nothing; unlike -inf it may be multiplied by 0
NARROW = 128  # columns below which a product is stored column by column
LOOK_UP = 6  # to multiply an entry that is looked up takes as long as so many multiplications in a matrix product
ALIGNED = 16  # float32 numbers in a vector register; rows that are looked up are padded to a multiple of it
PIECE = 512  # rows that the MLP takes at a time on each thread, at least


def logits_at(model: HookedModel, tokens: Tensor, positions: Tensor) -> Tensor:
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
    listening = model.listening
    if not isinstance(model, Transformer) or not all(name.endswith(PATTERN) for name in listening):
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        return model(tokens)[..., rows, positions, :]
    if tokens.device.type == "cpu" and not listening:  # a GPU would be waited for; a hook sees all keys
        tokens = tokens[:, : int(positions.max()) + 1]
    W_U, norms = model.unembed.W_U, model.cfg.layer_norm
    x = None  # the residual stream, (row d_model)
    for block in model.blocks:
        last = block is model.blocks[-1]
        asked = positions if last else torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        if x is None and (shortcut := _shortcut(model, tokens, asked)):
            rows, factors = shortcut(model, tokens, asked)
        else:
            x = embedding(tokens, model.embed.W_E) + _positions(model, tokens.shape[1]) if x is None else x
            rows, factors = _attend(block, x.view(*tokens.shape, -1), asked if last else None), []
        x = _after_attention(block, rows, factors, [W_U] if last and not norms else [])
    logits = model.ln_final(x[None])[0] @ W_U if norms else x
    return logits.contiguous().view(*positions.shape, -1)


class _Lookups:
    """A matrix with few entries other than 0 in a row: ``weight`` in the columns ``column``, both (row n)."""

    def __init__(self, column: Tensor, weight: Tensor, n_columns: int):
        self.column, self.weight, self.n_columns = column, weight, n_columns

    def __len__(self) -> int:
        return len(self.column)

    def __matmul__(self, table: Tensor) -> Tensor:
        """sums[row] = sum over n of weight[row, n] * table[column[row, n]]."""
        spare = -table.shape[1] % ALIGNED
        table = pad(table, (0, spare)) if spare else table.contiguous()
        sums = embedding_bag(self.column, table.detach(), per_sample_weights=self.weight, mode="sum")
        sums = _GradientOfTable.apply(sums, table, self)
        return sums[:, :-spare] if spare else sums

    def transposed_times(self, x: Tensor) -> Tensor:
        """The same turned round: for each column the sum of the rows of ``x`` that have it, with the same weights."""
        row, weight, first = self._by_column
        return embedding_bag(row, x, first, per_sample_weights=weight, mode="sum")

    @functools.cached_property
    def _by_column(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows and weights sorted by column, and where each column begins."""
        short = torch.int16 if self.n_columns < 2**15 else torch.int32  # quicker to sort
        column, order = self.column.flatten().to(short).sort(stable=True)
        first = torch.searchsorted(column, torch.arange(self.n_columns, dtype=short, device=column.device))
        return order // self.column.shape[1], self.weight.detach().flatten()[order], first


class _GradientOfTable(torch.autograd.Function):
    """Gives ``table`` its gradient, which embedding_bag itself would add up one row after another."""

    @staticmethod
    def forward(ctx, sums: Tensor, table: Tensor, rows: _Lookups) -> Tensor:
        ctx.rows = rows
        return sums.view_as(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, ctx.rows.transposed_times(gradient), None


def _after_attention(block: Block, rows: Tensor | _Lookups, factors: list[Tensor], read: list[Tensor]) -> Tensor:
    """The residual stream after ``block``, times ``read``.

    Args:
        rows, factors: after attention it is their product, (row d_model).
        read: at most one matrix; none in a block with norms.
    """
    if not read:  # then the product itself is needed, and norms are of it
        rows, factors = _times(rows, factors), []
    n_rows = len(rows)
    each = LOOK_UP * rows.column.numel() if isinstance(rows, _Lookups) else rows.numel()  # to multiply by one column
    straight = _associated([*factors, *read], n_rows, each)
    if block.attn_only:
        return _times(rows, straight)
    mlp, b_out = block.mlp, _times(block.mlp.b_out[None], read)
    into = _associated([*factors, mlp.W_in], n_rows, each)
    out = _associated([mlp.W_out, *read], n_rows, n_rows * len(mlp.W_out))
    x = pre = rows
    if isinstance(rows, _Lookups):  # cut in pieces, they cost more than is saved
        x, pre, straight, into = _times(rows, straight), _times(rows, into), [], []

    def piece(x: Tensor, pre: Tensor) -> Tensor:
        post = mlp.act_fn(_times(block.ln2(pre[None]).squeeze(0), into) + mlp.b_in)
        return (_times(x, straight) + b_out + _times(post, out)).contiguous()

    pieces = max(n_rows // (PIECE * torch.get_num_threads()), 1) if x.device.type == "cpu" else 1
    return torch.cat([piece(*part) for part in zip(x.chunk(pieces), pre.chunk(pieces), strict=True)])


def _associated(factors: list[Tensor], n_rows: int, each: int) -> list[Tensor]:
    """At most two factors of some rows, or their product if the rows then take fewer multiplications.

    Args:
        n_rows, each: how many rows there are, and how many multiplications they take with one column.
    """
    if len(factors) == 2:
        (a, b), c = factors[0].shape, factors[1].shape[1]
        if a * b * c + each * c < each * b + n_rows * b * c:
            return [_times(factors[0], factors[1:])]
    return factors


def _times(x: Tensor | _Lookups, factors: list[Tensor]) -> Tensor:
    """x times one factor after another."""
    for factor in factors:  # BLAS is slow where the axis stored last is short, also on the way back
        narrow = isinstance(x, Tensor) and factor.shape[1] < NARROW
        x = (factor.T.contiguous() @ x.T).T if narrow else x @ factor
    return x


def _attend(block: Block, x: Tensor, asked: Tensor | None) -> Tensor:
    """The residual stream after attention, (row d_model), at ``asked`` or everywhere, from ``x``, the one before it,
    (batch pos d_model)."""
    attn, normed, later = block.attn, block.ln1(x), _later(x.shape[1], x.dtype, x.device)

    def project(x: Tensor, weight: Tensor) -> Tensor:
        flat = x @ rearrange(weight, "head d_model d_head -> d_model (head d_head)")
        return rearrange(flat, "batch pos (head d_head) -> batch head pos d_head", head=len(weight))

    k, v = project(normed, attn.W_K), project(normed, attn.W_V)
    if asked is not None:
        x, later = x.gather(1, asked[..., None].expand(-1, -1, x.shape[-1])), later[asked][:, None]
        normed = block.ln1(x)
    q = project(normed, attn.W_Q)
    if attn.hook_pattern.listening:
        z = attn.hook_pattern((q @ k.mT / attn.scale + later).softmax(-1)) @ v
    elif asked is None:
        z = scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        z = scaled_dot_product_attention(q, k, v, attn_mask=later)
    z = rearrange(z, "batch head pos d_head -> (batch pos) (head d_head)")
    return torch.addmm(x.flatten(0, 1), z, attn.W_O.flatten(0, 1), beta=block.gain)


# --- Shortcuts through the attention of the first block: they give rows, and a factor, of what `_attend` gives ---


def _shortcut(model: Transformer, tokens: Tensor, asked: Tensor) -> Callable | None:
    """The one that takes fewest multiplications, were every place there; None if `_attend` takes fewer."""
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


def _by_source(model: Transformer, tokens: Tensor, asked: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Rows are weights, (row ((own, head) source)), of what a source is and of what each head makes of it."""
    block, d_vocab, n_pos = model.blocks[0], model.cfg.d_vocab, tokens.shape[1]
    first = int(asked.min()) if asked.device.type == "cpu" else 0  # nothing earlier asks
    sources = torch.cat([_positions(model, n_pos), model.embed.W_E])
    later = pad(_later(n_pos, sources.dtype, sources.device)[first:], (0, d_vocab, 0, d_vocab))
    by_source, made = _tables(block, sources[first:], sources, later)

    # What a row asks is what its own position and its own token ask.
    own = sources.new_zeros(*asked.shape, len(sources) - first)
    own.scatter_(2, asked[..., None] - first, 1).scatter_(2, tokens.gather(1, asked)[..., None] + n_pos - first, 1)
    own = own.flatten(0, 1)  # (row source)
    by_source = (own / block.attn.scale) @ by_source.transpose(0, 1).flatten(1)

    # The score with a key is that with its position and that with its token. Axes: (batch asked head key or source).
    with_position, with_token = by_source.view(*asked.shape, -1, len(sources)).split([n_pos, d_vocab], 3)
    token = tokens[:, None, None].expand_as(with_position)
    pattern = (with_token.gather(3, token) + with_position).softmax(3)
    if block.attn.hook_pattern.listening:
        pattern = block.attn.hook_pattern(pattern.transpose(1, 2)).transpose(1, 2)

    # A position has one place; what a token gets is the sum over its places.
    gets = torch.cat([pattern, torch.zeros_like(with_token).scatter_add_(3, token, pattern)], 3)
    own = own if block.gain == 1 else block.gain * own
    return torch.cat([own, gets.view(len(own), -1)], 1), [torch.cat([sources[first:], made.flatten(0, 1)])]


def _by_place(model: Transformer, tokens: Tensor, asked: Tensor) -> tuple[_Lookups, list[Tensor]]:
    """Rows look up what a place is and what each head makes of places."""
    block, d_vocab, n_pos, n_heads = model.blocks[0], model.cfg.d_vocab, tokens.shape[1], model.cfg.n_heads
    place = tokens + d_vocab * torch.arange(n_pos, device=tokens.device)  # (batch pos)
    (attended, key), (asking, own) = (_found(at, d_vocab * n_pos) for at in (place, place.gather(1, asked)))
    later = _later(n_pos, model.embed.W_E.dtype, tokens.device)[asking // d_vocab][:, attended // d_vocab]
    places = (_positions(model, n_pos)[:, None] + model.embed.W_E).flatten(0, 1)
    queries, keys = embedding(asking, places), embedding(attended, places)
    by_place, made = _tables(block, queries, keys, later)

    key, head = key.T[..., None, None], torch.arange(n_heads, device=tokens.device)[:, None]
    score = (head * len(queries) + own[:, None]) * len(keys) + key  # (key batch head asked): which of all scores
    scores = (by_place / block.attn.scale).flatten().gather(0, score.flatten()).view_as(score)
    pattern = block.attn.hook_pattern(scores.softmax(0).movedim(0, 3))  # (batch head asked key)

    # The table has what queries are, and then what each head makes of keys.
    made_of = (len(queries) + head * len(keys) + key).expand_as(score)
    made_of = rearrange(made_of, "key batch head asked -> (batch asked) (head key)")
    weight = rearrange(pattern, "batch head asked key -> (batch asked) (head key)")
    table = torch.cat([queries, made.flatten(0, 1)])
    column = torch.cat([own.view(-1, 1), made_of], 1)
    rows = _Lookups(column, torch.cat([torch.full_like(weight[:, :1], block.gain), weight], 1), len(table))
    return rows, [table]


def _found(at: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Which of the numbers below ``n`` occur, (found,), and for each occurrence, which of these it is, like ``at``."""
    if at.device.type != "cpu":
        return torch.arange(n, device=at.device), at
    found = torch.bincount(at.flatten(), minlength=n).nonzero().squeeze(1)
    return found, torch.searchsorted(found, at)


def _positions(model: Transformer, n_pos: int) -> Tensor:
    """What each position adds to the residual stream, (pos d_model)."""
    if model.cfg.positions == "none":
        return model.embed.W_E.new_zeros(n_pos, model.cfg.d_model)
    W_pos = model.pos_embed.W_pos
    return W_pos if n_pos == len(W_pos) else W_pos[:n_pos]


@functools.lru_cache(maxsize=16)
def _later(n_pos: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """NEVER where the position of a key is later than that of a query, else 0; (query key)."""
    return torch.zeros(n_pos, n_pos, dtype=dtype, device=device).masked_fill(future_mask(n_pos, device), NEVER)


def _tables(block: Block, queries: Tensor, keys: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
    """What attention makes of residual streams, (entry d_model), alone.

    Returns:
        Products of each query with each key, plus ``later``, (head query key); and what each key adds to a query that
        attends to it, (head key d_model).
    """
    attn = block.attn
    queries, keys = (block.ln1(x[None]).expand(len(attn.W_Q), -1, -1) for x in (queries, keys))
    q, k, v = torch.bmm(queries, attn.W_Q), torch.bmm(keys, attn.W_K), torch.bmm(keys, attn.W_V)
    return torch.baddbmm(later, q, k.mT), torch.bmm(v, attn.W_O)
