"""Quantising divides: a product by the reciprocal, corrected, gives the bytes of the division, ties and extremes included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_cases import Case, by_kernels, by_reference

from edgezip.kernels import native
from edgezip.program import Convert, DType, Op, Place, Program

Array = np.ndarray[Any, Any]
SCALES = [1.0, 0.1, 2.0 - 2.0**-23, 1.0 + 2.0**-23, 0.0078431377, 3.1e-5, 7.7e6, 1.2e-38, 1e-31, 1e-29, 3e29, 2e30, 1e37]


def near_ties(scale: float, rng: np.random.Generator, count: int) -> Array:
    """Neighbours of every half step, and floats of all kinds."""
    with np.errstate(all="ignore"):
        halves = (rng.integers(-260, 260, count) + np.float32(0.5)).astype(np.float32) * np.float32(scale)
        moved = halves.view(np.int32) + rng.integers(-3, 4, count).astype(np.int32)
    odd = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, scale], np.float32)
    return np.where(rng.random(count) < 0.1, rng.choice(odd, count), moved.view(np.float32)).astype(np.float32)


def quantising(
    rng: np.random.Generator, scale: float, planes: int, pixels: int, is_picture: bool, act_sign: int
) -> tuple[Program, Array, list[Array]]:
    case = Case(rng, act_sign)
    x = case.outside(Place.INPUT, DType.F32, (1, planes, pixels))
    y = case.arena(DType.S8, (1, pixels, planes) if is_picture else (1, planes, pixels))
    case.tensors[y].scale = float(np.float32(scale))
    strides = (1, planes) if is_picture else (pixels, 1)
    walk = {"rank": 2, "dims": (planes, pixels), "x_stride": (pixels, 1), "y_stride": strides, "x_offset": 0, "y_offset": 0}
    case.run(Op.COPY, (x,), y, convert=Convert.QUANTIZE, fill=0, scale=1.0, **walk, **case.clamp())
    arena, feeds = case.fill()
    feeds[0] = near_ties(scale, rng, planes * pixels).reshape(1, planes, pixels)
    return case.program(), arena, feeds


@pytest.mark.parametrize("is_picture", [True, False], ids=["picture", "rows"])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("act_sign", [0x80, 0], ids=["unsigned", "signed"])
def test_quantising_by_any_scale_is_a_division(scale: float, is_picture: bool, act_sign: int) -> None:
    rng = np.random.default_rng(5)
    for pixels in (1, 2, 5, 15, 16, 17, 33, 63, 64, 65, 130, 1000):
        program, arena, feeds = quantising(rng, scale, 3, pixels, is_picture, act_sign)
        want = by_reference(program, arena, feeds)[0]
        for isa in native.supported_isas():
            got = by_kernels(program, arena, feeds, isa)[0]
            np.testing.assert_array_equal(got, want, f"{isa}, {pixels} pixels")


def test_a_reciprocal_alone_would_be_seen() -> None:
    """The planted fault: x * (1 / scale) without the correction differs on these very numbers."""
    x = near_ties(0.1, np.random.default_rng(5), 3000)
    x = x[np.isfinite(x) & (np.abs(x) < 25)]
    by_division = np.rint(x / np.float32(0.1))
    assert np.any(by_division != np.rint(x * (np.float32(1) / np.float32(0.1))))
