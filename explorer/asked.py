"""The logits at the positions that are asked for, and nothing else: the forward pass of training.

This is `explorer.transformer` a second time, for speed. It reads the same weights and gives, to rounding, the same
logits and the same gradients. Four things make it fast, and each is exact:

1.  Only the logits at asked positions reach the loss. So the last block computes queries, the residual stream and the
    MLP at these positions alone; the others matter only as keys and values.
2.  Attention is fused: softmax and weighted sum go through the keys in pieces, and no pattern is kept for the way back.
3.  The first block reads nothing but W_E[token] + W_pos[position]. Without a norm in between, a key is the sum of the
    keys of two *sources*, its token and its position, and so is a query's score with it. A value is such a sum too, so
    what a head gives is the sum over all sources, each weighted by the attention that it gets in total. There are
    d_vocab + n_pos sources, however large the batch, and no key or value is ever made for a place in an example.
4.  A query of the first block is one of n_pos * d_vocab. Where more than that are asked for, their scores with all
    sources are computed once for each and looked up.

Axes as in `explorer.transformer`, and
    asked     the positions that are asked for, of each example
    source    every token, and then every position, in the order of W_E and W_pos
"""

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn.functional import embedding, linear, scaled_dot_product_attention

from explorer.hooks import HookedModel
from explorer.transformer import Attention, Transformer

PATTERN = "hook_pattern"  # the one kind of hook point that this forward pass has


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
    x = None  # the residual stream, (batch pos d_model), in the end (batch asked d_model)
    for block in model.blocks:
        asked = positions if block is model.blocks[-1] else everywhere
        if x is None and _few_sources(model, tokens, asked):
            resid, z = _embed(model, tokens, asked), _attend_to_sources(model, tokens, asked)
        else:
            x = _embed(model, tokens, everywhere) if x is None else x
            normed = block.ln1(x)
            resid, queries = (x, normed) if asked is everywhere else (_at(x, asked), _at(normed, asked))
            z = _attend(block.attn, queries, normed, None if asked is everywhere else asked)
        x = _plus_product(resid if block.gain == 1 else block.gain * resid, z, block.attn.W_O.flatten(0, 1))
        if not block.attn_only:
            mlp = block.mlp
            pre = linear(block.ln2(x), mlp.W_in.T, mlp.b_in)
            post = mlp.act_fn(pre)
            x = _plus_product(x + mlp.b_out, post, mlp.W_out)
    return model.ln_final(x) @ model.unembed.W_U


def _positions(model: Transformer, n_pos: int) -> Tensor:
    """What each position adds to the residual stream, (pos d_model)."""
    if model.cfg.positions == "none":
        return model.embed.W_E.new_zeros(n_pos, model.cfg.d_model)
    return model.pos_embed.W_pos[:n_pos]


def _embed(model: Transformer, tokens: Tensor, asked: Tensor) -> Tensor:  # -> (batch asked d_model)
    return embedding(tokens.gather(1, asked), model.embed.W_E) + embedding(asked, _positions(model, tokens.shape[1]))


def _at(x: Tensor, asked: Tensor) -> Tensor:  # (batch pos width) -> (batch asked width)
    return x.gather(1, asked[..., None].expand(-1, -1, x.shape[-1]))


def _plus_product(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """x + y @ weight, for x (batch asked d_model), in one pass over x."""
    return torch.addmm(x.flatten(0, 1), y.flatten(0, 1), weight).view_as(x)


def _attend(attn: Attention, queries: Tensor, x: Tensor, asked: Tensor | None) -> Tensor:
    """What heads bring from ``x`` (batch pos d_model) to ``queries`` (batch asked d_model), which are at positions
    ``asked`` or at all: (batch asked (head d_head))."""
    heads = {"head": len(attn.W_Q)}

    def project(x: Tensor, weight: Tensor) -> Tensor:
        flat = x @ rearrange(weight, "head d_model d_head -> d_model (head d_head)")
        return rearrange(flat, "batch pos (head d_head) -> batch head pos d_head", **heads)

    q, k, v = project(queries, attn.W_Q), project(x, attn.W_K), project(x, attn.W_V)
    if attn.hook_pattern.listening or asked is not None:
        key = torch.arange(x.shape[1], device=x.device)
        query = key[None] if asked is None else asked
        seen = (key <= query[..., None])[:, None]  # (batch 1 query key)
    if attn.hook_pattern.listening:
        scores = (q @ k.transpose(-1, -2) / attn.scale).masked_fill(~seen, -torch.inf)
        z = attn.hook_pattern(scores.softmax(-1)) @ v
    elif asked is None:
        z = scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        z = scaled_dot_product_attention(q, k, v, attn_mask=seen)
    return rearrange(z, "batch head pos d_head -> batch pos (head d_head)")


# --- The first block, by tokens and positions instead of keys ---


def _few_sources(model: Transformer, tokens: Tensor, asked: Tensor) -> bool:
    """Whether queries meet fewer numbers as scores with all sources than as keys and values of their own."""
    cfg, n_pos, n_asked = model.cfg, tokens.shape[1], asked.shape[1]
    return not cfg.layer_norm and n_asked * (cfg.d_vocab + n_pos) < (n_asked + 2 * n_pos) * cfg.d_head


def _attend_to_sources(model: Transformer, tokens: Tensor, asked: Tensor) -> Tensor:
    """As `_attend`, for the first block."""
    attn, n_pos, d_vocab = model.blocks[0].attn, tokens.shape[1], model.cfg.d_vocab
    n_heads, n_rows, n_asked = model.cfg.n_heads, asked.numel(), asked.shape[1]
    sources = torch.cat([model.embed.W_E, _positions(model, n_pos)]).expand(n_heads, -1, -1)
    q, k, v = sources @ attn.W_Q, sources @ attn.W_K, sources @ attn.W_V  # (head source d_head)

    # Every query that there can be, or those that are asked for, whichever are fewer.
    own = tokens.gather(1, asked)
    if n_pos * d_vocab <= n_rows:
        queries = (q[:, None, :d_vocab] + q[:, d_vocab:, None]).flatten(1, 2)  # (head (pos token) d_head)
        query = (asked * d_vocab + own).flatten()  # (row,), row being (batch asked): which of the queries it is
    else:
        flat = rearrange(q, "head source d_head -> source (head d_head)")
        queries = embedding(own, flat) + embedding(asked + d_vocab, flat)
        queries = rearrange(queries, "batch asked (head d_head) -> head (batch asked) d_head", head=n_heads)
        query = torch.arange(n_rows, device=asked.device)
    by_source = k @ (queries / attn.scale).transpose(1, 2)  # (head source query)

    # The score with a key is that with its token and that with its position.
    token = repeat(tokens, "batch key -> key (batch asked)", asked=n_asked)
    position = torch.arange(n_pos, device=asked.device)[:, None]  # (key 1)

    def look_up(source: Tensor) -> Tensor:  # (key row) -> (head key row)
        index = source * by_source.shape[-1] + query
        return by_source.flatten(1).gather(1, index.flatten().expand(n_heads, -1)).view(-1, *index.shape)

    scores = look_up(token) + look_up(d_vocab + position)
    pattern = scores.masked_fill(position > asked.flatten(), -torch.inf).softmax(1)
    if attn.hook_pattern.listening:
        named = rearrange(pattern, "head key (batch asked) -> batch head asked key", asked=n_asked)
        pattern = rearrange(attn.hook_pattern(named), "batch head asked key -> head key (batch asked)")

    # What a token gets is the sum over its places; a position has one place.
    to_tokens = pattern.new_zeros(n_heads, d_vocab, n_rows).scatter_add(1, token.expand_as(pattern), pattern)
    z = pattern.transpose(1, 2) @ v[:, d_vocab:]  # (head row d_head)
    z = torch.baddbmm(z, to_tokens.transpose(1, 2), v[:, :d_vocab])
    return rearrange(z, "head (batch asked) d_head -> batch asked (head d_head)", asked=n_asked)
