"""Layers that multiply by a constant matrix (Conv, ConvTranspose, Gemm, MatMul), all seen as ``y = W x``.

One view for every pass that changes weights: rows are outputs, columns stand in the order of the packed weights (window row,
window column, channel), so a pattern of columns that a pass makes is the pattern that a kernel meets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

Array = np.ndarray[Any, Any]
OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Product:
    """One such layer. ``groups`` x (``outputs`` rows of ``columns``); ``span``: columns of one row of the window."""

    node: Node
    weight: Value
    groups: int
    outputs: int  # of one group
    columns: int
    span: int

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name or ""

    @property
    def weight_name(self) -> str:
        """The initializer's name."""
        return self.weight.name or ""

    @property
    def window(self) -> int:
        """Positions of the window: 1 for a matrix."""
        return 1 if self.node.op_type in ("Gemm", "MatMul") else int(np.prod(graph.shape(self.weight)[2:]))

    @property
    def output_axis(self) -> int:
        """Axis of the initializer that holds the outputs (of one group in a ConvTranspose)."""
        turned = self.node.op_type == "Gemm" and bool(graph.attribute(self.node, "transB", 0))
        return 0 if self.node.op_type == "Conv" or turned else 1

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel is a product of its own."""
        return self.groups > 1 and self.outputs == 1

    def weights(self) -> Array:
        """(groups, outputs, columns), float64."""
        held = graph.constant(self.weight)
        assert held is not None
        return self.rows_of(held)

    def rows_of(self, held: Array) -> Array:
        """The initializer's array as (groups, outputs, columns), float64."""
        held = held.astype(np.float64)
        if self.node.op_type == "MatMul" or (self.node.op_type == "Gemm" and not graph.attribute(self.node, "transB", 0)):
            return np.ascontiguousarray(held.T)[None]
        if self.node.op_type == "Gemm":
            return held[None]
        if self.node.op_type == "ConvTranspose":
            held = _turned(held, self.groups)
        return np.ascontiguousarray(np.moveaxis(held, 1, -1)).reshape(self.groups, self.outputs, self.columns)

    def array_of(self, rows: Array) -> Array:
        """The inverse of ``rows_of``: the initializer's shape, in the dtype of ``rows`` (float64 becomes float32).

        Rows of fewer channels (scales of blocks of channels) give an array of as many.
        """
        rows = rows.astype(np.float32) if rows.dtype == np.float64 else rows
        held = graph.shape(self.weight)
        if self.node.op_type == "MatMul" or (self.node.op_type == "Gemm" and not graph.attribute(self.node, "transB", 0)):
            return np.ascontiguousarray(rows[0].T)
        if self.node.op_type == "Gemm":
            return np.ascontiguousarray(rows[0])
        window = held[2:]
        channels = rows.shape[-1] // int(np.prod(window))
        conv = np.moveaxis(rows.reshape(self.groups * self.outputs, *window, channels), -1, 1)
        if self.node.op_type == "ConvTranspose":
            conv = _turned_back(conv, self.groups)
        return np.ascontiguousarray(conv)

    def bias(self) -> Value | None:
        """The constant bias (groups * outputs,), where the node has one."""
        held = self.node.inputs[2] if self.node.op_type != "MatMul" and len(self.node.inputs) > 2 else None
        values = graph.constant(held)
        return held if values is not None and values.size == self.groups * self.outputs else None

    def outputs_seen(self, y: Array, limit: int, generator: np.random.Generator) -> Array:
        """(groups, n, outputs) float64: what the layer gave where ``inputs_seen`` looks with an equal generator."""
        if self.node.op_type in ("Gemm", "MatMul"):
            rows = y.reshape(-1, y.shape[-1])
        else:
            rows = np.moveaxis(y, 1, -1).reshape(-1, y.shape[1])
        drawn = rows[_drawn(len(rows), limit, generator)].astype(np.float64)
        return np.ascontiguousarray(drawn.reshape(len(drawn), self.groups, self.outputs).transpose(1, 0, 2))

    def added(self) -> Array | None:
        """(groups * outputs,) float64: the constant that is added to the outputs, by the node or by the Add behind a MatMul."""
        behind = _row_behind(self) if self.node.op_type == "MatMul" else None
        held = graph.constant(self.bias() if behind is None else behind[0].inputs[behind[1]])
        if held is None:
            return None
        beta = float(graph.attribute(self.node, "beta", 1.0)) if self.node.op_type == "Gemm" else 1.0
        return np.asarray(held.reshape(-1).astype(np.float64) * beta)

    @property
    def takes_bias(self) -> bool:
        """Whether a constant can be added to the outputs: a bias of the node's own, or of the Add behind a MatMul."""
        if self.node.op_type == "MatMul":
            return _row_behind(self) is not None
        return len(self.node.inputs) < 3 or self.node.inputs[2] is None or self.bias() is not None

    def inputs_seen(self, x: Array, limit: int, generator: np.random.Generator) -> Array:
        """(groups, n, columns) float64: what the rows meet at up to ``limit`` positions of ``x``, drawn at random."""
        if self.node.op_type in ("Gemm", "MatMul"):
            rows = x.reshape(-1, x.shape[-1]) if self.node.op_type == "MatMul" or x.ndim == 2 else x.reshape(len(x), -1)
            return rows[_drawn(len(rows), limit, generator)].astype(np.float64)[None]
        patches = _patches(self.node, x.astype(np.float64), graph.shape(self.weight), limit, generator)
        by_group = patches.reshape(len(patches), patches.shape[1], self.groups, -1)  # (n, window, groups, channels)
        return np.ascontiguousarray(by_group.transpose(2, 0, 1, 3)).reshape(self.groups, len(patches), self.columns)


def shift_bias(model: Model, product: Product, shift: Array) -> None:
    """Adds ``shift`` (groups * outputs,) to what the layer gives, in a new initializer: another layer may share the old one.

    The product must take a bias. Edits ``model``.
    """
    behind = _row_behind(product) if product.node.op_type == "MatMul" else None
    node, index = (product.node, 2) if behind is None else behind
    held = graph.constant(node.inputs[index]) if len(node.inputs) > index else None
    beta = float(graph.attribute(node, "beta", 1.0)) if node.op_type == "Gemm" else 1.0
    before = np.zeros(shift.shape) if held is None else held.astype(np.float64) * beta
    if node.op_type == "Gemm":
        graph.set_attribute(node, "beta", None)
    changed = (before.reshape(shift.shape) + shift).reshape(shift.shape if index == 2 else before.shape)
    made = graph.add_initializer(model, graph.unique_name(model, f"{product.name}_bias"), changed.astype(np.float32))
    if len(node.inputs) < 3 and index == 2:
        node.resize_inputs(3)
    node.replace_input_with(index, made)


def _row_behind(product: Product) -> tuple[Node, int] | None:
    """The Add that gives a MatMul its bias, and which of its inputs is the constant row."""
    readers = graph.consumers(product.node.outputs[0])
    if len(readers) != 1 or graph.is_graph_output(product.node.outputs[0]) or readers[0][0].op_type != "Add":
        return None
    node, index = readers[0]
    other = node.inputs[1 - index]
    held = graph.constant(other)
    is_row = held is not None and held.size == product.outputs and held.shape[-1:] == (product.outputs,)
    return (node, 1 - index) if is_row and held is not None and held.dtype == np.float32 else None


def find_products(model: Model) -> list[Product]:
    """Every such layer with float32 weights used by it alone, in the order of the graph."""
    found = []
    for node in graph.nodes(model):
        if node.domain or node.op_type not in OPERATORS or len(node.inputs) < 2:
            continue
        made = _product(node)
        if made is not None:
            found.append(made)
    return found


def _product(node: Node) -> Product | None:
    weight = node.inputs[1]
    held = graph.constant(weight)
    if weight is None or held is None or held.dtype != np.float32 or len(graph.consumers(weight)) != 1:
        return None
    if graph.producer(weight) is not None or 0 in held.shape:
        return None
    return product_of(node)


def product_of(node: Node) -> Product | None:
    """The view by shapes alone, whatever makes the weights; None for forms that it cannot hold."""
    weight = node.inputs[1]
    if weight is None or not graph.has_static_shape(weight):
        return None
    dims = graph.shape(weight)
    if node.op_type in ("Gemm", "MatMul"):
        if len(dims) != 2 or graph.attribute(node, "transA", 0) or float(graph.attribute(node, "alpha", 1.0)) != 1.0:
            return None
        turned = node.op_type == "Gemm" and bool(graph.attribute(node, "transB", 0))
        outputs, columns = dims if turned else dims[::-1]
        return Product(node, weight, 1, outputs, columns, columns)
    groups = int(graph.attribute(node, "group", 1))
    window = int(np.prod(dims[2:]))
    if node.op_type == "Conv":
        outputs, channels = dims[0] // groups, dims[1]
    else:
        outputs, channels = dims[1], dims[0] // groups
    dilated = max(graph.attribute(node, "dilations", (1,))) > 1
    span = channels if groups > 1 or dilated else channels * dims[-1]
    return Product(node, weight, groups, outputs, window * channels, span)


def _turned(held: Array, groups: int) -> Array:
    """Weights of a ConvTranspose (C, M/g, *window) as those of the convolution (M, C/g, *window) that it is."""
    split = held.reshape(groups, held.shape[0] // groups, *held.shape[1:])
    flipped = np.flip(split, tuple(range(3, split.ndim)))
    return np.ascontiguousarray(np.swapaxes(flipped, 1, 2)).reshape(-1, held.shape[0] // groups, *held.shape[2:])


def _turned_back(conv: Array, groups: int) -> Array:
    split = np.swapaxes(conv.reshape(groups, -1, *conv.shape[1:]), 1, 2)
    return np.flip(split, tuple(range(3, split.ndim))).reshape(-1, conv.shape[0] // groups, *conv.shape[2:])


def _drawn(total: int, limit: int, generator: np.random.Generator) -> Array:
    return np.arange(total) if total <= limit else np.sort(generator.choice(total, limit, replace=False))


def _patches(node: Node, x: Array, weight: tuple[int, ...], limit: int, generator: np.random.Generator) -> Array:
    """(n, window positions, C): what the window meets at up to ``limit`` of the output positions of all samples."""
    rank = len(weight) - 2
    strides = tuple(graph.attribute(node, "strides", (1,) * rank))
    dilations = tuple(graph.attribute(node, "dilations", (1,) * rank))
    if node.op_type == "ConvTranspose":
        x, strides = _spread(node, x, weight, strides, dilations), (1,) * rank
    else:
        x = np.pad(x, ((0, 0), (0, 0), *_padding(node, x.shape[2:], weight[2:], strides, dilations)))
    reach = [(k - 1) * d + 1 for k, d in zip(weight[2:], dilations, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, tuple(range(2, 2 + rank)))
    seen = seen[(slice(None), slice(None), *(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))]
    places = (seen.shape[0], *seen.shape[2 : 2 + rank])
    positions = np.unravel_index(_drawn(int(np.prod(places)), limit, generator), places)
    patches: Array = np.moveaxis(seen, 1, -1)[positions]  # (n, *window, C)
    return patches.reshape(len(patches), -1, x.shape[1])


def _padding(
    node: Node, size: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> list[tuple[int, int]]:
    """(before, after) of each spatial axis."""
    rank = len(size)
    mode = graph.attribute(node, "auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for n, k, s, d in zip(size, window, strides, dilations, strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if mode == "SAME_UPPER" else (large, small))
        return pairs
    pads = (0,) * (2 * rank) if mode == "VALID" else tuple(graph.attribute(node, "pads", (0,) * (2 * rank)))
    return [(pads[i], pads[rank + i]) for i in range(rank)]


def _spread(node: Node, x: Array, weight: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]) -> Array:
    """The input of a ConvTranspose with zeros between its pixels and around, for a convolution of stride 1."""
    rank = len(strides)
    pads = tuple(graph.attribute(node, "pads", (0,) * (2 * rank)))
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], strides, strict=True)]
    wide = np.zeros((*x.shape[:2], *sizes))
    wide[(slice(None), slice(None), *(slice(None, None, s) for s in strides))] = x
    made = graph.shape(node.outputs[0])[2:]
    around = []
    for i in range(rank):
        reach = (weight[2 + i] - 1) * dilations[i]
        before = reach - pads[i]
        around.append((max(before, 0), max(made[i] + reach - sizes[i] - before, 0)))
    return np.pad(wide, ((0, 0), (0, 0), *around))
