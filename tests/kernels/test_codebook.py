"""The exact codebook against every partition there is, and against scikit-like iteration written out."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest

from edgezip.kernels import codebook

Array = np.ndarray[Any, Any]


def _cost(values: Array, centres: Array, weights: Array) -> float:
    return float((weights * (values - centres[codebook.nearest(values, centres)]) ** 2).sum())


def _least_cost(values: Array, count: int, weights: Array) -> float:
    """Over every way to cut the sorted distinct values into ``count`` runs."""
    points = np.unique(values)
    best = np.inf
    for cuts in combinations(range(1, len(points)), min(count, len(points)) - 1):
        ends = (0, *cuts, len(points))
        runs = [np.isin(values, points[a:b]) for a, b in pairwise(ends)]
        best = min(
            best, sum(float((weights[r] * (values[r] - np.average(values[r], weights=weights[r])) ** 2).sum()) for r in runs)
        )
    return best


@pytest.mark.parametrize("seed", range(60))
def test_no_partition_is_better(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = np.round(generator.standard_normal(generator.integers(2, 11)) * 3, 1)
    weights = generator.random(len(values)) + 1e-3
    count = int(generator.integers(1, 5))
    centres = codebook.kmeans(values, count, weights)
    assert len(centres) <= count
    assert (np.diff(centres) > 0).all()
    assert _cost(values, centres, weights) <= _least_cost(values, count, weights) + 1e-9


@pytest.mark.parametrize("seed", range(40))
def test_no_whole_numbers_are_better_centres(seed: int) -> None:
    """Every set of whole numbers there is, weights by the diagonal of a Hessian of very different sizes."""
    generator = np.random.default_rng(seed)
    values = generator.integers(-9, 10, generator.integers(3, 30)).astype(np.int8)
    weights = np.exp(3 * generator.standard_normal(len(values)))
    count = int(generator.integers(1, 4))
    centres = codebook.kmeans_s8(values, count, weights)
    assert centres.dtype == np.int8
    assert len(centres) <= count
    sets = combinations(range(values.min(), values.max() + 1), min(count, len(np.unique(values))))
    least = min(_cost(values.astype(float), np.array(each, float), weights) for each in sets)
    assert _cost(values.astype(float), centres.astype(float), weights) == pytest.approx(least, rel=1e-9, abs=1e-9)


def test_rounding_the_best_means_is_not_the_best() -> None:
    """So whole centres have a search of their own: somewhere the runs of the means, rounded, lose to it."""
    gains = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        values = generator.integers(-9, 10, 12).astype(np.int8)
        rounded = np.unique(np.rint(codebook.kmeans(values, 3)))
        ones = np.ones(len(values))
        gains += _cost(values.astype(float), codebook.kmeans_s8(values, 3).astype(float), ones) < _cost(
            values.astype(float), rounded, ones
        )
    assert gains > 0


def test_as_many_centres_as_values_lose_nothing() -> None:
    values = np.array([3.0, -1.0, 3.0, 0.5])
    assert codebook.kmeans(values, 16).tolist() == [-1.0, 0.5, 3.0]


def test_weights_of_zero_count_for_nothing_and_all_zero_means_all_alike() -> None:
    values = np.array([0.0, 1.0, 10.0])
    assert codebook.kmeans(values, 1, np.array([1.0, 1.0, 0.0])).tolist() == [0.5]
    assert codebook.kmeans(values, 1, np.zeros(3)).tolist() == [pytest.approx(11 / 3)]


def test_codebooks_of_codes_are_codes() -> None:
    generator = np.random.default_rng(3)
    codes = np.clip(np.rint(generator.laplace(0, 20, 5000)), -127, 127).astype(np.int8)
    centres = codebook.kmeans_s8(codes, 16)
    assert centres.dtype == np.int8
    assert len(centres) == 16
    uniform = np.linspace(codes.min(), codes.max(), 16)
    ones = np.ones(len(codes))
    assert _cost(codes.astype(float), centres.astype(float), ones) < 0.7 * _cost(codes.astype(float), uniform, ones)


def test_a_tie_goes_to_the_lower_centre() -> None:
    assert codebook.nearest(np.array([0.5, -3.0, 9.0]), np.array([0.0, 1.0])).tolist() == [0, 0, 1]
