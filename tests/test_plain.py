"""The plain recomputation is right where that can be seen without the explorer."""

import ast
from pathlib import Path

import numpy as np
import pytest

from tests.plain import circuits, fourier, measures
from tests.plain.model import backward, cross_entropy, forward, mean_loss_slope

CFG = {
    **{"n_layers": 2, "n_heads": 2, "d_model": 6, "d_head": 3, "d_mlp": 5, "n_ctx": 4, "d_vocab": 7, "d_vocab_out": 7},
    **{"act_fn": "gelu", "attn_only": False, "positions": "learned", "layer_norm": False, "residual_gain": 1.5},
}
TOKENS = np.array([[1, 2, 3, 2], [4, 0, 6, 5]])
POSITIONS, TARGETS = np.array([[1, 3], [0, 3]]), np.array([[3, 4], [0, 2]])
MAY_IMPORT = {"collections", "dataclasses", "functools", "json", "math", "numpy", "pathlib", "safetensors", "tests"}


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"embed.W_E": (7, 6), "pos_embed.W_pos": (4, 6), "unembed.W_U": (6, 7)}
    for layer in range(2):
        block = f"blocks.{layer}"
        shapes |= {f"{block}.attn.W_{name}": (2, 6, 3) for name in "QKV"} | {f"{block}.attn.W_O": (2, 3, 6)}
        shapes |= {f"{block}.mlp.W_in": (6, 5), f"{block}.mlp.b_in": (5,)}
        shapes |= {f"{block}.mlp.W_out": (5, 6), f"{block}.mlp.b_out": (6,)}
    return {name: rng.normal(size=shape) / 2 for name, shape in shapes.items()}


def test_nothing_of_the_explorer_is_imported():
    for file in (Path(__file__).parent / "plain").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert {name.split(".")[0] for name in names} <= MAY_IMPORT
            assert all(name.startswith("tests.plain") for name in names if name.startswith("tests"))


@pytest.mark.parametrize("act_fn", ["relu", "gelu"])
def test_gradients_are_those_of_central_differences(weights, act_fn):
    """At every hook point, along a random direction that respects the causal mask."""
    cfg, rng, rows = {**CFG, "act_fn": act_fn}, np.random.default_rng(1), np.arange(2)[:, None]
    found = forward(cfg, weights, TOKENS)
    grads = backward(cfg, weights, found, mean_loss_slope(found["logits"], POSITIONS, TARGETS))
    assert grads.keys() == found.keys() - {"logits"}
    for hook, gradient in grads.items():
        direction = np.where(np.isfinite(found[hook]), rng.normal(size=found[hook].shape), 0)
        losses = []
        for sign in (1, -1):
            moved = {hook: lambda x, sign=sign, direction=direction: x + sign * 1e-5 * direction}
            logits = forward(cfg, weights, TOKENS, moved)["logits"]
            losses.append(cross_entropy(logits[rows, POSITIONS], TARGETS).mean(1).sum())
        slope = (losses[0] - losses[1]) / 2e-5
        assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-6, abs=1e-9), hook


def test_later_tokens_do_not_matter(weights):
    changed = TOKENS.copy()
    changed[:, 3] = 1
    one, other = (forward(CFG, weights, tokens)["logits"] for tokens in (TOKENS, changed))
    np.testing.assert_allclose(one[:, :3], other[:, :3])
    assert np.abs(one - other)[:, 3].max() > 1e-3


def test_head_scores_of_known_patterns():
    tokens = np.array([5, 3, 4, 3, 4])
    names = ("previous-token", "duplicate-token", "prefix-matching", "entropy")
    uniform = np.tril(np.ones((5, 5))) / np.arange(1, 6)[:, None]
    scores = measures.head_scores(uniform[None], tokens)
    expected = [np.mean([1 / 2, 1 / 3, 1 / 4, 1 / 5]), (1 / 4 + 1 / 5) / 2, (1 / 4 + 1 / 5) / 2]
    expected.append(np.log([1, 2, 3, 4, 5]).mean())
    assert [scores[name][0] for name in names] == pytest.approx(expected)
    induction = np.eye(5)
    induction[3], induction[4] = np.eye(5)[2], np.eye(5)[3]
    assert measures.head_scores(induction[None], tokens)["prefix-matching"][0] == 1


@pytest.mark.parametrize("n", [7, 10])
def test_the_fourier_basis_is_orthonormal_and_measures_have_known_values(n):
    names, waves = fourier.basis(n)
    np.testing.assert_allclose(waves @ waves.T, np.eye(n), atol=1e-12)
    assert len(names) == n
    one = np.eye(n)[0]
    assert fourier.gini(one) == pytest.approx(1 - 1 / n)
    assert fourier.gini(np.ones(n)) == pytest.approx(0)
    assert (fourier.participation(one), fourier.participation(np.ones(n))) == pytest.approx((1, 1 / n))
    x, y = np.divmod(np.arange(n * n), n)
    wave = np.cos(2 * np.pi * 2 * (x + y) / n)[:, None]
    assert fourier.neuron_frequencies(wave, n)[:, 0] == pytest.approx(np.eye(n // 2)[1], abs=1e-12)
    energies = fourier.energies(wave, n)[:, :, 0]
    shares = energies / energies.sum()
    assert (shares[3, 3], shares[4, 4]) == pytest.approx((0.5, 0.5))
    # Restricted to its own frequency nothing is lost; with it excluded nothing is left but the means.
    logits, targets = 5 * np.cos(2 * np.pi * 2 * (x[:, None] + y[:, None] - np.arange(n)) / n), (x + y) % n
    found = fourier.progress(logits, targets, x < 3, n, [2])
    assert found["restricted"] == pytest.approx(found["all pairs"])
    assert found["excluded"] == pytest.approx(np.log(n))


def test_averages_and_effective_rank_of_known_values():
    step = np.repeat([1.0, 0.0], 50)
    both = measures.smoothed_robustly(step, 0.8)
    assert both[49] - both[50] == pytest.approx(2 * (both[49] - 0.5), rel=1e-6)  # no lag
    assert both[40:60] == pytest.approx(1 - both[::-1][40:60])
    assert (both[0], both[-1]) == (1, 0)
    # k rows after the step 0.8^k / 1.8 of it remains
    assert both[50] == pytest.approx(0.8 / 1.8, rel=1e-3)
    assert measures.drawn_out(0.8) == 15
    spike = np.where(np.arange(50) == 20, 9.0, 2.0)
    assert measures.smoothed_robustly(np.append(np.nan, spike), 0.8)[1:] == pytest.approx(2)
    assert measures.filled(np.array([[np.nan], [1], [np.inf], [3]])).tolist() == [[1], [1], [2], [3]]
    assert measures.running_median(np.array([[5.0], [1], [2], [9], [4]]), 1).tolist() == [[5], [2], [2], [4], [4]]
    assert measures.smoothed(np.array([np.nan, 2.0, np.nan, 4.0]), 0.5).tolist()[1:] == [2, 2, 3]
    assert circuits.effective_rank(np.array([2.0, 2.0, 0.0])) == pytest.approx(2)
