"""Small quantised models whose weights miss whole blocks."""

from __future__ import annotations

import numpy as np
from pack_graphs import build, feeds_for, node, quantise, quantise_weights, weights

from edgezip import graph
from edgezip.kernels.sparse_masks import blocks, column_groups


def thinned(w: np.ndarray, density: float, columns: int, axis: int = 0) -> np.ndarray:
    """Blocks of ``columns`` x 16 outputs gone; ``w`` (outputs, C, kernel...) or, with axis 1, (K, outputs)."""
    moved = np.moveaxis(w, axis, 0)
    taps_last = np.moveaxis(moved, 1, -1)  # packed: kernel row, kernel column, channel
    flat = taps_last.reshape(len(w) if axis == 0 else w.shape[1], -1)
    spans = taps_last.shape[1] if w.ndim == 4 else 1
    groups = column_groups(flat.shape[1] // spans, spans, columns)
    kept = flat * blocks(np.random.default_rng(w.size).random(flat.shape), density, groups, 16)
    return np.ascontiguousarray(np.moveaxis(np.moveaxis(kept.reshape(taps_last.shape), -1, 1), 0, axis)).astype(np.float32)


def sparse_network(density: float = 0.25, columns: int = 8) -> graph.Model:
    """3x3 and 1x1 convolutions with a skip, and a product of one row, int8 throughout."""
    constants = {
        "w0": thinned(weights(32, 16, 3, 3), density, columns),
        "w1": thinned(weights(32, 32, 1, 1), density, columns),
        "w2": thinned(weights(32, 48), density, columns, axis=1),
        "b0": weights(32),
    }
    nodes = [
        node("Conv", ["x", "w0", "b0"], "a", pads=[1, 1, 1, 1]), node("Relu", ["a"], "r"), node("Conv", ["r", "w1"], "c"),
        node("Add", ["c", "r"], "s"), node("GlobalAveragePool", ["s"], "p"), node("Flatten", ["p"], "f"),
        node("MatMul", ["f", "w2"]),
    ]  # fmt: skip
    model = build(nodes, constants, {"x": (1, 16, 7, 9)})
    return quantise(model, feeds_for(model))


def sparse_rows(density: float = 0.25, rows: int = 7) -> graph.Model:
    """A product whose rows are quantised at run time."""
    model = build([node("MatMul", ["x", "w"])], {"w": thinned(weights(64, 48), density, 8, axis=1)}, {"x": (rows, 64)})
    quantise_weights(model)
    for product in graph.nodes(model):
        if product.op_type == "MatMul":
            graph.set_metadata(product, "edgezip.activation", "dynamic_s8_row")
    return model
