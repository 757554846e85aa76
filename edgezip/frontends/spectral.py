"""DFT as a product and STFT as a convolution with constant cosines and sines: the forms that the kernels are fast at.

Exact to float32: the tables are formed in float64. A transform of N points costs N * N products where an FFT takes N log N; for
the 256 to 1024 points of speech and a few frames the product wins, for more than LIMIT_BYTES of table the node is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Array, Model, Node, Value

LIMIT_BYTES = 64 << 20


DEFAULTS: dict[str, tuple[str, Any]] = {
    "MeanVarianceNormalization": ("axes", [0, 2, 3]),  # ONNX's inference fails without
    "STFT": ("onesided", 1),  # inference takes one that does not say so for two-sided; its definition says one-sided
}


def write_defaults(model: Model) -> None:
    """What ONNX's own inference gets wrong or refuses: attributes left to their defaults, a Range of one-element rows."""
    for node in graph.nodes(model):
        if node.op_type == "Range" and not node.domain:
            _take_scalars(model, node)
        name, value = DEFAULTS.get(node.op_type, ("", None))
        if name and graph.attribute(node, name) is None:
            graph.set_attribute(node, name, value)


def _take_scalars(model: Model, node: Node) -> None:
    """Inputs that are computed go through a Reshape to a scalar: the standard's own bodies hand rows of one element over."""
    for position, value in enumerate(node.inputs):
        if value is not None and graph.constant(value) is None:
            scalar = graph.add_initializer(model, f"{node.name}.scalar", np.zeros(0, np.int64))
            made = graph.new_node(model, "Reshape", [value, scalar], f"{node.name}.scalar", before=node)
            node.replace_input_with(position, made)


def short_time(model: Model, node: Node) -> None:
    """STFT: (B, L, 1 or 2) -> (B, frames, bins, 2) as one Conv over the signal."""
    signal, step = node.inputs[0], _number(node, 1)
    points = _frame_length(node)
    if signal is None or step is None or points is None or graph.dtype(signal) != np.float32:
        return
    batch, length, parts = (*graph.shape(signal), 1)[:3]
    window = graph.constant(node.inputs[2]) if _given(node, 2) else np.ones(points)
    is_onesided = bool(graph.attribute(node, "onesided", 1)) and parts == 1
    bins = points // 2 + 1 if is_onesided else points
    if window is None or window.shape != (points,) or not 1 <= points <= length or step < 1:
        return
    if points * parts * bins * 2 * 4 > LIMIT_BYTES or graph.shape(node.outputs[0]) != (
        batch,
        (length - points) // step + 1,
        bins,
        2,
    ):
        return
    table = _table(points, points, bins, parts, 2, is_inverse=False) * window.astype(np.float64)[:, None, None, None]
    weights = table.transpose(2, 3, 1, 0).reshape(bins * 2, parts, points)  # (outputs, parts, taps)
    frames = (length - points) // step + 1
    if parts == 1:
        x = _emit(model, node, "Reshape", [signal, _ints(model, node, (batch, 1, length))], (batch, 1, length))
    else:
        x = _emit(model, node, "Transpose", [signal], (batch, 2, length), perm=[0, 2, 1])
    held = graph.add_initializer(model, f"{node.name}_table", weights.astype(np.float32))
    attributes = {"kernel_shape": [points], "strides": [step]}
    y = _emit(model, node, "Conv", [x, held], (batch, bins * 2, frames), **attributes)
    y = _emit(model, node, "Transpose", [y], (batch, frames, bins * 2), perm=[0, 2, 1])
    _finish(model, node, y)


def transform(model: Model, node: Node) -> None:
    """DFT, forward or inverse, of real or complex numbers along one axis, as one MatMul."""
    x = node.inputs[0]
    if x is None or graph.dtype(x) != np.float32:
        return
    dims, result = graph.shape(x), graph.shape(node.outputs[0])
    is_inverse, is_onesided = bool(graph.attribute(node, "inverse", 0)), bool(graph.attribute(node, "onesided", 0))
    axis = _axis(model, node)
    if axis is None or len(dims) < 2 or not -len(dims) <= axis < len(dims) or axis % len(dims) == len(dims) - 1:
        return
    axis %= len(dims)
    count, parts, made, made_parts = dims[axis], dims[-1], result[axis], result[-1]
    points = _points(node, count, is_onesided and is_inverse)
    if points is None or points < 1 or count * parts * made * made_parts * 4 > LIMIT_BYTES:
        return
    if is_onesided and is_inverse:
        table = _real_inverse(count, points)
    else:
        table = _table(count, points, made, parts, made_parts, is_inverse)
    turned = [*(a for a in range(len(dims) - 1) if a != axis), axis, len(dims) - 1]
    x = _emit(model, node, "Transpose", [x], [dims[a] for a in turned], perm=turned)
    rows = math.prod(dims) // (count * parts)
    x = _emit(model, node, "Reshape", [x, _ints(model, node, (rows, count * parts))], (rows, count * parts))
    held = graph.add_initializer(model, f"{node.name}_table", table.reshape(count * parts, -1).astype(np.float32))
    y = _emit(model, node, "MatMul", [x, held], (rows, made * made_parts))
    split = [result[a] for a in turned]
    y = _emit(model, node, "Reshape", [y, _ints(model, node, split)], split)
    back = [turned.index(a) for a in range(len(dims))]
    y = _emit(model, node, "Transpose", [y], result, perm=back)
    _finish(model, node, y)


def _table(count: int, points: int, bins: int, parts: int, made_parts: int, is_inverse: bool) -> Array:
    """float64 (count, parts, bins, made_parts): what each input counts in each result; those beyond ``points`` do not."""
    n, k = np.arange(count)[:, None], np.arange(bins)[None]
    angle = (2 if is_inverse else -2) * np.pi * (n * k % points) / points
    scale = (n < points) / (points if is_inverse else 1)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    table = np.zeros((count, parts, bins, made_parts))
    table[:, 0, :, 0], table[:, 0, :, 1] = cosine, sine
    if parts == 2:
        table[:, 1, :, 0], table[:, 1, :, 1] = -sine, cosine
    return table


def _real_inverse(count: int, points: int) -> Array:
    """float64 (count, 2, points): real signal of a one-sided spectrum; all but the first and the middle bin count twice."""
    k, n = np.arange(count)[:, None], np.arange(points)[None]
    angle = 2 * np.pi * (n * k % points) / points
    twice = np.where((k == 0) | (2 * k == points), 1, 2) * (k <= points // 2) / points
    return np.stack([np.cos(angle) * twice, -np.sin(angle) * twice], axis=1)


def _given(node: Node, position: int) -> bool:
    return len(node.inputs) > position and node.inputs[position] is not None


def _number(node: Node, position: int) -> int | None:
    held = graph.constant(node.inputs[position]) if _given(node, position) else None
    return int(held.reshape(-1)[0]) if held is not None and held.size == 1 else None


def _frame_length(node: Node) -> int | None:
    if _given(node, 3):
        return _number(node, 3)
    source = node.inputs[2] if _given(node, 2) else node.inputs[0]
    assert source is not None
    return graph.shape(source)[0 if _given(node, 2) else 1]


def _points(node: Node, count: int, is_real_inverse: bool) -> int | None:
    if _given(node, 1):
        return _number(node, 1)
    return 2 * (count - 1) if is_real_inverse else count


def _axis(model: Model, node: Node) -> int | None:
    """An attribute up to opset 19, then an input."""
    if graph.opset(model) < 20:
        return int(graph.attribute(node, "axis", 1))
    return _number(node, 2) if _given(node, 2) else -2


def _ints(model: Model, node: Node, numbers: Sequence[int]) -> Value:
    return graph.add_initializer(model, f"{node.name}_shape", np.array(numbers, np.int64))


def _emit(model: Model, node: Node, op: str, inputs: Sequence[Value], dims: Sequence[int], **attributes: Any) -> Value:
    made = graph.new_node(model, op, inputs, f"{node.name}_{op}", attrs=attributes, name=f"{node.name}_{op}", before=node)
    graph.set_type(made, np.float32, dims)
    return made


def _finish(model: Model, node: Node, made: Value) -> None:
    """``made`` under the shape of the node's result, in its place."""
    result = node.outputs[0]
    shaped = _emit(model, node, "Reshape", [made, _ints(model, node, graph.shape(result))], graph.shape(result))
    graph.replace_uses(result, shaped, outputs=True)
    graph.remove_node(model, node)
