"""Rounding and removing with error feedback, against brute force and against what is known of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgezip.kernels import codebook, jit_rounding, second_order, sparse_masks

Array = np.ndarray[Any, Any]


def _problem(seed: int, outputs: int = 24, columns: int = 40, mixed: float = 0.3) -> tuple[Array, Array]:
    """Weights (outputs, columns) and the second moment of inputs that are correlated and of different strength."""
    generator = np.random.default_rng(seed)
    mix = np.eye(columns) + mixed * generator.standard_normal((columns, columns)) / np.sqrt(columns)
    inputs = generator.standard_normal((columns * 20, columns)) @ mix * np.exp(0.5 * generator.standard_normal(columns))
    return generator.standard_normal((outputs, columns)), inputs.T @ inputs / len(inputs)


def _grid(weights: Array, high: int = 7) -> second_order.Grid:
    scale = np.abs(weights).max(axis=1, keepdims=True) / high
    return second_order.Grid(scale, np.zeros_like(scale), -high - 1, high)


@pytest.mark.parametrize("columns", [1, 7, 64, 65, 200])
def test_the_factor_is_triangular_and_gives_the_inverse(columns: int) -> None:
    _, hessian = _problem(columns, columns=columns)
    factor = second_order.inverse_factor(hessian, damping=0.0)
    assert np.array_equal(factor, np.triu(factor))
    np.testing.assert_allclose(factor.T @ factor @ hessian, np.eye(columns), atol=1e-8)


def test_a_column_that_no_input_reaches_is_independent() -> None:
    weights, hessian = _problem(1)
    hessian[3], hessian[:, 3] = 0.0, 0.0
    grid = _grid(weights)
    codes = second_order.gptq(weights, hessian, grid)
    assert np.array_equal(codes[:, 3], grid.codes(weights)[:, 3])


def test_a_singular_moment_is_damped_and_infinity_is_refused() -> None:
    one = np.ones((5, 1))
    assert np.isfinite(second_order.inverse_factor(one @ one.T, damping=0.0)).all()
    with pytest.raises(ValueError, match="not finite"):
        second_order.inverse_factor(np.full((2, 2), np.inf))


def test_gptq_of_independent_inputs_is_plain_rounding() -> None:
    weights, _ = _problem(2)
    grid = _grid(weights)
    codes = second_order.gptq(weights, np.diag(np.linspace(1, 2, weights.shape[1])), grid)
    assert np.array_equal(codes, grid.codes(weights))


@pytest.mark.parametrize("by_activity", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_gptq_lowers_the_output_error_of_every_row(seed: int, by_activity: bool) -> None:
    weights, hessian = _problem(seed, columns=150, mixed=1.0)
    grid = _grid(weights)
    codes = second_order.gptq(weights, hessian, grid, by_activity=by_activity)
    assert codes.min() >= grid.low
    assert codes.max() <= grid.high
    assert np.array_equal(codes, np.rint(codes))
    errors = [
        np.einsum("ij,jk,ik->i", made - weights, hessian, made - weights) for made in (grid.values(codes), grid.rounded(weights))
    ]
    assert (errors[0] <= errors[1] + 1e-12).all()
    assert errors[0].sum() < 0.8 * errors[1].sum()


def test_gptq_keeps_a_grid_of_groups_in_place() -> None:
    """Static groups: columns are visited in another order, but each is rounded on the grid of its own group."""
    weights, hessian = _problem(5, columns=64)
    scale = np.repeat(np.abs(weights).reshape(len(weights), 4, 16).max(axis=2) / 7, 16, axis=1)
    grid = second_order.Grid(scale, np.full_like(scale, 1.0), -8, 7)
    values = grid.values(second_order.gptq(weights, hessian, grid))
    assert np.allclose(np.rint(values / scale), values / scale, atol=1e-9)
    assert (np.abs(values) <= 9 * scale + 1e-12).all()


def test_one_removed_weight_is_answered_as_brain_surgeon_has_it() -> None:
    """Removing the first column: dw = -w_0 / inv(H)_00 * inv(H)[0], in closed form."""
    weights, hessian = _problem(6, outputs=3, columns=8)
    keep = np.ones((3, 8), bool)
    keep[:, 0] = False
    made = second_order.obs_prune(weights, hessian, lambda saliency, first: keep, damping=0.0)
    inverse = np.linalg.inv(hessian)
    np.testing.assert_allclose(made, weights - np.outer(weights[:, 0] / inverse[0, 0], inverse[0]), atol=1e-9)


@pytest.mark.parametrize("width", [8, 24, 128])
def test_obs_beats_removing_alone_and_the_refit_beats_both(width: int) -> None:
    weights, hessian = _problem(7)

    def choose(saliency: Array, first: int) -> Array:
        return sparse_masks.unstructured(saliency, 0.5)

    made = second_order.obs_prune(weights, hessian, choose, width=width)
    exact = second_order.refit(weights, hessian, made != 0)
    alone, updated, best = (second_order.output_error(w - weights, hessian) for w in (weights * (made != 0), made, exact))
    assert best <= updated < alone
    assert np.array_equal(exact != 0, made != 0)


def test_refit_to_changed_inputs_gives_least_squares() -> None:
    """W' x' nearest to W x for inputs x that became x' (a layer before was changed): NumPy's lstsq agrees."""
    generator = np.random.default_rng(8)
    old = generator.standard_normal((300, 6))
    new = old @ (np.eye(6) + 0.2 * generator.standard_normal((6, 6))) + 0.1 * generator.standard_normal((300, 6))
    weights = generator.standard_normal((4, 6))
    made = second_order.refit(weights, new.T @ new, np.ones((4, 6), bool), old.T @ new, damping=0.0)
    expected = np.linalg.lstsq(new, old @ weights.T, rcond=None)[0].T
    np.testing.assert_allclose(made, expected, atol=1e-9)


def _plain_feedback(weights: Array, factor: Array, grid: second_order.Grid) -> Array:
    """Error feedback as it is written down, a column at a time."""
    held, made = weights.copy(), np.empty_like(weights)
    for j in range(held.shape[1]):
        codes = grid.codes(held)[:, j]
        made[:, j] = codes
        value = (codes - grid.zero_point[:, 0]) * grid.scale[:, 0]
        held[:, j + 1 :] -= np.outer((held[:, j] - value) / factor[j, j], factor[j, j + 1 :])
    return made


@pytest.mark.parametrize("columns", [1, 5, 130])
def test_compiled_feedback_is_the_plain_one(columns: int) -> None:
    weights, hessian = _problem(columns, columns=columns)
    grid, factor = _grid(weights), second_order.inverse_factor(hessian)
    codes = np.empty(weights.shape, np.int64)
    jit_rounding.feed_back(weights.copy(), factor, *grid.laid_out(weights.shape).arguments, codes)
    assert np.array_equal(codes, _plain_feedback(weights, factor, grid))


@pytest.mark.parametrize("table", [False, True])
def test_compiled_descent_moves_each_column_to_its_minimum(table: bool) -> None:
    weights, hessian = _problem(9)
    grid = _grid(weights)
    points = codebook.Table(np.array([-100, -31, -7, 0, 3, 30, 127], np.int8), grid.scale / 18) if table else grid
    codes = second_order.descend(weights, hessian, points, points.codes(weights), sweeps=50)
    least = second_order.output_error(points.values(codes) - weights, hessian)
    for column in range(weights.shape[1]):  # no other code of any one column is better
        for step in (-1, 1):
            moved = codes.copy()
            moved[:, column] = np.clip(moved[:, column] + step, *((0, 6) if table else (grid.low, grid.high)))
            each = np.einsum("ij,ij->i", (points.values(moved) - weights) @ hessian, points.values(moved) - weights)
            now = np.einsum("ij,ij->i", (points.values(codes) - weights) @ hessian, points.values(codes) - weights)
            assert (each >= now - 1e-9 * least).all()


def test_a_ridge_of_nothing_is_least_squares_and_masks_of_their_own_come_near_it() -> None:
    weights, hessian = _problem(13, outputs=8, columns=30, mixed=1.0)
    target = weights + np.random.default_rng(0).standard_normal(weights.shape)
    none = np.zeros(30)
    exact = second_order.ridge(weights, hessian, target @ hessian, np.ones(weights.shape, bool), none)
    np.testing.assert_allclose(exact, target, atol=1e-6)
    keep = np.random.default_rng(1).random(weights.shape) < 0.5
    masked = np.where(keep, weights, 0.0)
    made = second_order.ridge(masked, hessian, target @ hessian, keep, none, sweeps=200)
    best = second_order.refit(target, hessian, keep, damping=0.0)
    assert (made[~keep] == 0).all()
    np.testing.assert_allclose(made, best, atol=1e-3)
    strong = second_order.ridge(masked, hessian, target @ hessian, keep, np.full(30, 1e9))
    np.testing.assert_allclose(strong, masked, atol=1e-6)
