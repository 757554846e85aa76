"""Which channels of a network stand or fall together.

Every value carries labels: an integer array that broadcasts to its shape, one label for each element that could be left out, 0
where nothing may be. Operators hand labels on, tie them (a residual sum ties the channels of its operands), or make new ones
(the outputs of a product). Weights note which label each of their slices belongs to. Labels that were tied are one set: all its
slices go, or none. An operator that is not known freezes what it reads, with a word in the report. Fang et al., "DepGraph", 2023,
has the idea; labels per element are what make Concat, Split, Flatten and attention heads cases of one rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

Array = np.ndarray[Any, Any]
FROZEN = 0


@dataclass(frozen=True, slots=True)
class Slices:
    """``labels[i]`` is the label of slice i of the constant ``name`` along ``axis``."""

    name: str
    axis: int
    labels: Array


@dataclass(slots=True)
class ChannelSets:
    """``of``: labels of each value. ``slices``: of the constants. ``family``: for each label the layer whose outputs it counts.
    ``frozen``: why, by node. ``groups``: convolutions whose ``group`` is the number of channels that they read."""

    of: dict[str, Array] = field(default_factory=dict)
    slices: list[Slices] = field(default_factory=list)
    family: list[str] = field(default_factory=lambda: [""])
    frozen: dict[str, str] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    _parent: list[int] = field(default_factory=lambda: [FROZEN])

    # --- labels ----------------------------------------------------------------------------------------------------------

    def fresh(self, count: int, family: str) -> Array:
        """``count`` new labels of a family."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        self.family += [family] * count
        return np.arange(first, first + count)

    def root(self, label: int) -> int:
        """The name of the label's set."""
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = self._parent[label]
        return label

    def roots(self, labels: Array) -> Array:
        """``root`` of each."""
        distinct, at = np.unique(labels, return_inverse=True)
        return np.array([self.root(int(label)) for label in distinct])[at.reshape(labels.shape)]

    def tie(self, first: Array, second: Array) -> None:
        """Labels at the same place become one set; arrays of one shape."""
        pairs = np.unique(np.stack([first.reshape(-1), second.reshape(-1)]), axis=1)
        for a, b in pairs.T:
            low, high = sorted((self.root(int(a)), self.root(int(b))))  # 0 is the least: a frozen label freezes the other
            self._parent[high] = low

    def freeze(self, labels: Array, node: Node, why: str) -> None:
        """None of these may go."""
        live = labels[labels != FROZEN]
        if live.size and (self.roots(live) != FROZEN).any():
            self.frozen.setdefault(node.name or node.op_type, why)
        self.tie(labels, np.zeros_like(labels))

    def along(self, value: Value, axis: int) -> Array:
        """(dim,): labels along one axis; labels that vary along another as well are frozen at their places by the caller."""
        labels, dim = self.labels(value), graph.shape(value)[axis]
        others = tuple(i for i in range(labels.ndim) if i != axis % labels.ndim)
        flat = labels.max(axis=others) if others else labels
        return np.broadcast_to(flat, (dim,))

    def labels(self, value: Value) -> Array:
        """Of a value; zeros where it has none."""
        return self.of.get(value.name or "", np.zeros((1,) * len(graph.shape(value)), np.int64))


Rule = Callable[[ChannelSets, "Node"], None]


def find_channel_sets(model: Model) -> ChannelSets:
    """Labels of all values and constants of ``model``."""
    sets = ChannelSets()
    for node in graph.nodes(model):
        rule = None if node.domain else _RULES.get(node.op_type)
        if rule is None:
            _unknown(sets, node)
        else:
            rule(sets, node)
    outputs = {value.name for value in graph.output_values(model)}
    for node in graph.nodes(model):
        for value in node.outputs:
            if value.name in outputs:
                sets.freeze(sets.labels(value), node, "gives an output of the model")
    return sets


# ---------------------------------------------------------------- rules


def _value(node: Node, index: int) -> Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _is_constant(value: Value | None) -> bool:
    return value is not None and graph.constant(value) is not None


def _own(value: Value) -> bool:
    """Whether the constant can be cut: an initializer that one node reads."""
    return graph.producer(value) is None and len(graph.consumers(value)) == 1


def _unknown(sets: ChannelSets, node: Node) -> None:
    for value in node.inputs:
        if value is not None and not _is_constant(value):
            sets.freeze(sets.labels(value), node, f"{node.op_type} is not known to keep channels apart")


def _same(sets: ChannelSets, node: Node) -> None:
    """One tensor in, one of the same channels out."""
    sets.of[node.outputs[0].name or ""] = sets.labels(_value(node, 0))


def _slices(sets: ChannelSets, node: Node, value: Value, axis: int, labels: Array) -> None:
    """The constant's slices belong to ``labels``; one that others read too cannot be cut."""
    if not _own(value):
        sets.freeze(labels, node, "shares a constant with another node")
    elif labels.any():
        sets.slices.append(Slices(value.name or "", axis, labels))


def _conv(sets: ChannelSets, node: Node) -> None:
    x, weight, y = _value(node, 0), _value(node, 1), node.outputs[0]
    if not _is_constant(weight):
        _unknown(sets, node)
        return
    groups = int(graph.attribute(node, "group", 1))
    channels, outputs = graph.shape(x)[1], graph.shape(y)[1]
    read = sets.along(x, 1)
    transposed = node.op_type == "ConvTranspose"
    if groups == channels and groups > 1 and (outputs == channels or not transposed):
        made = np.repeat(read, outputs // channels)  # a channel goes with all that is made of it alone
        _slices(sets, node, weight, 0, made)
        sets.groups.append(node.name or "")
    else:
        made = sets.fresh(outputs, node.name or "")
        if groups > 1:  # every group loses as many: the i-th of each group are one set
            for labels in (read, made):
                split = labels.reshape(groups, -1)
                sets.tie(split, np.broadcast_to(split[0], split.shape))
        own = read if groups == 1 or transposed else read[: channels // groups]
        put = made[: outputs // groups] if transposed else made
        _slices_of_both(sets, node, weight, (0, own) if transposed else (1, own), (1, put) if transposed else (0, put))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        _slices(sets, node, _value(node, 2), 0, made)
    sets.of[y.name or ""] = made.reshape(1, -1, *[1] * (len(graph.shape(y)) - 2))


def _slices_of_both(sets: ChannelSets, node: Node, weight: Value, read: tuple[int, Array], made: tuple[int, Array]) -> None:
    for axis, labels in (read, made):
        _slices(sets, node, weight, axis, labels)


def _linear(sets: ChannelSets, node: Node) -> None:
    x, weight, y = _value(node, 0), _value(node, 1), node.outputs[0]
    if not _is_constant(weight):
        _product(sets, node)
        return
    turned = node.op_type == "Gemm" and bool(graph.attribute(node, "transB", 0))
    if _is_constant(x) or len(graph.shape(weight)) != 2 or graph.attribute(node, "transA", 0):
        _unknown(sets, node)
        return
    made = sets.fresh(graph.shape(y)[-1], node.name or "")
    _slices_of_both(sets, node, weight, (1 if turned else 0, sets.along(x, -1)), (0 if turned else 1, made))
    kept = sets.labels(x)
    if kept.ndim > 1:  # labels of other axes go through
        others = kept.max(axis=-1, keepdims=True) if kept.shape[-1] == 1 else np.zeros((1,) * kept.ndim, np.int64)
        sets.freeze(others, node, "has labelled axes beside its channels")
    if node.op_type == "Gemm" and len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = _value(node, 2)
        if _is_constant(bias) and graph.shape(bias)[-1:] == (len(made),):
            _slices(sets, node, bias, len(graph.shape(bias)) - 1, made)
        else:
            sets.freeze(made, node, "adds something that is no row of constants")
    sets.of[y.name or ""] = made.reshape(*[1] * (len(graph.shape(y)) - 1), -1)


def _product(sets: ChannelSets, node: Node) -> None:
    """Two activations: what is summed over is tied, rows and columns go on, batch axes are tied."""
    a, b, y = _value(node, 0), _value(node, 1), node.outputs[0]
    if node.op_type == "Gemm" or min(len(graph.shape(a)), len(graph.shape(b))) < 2:
        _unknown(sets, node)
        return
    left, right = sets.labels(a), sets.labels(b)
    inner_left, inner_right = left.max(axis=-2, keepdims=True), np.swapaxes(right.max(axis=-1, keepdims=True), -1, -2)
    shape = np.broadcast_shapes(inner_left.shape, inner_right.shape)
    sets.tie(np.broadcast_to(inner_left, shape), np.broadcast_to(inner_right, shape))
    rank = len(graph.shape(y))
    rows, columns = (
        left if left.shape[-1] == 1 else np.zeros((1,) * rank, np.int64),
        right if right.shape[-2] == 1 else np.zeros((1,) * rank, np.int64),
    )
    shape = np.broadcast_shapes(rows.shape, columns.shape)
    rows, columns = np.broadcast_to(rows, shape), np.broadcast_to(columns, shape)
    both = (rows != FROZEN) & (columns != FROZEN)
    sets.tie(np.where(both, rows, FROZEN)[both], np.where(both, columns, FROZEN)[both])
    sets.of[y.name or ""] = np.maximum(rows, columns)


def _elementwise(sets: ChannelSets, node: Node) -> None:
    """Operands of one shape after broadcasting: labels at one place are tied, constants are cut along."""
    y = node.outputs[0]
    shape = graph.shape(y)
    live = [value for value in node.inputs if value is not None and not _is_constant(value)]
    if not live:
        return
    padded = [_aligned(sets.labels(value), len(shape)) for value in live]
    wide = np.broadcast_shapes(*(labels.shape for labels in padded))
    made: Array | None = None
    for value, labels in zip(live, padded, strict=True):
        dims = (*[1] * (len(shape) - len(graph.shape(value))), *graph.shape(value))
        if any(n > 1 and dims[axis] == 1 and shape[axis] > 1 for axis, n in enumerate(wide)):
            # one element serves all channels: it asks nothing of them, but has none of its own beside
            sets.freeze(labels, node, "broadcasts along other channels")
            continue
        spread = np.broadcast_to(labels, wide)
        if made is None:
            made = spread
        else:
            sets.tie(made, spread)
    if made is None:  # channels along different axes
        made = np.zeros((1,) * len(shape), np.int64)
    for constant in node.inputs:
        if constant is not None and _is_constant(constant):
            _cut_along(sets, node, constant, made)
    sets.of[y.name or ""] = made


def _aligned(labels: Array, rank: int) -> Array:
    return labels.reshape(*[1] * (rank - labels.ndim), *labels.shape)


def _cut_along(sets: ChannelSets, node: Node, constant: Value, made: Array) -> None:
    """A constant operand loses what the result loses, along the axes in which it has more than one element."""
    dims = graph.shape(constant)
    offset = made.ndim - len(dims)
    for axis, dim in enumerate(dims):
        others = tuple(i for i in range(made.ndim) if i != axis + offset)
        labels = made.max(axis=others) if others else made
        if dim > 1 and labels.size > 1:
            _slices(sets, node, constant, axis, np.broadcast_to(labels, (dim,)))


def _per_channel(sets: ChannelSets, node: Node) -> None:
    """Constants with an entry for each channel (axis 1)."""
    labels = sets.along(_value(node, 0), 1)
    for value in node.inputs[1:]:
        if value is not None and len(graph.shape(value)) and graph.shape(value)[0] == len(labels) and len(labels) > 1:
            _slices(sets, node, value, 0, labels)
    _same(sets, node)


def _norm(sets: ChannelSets, node: Node) -> None:
    """Over the last axis: its scale and shift are cut with it (its statistics then come from the channels that are left)."""
    x = _value(node, 0)
    if int(graph.attribute(node, "axis", -1)) not in (-1, len(graph.shape(x)) - 1):
        _unknown(sets, node)
        return
    for value in node.inputs[1:]:
        if value is not None:
            _slices(sets, node, value, 0, sets.along(x, -1))
    _same(sets, node)


def _softmax(sets: ChannelSets, node: Node) -> None:
    axis = int(graph.attribute(node, "axis", -1))
    labels = sets.labels(_value(node, 0))
    if labels.shape[axis] > 1:
        sets.freeze(labels, node, "sums over the channels")
    _same(sets, node)


def _pool_all(sets: ChannelSets, node: Node) -> None:
    labels = sets.labels(_value(node, 0))
    if any(size > 1 for size in labels.shape[2:]):
        sets.freeze(labels, node, "pools over labelled axes")
    _same(sets, node)


def _reduce(sets: ChannelSets, node: Node) -> None:
    x, y = _value(node, 0), node.outputs[0]
    labels = sets.labels(x)
    given = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else graph.attribute(node, "axes")
    rank = len(graph.shape(x))
    axes = tuple(int(axis) % rank for axis in given) if given is not None else tuple(range(rank))
    if any(labels.shape[axis] > 1 for axis in axes):
        sets.freeze(labels, node, "sums over the channels")
        return
    sets.of[y.name or ""] = (
        labels
        if graph.attribute(node, "keepdims", 1)
        else labels.reshape([s for i, s in enumerate(labels.shape) if i not in axes])
    )


def _transpose(sets: ChannelSets, node: Node) -> None:
    labels = sets.labels(_value(node, 0))
    order = graph.attribute(node, "perm") or tuple(range(labels.ndim))[::-1]
    sets.of[node.outputs[0].name or ""] = labels.transpose(order)


def _reshape(sets: ChannelSets, node: Node) -> None:
    """Labels are dealt out anew. An axis of channels cut in two (heads and their width) loses whole rows only: heads."""
    x, y = _value(node, 0), node.outputs[0]
    before, after = graph.shape(x), graph.shape(y)
    labels = np.broadcast_to(sets.labels(x), before).reshape(after)
    varies = [axis for axis in range(labels.ndim) if labels.shape[axis] > 1 and (labels != np.take(labels, [0], axis)).any()]
    if len(varies) > 1:  # keep the tensor a box: everything behind the first of these axes is one unit
        keep = varies[0]
        first = np.take(labels.reshape(*labels.shape[: keep + 1], -1), 0, axis=-1)
        first = first.reshape(*first.shape, *[1] * (labels.ndim - keep - 1))
        sets.tie(labels, np.broadcast_to(first, labels.shape))
        labels, varies = np.broadcast_to(first, labels.shape), [keep]
    narrow = labels[tuple(slice(None) if axis in varies else slice(0, 1) for axis in range(labels.ndim))]
    sets.of[y.name or ""] = narrow


def _concat(sets: ChannelSets, node: Node) -> None:
    y = node.outputs[0]
    axis = int(graph.attribute(node, "axis", 0)) % len(graph.shape(y))
    parts = []
    for index in range(len(node.inputs)):
        value = _value(node, index)
        labels = sets.labels(value)
        parts.append(np.broadcast_to(labels, [graph.shape(value)[i] if i == axis else n for i, n in enumerate(labels.shape)]))
    wide = np.broadcast_shapes(*([n if i != axis else 1 for i, n in enumerate(part.shape)] for part in parts))
    spread = [np.broadcast_to(part, [part.shape[i] if i == axis else n for i, n in enumerate(wide)]) for part in parts]
    if any(n > 1 for n in wide):  # channels beside the axis: every part must lose the same
        for other in spread[1:]:
            sets.tie(np.take(spread[0], [0], axis), np.take(other, [0], axis))
    sets.of[y.name or ""] = np.concatenate(spread, axis=axis)


def _split(sets: ChannelSets, node: Node) -> None:
    labels, at = sets.labels(_value(node, 0)), 0
    axis = int(graph.attribute(node, "axis", 0)) % labels.ndim
    for value in node.outputs:
        size = graph.shape(value)[axis]
        take = slice(at, at + size) if labels.shape[axis] > 1 else slice(0, 1)
        sets.of[value.name or ""] = labels[tuple(take if i == axis else slice(None) for i in range(labels.ndim))]
        at += size


def _spatial(sets: ChannelSets, node: Node) -> None:
    """Resizes or pads axes; on a labelled axis that would mix channels."""
    labels, before, after = sets.labels(_value(node, 0)), graph.shape(_value(node, 0)), graph.shape(node.outputs[0])
    if any(size > 1 and before[axis] != after[axis] for axis, size in enumerate(labels.shape)):
        sets.freeze(labels, node, "changes the number of channels")
        return
    _same(sets, node)


_RULES: dict[str, Rule] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), _conv),
    **dict.fromkeys(("Gemm", "MatMul"), _linear),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Where"), _elementwise),
    **dict.fromkeys(
        (
            "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Softplus", "Softsign",
            "Mish", "Swish", "Gelu", "Erf", "Exp", "Log", "Sqrt", "Abs", "Neg", "Reciprocal", "Clip", "Identity", "Dropout",
            "Cast", "MaxPool", "AveragePool",
        ),
        _same,
    ),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization", "PRelu"), _per_channel),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _norm),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _pool_all),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"), _reduce),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Resize", "Upsample", "Pad"), _spatial),
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
}  # fmt: skip
