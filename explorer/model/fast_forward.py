"""A faster forward pass, for training: it computes only the logits at given positions.

This is a second implementation of the transformer. It reads the same weights and computes, up to rounding, the same
logits and gradients. It is faster for six reasons, none of which is an approximation:

1.  Only the logits at given positions are computed. So the last block computes queries, the residual stream and the
    MLP at these positions only; earlier positions matter only as keys and values, later ones not at all.
2.  Matrix products are associative. So after attention the residual stream is kept as a product of matrices, and
    further products are computed in the order that takes the fewest multiplications. With 12 tokens, W_in is applied
    to a small table instead of a large batch; with ten output tokens, W_out W_U is a narrow matrix.
3.  The input of the first block is W_E[token] + W_pos[position]. Without a layer norm, a key is the sum of the keys
    of two *sources*, its token and its position, and so is a query's score with it. A value is such a sum too, so the
    result of a head is the sum over all sources, each weighted by the total attention that it gets. There are
    d_vocab + n_pos sources, however large the batch, and keys and values are computed for these alone.
4.  A pair of a position and a token is a *place*; there are n_pos * d_vocab places. If few of them occur, the attention
    scores of all pairs of places, and the result of each head for each place, are computed once and then looked up.
5.  Otherwise attention is fused (`scaled_dot_product_attention`): no attention pattern is saved for the backward pass.
6.  After attention the rows are independent. So the MLP is computed for some rows at a time, whose activations fit into
    the processor's cache.

A stack of models has a leading axis, ``snapshot``, and so have its tokens: each model reads its own. It takes what
every model takes by itself, but for the looked-up places of reason 4.

Axes as in `explorer.model.transformer`, and
    query     the positions of each example at which queries are computed
    row       (batch query)
    source    all positions and then all tokens, in the order of W_pos and W_E
    place     (pos token), all pairs of a position and a token
"""

import functools
from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, embedding_bag, pad, scaled_dot_product_attention

from explorer.model.hooks import HookedModel
from explorer.model.transformer import Block, Transformer, future_mask

PATTERN = "hook_pattern"  # the only hook points that this forward pass calls
NEVER = -1e30  # an attention score whose softmax is exactly 0; unlike -inf it may be multiplied by 0
NARROW = 128  # products with fewer columns are stored column by column
LOOK_UP = 6  # time to look up and multiply an entry, in multiplications of a matrix product
ALIGNED = 16  # float32 numbers in a vector register; rows of lookup tables are padded to a multiple of it
PIECE = 512  # the smallest number of rows for which each thread computes the MLP at a time


def logits_at(
    model: HookedModel, tokens: Int[Tensor, "... batch pos"], positions: Int[Tensor, "... batch query"]
) -> Float[Tensor, "... batch query d_vocab_out"]:
    """The logits of ``model(tokens)`` at ``positions``, computed faster.

    Hooks at attention patterns are called; in the last block, the pattern has only these queries. If there are hooks at
    other hook points, or if the model is not a transformer or has biases or positions that none of the tasks' presets
    has, ``model(tokens)`` is computed.

    Args:
        model: one model, or a stack, whose tokens and positions have its leading axis.
        tokens: at most n_ctx for each example.
        positions: those whose logits are returned.
    """
    listening = model.listening
    if not _is_fast(model) or not all(name.endswith(PATTERN) for name in listening):
        logits = model(tokens)
        return logits.gather(-2, positions[..., None].expand(*positions.shape, logits.shape[-1]))
    if (
        tokens.device.type == "cpu" and not listening
    ):  # on a GPU this would wait for the device; hooks are given all keys
        tokens = tokens[..., : int(positions.max()) + 1]
    W_U, norms = model.unembed.W_U, model.cfg.layer_norm
    x: Tensor  # the residual stream, (row d_model)
    for block in model.blocks:
        first, last = block is model.blocks[0], block is model.blocks[-1]
        at = positions if last else torch.arange(tokens.shape[-1], device=tokens.device).expand_as(tokens)
        rows: Tensor | _Lookups
        if first and (shortcut := _shortcut(model, tokens, at)):
            rows, factors = shortcut(model, tokens, at)
        else:
            if first:
                x = model.embed(tokens) + _positions(model, tokens.shape[-1])[..., None, :, :]
            rows, factors = _attend(block, x.view(*tokens.shape, -1), at if last else None), []
        x = _after_attention(block, rows, factors, [W_U] if last and not norms else [])
    logits = model.ln_final(x.unsqueeze(-3)).squeeze(-3) @ W_U if norms else x
    return logits.contiguous().view(*positions.shape, -1)


def _is_fast(model: HookedModel) -> TypeGuard[Transformer]:
    if not isinstance(model, Transformer):
        return False
    return not (model.cfg.attn_bias or model.cfg.unembed_bias or model.cfg.positions == "shortformer")


class _Lookups:
    """A sparse matrix with n entries in each row: ``weight`` (row n), in the columns ``column`` (row n)."""

    def __init__(self, column: Tensor, weight: Tensor, n_columns: int):
        self.column, self.weight, self.n_columns = column, weight, n_columns

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.column), self.n_columns

    def __matmul__(self, table: Tensor) -> Tensor:
        """sums[row] = sum over n of weight[row, n] * table[column[row, n]]."""
        spare = -table.shape[1] % ALIGNED
        table = pad(table, (0, spare)) if spare else table.contiguous()
        sums = embedding_bag(self.column, table.detach(), per_sample_weights=self.weight, mode="sum")
        sums = _GradientOfTable.apply(sums, table, self)
        return sums[:, :-spare] if spare else sums

    def transposed_times(self, x: Tensor) -> Tensor:
        """The product of the transposed matrix and ``x`` (row width)."""
        row, weight, first = self._by_column
        return embedding_bag(row, x, first, per_sample_weights=weight, mode="sum")

    @functools.cached_property
    def _by_column(self) -> tuple[Tensor, Tensor, Tensor]:
        """The row and the weight of every entry, sorted by column, and the index at which each column begins."""
        short = torch.int16 if self.n_columns < 2**15 else torch.int32  # sorts faster
        column, order = self.column.flatten().to(short).sort(stable=True)
        first = torch.searchsorted(column, torch.arange(self.n_columns, dtype=short, device=column.device))
        return order // self.column.shape[1], self.weight.detach().flatten()[order], first


class _GradientOfTable(torch.autograd.Function):
    """Computes the gradient of ``table`` as a product, where embedding_bag would add it up row by row."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor, table: Tensor, rows: _Lookups) -> Tensor:
        ctx.rows = rows
        return sums.view_as(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, ctx.rows.transposed_times(gradient), None


def _after_attention(block: Block, rows: Tensor | _Lookups, factors: list[Tensor], read: list[Tensor]) -> Tensor:
    """The residual stream after ``block``, times the matrix in ``read``.

    Args:
        rows, factors: their product is the residual stream after attention, (... row d_model).
        read: one matrix, or none; always none in a block with layer norms.
    """
    if not read:  # the residual stream itself is needed, also by layer norms
        rows, factors = _times(rows, factors), []
    n_rows = rows.shape[-2]
    # The cost of a column.
    each = LOOK_UP * rows.column.numel() if isinstance(rows, _Lookups) else n_rows * rows.shape[-1]
    straight = _associated([*factors, *read], n_rows, each)
    if block.attn_only:
        return _times(rows, straight)
    mlp, b_out = block.mlp, _times(block.mlp.b_out[..., None, :], read)
    into = _associated([*factors, mlp.W_in], n_rows, each)
    out = _associated([mlp.W_out, *read], n_rows, n_rows * mlp.W_out.shape[-2])
    if isinstance(rows, _Lookups):  # lookups in pieces would cost more than they save
        x, pre, straight, into = _times(rows, straight), _times(rows, into), [], []
    else:
        x = pre = rows

    def piece(x: Tensor, pre: Tensor) -> Tensor:
        post = mlp.act_fn(_times(block.ln2(pre.unsqueeze(-3)).squeeze(-3), into) + mlp.b_in[..., None, :])
        return (_times(x, straight) + b_out + _times(post, out)).contiguous()

    pieces = max(n_rows // (PIECE * torch.get_num_threads()), 1) if x.device.type == "cpu" else 1
    return torch.cat([piece(*part) for part in zip(x.chunk(pieces, -2), pre.chunk(pieces, -2), strict=True)], -2)


def _associated(factors: list[Tensor], n_rows: int, each: int) -> list[Tensor]:
    """The same factors, at most two, or their product if multiplying the rows by it takes fewer multiplications.

    Args:
        factors: at most two matrices.
        n_rows: rows of the matrix that is multiplied by them.
        each: multiplications for one column of its product with the first factor.
    """
    if len(factors) == 2:
        (a, b), c = factors[0].shape[-2:], factors[1].shape[-1]
        if a * b * c + each * c < each * b + n_rows * b * c:
            return [_times(factors[0], factors[1:])]
    return factors


def _times(x: Tensor | _Lookups, factors: list[Tensor]) -> Tensor:
    """x times one factor after another."""
    if isinstance(x, _Lookups):
        x, factors = x @ factors[0], factors[1:]
    for factor in factors:  # BLAS is slow if the last axis is short, also in the backward pass
        x = (factor.mT.contiguous() @ x.mT).mT if factor.shape[-1] < NARROW else x @ factor
    return x


def _attend(block: Block, x: Tensor, at: Tensor | None) -> Tensor:
    """The residual stream after attention.

    Args:
        x: the residual stream before it, (... batch pos d_model).
        at: the positions of queries, (... batch query); None for all positions.

    Returns:
        (... row d_model).
    """
    attn, normed, later = block.attn, block.ln1(x), _later(x.shape[-2], x.dtype, x.device)

    def project(x: Tensor, weight: Tensor) -> Tensor:
        flat = x.flatten(-3, -2) @ rearrange(weight, "... head d_model d_head -> ... d_model (head d_head)")
        return flat.view(*x.shape[:-1], weight.shape[-3], -1).transpose(-3, -2)  # (... batch head pos d_head)

    k, v = project(normed, attn.W_K), project(normed, attn.W_V)
    if at is not None:
        x, later = x.gather(-2, at[..., None].expand(*at.shape, x.shape[-1])), later[at].unsqueeze(-3)
        normed = block.ln1(x)
    q = project(normed, attn.W_Q)
    if attn.hook_pattern.listening:
        z = attn.hook_pattern((q @ k.mT / attn.scale + later).softmax(-1)) @ v
    else:  # it is fast on four axes
        mask = None if at is None else later.flatten(0, -4)
        q4, k4, v4 = (x.flatten(0, -4) for x in (q, k, v))
        z = scaled_dot_product_attention(q4, k4, v4, attn_mask=mask, is_causal=at is None).view(q.shape)
    z = rearrange(z, "... batch head pos d_head -> ... (batch pos) (head d_head)")
    add = torch.addmm if z.ndim == 2 else torch.baddbmm
    return add(x.flatten(-3, -2), z, attn.W_O.flatten(-3, -2), beta=block.gain)


# --- Shortcuts for attention in the first block: their results are factors of the matrix that `_attend` returns ---


def _shortcut(model: Transformer, tokens: Tensor, at: Tensor) -> Callable | None:
    """The shortcut that takes the fewest multiplications, assuming that every place occurs; None for `_attend`."""
    cfg, n_pos, n_keys, n_rows = model.cfg, tokens.shape[-1], *(x.shape[-2] * x.shape[-1] for x in (tokens, at))
    n_heads, width, d_model = cfg.n_heads, cfg.n_heads * cfg.d_head, cfg.d_model
    places, sources = cfg.d_vocab * n_pos, cfg.d_vocab + n_pos
    takes: dict[Callable | None, int] = {None: 2 * (n_keys + n_rows) * d_model * width + 2 * n_rows * n_pos * width}
    if tokens.ndim == 2:
        looked_up = LOOK_UP * n_rows * (1 + n_heads * n_pos) * d_model
        takes[_by_place] = places * (4 * d_model + places) * width + looked_up
    if not cfg.layer_norm:
        per_row = sources * (n_heads * sources + (1 + n_heads) * d_model)
        takes[_by_source] = sources * (4 * d_model + sources) * width + n_rows * per_row
    return min(takes, key=takes.__getitem__)


def _by_source(model: Transformer, tokens: Tensor, at: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Rows are weights (... row ((own, head) source)): of the embeddings of sources, and each head's results for
    them."""
    block, d_vocab, n_pos = model.blocks[0], model.cfg.d_vocab, tokens.shape[-1]
    first = int(at.min()) if at.device.type == "cpu" else 0  # no query is earlier
    sources = torch.cat([_positions(model, n_pos), model.embed.W_E], -2)
    n_sources = d_vocab + n_pos
    later = pad(_later(n_pos, sources.dtype, sources.device)[first:], (0, d_vocab, 0, d_vocab))
    by_source, made = _tables(block, sources[..., first:, :], sources, later)

    # A query is the sum of the queries of its own position and its own token.
    own = sources.new_zeros(*at.shape, n_sources - first)
    own.scatter_(-1, at[..., None] - first, 1).scatter_(-1, tokens.gather(-1, at)[..., None] + n_pos - first, 1)
    own = own.flatten(-3, -2)  # (... row source)
    by_source = (own / block.attn.scale) @ by_source.transpose(-3, -2).flatten(-2)

    # The score with a key is the sum of those with its position and its token: (... batch query head key or source).
    with_position, with_token = by_source.view(*at.shape, -1, n_sources).split([n_pos, d_vocab], -1)
    token = tokens[..., None, None, :].expand_as(with_position)
    pattern = (with_token.gather(-1, token) + with_position).softmax(-1)
    if block.attn.hook_pattern.listening:
        pattern = block.attn.hook_pattern(pattern.transpose(-3, -2)).transpose(-3, -2)

    # The attention to a position is that to one key; the attention to a token is the sum over the keys with this token.
    gets = torch.cat([pattern, torch.zeros_like(with_token).scatter_add_(-1, token, pattern)], -1)
    own = own if block.gain == 1 else block.gain * own
    table = torch.cat([sources[..., first:, :], made.flatten(-3, -2)], -2)
    return torch.cat([own, gets.view(*own.shape[:-1], -1)], -1), [table]


def _by_place(model: Transformer, tokens: Tensor, at: Tensor) -> tuple[_Lookups, list[Tensor]]:
    """Rows look up the embedding of their own place and each head's results for the places of keys."""
    block, d_vocab, n_pos, n_heads = model.blocks[0], model.cfg.d_vocab, tokens.shape[1], model.cfg.n_heads
    place = tokens + d_vocab * torch.arange(n_pos, device=tokens.device)  # (batch pos)
    (attended, key), (attending, own) = (_found(there, d_vocab * n_pos) for there in (place, place.gather(1, at)))
    later = _later(n_pos, model.embed.W_E.dtype, tokens.device)[attending // d_vocab][:, attended // d_vocab]
    places = (_positions(model, n_pos)[:, None] + model.embed.W_E).flatten(0, 1)
    queries, keys = embedding(attending, places), embedding(attended, places)
    by_place, made = _tables(block, queries, keys, later)

    key, head = key.T[..., None, None], torch.arange(n_heads, device=tokens.device)[:, None]
    score = (head * len(queries) + own[:, None]) * len(keys) + key  # (key batch head query): which of all scores
    scores = (by_place / block.attn.scale).flatten().gather(0, score.flatten()).view_as(score)
    pattern = block.attn.hook_pattern(scores.softmax(0).movedim(0, 3))  # (batch head query key)

    # The rows of the table: the embeddings of queries, then each head's results for keys.
    made_of = (len(queries) + head * len(keys) + key).expand_as(score)
    made_of = rearrange(made_of, "key batch head query -> (batch query) (head key)")
    weight = rearrange(pattern, "batch head query key -> (batch query) (head key)")
    table = torch.cat([queries, made.flatten(0, 1)])
    column = torch.cat([own.view(-1, 1), made_of], 1)
    rows = _Lookups(column, torch.cat([torch.full_like(weight[:, :1], block.gain), weight], 1), len(table))
    return rows, [table]


def _found(places: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The places that occur, (found,), out of ``n``; and for each of ``places`` its index among them."""
    if places.device.type != "cpu":
        return torch.arange(n, device=places.device), places
    found = torch.bincount(places.flatten(), minlength=n).nonzero().squeeze(1)
    return found, torch.searchsorted(found, places)


def _positions(model: Transformer, n_pos: int) -> Tensor:
    """The position embeddings, (... pos d_model)."""
    W_E = model.embed.W_E
    if model.cfg.positions == "none":
        return W_E.new_zeros(*W_E.shape[:-2], n_pos, model.cfg.d_model)
    W_pos = model.pos_embed.W_pos
    W_pos = W_pos if n_pos == W_pos.shape[-2] else W_pos[..., :n_pos, :]
    return W_pos.expand(*W_E.shape[:-2], *W_pos.shape[-2:])  # sinusoidal ones are the same in all models of a stack


@functools.lru_cache(maxsize=16)
def _later(n_pos: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The causal mask that is added to attention scores: `NEVER` where the key is later than the query, otherwise 0."""
    return torch.zeros(n_pos, n_pos, dtype=dtype, device=device).masked_fill(future_mask(n_pos, device), NEVER)


def _tables(block: Block, queries: Tensor, keys: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
    """Attention scores between single residual streams, and each head's results for them.

    Args:
        queries, keys: residual streams, (... query d_model) and (... key d_model).
        later: added to the scores, (query key).

    Returns:
        Scores before scaling, (... head query key), and each head's result for a query that attends to one key only,
        (... head key d_model).
    """
    attn = block.attn
    axes = attn.W_Q.shape[:-2]  # (... head)
    queries, keys = (block.ln1(x.unsqueeze(-3)).expand(*axes, -1, -1) for x in (queries, keys))
    q, k, v = queries @ attn.W_Q, keys @ attn.W_K, keys @ attn.W_V
    return later + q @ k.mT, v @ attn.W_O
