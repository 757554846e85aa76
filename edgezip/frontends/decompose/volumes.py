"""Convolutions over three spatial axes: one over two for each tap of the first, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.frontends.decompose.emitter import Emitter, decomposes

if TYPE_CHECKING:
    from edgezip.graph import Value


def _along_depth(emit: Emitter, kernel: int) -> tuple[int, int, int, list[int]] | None:
    """Stride, dilation, padding before of the first spatial axis, and the pads of the other two (None: by auto_pad)."""
    if emit.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
        return None
    pads = list(emit.attr("pads", (0,) * 6)) if emit.attr("auto_pad", "NOTSET") != "VALID" else [0] * 6
    return emit.attr("strides", (1, 1, 1))[0], emit.attr("dilations", (1, 1, 1))[0], pads[0], [*pads[1:3], *pads[4:6]]


@decomposes("Conv")
def conv_3d(emit: Emitter) -> bool:
    """(N, C, D, H, W): every depth of the result is a picture of its own, tap by tap of the depth."""
    weights = emit.constant(1)
    if len(emit.shape) != 5 or weights is None:
        return False
    geometry = _along_depth(emit, weights.shape[2])
    if geometry is None:
        return False
    stride, dilation, before, pads = geometry
    batch, channels, depth, height, width = emit.shape
    out_depth = emit.result[2]
    reach = (out_depth - 1) * stride + (weights.shape[2] - 1) * dilation + 1
    edges = np.asarray([0, 0, before, 0, 0, 0, 0, max(reach - before - depth, 0), 0, 0], np.int64)
    padded = emit("Pad", emit.x, edges, emit.number(0)) if edges.any() else emit.x
    flat = {"strides": list(emit.attr("strides", (1, 1, 1)))[1:], "dilations": list(emit.attr("dilations", (1, 1, 1)))[1:]}
    total: Value | None = None
    for tap in range(weights.shape[2]):
        start = tap * dilation
        limits = (start, start + (out_depth - 1) * stride + 1, 2, stride)
        seen = emit("Slice", padded, *(np.asarray([number], np.int64) for number in limits))
        pictures = emit.reshape(emit("Transpose", seen, perm=[0, 2, 1, 3, 4]), (batch * out_depth, channels, height, width))
        bias: list[Any] = [emit.input(2)] if tap == 0 and emit.input(2) is not None else []
        kernel = np.ascontiguousarray(weights[:, :, tap])
        made = emit("Conv", pictures, kernel, *bias, pads=pads, group=emit.attr("group", 1), **flat)
        total = made if total is None else emit("Add", total, made)
    assert total is not None
    stacked = emit.reshape(total, (batch, out_depth, weights.shape[0], *emit.result[3:]))
    return emit.finish(emit("Transpose", stacked, perm=[0, 2, 1, 3, 4]))


@decomposes("ConvTranspose")
def transposed_3d(emit: Emitter) -> bool:
    """Zeros between and around the input, then a convolution with the turned kernel: any number of spatial axes above two."""
    weights = emit.constant(1)
    if len(emit.shape) != 5 or weights is None or emit.attr("group", 1) != 1 or emit.attr("auto_pad", "NOTSET") != "NOTSET":
        return False
    strides, dilations = emit.attr("strides", (1, 1, 1)), emit.attr("dilations", (1, 1, 1))
    pads = emit.attr("pads", (0,) * 6)
    if emit.attr("output_shape") is not None or any(number != 1 for number in dilations):
        return False
    x, shape = emit.x, list(emit.shape)
    for axis, stride in enumerate(strides, 2):
        if stride == 1:
            continue
        wide = [*shape[: axis + 1], 1, *shape[axis + 1 :]]
        edges = [0] * (2 * len(wide))
        edges[len(wide) + axis + 1] = stride - 1
        spread = emit("Pad", emit.reshape(x, wide), np.asarray(edges, np.int64), emit.number(0))
        shape[axis] *= stride
        x = emit.reshape(spread, shape)
    kernel = weights.shape[2:]
    before = [k - 1 - p for k, p in zip(kernel, pads[:3], strict=True)]
    after = [o + k - 1 - s - b for o, k, s, b in zip(emit.result[2:], kernel, shape[2:], before, strict=True)]
    x = emit("Pad", x, np.asarray([0, 0, *before, 0, 0, *after], np.int64), emit.number(0))
    turned = np.ascontiguousarray(weights[:, :, ::-1, ::-1, ::-1].swapaxes(0, 1))
    return emit.finish(emit("Conv", x, turned, *emit.node.inputs[2:3]))
