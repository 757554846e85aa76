"""What a step's ``small_sums`` promises to kernels, proved by the packer from the weights."""

from __future__ import annotations

import numpy as np
import pytest

from edgezip.pack.weights import reach, sums_are_small

ONE = np.ones(1, np.float32)


def test_reach_is_met_by_some_input_and_passed_by_none() -> None:
    rng = np.random.default_rng(5)
    weights, bias, zero_point = rng.integers(-127, 128, (6, 40), np.int8), rng.integers(-900, 900, 6), 17
    largest = reach(bias, weights, zero_point)
    ends = np.where(weights > 0, 127, -128)  # the input that drives each output up; its opposite drives it down
    up = bias + ((ends - zero_point) * weights.astype(np.int64)).sum(axis=1)
    down = bias + ((-1 - ends - zero_point) * weights.astype(np.int64)).sum(axis=1)
    assert np.array_equal(largest, np.maximum(abs(up), abs(down)))


@pytest.mark.parametrize(
    ("largest", "mult", "small"),
    [
        ([2**22 - 1], 1e-3, True),
        ([2**22], 1e-3, False),  # f32(sum) by addition would lose a bit
        ([1000], 32.0, True),
        ([1016], 32.0, False),  # 32512 steps: with a zero point of 127 it no longer fits 16 bits with room to spare
        ([10, 2**23], 1e-6, False),  # one output decides for the step
        ([1000], -32.6, False),
    ],
)
def test_sums_are_small_only_below_both_limits(largest: list[int], mult: float, small: bool) -> None:
    assert sums_are_small(np.array(largest), mult * ONE) is small
