"""Orders of columns for N:M: never worse, near the best that exhaustive search finds, and whole permutations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgezip.kernels import group_order


@pytest.mark.parametrize(("n", "m", "columns"), [(2, 4, 32), (1, 4, 24), (4, 8, 64), (1, 2, 6), (2, 4, 4), (2, 4, 0)])
def test_an_order_is_a_permutation_that_keeps_no_less(n: int, m: int, columns: int) -> None:
    saliency = np.exp(2 * np.random.default_rng(columns).standard_normal((40, columns)))
    order = group_order.order_columns(saliency, n, m)
    assert sorted(order.tolist()) == list(range(columns))
    assert group_order.kept_score(saliency[:, order], n, m) >= group_order.kept_score(saliency, n, m)


def test_columns_that_are_large_together_are_parted() -> None:
    """Every row has its four large weights side by side: half of them are lost, and none when they are dealt out."""
    saliency = np.kron(np.eye(4), np.ones((1, 4))) + 1e-3
    assert group_order.kept_score(saliency, 2, 4) < 9
    order = group_order.order_columns(saliency, 2, 4)
    assert group_order.kept_score(saliency[:, order], 2, 4) > 16


@pytest.mark.parametrize("seed", range(4))
def test_eight_columns_come_within_a_percent_of_the_best_of_all_orders(seed: int) -> None:
    saliency = np.exp(np.random.default_rng(seed).standard_normal((12, 8)))
    best = max(
        group_order.kept_score(saliency[:, [*first, *(c for c in range(8) if c not in first)]], 2, 4)
        for first in itertools.combinations(range(8), 4)
    )
    made = group_order.kept_score(saliency[:, group_order.order_columns(saliency, 2, 4)], 2, 4)
    assert made >= 0.99 * best
