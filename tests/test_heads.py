"""Head scores, on attention patterns whose scores are known."""

import math

import pytest
import torch

from explorer.analysis import heads
from explorer.analysis.heads import (
    attention_entropy,
    duplicate_token_score,
    find_repeats,
    head_scores,
    prefix_matching_score,
    previous_token_score,
)
from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.model.transformer import ModelConfig
from explorer.tasks.skip_trigram import SkipTrigram
from tests.conftest import TASK, random_ensemble

LENGTH = 6
TOKENS = heads.repeated_tokens(20, LENGTH, 3)
TWO_LAYERS = ModelConfig(20, 20, 12, 2, 16, 2, 8, attn_only=True)


def attending(back: int) -> torch.Tensor:
    """A pattern, (batch head=1 query key), in which each query attends ``back`` tokens back, or to the first."""
    n = TOKENS.shape[1]
    keys = (torch.arange(n) - back).clamp(min=0)
    return torch.nn.functional.one_hot(keys, n).float().expand(3, 1, n, n)


# --- Repeated tokens ---


def test_repeated_tokens_are_distinct_tokens_twice():
    assert TOKENS.shape == (3, 2 * LENGTH)
    assert TOKENS.dtype == torch.int64
    assert torch.equal(TOKENS[:, :LENGTH], TOKENS[:, LENGTH:])
    assert all(len(row.unique()) == LENGTH for row in TOKENS)
    assert not torch.equal(TOKENS[0], TOKENS[1])
    every = heads.repeated_tokens(7, 6, 2, seed=1)
    assert every[0].sort().values.tolist() == [token for token in range(1, 7) for _ in range(2)]
    with pytest.raises(UserError, match="length is 7; there are only 6 tokens"):
        heads.repeated_tokens(7, 7, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abcdxabcdy", [(0, 5, 4)]),
        ("abcxabcy", []),
        ("abcdeXabcdeYbcde", [(0, 6, 5), (1, 12, 4), (7, 12, 4)]),
        ("abcdabcd", [(0, 4, 4)]),
        ("ababababab", [(0, 4, 4), (0, 6, 4)]),
        ("aaaaaaaa", [(0, 4, 4)]),
        ("", []),
    ],
)
def test_repeats_are_found(text, expected):
    assert find_repeats(torch.tensor([ord(letter) for letter in text], dtype=torch.int64)) == expected


def test_repeats_are_as_long_as_possible():
    text = torch.randint(0, 3, (40,), generator=torch.Generator().manual_seed(0)).tolist()
    expected = []
    for first in range(40):
        for again in range(first + 1, 40):
            length = 0
            while again + length < 40 and text[first + length] == text[again + length]:
                length += 1
            begins = first == 0 or text[first - 1] != text[again - 1]
            if begins and min(length, again - first) >= 2:
                expected.append((first, again, min(length, again - first)))
    assert find_repeats(torch.tensor(text), 2) == expected


# --- Scores ---


def test_ideal_heads_have_a_score_of_one():
    induction, duplicate, previous = attending(LENGTH - 1), attending(LENGTH), attending(1)
    assert (prefix_matching_score(induction, TOKENS) == 1).all()
    assert (duplicate_token_score(induction, TOKENS) == 0).all()
    assert (duplicate_token_score(duplicate, TOKENS) == 1).all()
    assert (prefix_matching_score(duplicate, TOKENS) == 0).all()
    assert (previous_token_score(previous) == 1).all()
    assert (attention_entropy(previous) == 0).all()


def test_attention_to_several_occurrences_is_summed():
    """In a b a c a, the last a has two earlier occurrences, followed by b and c."""
    tokens, pattern = torch.tensor([[1, 2, 1, 3, 1]]), torch.zeros(1, 1, 5, 5)
    pattern[0, 0, 2, :3] = torch.tensor([0.1, 0.2, 0.7])
    pattern[0, 0, 4] = torch.tensor([0.1, 0.3, 0.2, 0.35, 0.05])
    assert duplicate_token_score(pattern, tokens).item() == pytest.approx((0.1 + 0.3) / 2)
    assert prefix_matching_score(pattern, tokens).item() == pytest.approx((0.2 + 0.65) / 2)


def test_a_token_right_after_itself_follows_its_earlier_occurrence():
    pattern = torch.eye(2)[None, None]
    assert prefix_matching_score(pattern, torch.tensor([[5, 5]])).item() == 1
    assert duplicate_token_score(pattern, torch.tensor([[5, 5]])).item() == 0


def test_the_score_is_nan_without_earlier_occurrences():
    pattern = torch.full((1, 2, 4, 4), 0.25)
    tokens = torch.arange(4)[None]
    assert prefix_matching_score(pattern, tokens).isnan().all()
    assert duplicate_token_score(pattern, tokens).isnan().all()


def test_uniform_attention_over_n_keys_has_the_entropy_log_n():
    entropies = attention_entropy(torch.full((2, 1, 6, 6), 1 / 6))
    assert entropies.flatten().tolist() == pytest.approx([math.log(6)] * 2)
    causal = torch.ones(4, 4).tril()
    expected = sum(math.log(n) for n in range(1, 5)) / 4
    assert attention_entropy((causal / causal.sum(-1, keepdim=True))[None, None]).item() == pytest.approx(expected)


def test_on_repeated_tokens_scores_are_means_of_diagonals():
    """As in TransformerLens, whose prefix matching has one query more, the last of the first half."""
    pattern = torch.rand(4, 3, 2, 12, 12, generator=torch.Generator().manual_seed(0)).tril()  # of four snapshots
    after, same = (pattern.diagonal(offset=offset, dim1=-2, dim2=-1) for offset in (1 - LENGTH, -LENGTH))
    torch.testing.assert_close(prefix_matching_score(pattern, TOKENS), after[..., 1:].mean(3))
    torch.testing.assert_close(duplicate_token_score(pattern, TOKENS), same.mean(3))
    assert after.shape[-1] == same.shape[-1] + 1 == LENGTH + 1


# --- Ensembles ---


def test_head_scores_are_those_of_the_patterns_of_each_layer():
    ensemble = random_ensemble(TWO_LAYERS)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(2)]
    _, cache = ensemble.run(TOKENS, names)
    scores = head_scores(ensemble, TOKENS)
    assert list(scores) == ["previous token", "duplicate token", "prefix matching", "entropy"]
    for layer, name in enumerate(names):
        of_layer = slice(2 * layer, 2 * layer + 2)
        torch.testing.assert_close(scores["previous token"][:, of_layer], previous_token_score(cache[name]).mT)
        torch.testing.assert_close(
            scores["prefix matching"][:, of_layer], prefix_matching_score(cache[name], TOKENS).mT
        )


def test_equal_attention_scores_give_uniform_attention():
    ensemble = random_ensemble(TWO_LAYERS)
    weights = {**ensemble.weights, "blocks.1.attn.W_Q": torch.zeros(3, 2, 16, 8)}
    scores = head_scores(Ensemble(TWO_LAYERS, range(3), weights), TOKENS)
    expected = sum(math.log(n) for n in range(1, 13)) / 12
    torch.testing.assert_close(scores["entropy"][:, 2:], torch.full((3, 2, len(TOKENS)), expected))


def test_a_table_has_head_scores():
    task = SkipTrigram()
    ensemble = random_ensemble(task.model_config(n_layers=1, n_heads=1, architecture="table"))
    scores = head_scores(ensemble, task.sample(2, torch.Generator().manual_seed(0)).tokens)
    assert all(values.shape == (3, 1, 2) and values.isfinite().all() for values in scores.values())


def test_each_snapshot_is_measured_on_its_own_weights(small):
    ensemble, tokens = small.ensemble(), TASK.sample(3, torch.Generator().manual_seed(0)).tokens
    scores = head_scores(ensemble, tokens)
    for i in range(len(ensemble)):
        for name, values in head_scores(ensemble.select(slice(i, i + 1)), tokens).items():
            torch.testing.assert_close(scores[name][i : i + 1], values)
