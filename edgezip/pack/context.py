"""What a lowering rule sees: the graph's values as program tensors, and the few moves that all rules share.

A value may be held as float, as int8 (when a DequantizeLinear stands behind it), or both; each form is made when first asked
for. Rules never walk the graph on their own account: what fuses with a node is decided beforehand in ``plan_graph.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Builder, Ref, channels_last, plain
from edgezip.program import Convert, DType, Op

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

Array = np.ndarray[Any, Any]
_DTYPES = {
    "float32": DType.F32,
    "int8": DType.S8,
    "uint8": DType.U8,
    "int32": DType.S32,
    "int64": DType.S64,
    "bool": DType.BOOL,
}


UNCLIPPED = (-128, 127)


@dataclass(frozen=True, slots=True)
class QParams:
    """Scale and logical int8 zero point of a QuantizeLinear or DequantizeLinear per tensor."""

    scale: float
    zero_point: int


NUMBERS = QParams(1.0, 0)  # int8 that is not quantised: the number itself


class Unsupported(Exception):  # noqa: N818  (internal: collected, never seen by a user)
    """A rule cannot lower this node; the text says why."""


class NoKernel(Unsupported):
    """The node itself is the reason, whatever its inputs are: it is listed even behind another that cannot run."""


@dataclass(slots=True)
class Context:
    """State of one lowering."""

    model: Model
    builder: Builder
    floats: dict[str, Ref] = field(default_factory=dict)  # float, integer and bool values
    int8s: dict[str, Ref] = field(default_factory=dict)  # values whose dequantised int8 form exists, by name of the float value
    opset: int = 21
    uniform: bool = False  # no form that only some sizes of a dynamic dimension have
    notes: list[str] = field(default_factory=list)
    counts: list[tuple[str, Ref]] = field(default_factory=list)  # further outputs of the program: how many rows are meant
    _ordered: dict[tuple[int, tuple[int, ...]], Ref] = field(default_factory=dict)

    # --- values -------------------------------------------------------------------------------------------------------

    def value(self, value: Value) -> Ref:
        """The value in its own dtype (float values dequantised if they exist only as int8)."""
        name = value.name or ""
        if name in self.floats:
            return self.floats[name]
        held = constant_of(value)
        if held is not None:
            self.floats[name] = self.constant(name, held)
        elif name in self.int8s:
            self.floats[name] = self.dequantized(self.int8s[name], name)
        else:
            raise Unsupported(f"needs '{name}', which could not be lowered")
        return self.floats[name]

    def constant(self, name: str, array: Array) -> Ref:
        """An array as a tensor of the weights section."""
        if not array.size:
            raise Unsupported(f"reads '{name}', which has no elements")
        dtype = dtype_of(array.dtype, name)
        scale = NUMBERS.scale if dtype is DType.S8 else 0.0
        return Ref(self.builder.constant(name, array, dtype, scale), array.shape, plain(array.ndim), dtype, scale)

    def int8(self, value: Value) -> Ref | None:
        """The int8 form of a float value, or None."""
        return self.int8s.get(value.name or "")

    def set(self, value: Value, ref: Ref) -> None:
        """Record what a node made: int8 refs of float values are dequantised only if somebody asks."""
        name = value.name or ""
        if ref.dtype is DType.S8:
            self.int8s[name] = ref
        else:
            self.floats[name] = ref

    # --- making tensors -------------------------------------------------------------------------------------------------

    def new(self, name: str, shape: Sequence[int], order: tuple[int, ...], dtype: DType, q: QParams | None = None) -> Ref:
        """A new arena tensor for a value of ONNX shape ``shape``."""
        shape = tuple(shape)
        q = q or QParams(0.0, 0)
        dims = tuple(shape[axis] for axis in order)
        return Ref(self.builder.arena(name, dtype, dims, q.scale, q.zero_point), shape, order, dtype, q.scale, q.zero_point)

    def like(self, ref: Ref, name: str, dtype: DType | None = None, q: QParams | None = None) -> Ref:
        """A new tensor of the shape and order of ``ref``; its dtype and qparams unless given."""
        keep = QParams(ref.scale, ref.zero_point) if dtype is None and q is None else q
        return self.new(name, ref.shape, ref.order, dtype or ref.dtype, keep)

    def reshaped(self, ref: Ref, shape: Sequence[int]) -> Ref:
        """The same elements in ONNX order under another shape; free when memory already lies in ONNX order."""
        source = self.ordered(ref, plain(len(ref.shape)))
        shape = tuple(shape)
        return Ref(self.builder.view(source.tensor, shape), shape, plain(len(shape)), ref.dtype, ref.scale, ref.zero_point)

    def relabelled(self, ref: Ref, shape: Sequence[int], order: tuple[int, ...]) -> Ref:
        """The same memory seen as another shape and order (dims may gain or lose ones)."""
        shape = tuple(shape)
        dims = tuple(shape[axis] for axis in order)
        return Ref(self.builder.view(ref.tensor, dims), shape, order, ref.dtype, ref.scale, ref.zero_point)

    def ordered(self, ref: Ref, order: tuple[int, ...]) -> Ref:
        """``ref`` with its axes in memory order ``order``; a copy only when elements really move."""
        if ref.order == order:
            return ref
        if [a for a in ref.order if ref.shape[a] != 1] == [a for a in order if ref.shape[a] != 1]:
            return self.relabelled(ref, ref.shape, order)
        key = (ref.tensor, order)
        if key not in self._ordered:
            out = self.new(self.builder.tensors[ref.tensor].name, ref.shape, order, ref.dtype, QParams(ref.scale, ref.zero_point))
            self.copy(self.builder.tensors[ref.tensor].name + " (order)", ref, out)
            self._ordered[key] = out
        return self._ordered[key]

    def last(self, ref: Ref) -> Ref:
        """Channels-last."""
        return self.ordered(ref, channels_last(len(ref.shape)))

    def plain(self, ref: Ref) -> Ref:
        """In ONNX order."""
        return self.ordered(ref, plain(len(ref.shape)))

    # --- copies -----------------------------------------------------------------------------------------------------------

    def copy(self, name: str, x: Ref, y: Ref, *, clip: tuple[int, int] = UNCLIPPED, form: dict[str, Any] | None = None) -> None:
        """Copy all of ``x`` into ``y`` (same ONNX shape), converting dtype and scale as the two refs say."""
        strides = x.strides(), y.strides()
        along = [strides[0][a] for a in y.order], [strides[1][a] for a in y.order]
        self.strided(name, x, y, y.dims, *along, clip=clip, form=form)

    def strided(
        self,
        name: str,
        x: Ref,
        y: Ref,
        dims: Sequence[int],
        x_strides: Sequence[int],
        y_strides: Sequence[int],
        x_offset: int = 0,
        y_offset: int = 0,
        *,
        fill: float | None = None,
        clip: tuple[int, int] = UNCLIPPED,
        form: dict[str, Any] | None = None,
    ) -> None:
        """One COPY step; strides and offsets in elements. ``fill`` sets the rest of ``y`` first (s8: logical).

        ``clip`` bounds an int8 result, in logical steps.
        """
        merged = merge_dims(list(dims), [list(x_strides), list(y_strides)])
        filling: dict[str, Any] = {}
        if fill is not None:
            filling = {"fill": 1, "fill_float": float(fill)} if y.dtype is DType.F32 else {"fill": 1, "fill_value": int(fill)}
        self.builder.step(
            name,
            Op.COPY,
            (x.tensor,),
            (y.tensor,),
            form,
            convert=conversion(x, y) if clip == UNCLIPPED else Convert.REQUANTIZE,
            rank=len(merged[0]),
            dims=merged[0],
            x_stride=merged[1],
            y_stride=merged[2],
            scale=ratio(x.scale, y.scale),
            lo=clip[0],
            hi=clip[1],
            x_offset=x_offset,
            y_offset=y_offset,
            **filling,
        )

    def quantized(
        self, ref: Ref, q: QParams, name: str, order: tuple[int, ...] | None = None, *, clip: tuple[int, int] = UNCLIPPED
    ) -> Ref:
        """``ref`` (float, or int8 of another scale) at the given int8 parameters; ``clip`` (int8 only) in logical steps."""
        if ref.dtype is DType.S8 and (ref.scale, ref.zero_point) == (q.scale, q.zero_point) and clip == UNCLIPPED:
            return ref
        out = self.new(name, ref.shape, order or ref.order, DType.S8, q)
        self.copy(name, ref, out, clip=clip, form={"op": "quantize" if ref.dtype is DType.F32 else "requantize"})
        return out

    def rescaled(self, ref: Ref, q: QParams) -> Ref:
        """The same int8 bytes read with other parameters."""
        tensor = self.builder.tensors[ref.tensor]
        like = replace(tensor, scale=q.scale, zero_point=q.zero_point)
        seen = self.builder.window(ref.tensor, tensor.dims, 0, tensor.row_stride, like)
        return replace(ref, tensor=seen, scale=q.scale, zero_point=q.zero_point)

    def dequantized(self, ref: Ref, name: str) -> Ref:
        """``ref`` (int8) as float32."""
        out = self.new(name, ref.shape, ref.order, DType.F32)
        self.copy(name, ref, out, form={"op": "dequantize"})
        return out


def conversion(x: Ref, y: Ref) -> Convert:
    """What a copy from ``x`` to ``y`` does to each element."""
    if x.dtype is DType.S8 and y.dtype is DType.S8:
        return Convert.NONE if (x.scale, x.zero_point) == (y.scale, y.zero_point) else Convert.REQUANTIZE
    if y.dtype is DType.S8:
        return Convert.QUANTIZE
    if x.dtype is DType.S8:
        return Convert.DEQUANTIZE
    return Convert.NONE if x.dtype is y.dtype else Convert.CAST


def ratio(a: float, b: float) -> float:
    """float32 of the float64 quotient of two float32 scales; 0 where one is absent."""
    return float(np.float32(np.float64(a) / np.float64(b))) if a and b else 0.0


def merge_dims(dims: list[int], strides: list[list[int]]) -> tuple[tuple[int, ...], ...]:
    """Fewest dims that walk the same elements in the same order for every operand; at least one."""
    kept = [i for i, d in enumerate(dims) if d != 1]
    out_dims: list[int] = []
    out: list[list[int]] = [[] for _ in strides]
    for i in kept:
        if out_dims and all(o[-1] == s[i] * dims[i] for o, s in zip(out, strides, strict=True)):
            out_dims[-1] *= dims[i]
            for o, s in zip(out, strides, strict=True):
                o[-1] = s[i]
        else:
            out_dims.append(dims[i])
            for o, s in zip(out, strides, strict=True):
                o.append(s[i])
    if not out_dims:
        return ((1,), *((1,) for _ in strides))
    if len(out_dims) > 8:
        raise Unsupported(f"moves data along {len(out_dims)} independent axes, 8 are the limit")
    return (tuple(out_dims), *(tuple(o) for o in out))


def dtype_of(dtype: np.dtype[Any], name: str) -> DType:
    """The program's dtype for a NumPy dtype."""
    if dtype.name not in _DTYPES:
        raise Unsupported(f"'{name}' has type {dtype.name}; the runtime has float32, int8, uint8, int32, int64 and bool")
    return _DTYPES[dtype.name]


def constant_of(value: Value | None) -> Array | None:
    """A constant, or the float form of a dequantised constant, as an array."""
    held = graph.constant(value)
    if held is not None or value is None:
        return held
    node = graph.producer(value)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    stored = graph.constant(node.inputs[0])
    return None if stored is None else dequantize_constant(node, stored)


def dequantize_constant(node: Node, stored: Array) -> Array:
    """float32 of a DequantizeLinear of constants: per tensor, per axis, or in blocks along the axis."""
    scale = np.asarray(graph.constant(node.inputs[1]), np.float32)
    zero = graph.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    axis, block = int(graph.attribute(node, "axis", 1)), int(graph.attribute(node, "block_size", 0))
    centred = stored.astype(np.int64)
    if zero is not None:
        centred = centred - _along(np.asarray(zero, np.int64), stored.shape, axis, block)
    return (centred.astype(np.float32) * _along(scale, stored.shape, axis, block)).astype(np.float32)


def _along(values: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    if values.ndim == 0 or values.size == 1:
        return values.reshape(())
    if block:
        return np.repeat(values, block, axis % len(shape))[tuple(slice(0, d) for d in shape)]
    return values.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])


def qparams_of(node: Node) -> QParams | None:
    """Per-tensor int8 parameters of a Q or DQ node (uint8 shifted by 128), or None when it is of another kind."""
    scale = graph.constant(node.inputs[1])
    zero = graph.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if scale is None or scale.size != 1 or scale.dtype != np.float32:
        return None
    if zero is None:
        zero = np.zeros((), np.uint8)
    if zero.dtype.name not in ("int8", "uint8") or zero.size != 1:
        return None
    shift = 128 if zero.dtype == np.uint8 else 0
    return QParams(float(scale.reshape(())), int(zero.reshape(())) - shift)
