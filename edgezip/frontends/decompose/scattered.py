"""Operators that write elements to computed or derived places, as ScatterElements and ScatterND."""

from __future__ import annotations

import math

import numpy as np

from edgezip import graph
from edgezip.frontends.decompose.emitter import LARGEST_CONSTANT, Emitter, decomposes
from edgezip.frontends.decompose.reductions import counting

Places = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@decomposes("TensorScatter")
def tensor_scatter(emit: Emitter) -> bool:
    """An update written into a cache from an index of each sample on; ``circular`` wraps at the end."""
    update = emit.input(1)
    if update is None:
        return False
    shape = graph.shape(update)
    axis = int(emit.attr("axis", -2)) % len(shape)
    start = emit.input(2)
    place = emit.value(counting(shape, axis))
    if start is not None:
        start = start if graph.dtype(start) == np.int64 else emit.cast(start, np.int64)
        place = emit("Add", emit.reshape(start, (-1, *[1] * (len(shape) - 1))), place)
    if emit.attr("mode", "linear") == "circular":
        place = emit("Mod", place, np.asarray(emit.shape[axis], np.int64))
    places = emit("Expand", place, np.asarray(shape, np.int64))
    return emit.finish(emit("ScatterElements", emit.x, places, update, axis=axis))


@decomposes("MaxUnpool")
def max_unpool(emit: Emitter) -> bool:
    """Every element back to its place in the tensor that was pooled; a larger ``output_shape`` adds zeros behind it."""
    places = emit.input(1)
    kernel = emit.attr("kernel_shape")
    if places is None or kernel is None or len(kernel) != len(emit.shape) - 2:
        return False
    count = len(kernel)
    strides, pads = emit.attr("strides", (1,) * count), emit.attr("pads", (0,) * 2 * count)
    sizes = [
        (size - 1) * stride - pads[axis] - pads[axis + count] + kernel[axis]
        for axis, (size, stride) in enumerate(zip(emit.shape[2:], strides, strict=True))
    ]
    pooled = (*emit.shape[:2], *sizes)
    missing = [made - have for made, have in zip(emit.result, pooled, strict=True)]
    if min(sizes) < 1 or min(missing) < 0 or math.prod(pooled) > LARGEST_CONSTANT:
        return False
    zeros = np.zeros(math.prod(pooled), emit.dtype)
    made = emit("ScatterElements", zeros, emit.reshape(places, (-1,)), emit.reshape(emit.x, (-1,)))
    made = emit.reshape(made, pooled)
    if any(missing):
        made = emit("Pad", made, np.asarray([0] * len(pooled) + missing, np.int64), emit.number(0))
    return emit.finish(made)


@decomposes("Col2Im")
def columns_to_image(emit: Emitter) -> bool:
    """The sum of all blocks at their places: rows of (pixel, picture and channel) added where a table says, in order."""
    image, block = emit.constant(1), emit.constant(2)
    if image is None or block is None or len(emit.shape) != 3:
        return False
    axes = _blocks(emit, image.reshape(-1).tolist(), block.reshape(-1).tolist())
    batch, wide, count = emit.shape
    taps, pixels = math.prod(block.reshape(-1).tolist()), math.prod(image.reshape(-1).tolist())
    if axes is None or math.prod(axis.shape[1] for axis in axes) != count or wide % taps:
        return False
    channels = wide // taps
    if (pixels + 1) * batch * channels > LARGEST_CONSTANT:
        return False
    values = emit("Transpose", emit.reshape(emit.x, (batch, channels, taps, count)), perm=[2, 3, 0, 1])
    values = emit.reshape(values, (taps * count, batch * channels))
    zeros = np.zeros((pixels + 1, batch * channels), emit.dtype)  # what falls beside the image lands in the last row
    rows = _pixels(axes, image.reshape(-1).tolist()).reshape(-1, 1)
    made = emit("ScatterND", zeros, rows, values, reduction="add")
    made = emit("Slice", made, *(np.asarray([number], np.int64) for number in (0, pixels, 0)))
    return emit.finish(emit.reshape(emit("Transpose", made, perm=[1, 0]), emit.result))


def _blocks(emit: Emitter, image: list[int], block: list[int]) -> list[Places] | None:
    """For each axis where every (element of a block, block) reads; None where the sizes make no sense."""
    count = len(image)
    strides, dilations = emit.attr("strides", (1,) * count), emit.attr("dilations", (1,) * count)
    pads = emit.attr("pads", (0,) * 2 * count)
    if (
        not count == len(block) == len(strides) == len(dilations) == len(pads) // 2
        or min([*image, *block, *strides, *dilations]) < 1
    ):
        return None
    found = []
    for axis, size in enumerate(image):
        steps = (size + pads[axis] + pads[axis + count] - dilations[axis] * (block[axis] - 1) - 1) // strides[axis] + 1
        if not (1 <= steps <= emit.shape[2] and block[axis] <= emit.shape[1]):
            return None
        found.append(np.arange(block[axis])[:, None] * dilations[axis] + np.arange(steps) * strides[axis] - pads[axis])
    return found


def _pixels(axes: list[Places], image: list[int]) -> Places:
    """The flat pixel of every (element of a block, block); the number of pixels stands for none."""
    flat, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)
    for place, size in zip(axes, image, strict=True):
        grid = (flat.shape[0] * place.shape[0], flat.shape[1] * place.shape[1])
        flat = (flat[:, None, :, None] * size + place[None, :, None, :]).reshape(grid)
        inside = (inside[:, None, :, None] & ((place >= 0) & (place < size))[None, :, None, :]).reshape(grid)
    return np.where(inside, flat, math.prod(image))
