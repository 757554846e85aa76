"""Learned rounding: better than the nearest, never worse, and the same whether layers are learned together or alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_second_order import _grid, _problem

from edgezip.kernels import adaround
from edgezip.kernels.second_order import output_error

Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("seed", range(3))
def test_learning_beats_the_nearest_and_goes_one_step_down_or_up(seed: int) -> None:
    weights, hessian = _problem(seed)
    grid = _grid(weights, high=3)
    codes = adaround.adaround(weights, hessian, grid, iterations=400)
    learned, plain = (output_error(grid.values(c) - weights, hessian) for c in (codes, grid.codes(weights)))
    assert learned < 0.9 * plain
    exact = weights / grid.scale
    assert (np.abs(np.clip(codes, -4, 3) - np.clip(exact, -4, 3)) < 1 + 1e-9).all()


def test_layers_learned_together_are_learned_as_if_alone() -> None:
    problems = [_problem(seed, outputs=3, columns=9) for seed in range(4)]
    grids = [_grid(weights, high=3) for weights, _ in problems]
    weights, hessians = (np.stack(side) for side in zip(*problems, strict=True))
    scale, zero = (np.stack([np.broadcast_to(s, weights[0].shape) for s in sides]) for sides in
                   ([g.scale for g in grids], [g.zero_point for g in grids]))  # fmt: skip
    together = adaround.adaround_groups(weights, hessians, scale, zero, (-4, 3), 200)
    alone = [adaround.adaround(w, h, g, iterations=200) for (w, h), g in zip(problems, grids, strict=True)]
    assert np.array_equal(together, np.stack(alone))


@pytest.mark.parametrize("strength", [1e-30, 1.0, 1e30])
def test_the_unit_of_the_inputs_and_of_the_weights_does_not_matter(strength: float) -> None:
    weights, hessian = _problem(5)
    grid = _grid(weights, high=3)
    wanted = adaround.adaround(weights, hessian, grid, iterations=100)
    small = weights * 2.0**-40
    with np.errstate(all="raise", under="ignore"):
        codes = adaround.adaround(small, hessian * strength, _grid(small, high=3), iterations=100)
    assert (codes == wanted).mean() > 0.99  # float32 rounds both alike but for the last bits


def test_weights_that_lie_on_the_grid_stay() -> None:
    weights, hessian = _problem(6)
    grid = _grid(weights)
    codes = grid.codes(weights)
    assert np.array_equal(adaround.adaround(grid.values(codes), hessian, grid, iterations=20), codes)
