"""Factorisations: exact where the rank is there, optimal where theory says so, and ranks found under noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgezip.kernels import low_rank, second_order

Array = np.ndarray[Any, Any]


def _moments(generator: np.random.Generator, columns: int) -> Array:
    inputs = generator.standard_normal((columns * 15, columns)) * np.exp(generator.standard_normal(columns))
    return inputs.T @ inputs / len(inputs)


@pytest.mark.parametrize("rank", [1, 7, 20])
def test_svd_leaves_exactly_the_singular_values_beyond_the_rank(rank: int) -> None:
    generator = np.random.default_rng(rank)
    weights = generator.standard_normal((30, 20))
    left, right = low_rank.svd(weights, rank)
    assert left.shape == (30, rank)
    assert right.shape == (rank, 20)
    error = float(((left @ right - weights) ** 2).sum())
    assert error == pytest.approx(float((low_rank.singular_values(weights)[rank:] ** 2).sum()), abs=1e-9)


def test_no_other_product_of_the_rank_serves_the_inputs_better() -> None:
    """The whitened cut against the plain one, and against random perturbations of itself."""
    generator = np.random.default_rng(1)
    weights, hessian = generator.standard_normal((24, 32)), _moments(generator, 32)
    left, right = low_rank.svd(weights, 6, hessian)
    best = second_order.output_error(left @ right - weights, hessian)
    plain = second_order.output_error(np.matmul(*low_rank.svd(weights, 6)) - weights, hessian)
    assert best < 0.9 * plain
    for _ in range(20):
        other = (left + 1e-2 * generator.standard_normal(left.shape)) @ (right + 1e-2 * generator.standard_normal(right.shape))
        assert best < second_order.output_error(other - weights, hessian) * (1 + 1e-3)


def test_a_rank_holds_its_share_of_the_energy() -> None:
    values = np.array([3.0, 2.0, 1.0])
    assert [low_rank.rank_by_energy(values, share) for share in (0.5, 0.7, 13 / 14, 0.99)] == [1, 2, 2, 3]
    assert low_rank.rank_by_energy(np.zeros(3), 0.9) == 1


def test_tucker_finds_the_ranks_that_are_there() -> None:
    generator = np.random.default_rng(2)
    factors = (generator.standard_normal((32, 6)), generator.standard_normal((6, 9, 5)), generator.standard_normal((5, 20)))
    held = np.einsum("or,rws,sc->owc", *factors)
    out, core, inside = low_rank.tucker2(held, 6, 5)
    np.testing.assert_allclose(np.einsum("or,rws,sc->owc", out, core, inside), held, atol=1e-10)
    np.testing.assert_allclose(out.T @ out, np.eye(6), atol=1e-10)
    np.testing.assert_allclose(inside @ inside.T, np.eye(5), atol=1e-10)


def test_more_sweeps_of_tucker_never_lose() -> None:
    held = np.random.default_rng(3).standard_normal((16, 9, 12))
    errors = []
    for sweeps in (0, 1, 10):
        out, core, inside = low_rank.tucker2(held, 5, 4, sweeps)
        errors.append(float(((np.einsum("or,rws,sc->owc", out, core, inside) - held) ** 2).sum()))
    assert errors[0] >= errors[1] - 1e-9
    assert errors[1] >= errors[2] - 1e-9


def test_cp_finds_the_components_that_are_there() -> None:
    generator = np.random.default_rng(4)
    held = low_rank.cp_product([generator.standard_normal((side, 4)) for side in (24, 3, 3, 16)])
    factors = low_rank.cp(held, 4)
    assert np.linalg.norm(low_rank.cp_product(factors) - held) < 5e-3 * np.linalg.norm(held)
    norms = np.array([np.linalg.norm(factor, axis=0) for factor in factors])
    np.testing.assert_allclose(norms, np.broadcast_to(norms[0], norms.shape), rtol=1e-6)


def test_more_components_of_cp_leave_less_and_none_grows_without_bound() -> None:
    held = np.random.default_rng(5).standard_normal((12, 3, 3, 8))
    errors = []
    for rank in (2, 8, 24):
        factors = low_rank.cp(held, rank, sweeps=40)
        errors.append(float(((low_rank.cp_product(factors) - held) ** 2).sum()))
        assert max(np.abs(factor).max() for factor in factors) < 10
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(60, 100, 7), (100, 60, 3), (64, 64, 10), (12, 300, 2)])
@pytest.mark.parametrize("noise", [0.1, 0.7])
def test_the_rank_is_found_under_noise(rows: int, columns: int, rank: int, noise: float) -> None:
    generator = np.random.default_rng(rank)
    signal = generator.standard_normal((rows, rank)) @ generator.standard_normal((rank, columns))
    assert low_rank.evbmf_rank(signal + noise * generator.standard_normal((rows, columns))) == rank


def test_pure_noise_has_no_rank_to_speak_of() -> None:
    assert low_rank.evbmf_rank(np.random.default_rng(6).standard_normal((60, 90))) == 1
