"""What attention heads do, measured on their attention patterns.

Axes
    snapshot     snapshots of the run
    batch, pos   token sequences, and positions in them; ``query`` and ``key`` are its two roles inside attention
    head         heads of one layer; for the whole model those of layer 0, then those of layer 1...
"""

from collections import defaultdict

import torch
from einops import einsum
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.tasks.losses import cross_entropy

# --- Repeated tokens ---


def repeated_tokens(d_vocab: int, length: int, n: int, seed: int = 0) -> Int64[Tensor, "{n} 2*{length}"]:
    """Random token sequences followed by themselves, on which induction heads are measured.

    Args:
        d_vocab: tokens that the model reads. Token 0 is not used: in tasks that have one, it is the begin token.
        length: tokens before the repetition, all distinct.
        n: how many sequences.
        seed: of the random generator.

    Raises:
        UserError: the vocabulary has not so many tokens.
    """
    if length > d_vocab - 1:
        raise UserError(
            f"length is {length}; there are only {d_vocab - 1} tokens besides token 0, so choose a smaller one."
        )
    order = torch.rand(n, d_vocab - 1, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return order[:, :length].add(1).repeat(1, 2)


def find_repeats(tokens: Int[Tensor, " pos"], min_length: int = 4) -> list[tuple[int, int, int]]:
    """The subsequences that occur more than once in one token sequence.

    A repeat extends until its two occurrences differ. The occurrences do not overlap: in ``abababab`` the first one is
    cut off where the second begins.

    Args:
        tokens: one sequence.
        min_length: shorter repeats are left out.

    Returns:
        For every pair of occurrences, in reading order: the start of the earlier one, the start of the later one, and
        their length.
    """
    text, found = tokens.tolist(), []
    for offset in range(1, len(text)):
        start = 0
        for at in range(len(text) - offset + 1):
            if at + offset == len(text) or text[at] != text[at + offset]:
                if (length := min(at - start, offset)) >= min_length:
                    found.append((start, start + offset, length))
                start = at + 1
    return sorted(found)


# --- Head scores, each of every sequence: a mean over its queries ---


def previous_token_score(
    pattern: Float[Tensor, "*snapshot batch head query key"],
) -> Float[Tensor, "*snapshot batch head"]:
    """The attention to the token just before the query, from 0 to 1.

    Source: TransformerLens, Exploratory Analysis Demo.

    Args:
        pattern: attention after the softmax.
    """
    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(-1)


def duplicate_token_score(
    pattern: Float[Tensor, "*snapshot batch head query key"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "*snapshot batch head"]:
    """The attention to earlier occurrences of the query's token, from 0 to 1.

    Source: TransformerLens, Exploratory Analysis Demo, extended from repeated sequences to any sequence.

    Args:
        pattern: attention after the softmax.
        tokens: the sequences.

    Returns:
        The mean over the queries whose token has occurred before; nan for a sequence that has none.
    """
    return _attention_to(_earlier_occurrences(tokens), pattern, tokens)


def prefix_matching_score(
    pattern: Float[Tensor, "*snapshot batch head query key"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "*snapshot batch head"]:
    """The attention to the tokens that followed earlier occurrences of the query's token, from 0 to 1.

    Induction heads have a high score. On `repeated_tokens` this is the mean of ``pattern.diagonal(offset=1 - length)``
    without its first entry, whose query's token has not occurred before.

    Source: Olsson et al. 2022, In-context Learning and Induction Heads, with its erratum.

    Args:
        pattern: attention after the softmax.
        tokens: the sequences.

    Returns:
        The mean over the queries whose token has occurred before; nan for a sequence that has none.
    """
    # The last key is never an earlier occurrence, so nothing wraps around to the first one.
    return _attention_to(_earlier_occurrences(tokens).roll(1, -1), pattern, tokens)


def attention_entropy(
    pattern: Float[Tensor, "*snapshot batch head query key"],
) -> Float[Tensor, "*snapshot batch head"]:
    """The entropy of the attention of a query, in nats: 0 if it is on one key, log n if it is uniform over n keys.

    Args:
        pattern: attention after the softmax.
    """
    return torch.special.entr(pattern).sum(-1).mean(-1)


def _earlier_occurrences(tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos pos"]:
    """Whether the key comes before the query and has the same token, (batch query key)."""
    return (tokens[:, :, None] == tokens[:, None, :]).tril(-1)


def _attention_to(
    keys: Bool[Tensor, "batch query key"],
    pattern: Float[Tensor, "*snapshot batch head query key"],
    tokens: Int[Tensor, "batch query"],
) -> Float[Tensor, "*snapshot batch head"]:
    """The total attention to ``keys``, as a mean over the queries whose token has occurred before."""
    total = einsum(pattern, keys.to(pattern.dtype), "... batch head query key, batch query key -> ... batch head")
    return total / _earlier_occurrences(tokens).any(-1).sum(-1)[:, None]


def head_scores(
    ensemble: Ensemble, tokens: Int[Tensor, "batch pos"]
) -> dict[str, Float[Tensor, "snapshot head batch"]]:
    """All head scores of all heads of the model, on each sequence.

    Args:
        ensemble: the snapshots.
        tokens: the sequences on which attention is measured.

    Returns:
        By name: "previous token", "duplicate token", "prefix matching" and "entropy".
    """
    parts: defaultdict[str, list[Tensor]] = defaultdict(list)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(ensemble.cfg.n_layers)]
    for _, cache in ensemble.passes(tokens, names):
        by_layer = [
            {
                "previous token": previous_token_score(cache[name]),
                "duplicate token": duplicate_token_score(cache[name], tokens),
                "prefix matching": prefix_matching_score(cache[name], tokens),
                "entropy": attention_entropy(cache[name]),
            }
            for name in names
        ]
        for score in by_layer[0]:
            parts[score].append(torch.cat([scores[score] for scores in by_layer], -1).mT)
    return {score: torch.cat(chunks) for score, chunks in parts.items()}


# --- In context ---


def occurrence_losses(
    ensemble: Ensemble, tokens: Int[Tensor, "batch pos"], occurrences: Int[Tensor, "batch occurrence place"]
) -> Float64[Tensor, "snapshot occurrence batch"]:
    """The loss of the tokens of a subsequence at each of its occurrences, in nats: a mean over its tokens.

    The in-context score is the loss at the last occurrence minus that at the first, which nothing foretells.

    Source: Olsson et al. 2022, In-context Learning and Induction Heads, whose score is the loss of the 500th token of a
    text minus that of the 50th.

    Args:
        ensemble: the snapshots.
        tokens: the sequences.
        occurrences: the positions whose logits predict those tokens, from `Task.occurrences`.
    """
    rows = torch.arange(len(tokens))[:, None]
    positions = occurrences.flatten(1)
    targets = tokens[rows, positions + 1]
    chunks = [cross_entropy(logits[:, rows, positions], targets) for logits, _ in ensemble.passes(tokens)]
    losses = torch.cat(chunks).unflatten(-1, occurrences.shape[1:])  # (snapshot batch occurrence place)
    return losses.mean(-1).mT
