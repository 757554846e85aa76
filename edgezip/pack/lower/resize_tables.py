"""What Resize reads for each index of one output axis: places, indices and weights, computed on the host.

Source of every rule: ONNX Resize (operator sets 11 to 19) and the arithmetic of its reference implementation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgezip.pack.context import Unsupported

Array = np.ndarray[Any, Any]
f32 = np.float32


@dataclass(frozen=True, slots=True)
class Along:
    """One axis: sizes before and after, the factor between them, and the part (0 to 1) that a crop reads."""

    size_in: int
    size_out: int
    scale: float
    start: float = 0.0
    end: float = 1.0


def coordinates(mode: str, along: Along) -> Array:
    """float32 position in the input of each output index (coordinate_transformation_mode)."""
    size_in, size_out = along.size_in, along.size_out
    index, scale = np.arange(size_out, dtype=f32), f32(along.scale)
    centres: Array = (index + f32(0.5)) / scale
    match mode:
        case "half_pixel":
            return centres - f32(0.5)
        case "pytorch_half_pixel":
            return centres - f32(0.5) if size_out > 1 else np.zeros(1, f32)
        case "half_pixel_symmetric":
            adjust = f32(size_out / (along.scale * size_in))
            return f32(size_in / 2) * (1 - adjust) + centres - f32(0.5)
        case "align_corners":
            return index * f32((size_in - 1) / (_resized(along) - 1)) if size_out > 1 else np.zeros(1, f32)
        case "asymmetric":
            return index / scale
        case "tf_half_pixel_for_nn":
            return centres
        case "tf_crop_and_resize":
            return _cropped(along)
    raise Unsupported(f"has coordinate_transformation_mode {mode}")


def _resized(along: Along) -> float:
    """The length that ``align_corners`` and crops divide by: scale times size, a fraction where that is none of whole pixels."""
    exact = along.scale * along.size_in
    return along.size_out if math.isclose(exact, along.size_out, rel_tol=0, abs_tol=1e-3) else exact


def _cropped(along: Along) -> Array:
    last, resized = along.size_in - 1, _resized(along)
    if resized == 1:
        return np.full(along.size_out, (along.end - along.start) * last / 2 + along.start * last, f32)
    step = (along.end - along.start) * last / (resized - 1)
    return (np.arange(along.size_out) * step + along.start * last).astype(f32)


def is_outside(position: Array, size_in: int) -> Array:
    """bool: positions that a crop fills with its extrapolation value."""
    return (position < 0) | (position > size_in - 1)


def nearest_index(position: Array, rule: str, size_in: int) -> Array:
    """int32 input index of each position (nearest_mode)."""
    rules: dict[str, Callable[[Array], Array]] = {
        "round_prefer_floor": lambda p: np.ceil(p - f32(0.5)),
        "round_prefer_ceil": lambda p: np.floor(p + f32(0.5)),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if rule not in rules:
        raise Unsupported(f"has nearest_mode {rule}")
    index: Array = np.clip(rules[rule](position), 0, size_in - 1).astype(np.int32)
    return index


def neighbours(position: Array) -> tuple[Array, Array]:
    """int32 (2, n) indices below and above each position and the float32 weight of the one above.

    Beyond the last pixel both mean that one, whatever the weight: so the table of a size begins as that of a larger one does.
    """
    inside = np.maximum(position, 0).astype(f32)
    below = np.floor(inside).astype(np.int32)
    return np.stack([below, below + 1]), (inside - below).astype(f32)


# --- weighted sums ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kernel:
    """A function of the distance in input pixels, and how the sum is formed."""

    is_cubic: bool
    a: float = -0.75
    antialias: bool = False  # wider by 1 / scale where the picture shrinks
    exclude_outside: bool = False  # taps beyond the edge weigh nothing, instead of reading the edge

    @property
    def reach(self) -> int:
        """Input pixels to either side where nothing shrinks."""
        return 2 if self.is_cubic else 1

    def at(self, distance: Array) -> Array:
        """float64 weight of a tap ``distance`` away (Keys, cubic convolution, 1981; a tent otherwise)."""
        x, a = np.abs(distance), self.a
        near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((x - 5) * x + 8) * x * a - 4 * a
        tent = np.clip(1 - x, 0, 1)
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0)) if self.is_cubic else tent


def taps(position: Array, along: Along, kernel: Kernel) -> tuple[Array, Array]:
    """int32 indices and float32 weights (n, taps), ascending; an index may lie outside, and means the edge there."""
    place = position.astype(np.float64)
    squeeze = min(along.scale, 1.0) if kernel.antialias else 1.0
    start = math.floor(-kernel.reach / squeeze) + 1
    index = np.floor(place)[:, None] + np.arange(start, 2 - start)
    weight = kernel.at((index - place[:, None]) * squeeze)
    if kernel.exclude_outside:
        weight = np.where((index < 0) | (index > along.size_in - 1), 0.0, weight)
    if kernel.exclude_outside or kernel.antialias:
        weight = weight / weight.sum(1, keepdims=True)
    return index.astype(np.int32), weight.astype(f32)
