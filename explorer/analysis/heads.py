"""What the heads of a model do, told from their attention patterns.

Axes
    batch        texts
    query, key   positions in a text: which looks, and at what
    head         all heads of layer 0, then those of layer 1...
    ...          nothing for one model; ``snapshot`` for a stack
"""

import torch
from einops import einsum
from torch import Tensor

from explorer.errors import UserError
from explorer.model.ensemble import Ensemble

# --- Texts in which something comes again ---


def repeated_tokens(d_vocab: int, length: int, n: int, seed: int = 0) -> Tensor:
    """Random texts that say everything twice, to measure heads on.

    Token 0 does not occur: where texts have a token of their own to begin with, it is that.

    Args:
        d_vocab: tokens that the model reads.
        length: of what is repeated, in tokens.
        n: how many texts.

    Returns:
        (batch pos) int64 with 2 * length positions: distinct tokens, and then the same again.

    Raises:
        UserError: there are not as many tokens.
    """
    if length > d_vocab - 1:
        raise UserError(f"length is {length}; there are only {d_vocab - 1} tokens besides token 0 to choose from.")
    order = torch.rand(n, d_vocab - 1, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return order[:, :length].add(1).repeat(1, 2)


def find_repeats(tokens: Tensor, min_length: int = 4) -> list[tuple[int, int, int]]:
    """The stretches of one text that come again.

    A stretch ends where the two occurrences begin to differ. It does not overlap its copy: of one that would, as in
    ``abababab``, only the tokens before the copy count.

    Args:
        tokens: (pos,).
        min_length: tokens that a stretch must have.

    Returns:
        For every pair of occurrences, in reading order: the first position of the earlier one, the first position of
        the later one, and the length.
    """
    text, found = tokens.tolist(), []
    for apart in range(1, len(text)):
        start = 0
        for at in range(len(text) - apart + 1):
            if at + apart == len(text) or text[at] != text[at + apart]:
                if (length := min(at - start, apart)) >= min_length:
                    found.append((start, start + apart, length))
                start = at + 1
    return sorted(found)


# --- Scores of patterns, (... batch head query key) -> (... head), each a mean over the texts and their queries ---


def previous_token_score(pattern: Tensor) -> Tensor:
    """The attention to the token just before, (... head), from 0 to 1.

    Source: TransformerLens, Exploratory Analysis Demo.
    """
    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean((-3, -1))


def duplicate_token_score(pattern: Tensor, tokens: Tensor) -> Tensor:
    """The attention to earlier occurrences of the token that looks, (... head), from 0 to 1.

    Source: TransformerLens, Exploratory Analysis Demo, of which this is the form for any text.

    Args:
        tokens: (batch pos).

    Returns:
        The mean over the queries whose token has come before; nan where there is none.
    """
    return _attention_to(_earlier(tokens), pattern, tokens)


def prefix_matching_score(pattern: Tensor, tokens: Tensor) -> Tensor:
    """The attention to what came after earlier occurrences of the token that looks, (... head), from 0 to 1.

    It is what makes an induction head. On a text of ``length`` distinct tokens said twice this is the mean of
    ``pattern.diagonal(offset=1 - length)`` without its first entry, whose query has not come before.

    Source: Olsson et al. 2022, In-context Learning and Induction Heads, with its erratum.

    Args:
        tokens: (batch pos).

    Returns:
        The mean over the queries whose token has come before; nan where there is none.
    """
    return _attention_to(
        _earlier(tokens).roll(1, -1), pattern, tokens
    )  # what wraps round is nothing: the last key is never earlier


def attention_entropy(pattern: Tensor) -> Tensor:
    """The entropy of where a query looks, (... head), in nats: 0 at one key, log n spread evenly over n."""
    return torch.special.entr(pattern).sum(-1).mean((-3, -1))


def _earlier(tokens: Tensor) -> Tensor:
    """Whether the token at ``key`` is that at ``query`` and stands before it, (batch query key)."""
    return (tokens[:, :, None] == tokens[:, None, :]).tril(-1)


def _attention_to(keys: Tensor, pattern: Tensor, tokens: Tensor) -> Tensor:
    """The attention in total to ``keys`` (batch query key), mean over queries that have come before, (... head)."""
    paid = einsum(pattern, keys.to(pattern.dtype), "... batch head query key, batch query key -> ... head")
    return paid / _earlier(tokens).any(-1).sum()


# --- All heads of all snapshots ---


def head_scores(ensemble: Ensemble, tokens: Tensor) -> dict[str, Tensor]:
    """Every score of every head, some snapshots at a time.

    Args:
        tokens: (batch pos).

    Returns:
        "previous token", "duplicate token", "prefix matching" and "entropy" -> (snapshot head).
    """
    parts: dict[str, list[Tensor]] = {}
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(ensemble.cfg.n_layers)]
    for _, cache in ensemble.passes(tokens, names):
        of_layers = [
            {
                "previous token": previous_token_score(cache[name]),
                "duplicate token": duplicate_token_score(cache[name], tokens),
                "prefix matching": prefix_matching_score(cache[name], tokens),
                "entropy": attention_entropy(cache[name]),
            }
            for name in names
        ]
        for score in of_layers[0]:
            parts.setdefault(score, []).append(torch.cat([scores[score] for scores in of_layers], -1))
    return {score: torch.cat(chunks) for score, chunks in parts.items()}
