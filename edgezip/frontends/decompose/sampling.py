"""Sampling at computed places: the grid of an affine map, and convolutions whose taps wander, by way of GridSample."""

from __future__ import annotations

import math

import numpy as np

from edgezip import graph
from edgezip.frontends.decompose.emitter import LARGEST_CONSTANT, Emitter, decomposes


@decomposes("AffineGrid")
def affine_grid(emit: Emitter) -> bool:
    """theta times the homogeneous coordinates of every pixel, x first; (N, 2, 3) or (N, 3, 4)."""
    size = emit.constant(1)
    if size is None:
        return False
    spatial = [int(d) for d in size.reshape(-1)[2:]]
    axes = len(spatial)
    if emit.shape[1:] != (axes, axes + 1) or math.prod(spatial) > LARGEST_CONSTANT:
        return False
    aligned = bool(emit.attr("align_corners", 0))
    along = [_coordinates(d, aligned=aligned) for d in spatial]
    places = np.stack([*np.meshgrid(*along, indexing="ij")[::-1], np.ones(spatial)], -1).reshape(-1, axes + 1)
    turned = emit("Transpose", emit.x, perm=[0, 2, 1])
    return emit.finish(emit.reshape(emit("MatMul", places.astype(emit.dtype), turned), emit.result))


def _coordinates(size: int, *, aligned: bool) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """-1 to 1 over an axis: from the first pixel's centre to the last's, or from edge to edge."""
    if aligned:
        return np.linspace(-1.0, 1.0, size) if size > 1 else np.zeros(1)
    return (2 * np.arange(size) + 1) / size - 1


@decomposes("DeformConv")
def deform_conv(emit: Emitter) -> bool:
    """Every tap of every pixel sampled where its offset says, times the mask; then a 1x1 convolution over channels and taps."""
    weights, offset = emit.constant(1), emit.input(2)
    if weights is None or offset is None or len(emit.shape) != 4:
        return False
    batch, channels, height, width = emit.shape
    taps, pixels = math.prod(weights.shape[2:]), math.prod(emit.result[2:])
    parts = int(emit.attr("offset_group", 1))
    fits = channels % parts == 0 and graph.shape(offset) == (batch, parts * taps * 2, *emit.result[2:])
    if not fits or weights.shape[1] * emit.attr("group", 1) != channels:
        return False
    wander = emit.reshape(offset, (batch * parts, taps, 2, *emit.result[2:]))
    places = emit("Add", wander, _regular_places(emit, weights.shape[2:]))  # rows and columns in pixels
    sizes = np.asarray([height, width], np.float32).reshape(2, 1, 1)
    places = emit("Sub", emit("Div", emit("Add", emit("Mul", places, emit.number(2)), emit.number(1)), sizes), emit.number(1))
    places = emit("Transpose", places, perm=[0, 1, 3, 4, 2])
    places = emit("Concat", *(_slice_last(emit, places, k) for k in (1, 0)), axis=-1)  # x first
    places = emit.reshape(places, (batch * parts, taps, pixels, 2))
    picture = emit.reshape(emit.x, (batch * parts, channels // parts, height, width))
    linear = "linear" if graph.opset(emit.model) >= 20 else "bilinear"
    seen = emit("GridSample", picture, places, mode=linear, padding_mode="zeros", align_corners=0)
    mask = emit.input(4)
    if mask is not None:
        seen = emit("Mul", seen, emit.reshape(mask, (batch * parts, 1, taps, pixels)))
    flat = emit.reshape(seen, (batch, channels * taps, *emit.result[2:]))
    kernel = np.ascontiguousarray(weights.reshape(weights.shape[0], -1, 1, 1))
    return emit.finish(emit("Conv", flat, kernel, *[v for v in [emit.input(3)] if v is not None], group=emit.attr("group", 1)))


def _regular_places(emit: Emitter, kernel: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(taps, 2, out rows, out columns): where each tap reads without an offset."""
    strides, dilations = emit.attr("strides", (1, 1)), emit.attr("dilations", (1, 1))
    pads = emit.attr("pads", (0, 0, 0, 0))
    rows, columns = (
        np.arange(kernel[axis])[:, None] * dilations[axis] + np.arange(emit.result[2 + axis]) * strides[axis] - pads[axis]
        for axis in (0, 1)
    )
    shape = (*kernel, *emit.result[2:])
    both = [np.broadcast_to(rows[:, None, :, None], shape), np.broadcast_to(columns[None, :, None, :], shape)]
    return np.stack([grid.reshape(-1, *shape[2:]) for grid in both], 1).astype(np.float32)


def _slice_last(emit: Emitter, x: graph.Value, k: int) -> graph.Value:
    return emit("Slice", x, *(np.asarray([number], np.int64) for number in (k, k + 1, -1)))
