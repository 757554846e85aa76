"""Blocks of pixels to the batch and back, by which TensorFlow wrote dilated convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from edgezip.frontends.tflite.emitter import Emitter, converts
from edgezip.frontends.tflite.movement import ints
from edgezip.frontends.tflite.schema import Operator


def _pairs(e: Emitter, op: Operator, position: int, count: int) -> list[tuple[int, int]]:
    flat = e.integers(op, position)
    if len(flat) != 2 * count or min(flat, default=0) < 0:
        raise e.fail(op, f"{flat} for {count} dimensions")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _blocks(e: Emitter, op: Operator) -> list[int]:
    sizes, rank = e.integers(op, 1), len(e.tensor(op, 0).shape)
    if min(sizes, default=0) < 1 or len(sizes) > rank - 1:
        raise e.fail(op, f"blocks {sizes} of a tensor of rank {rank}")
    return sizes


def _turned(e: Emitter, value: str, split: Sequence[int], perm: Sequence[int]) -> str:
    return str(e.node("Transpose", [e.node("Reshape", [value, ints(e, split)])], perm=list(perm)))


@converts("SPACE_TO_BATCH_ND")
def space_to_batch(e: Emitter, op: Operator) -> None:
    """Inputs: x (batch, space..., rest...), block sizes, paddings. Blocks come before the batch."""
    blocks, (batch, *dims) = _blocks(e, op), e.tensor(op, 0).shape
    n = len(blocks)
    pads = _pairs(e, op, 2, n)
    sizes = [size + sum(pad) for size, pad in zip(dims, pads, strict=False)]
    if any(size % block for size, block in zip(sizes, blocks, strict=True)):
        raise e.fail(op, f"padded sizes {sizes} are no multiples of {blocks}")
    rest = [0] * (len(dims) - n)
    before, after = [0, *(pad[0] for pad in pads), *rest], [0, *(pad[1] for pad in pads), *rest]
    x = e.node("Pad", [e.value(op, 0), ints(e, [*before, *after])])
    split = [batch, *(part for size, block in zip(sizes, blocks, strict=True) for part in (size // block, block)), *dims[n:]]
    inner = [2 * i + 2 for i in range(n)]
    outer = [2 * i + 1 for i in range(n)]
    y = _turned(e, x, split, [*inner, 0, *outer, *range(2 * n + 1, len(split))])
    whole = [batch * prod(blocks), *(size // block for size, block in zip(sizes, blocks, strict=True)), *dims[n:]]
    e.give(op, e.node("Reshape", [y, ints(e, whole)]))


@converts("BATCH_TO_SPACE_ND")
def batch_to_space(e: Emitter, op: Operator) -> None:
    """Inputs: x (batch, space..., rest...), block sizes, crops."""
    blocks, (batch, *dims) = _blocks(e, op), e.tensor(op, 0).shape
    n, count = len(blocks), prod(blocks)
    crops = _pairs(e, op, 2, n)
    if batch % count:
        raise e.fail(op, f"a batch of {batch} for blocks {blocks}")
    perm = [n, *(axis for i in range(n) for axis in (n + 1 + i, i)), *range(2 * n + 1, n + 1 + len(dims))]
    y = _turned(e, e.value(op, 0), [*blocks, batch // count, *dims], perm)
    sizes = [size * block for size, block in zip(dims, blocks, strict=False)]
    y = e.node("Reshape", [y, ints(e, [batch // count, *sizes, *dims[n:]])])
    ends = [size - crop[1] for size, crop in zip(sizes, crops, strict=True)]
    e.give(op, e.node("Slice", [y, ints(e, [crop[0] for crop in crops]), ints(e, ends), ints(e, range(1, n + 1))]))
