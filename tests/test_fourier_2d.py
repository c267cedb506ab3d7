"""Fourier terms of functions of two numbers, on functions whose terms are known."""

import math

import pytest
import torch

from explorer.analysis.fourier import basis
from explorer.analysis.fourier_2d import (
    SUMS,
    basis_term,
    frequency_block,
    projection,
    split_logits,
    sum_components,
    sum_directions,
    transform_2d,
)
from explorer.analysis.similarity import closeness
from explorer.errors import UserError
from tests.lookup import rng

SIZES = pytest.mark.parametrize("n", [2, 5, 10, 59])


@SIZES
def test_transform_2d_keeps_norms_and_is_inverted_by_the_basis(n):
    x = torch.randn(2, n * n, 3, generator=rng(), dtype=torch.float64)
    found = transform_2d(x, n)
    assert found.shape == (2, n, n, 3)
    torch.testing.assert_close(found.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))
    _, waves = basis(n)
    torch.testing.assert_close(torch.einsum("bfgc,fx,gy->bxyc", found, waves, waves).flatten(1, 2), x)


@pytest.mark.parametrize("n", [10, 11])
def test_a_product_of_two_waves_has_one_component(n):
    names, waves = basis(n)
    product = torch.outer(waves[names.index("cos 2")], waves[names.index("sin 4")]).reshape(n * n, 1)
    found = transform_2d(product, n)[..., 0]
    expected = torch.zeros(n, n, dtype=torch.float64)
    expected[names.index("cos 2"), names.index("sin 4")] = 1
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("n", "keys", "count"), [(7, (1, 3), 4), (10, (2, 5), 3), (10, (), 0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_directions_are_orthonormal_functions_of_the_sum_or_the_difference(n, keys, count, sign):
    along = sum_directions(n, keys, sign)
    assert along.shape == (count, n * n)
    torch.testing.assert_close(along @ along.T, torch.eye(count, dtype=torch.float64))
    x, y = torch.cartesian_prod(torch.arange(n), torch.arange(n)).unbind(1)
    for value in range(n):
        same = along[:, (x + sign * y) % n == value]
        torch.testing.assert_close(same, same[:, :1].expand(-1, n))


def test_restricted_and_excluded_logits_sum_to_the_logits_and_their_mean():
    logits = torch.randn(2, 49, 7, generator=rng(), dtype=torch.float64) + 3
    restricted, excluded = split_logits(logits, sum_directions(7, (1, 2), 1))
    torch.testing.assert_close(restricted + excluded, logits + logits.mean(1, keepdim=True))
    torch.testing.assert_close(restricted.mean(1), logits.mean(1))
    torch.testing.assert_close(excluded.mean(1), logits.mean(1))
    nothing, everything = split_logits(logits, sum_directions(7, (), 1))
    torch.testing.assert_close(nothing, logits.mean(1, keepdim=True).expand_as(logits))
    assert torch.equal(everything, logits)


@SIZES
def test_projections_on_all_terms_sum_to_the_whole(n):
    """Each term's projection is its coefficient times the term, and what is left is orthogonal to it."""
    names, _ = basis(n)
    x = torch.randn(2, n * n, 3, generator=rng(), dtype=torch.float64)
    coefficients, some = transform_2d(x, n), [0, 1, n // 2, n - 1]
    for i in some:
        for j in some:
            term = basis_term(n, names[i], names[j])
            assert term.norm().item() == pytest.approx(1)
            part = projection(x, term[None])
            torch.testing.assert_close(part, coefficients[:, None, i, j] * term[:, None])
            torch.testing.assert_close(term @ (x - part), torch.zeros(2, 3).double())
            share = coefficients[:, i, j].square().sum() / x.square().sum()
            assert closeness(x, part) ** 2 == pytest.approx(share.item())
    if n <= 5:
        every = torch.stack([basis_term(n, one, other) for one in names for other in names])
        torch.testing.assert_close(projection(x, every), x)
        torch.testing.assert_close(every @ every.T, torch.eye(n * n, dtype=torch.float64))


def test_an_unknown_component_is_refused():
    with pytest.raises(UserError, match="no component 'cos 3' modulo 5; there are constant, cos 1"):
        basis_term(5, "constant", "cos 3")


def test_a_block_holds_the_nine_terms_of_its_frequency():
    n = 10
    x = torch.randn(n * n, 2, generator=rng(), dtype=torch.float64)
    block = frequency_block(transform_2d(x, n), 4)
    assert block.shape == (3, 3, 2)
    for i, one in enumerate(["constant", "cos 4", "sin 4"]):
        for j, other in enumerate(["constant", "cos 4", "sin 4"]):
            torch.testing.assert_close(block[i, j], basis_term(n, one, other) @ x)
    for wrong in (0, 5):  # the alternating component has no sine
        with pytest.raises(
            UserError, match=f"Frequency {wrong} has no cosine and sine modulo 10; choose one from 1 to 4"
        ):
            frequency_block(transform_2d(x, n), wrong)


@pytest.mark.parametrize("n", [7, 10])
def test_components_along_the_sum_and_the_difference_are_those_of_their_directions(n):
    x = torch.randn(3, n * n, 2, generator=rng(), dtype=torch.float64)
    found = sum_components(frequency_block(transform_2d(x, n), 2))
    directions = torch.cat([sum_directions(n, (2,), 1), sum_directions(n, (2,), -1)])
    torch.testing.assert_close(found, directions @ x)
    number = torch.arange(n, dtype=torch.float64)
    angle = 2 * math.pi * 2 / n * (number[:, None] - number)
    only = sum_components(frequency_block(transform_2d(angle.sin().reshape(-1, 1), n), 2))
    expected = [0, 0, 0, n / math.sqrt(2)]
    assert only[:, 0].tolist() == pytest.approx(expected, abs=1e-9)
    assert SUMS[3].format(2) == "sin 2(x − y)"
