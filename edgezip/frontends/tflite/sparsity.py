"""Sparse constants to dense ones: TACO levels, dense or compressed, with blocks (schema.fbs, SparsityParameters)."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
COMPRESSED = 1  # DimensionType


def densify(values: Array, shape: tuple[int, ...], sparsity: Any, count: Callable[[Callable[[], int], str], int]) -> Array:
    """The dense array of ``shape``; raises ValueError or IndexError where the levels contradict it or the values.

    Each level refines the coordinates so far: a dense one by all its indices, a compressed one by those that it lists. The
    first levels are the tensor's dimensions (in blocks), the rest the insides of the blocks.
    """
    order = [int(sparsity.TraversalOrder(i)) for i in range(count(sparsity.TraversalOrderLength, "traversal order"))]
    blocks = [int(sparsity.BlockMap(i)) for i in range(count(sparsity.BlockMapLength, "block map"))]
    rank = len(shape)
    if sorted(order) != list(range(rank + len(blocks))) or any(not 0 <= b < rank for b in blocks):
        raise ValueError(f"traversal order {order} with blocks {blocks} of a tensor of rank {rank}")
    if count(sparsity.DimMetadataLength, "levels") != len(order):
        raise ValueError("one level for each dimension is needed")
    levels = [sparsity.DimMetadata(i) for i in range(len(order))]
    block_sizes = [int(levels[order.index(rank + i)].DenseSize()) for i in range(len(blocks))]
    if any(size < 1 for size in block_sizes):
        raise ValueError(f"block sizes {block_sizes}")
    coordinates = np.zeros((1, 0), np.int64)
    for level in levels:
        coordinates = _refined(coordinates, level, count, prod(shape))
    if len(coordinates) != len(values):
        raise ValueError(f"{len(values)} values for {len(coordinates)} places")
    place = coordinates[:, np.argsort(order)]
    index = place[:, :rank].copy()
    for i, (dim, size) in enumerate(zip(blocks, block_sizes, strict=True)):
        index[:, dim] = index[:, dim] * size + place[:, rank + i]
    dense = np.zeros(shape, values.dtype)
    dense[tuple(index.T)] = values  # an index outside of the shape raises IndexError; none is negative
    return dense


def _refined(coordinates: Array, level: Any, count: Callable[[Callable[[], int], str], int], most: int) -> Array:
    if level.Format() != COMPRESSED:
        size = int(level.DenseSize())
        if size < 1 or len(coordinates) * size > most:
            raise ValueError(f"a dense level of {size} for {len(coordinates)} places")
        return np.column_stack([np.repeat(coordinates, size, axis=0), np.tile(np.arange(size), len(coordinates))])
    segments = _numbers(level.ArraySegments(), level.ArraySegmentsType(), count)
    indices = _numbers(level.ArrayIndices(), level.ArrayIndicesType(), count)
    lengths = np.diff(segments)
    if len(segments) != len(coordinates) + 1 or segments[0] != 0 or segments[-1] != len(indices) or np.any(lengths < 0):
        raise ValueError(f"{len(segments)} segments and {len(indices)} indices for {len(coordinates)} places")
    if len(indices) > most or np.any(indices < 0):
        raise ValueError("indices of a sparse level")
    return np.column_stack([np.repeat(coordinates, lengths, axis=0), indices])


def _numbers(table: Any, kind: int, count: Callable[[Callable[[], int], str], int]) -> Array:
    """The vector of a SparseIndexVector union."""
    import tflite

    classes = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}
    if table is None or kind not in classes:
        raise ValueError(f"sparse indices of kind {kind}")
    vector = classes[kind]()
    vector.Init(table.Bytes, table.Pos)
    return np.asarray(vector.ValuesAsNumpy() if count(vector.ValuesLength, "sparse indices") else [], np.int64)
