"""Products of two activations in other words: Gemm with computed operands, MatMul of vectors and broadcast batches, Einsum."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.frontends.decompose.emitter import Emitter, decomposes

if TYPE_CHECKING:
    from edgezip.graph import Value


@decomposes("Gemm")
def gemm(emit: Emitter) -> bool:
    """alpha * A' * B' + beta * C with a B that is computed."""
    b, c = emit.input(1), emit.input(2)
    if emit.constant(1) is not None or _is_dequantized(b) or b is None:
        return False
    a = emit("Transpose", emit.x, perm=[1, 0]) if emit.attr("transA", 0) else emit.x
    b = emit("Transpose", b, perm=[1, 0]) if emit.attr("transB", 0) else b
    made = _scaled(emit, emit("MatMul", a, b), emit.attr("alpha", 1.0))
    return emit.finish(made if c is None else emit("Add", made, _scaled(emit, c, emit.attr("beta", 1.0))))


def _is_dequantized(value: Value | None) -> bool:
    maker = graph.producer(value) if value is not None else None
    return maker is not None and maker.op_type == "DequantizeLinear"


def _scaled(emit: Emitter, x: Value, factor: float) -> Value:
    return x if factor == 1.0 else emit("Mul", x, emit.number(factor))


@decomposes("MatMul")
def matmul(emit: Emitter) -> bool:
    """A vector becomes a matrix of one row or column; batches that broadcast in part are expanded."""
    a, b = emit.x, emit.input(1)
    assert b is not None
    left, right = emit.shape, graph.shape(b)
    if len(left) == 1 or len(right) == 1:
        a = emit.reshape(a, (1, *left)) if len(left) == 1 else a
        b = emit.reshape(b, (*right, 1)) if len(right) == 1 else b
        return emit.finish(emit.reshape(emit("MatMul", a, b), emit.result))
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    counts = [int(np.prod(shape[:-2])) for shape in (left, right)]
    if all(count in (1, int(np.prod(batch))) for count in counts):
        return False
    a, b = (emit("Expand", x, np.asarray([*batch, *shape[-2:]], np.int64)) for x, shape in ((a, left), (b, right)))
    return emit.finish(emit("MatMul", a, b))


# --- Einsum ---------------------------------------------------------------------------------------------------------------


@decomposes("Einsum")
def einsum(emit: Emitter) -> bool:
    """Diagonals by a mask, sums of what only one operand has, then batched matrix products from left to right."""
    parsed = _parse(str(emit.attr("equation", "")), [len(graph.shape(v)) for v in emit.node.inputs if v is not None])
    if parsed is None:
        return False
    terms, result = parsed
    sizes: dict[str, int] = {}
    for term, value in zip(terms, emit.node.inputs, strict=True):
        assert value is not None
        for label, size in zip(term, graph.shape(value), strict=True):
            sizes[label] = max(sizes.get(label, 1), size)
    operands = [
        _Operand(emit, value, term, sizes) for term, value in zip(terms, emit.node.inputs, strict=True) if value is not None
    ]
    for operand in operands:
        operand.take_diagonals()
    total = operands[0]
    for position, other in enumerate(operands[1:], 2):
        later = set(result).union(*(operand.labels for operand in operands[position:]))
        total = total.times(other, later)
    total.keep(set(result))
    order = [total.labels.index(label) for label in result]
    return emit.finish(total.value if order == sorted(order) else emit("Transpose", total.value, perm=order))


def _parse(equation: str, ranks: list[int]) -> tuple[list[str], str] | None:
    """Labels of each operand and of the result, an ellipsis written out in capitals; None when it makes no sense."""
    equation = equation.replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks) or not set(equation) <= set(string.ascii_letters + ",.->"):
        return None
    spare = [c for c in string.ascii_uppercase + string.ascii_lowercase if c not in equation]
    hidden = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True) if "..." in term]
    if any(count < 0 for count in hidden) or max(hidden, default=0) > len(spare):
        return None
    dots = "".join(spare[: max(hidden, default=0)])
    counts = iter(hidden)
    written = [term.replace("...", dots[len(dots) - next(counts) :]) if "..." in term else term for term in terms]
    if not arrow:
        seen = "".join(terms).replace(".", "")
        result = "..." * bool(dots) + "".join(sorted(c for c in set(seen) if seen.count(c) == 1))
    result = result.replace("...", dots)
    fits = all(len(term) == rank for term, rank in zip(written, ranks, strict=True))
    return (written, result) if fits and set(result) <= set("".join(written)) and len(set(result)) == len(result) else None


class _Operand:
    """A value whose axes have labels."""

    def __init__(self, emit: Emitter, value: Value, labels: str, sizes: dict[str, int]) -> None:
        self.emit, self.value, self.labels, self.sizes = emit, value, list(labels), sizes
        self.shape = list(graph.shape(value))

    def take_diagonals(self) -> None:
        """A label that stands twice: a mask and a sum along its second axis."""
        while len(set(self.labels)) < len(self.labels):
            label = next(label for label in self.labels if self.labels.count(label) > 1)
            first = self.labels.index(label)
            second = self.labels.index(label, first + 1)
            size = self.shape[first]
            axes = [size if axis in (first, second) else 1 for axis in range(len(self.shape))]
            mask = np.eye(size).reshape(axes).astype(graph.dtype(self.emit.x))
            self._sum(self.emit("Mul", self.value, mask), [second])

    def _sum(self, value: Value, axes: list[int]) -> None:
        self.value = self.emit.reduce("ReduceSum", value, axes, keep=False)
        self.labels = [label for axis, label in enumerate(self.labels) if axis not in axes]
        self.shape = [size for axis, size in enumerate(self.shape) if axis not in axes]

    def keep(self, wanted: set[str]) -> None:
        """Sums over all labels that nobody wants."""
        axes = [axis for axis, label in enumerate(self.labels) if label not in wanted]
        if axes:
            self._sum(self.value, axes)

    def _as(self, groups: list[list[str]]) -> Value:
        """The value with its axes in the order of the groups, each group one axis; axes of size 1 grow to the label's size."""
        emit, flat = self.emit, [label for group in groups for label in group]
        full = [self.sizes[label] for label in self.labels]
        value = self.value if full == self.shape else emit("Expand", self.value, np.asarray(full, np.int64))
        order = [self.labels.index(label) for label in flat]
        value = value if order == sorted(order) else emit("Transpose", value, perm=order)
        return emit.reshape(value, [int(np.prod([self.sizes[label] for label in group])) for group in groups])

    def times(self, other: _Operand, later: set[str]) -> _Operand:
        """The product; labels that neither the result nor a later operand has are summed."""
        mine, yours = set(self.labels), set(other.labels)
        self.keep(later | yours)
        other.keep(later | mine)
        shared = [label for label in self.labels if label in other.labels]
        batch, inner = [label for label in shared if label in later], [label for label in shared if label not in later]
        rows = [label for label in self.labels if label not in shared]
        columns = [label for label in other.labels if label not in shared]
        made = self.emit("MatMul", self._as([batch, rows, inner]), other._as([batch, inner, columns]))
        labels = batch + rows + columns
        shape = [self.sizes[label] for label in labels]
        product = _Operand.__new__(_Operand)
        product.emit, product.labels, product.sizes, product.shape = self.emit, labels, self.sizes, shape
        product.value = self.emit.reshape(made, shape)
        return product
