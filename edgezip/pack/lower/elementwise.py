"""Elementwise operators of one or more tensors, with broadcasting through strides."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Ref, channels_last, plain
from edgezip.pack.context import Context, Unsupported, constant_of, merge_dims, qparams_of, ratio
from edgezip.pack.lower.affine import affine_int8, affine_of
from edgezip.pack.lower.registry import Target8, lowers, lowers_int8
from edgezip.pack.plan_graph import clip_bounds
from edgezip.program import Binary, DType, Integer, Math, Op, Unary

if TYPE_CHECKING:
    from edgezip.graph import Node, Value

Array = np.ndarray[Any, Any]
BINARY = {
    "Add": Binary.ADD,
    "Sub": Binary.SUB,
    "Mul": Binary.MUL,
    "Div": Binary.DIV,
    "Min": Binary.MIN,
    "Max": Binary.MAX,
    "Equal": Binary.EQUAL,
    "Less": Binary.LESS,
    "LessOrEqual": Binary.LESS_EQUAL,
    "Greater": Binary.GREATER,
    "GreaterOrEqual": Binary.GREATER_EQUAL,
    "And": Binary.AND,
    "Or": Binary.OR,
}
UNARY = {
    "Sigmoid": Unary.SIGMOID,
    "Tanh": Unary.TANH,
    "Exp": Unary.EXP,
    "Erf": Unary.ERF,
    "HardSwish": Unary.HARD_SWISH,
    "Sqrt": Unary.SQRT,
    "Neg": Unary.NEG,
    "Abs": Unary.ABS,
    "Reciprocal": Unary.RECIPROCAL,
    "Floor": Unary.FLOOR,
    "Ceil": Unary.CEIL,
    "Softplus": Unary.SOFTPLUS,
    "Not": Unary.NOT,
    "Log": Unary.LOG,
    "Swish": Unary.SILU,
}
EXACT = 2**24  # integers up to it are float32 numbers
WITH_ALPHA = {"LeakyRelu": (Unary.LEAKY_RELU, 0.01), "Elu": (Unary.ELU, 1.0)}


def _value(value: Value | None) -> Value:
    assert value is not None
    return value


# --- one tensor ---------------------------------------------------------------------------------------------------------------


def _unary(context: Context, node: Node, kind: Unary, alpha: float = 0.0, beta: float = 0.0) -> None:
    x = context.value(_value(node.inputs[0]))
    if x.dtype not in (DType.F32, DType.BOOL):
        context.set(node.outputs[0], _whole_unary(context, node, x, kind))
        return
    y = context.like(x, node.outputs[0].name or "")
    form = {"op": node.op_type, "node": node.name, "form": "float32"}
    context.builder.step(node.name or "", Op.UNARY, (x.tensor,), (y.tensor,), form, kind=kind, alpha=alpha, beta=beta)
    context.set(node.outputs[0], y)


def _whole_unary(context: Context, node: Node, x: Ref, kind: Unary) -> Ref:
    """Abs, Neg and Relu of whole numbers."""
    from edgezip.pack.lower.arithmetic import emit_integer, emit_math

    whole = {Unary.ABS: Math.ABS, Unary.NEG: Math.NEG}.get(kind)
    if whole is not None:
        return emit_math(context, node, whole, x)
    if node.op_type != "Relu":
        raise Unsupported(f"works on {x.dtype.name}; the runtime has it for float32")
    zero = context.constant(f"{node.name}.zero", np.zeros((), x.dtype.numpy))
    return emit_integer(context, node, Integer.MAX, x, zero, x.shape, node.outputs[0].name or "")


@lowers(*UNARY)
def unary(context: Context, node: Node) -> None:
    """A function without parameters."""
    _unary(context, node, UNARY[node.op_type])


@lowers(*WITH_ALPHA)
def with_alpha(context: Context, node: Node) -> None:
    """LeakyRelu, Elu."""
    kind, default = WITH_ALPHA[node.op_type]
    _unary(context, node, kind, float(graph.attribute(node, "alpha", default)))


@lowers("HardSigmoid")
def hard_sigmoid(context: Context, node: Node) -> None:
    """clip(alpha * x + beta, 0, 1)."""
    _unary(
        context, node, Unary.HARD_SIGMOID, float(graph.attribute(node, "alpha", 0.2)), float(graph.attribute(node, "beta", 0.5))
    )


@lowers("Gelu")
def gelu(context: Context, node: Node) -> None:
    """The exact form, and the tanh form of language models."""
    approximate = graph.attribute(node, "approximate", "none")
    if approximate not in ("none", "tanh"):
        raise Unsupported(f"has approximate = {approximate}")
    _unary(context, node, Unary.GELU_TANH if approximate == "tanh" else Unary.GELU)


@lowers("Relu", "Clip")
def clip(context: Context, node: Node) -> None:
    """A range. Behind a float convolution it becomes the step's own clamp (see fuse.py)."""
    bounds = clip_bounds(node)
    if bounds is None:
        raise Unsupported("has bounds that are computed at run time")
    x = context.value(_value(node.inputs[0]))
    if x.dtype in (DType.S32, DType.S64):
        _clip_integers(context, node, x, bounds)
    else:
        _unary(context, node, Unary.CLIP, *bounds)


def _clip_integers(context: Context, node: Node, x: Ref, bounds: tuple[float, float]) -> None:
    """By way of float32: rounding to it is monotone and exact within bounds that it holds, so no result differs."""
    if any(abs(bound) > EXACT for bound in bounds):
        raise Unsupported(f"has bounds {bounds}; integers are clipped to at most 2^24")
    name = node.outputs[0].name or ""
    wide, clipped = (context.like(x, f"{name}.{part}", DType.F32) for part in ("float", "clipped"))
    y = context.like(x, name)
    form = {"op": "Clip", "node": node.name}
    context.copy(node.name or "", x, wide, form=form)
    context.builder.step(
        node.name or "", Op.UNARY, (wide.tensor,), (clipped.tensor,), form, kind=Unary.CLIP, alpha=bounds[0], beta=bounds[1]
    )
    context.copy(node.name or "", clipped, y, form=form)
    context.set(node.outputs[0], y)


@lowers("PRelu")
def prelu(context: Context, node: Node) -> None:
    """Slopes along the channel axis, or one slope."""
    x = context.value(_value(node.inputs[0]))
    x = context.ordered(x, channels_last(len(x.shape)))
    slope = context.constant(f"{node.name}.slope", _channel_slopes(node, x))
    y = context.like(x, node.outputs[0].name or "")
    form = {"op": "PRelu", "node": node.name, "form": "float32"}
    context.builder.step(
        node.name or "", Op.PRELU, (x.tensor, slope.tensor), (y.tensor,), form, channels=x.dims[-1], lo=-128, hi=127
    )
    context.set(node.outputs[0], y)


def _channel_slopes(node: Node, x: Ref) -> Array:
    held = constant_of(node.inputs[1])
    if held is None:
        raise Unsupported("has slopes that are computed at run time")
    channels = x.dims[-1]
    if held.size == 1:
        return np.full(channels, float(held.reshape(())), np.float32)
    axis = 1 if len(x.shape) >= 3 else len(x.shape) - 1
    wide = np.ones(len(x.shape), int)
    wide[len(x.shape) - held.ndim :] = held.shape
    if held.size != channels or wide[axis] != channels:
        raise Unsupported(f"has slopes of shape {held.shape}; one for each channel is supported")
    return np.asarray(held, np.float32).reshape(-1)


@lowers_int8("PRelu")
def prelu_int8(context: Context, node: Node, target: Target8) -> Ref:
    """PRelu between Q/DQ."""
    x = context.int8(_value(node.inputs[0]))
    assert x is not None
    x = context.ordered(x, channels_last(len(x.shape)))
    slopes = _channel_slopes(node, x)
    unit = np.float64(np.float32(x.scale)) / np.float64(np.float32(target.q.scale))
    table = np.stack([np.full(slopes.shape, unit), unit * slopes.astype(np.float64)]).astype(np.float32)
    multipliers = context.constant(f"{node.name}.multipliers", table)
    y = context.like(x, node.outputs[0].name or "", DType.S8, target.q)
    form = {"op": "PRelu", "node": node.name, "form": "int8"}
    context.builder.step(
        node.name or "",
        Op.PRELU,
        (x.tensor, multipliers.tensor),
        (y.tensor,),
        form,
        channels=x.dims[-1],
        lo=target.lo,
        hi=target.hi,
    )
    return y


# --- several tensors -----------------------------------------------------------------------------------------------------------


def result_order(refs: list[Ref], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Memory order of a result: that of the first operand of full size, else that of the largest of full rank."""
    full = [r for r in refs if r.shape == shape] or [r for r in refs if len(r.shape) == len(shape)]
    full = [r for r in full if r.order != plain(len(shape))] or full
    return max(full, key=lambda r: int(np.prod(r.shape))).order if full else plain(len(shape))


def broadcast_strides(ref: Ref, shape: tuple[int, ...]) -> list[int]:
    """Element strides of ``ref`` for each axis of the broadcast ``shape``; 0 where it repeats."""
    own = ref.strides()
    lead = len(shape) - len(ref.shape)
    return [0 if i < lead or ref.shape[i - lead] == 1 else own[i - lead] for i in range(len(shape))]


def _int8_operand(context: Context, value: Value) -> Ref:
    """An int8 value, or a constant that the graph itself stores in int8 or uint8."""
    ref = context.int8(value)
    if ref is not None:
        return ref
    maker = graph.producer(value)
    stored = graph.constant(maker.inputs[0]) if maker is not None and maker.op_type == "DequantizeLinear" else None
    q = qparams_of(maker) if maker is not None and stored is not None else None
    if stored is None or q is None or stored.dtype.name not in ("int8", "uint8"):
        raise Unsupported(f"has the float constant '{value.name}', which is neither one number nor one for each channel")
    logical = (stored.astype(np.int16) - (128 if stored.dtype == np.uint8 else 0)).astype(np.int8)
    tensor = context.builder.constant(value.name or "", logical, DType.S8, q.scale, q.zero_point)
    return Ref(tensor, stored.shape, plain(stored.ndim), DType.S8, q.scale, q.zero_point)


def emit_binary(context: Context, node: Node, kind: Binary, a: Ref, b: Ref, y: Ref, params: dict[str, Any]) -> None:
    """Append the BINARY step of ``kind`` that writes all of ``y``; ``params`` are those that differ from the plain float form."""
    strides = [broadcast_strides(ref, y.shape) for ref in (a, b, y)]
    strides[2] = list(y.strides())
    in_memory = [[s[axis] for axis in y.order] for s in strides]
    dims, sa, sb, sy = merge_dims(list(y.dims), in_memory)
    form = {"op": node.op_type, "node": node.name, "form": "int8" if a.dtype is DType.S8 else "float32"}
    full = {"lo": -128, "hi": 127, "float_lo": -math.inf, "float_hi": math.inf, "scale_a": 1.0, "scale_b": 1.0, **params}
    context.builder.step(
        node.name or node.op_type,
        Op.BINARY,
        (a.tensor, b.tensor),
        (y.tensor,),
        form,
        kind=kind,
        rank=len(dims),
        dims=dims,
        stride_a=sa,
        stride_b=sb,
        stride_y=sy,
        **full,
    )


def _pairwise(context: Context, node: Node, operands: list[Ref], target: Target8 | None) -> Ref:
    """Min and Max of n operands, two at a time; all other kinds have two."""
    result = operands[0]
    shape = graph.shape(node.outputs[0])
    for index, other in enumerate(operands[1:]):
        final = index == len(operands) - 2
        partial = shape if final else tuple(np.broadcast_shapes(result.shape, other.shape))
        result = _binary(context, node, result, other, partial, target)
    return result


def _binary(context: Context, node: Node, a: Ref, b: Ref, shape: tuple[int, ...], target: Target8 | None) -> Ref:
    kind = BINARY[node.op_type]
    order = result_order([a, b], shape)
    name = node.outputs[0].name or ""
    if target is not None:
        y = context.new(name, shape, order, DType.S8, target.q)
        emit_binary(context, node, kind, a, b, y, {**_int8_scales(kind, a, b, target), "lo": target.lo, "hi": target.hi})
        return y
    if a.dtype is not b.dtype or a.dtype not in (DType.F32, DType.BOOL):
        return _whole_binary(context, node, kind, a, b, shape)
    logical = graph.dtype(node.outputs[0]) == np.bool_
    y = context.new(name, shape, order, DType.BOOL if logical else DType.F32)
    emit_binary(context, node, kind, a, b, y, {})
    return y


def _whole_binary(context: Context, node: Node, kind: Binary, a: Ref, b: Ref, shape: tuple[int, ...]) -> Ref:
    """The operator on whole numbers; its kinds have the same names."""
    from edgezip.pack.lower.arithmetic import WHOLE, emit_integer

    if a.dtype is not b.dtype or a.dtype not in WHOLE:
        raise Unsupported(f"works on {a.dtype.name} and {b.dtype.name}; the runtime has it for one float or whole type")
    return emit_integer(context, node, Integer[kind.name], a, b, shape, node.outputs[0].name or "")


def _int8_scales(kind: Binary, a: Ref, b: Ref, target: Target8) -> dict[str, float]:
    y = np.float64(np.float32(target.q.scale))
    sa, sb = np.float64(np.float32(a.scale)), np.float64(np.float32(b.scale))
    if kind is Binary.MUL:
        return {"scale_a": float(np.float32(sa * sb / y)), "scale_b": 0.0}
    if kind is Binary.DIV:
        return {"scale_a": float(np.float32(sa / sb / y)), "scale_b": 0.0}
    return {"scale_a": ratio(a.scale, target.q.scale), "scale_b": ratio(b.scale, target.q.scale)}


@lowers(*BINARY)
def binary(context: Context, node: Node) -> None:
    """Two operands (Min, Max: one or more) in float32, or bool."""
    operands = [context.value(_value(value)) for value in node.inputs]
    context.set(node.outputs[0], _pairwise(context, node, operands, None) if len(operands) > 1 else operands[0])


@lowers_int8("Add", "Sub", "Mul", "Div", "Min", "Max")
def binary_int8(context: Context, node: Node, target: Target8) -> Ref:
    """Two operands between Q/DQ."""
    if len(node.inputs) != 2:
        raise Unsupported(f"has {len(node.inputs)} int8 operands; 2 are supported")
    affine = affine_of(node)
    if affine is not None and (x := context.int8(affine.data)) is not None:
        return affine_int8(context, node, x, affine, target)
    return _pairwise(context, node, [_int8_operand(context, _value(value)) for value in node.inputs], target)


@lowers("Pow")
def power(context: Context, node: Node) -> None:
    """Constant exponents 2 (a product) and 0.5 (a square root) fast, all others through double."""
    held = constant_of(node.inputs[1])
    exponent = float(held.reshape(())) if held is not None and held.size == 1 else math.nan
    x = context.value(_value(node.inputs[0]))
    if exponent == 0.5 and x.dtype is DType.F32:
        _unary(context, node, Unary.SQRT)
    elif exponent == 2.0 and x.dtype is DType.F32:
        y = context.like(x, node.outputs[0].name or "")
        emit_binary(context, node, Binary.MUL, x, x, y, {})
        context.set(node.outputs[0], y)
    else:
        from edgezip.pack.lower.arithmetic import remainder

        remainder(context, node)


@lowers("Where")
def where(context: Context, node: Node) -> None:
    """condition ? a : b, with broadcasting."""
    condition, a, b = (context.value(_value(value)) for value in node.inputs)
    if a.dtype is not b.dtype or condition.dtype is not DType.BOOL:
        raise Unsupported(f"chooses between {a.dtype.name} and {b.dtype.name}")
    shape = graph.shape(node.outputs[0])
    y = context.new(node.outputs[0].name or "", shape, result_order([a, b], shape), a.dtype)
    strides = [broadcast_strides(ref, shape) for ref in (condition, a, b)] + [list(y.strides())]
    dims, sc, sa, sb, sy = merge_dims(list(y.dims), [[s[axis] for axis in y.order] for s in strides])
    form = {"op": "Where", "node": node.name, "form": a.dtype.name.lower()}
    context.builder.step(
        node.name or "",
        Op.WHERE,
        (condition.tensor, a.tensor, b.tensor),
        (y.tensor,),
        form,
        rank=len(dims),
        dims=dims,
        stride_c=sc,
        stride_a=sa,
        stride_b=sb,
        stride_y=sy,
    )
    context.set(node.outputs[0], y)
