"""Gemm and MatMul: with constant weights a CONV step on a one-row image, with two activations a MATMUL step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack import layouts, sparse
from edgezip.pack.builder import Ref, elements, plain
from edgezip.pack.context import Context, Unsupported, constant_of, merge_dims
from edgezip.pack.lower.codes import low_bits
from edgezip.pack.lower.convolution import Filter, emit_float, emit_int8
from edgezip.pack.lower.elementwise import broadcast_strides
from edgezip.pack.lower.geometry import Window
from edgezip.pack.lower.registry import Target8, lowers, lowers_int8
from edgezip.pack.plan_graph import only_consumer
from edgezip.pack.weights import Weights, folded_bias, int8_weights, int32_bias, params_of, stored_weights
from edgezip.program import DType, Op, Place

if TYPE_CHECKING:
    from edgezip.graph import Node, Value

Array = np.ndarray[Any, Any]
POINT = Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))


def _value(value: Value | None) -> Value:
    assert value is not None
    return value


def _rows(context: Context, ref: Ref, features: int) -> Ref:
    """(..., features) as an image (1, features, 1, rows), channels-last: the same memory."""
    ref = context.plain(ref)
    rows = elements(ref.shape) // features
    return context.relabelled(ref, (1, features, 1, rows), (0, 2, 3, 1))


def _finish(context: Context, made: Ref, shape: tuple[int, ...]) -> Ref:
    return context.relabelled(made, shape, plain(len(shape)))


def _check_gemm(node: Node) -> bool:
    """Whether B is transposed; a transposed or scaled A is refused by the caller through Unsupported."""
    if node.op_type == "Gemm" and int(graph.attribute(node, "transA", 0)):
        raise Unsupported("has transA = 1")
    return bool(node.op_type == "Gemm" and int(graph.attribute(node, "transB", 0)))


def _float_weights(node: Node) -> tuple[Array, Array]:
    """Weights (outputs, K) and bias (outputs,) in float32, alpha and beta multiplied in."""
    held = constant_of(node.inputs[1])
    if held is None or held.ndim != 2:
        raise Unsupported("has a constant second operand that is not a matrix")
    weights = held if _check_gemm(node) else held.T
    weights = np.asarray(weights, np.float32) * np.float32(graph.attribute(node, "alpha", 1.0))
    bias = np.zeros(len(weights), np.float32)
    if node.op_type == "Gemm" and len(node.inputs) > 2 and node.inputs[2] is not None:
        added = constant_of(node.inputs[2])
        if added is None or added.size not in (1, len(weights)):
            raise Unsupported("has a third operand that is not a constant row")
        bias = bias + np.broadcast_to(np.asarray(added, np.float32).reshape(-1), bias.shape) * np.float32(
            graph.attribute(node, "beta", 1.0)
        )
    return np.ascontiguousarray(weights), bias


@lowers("Gemm", "MatMul")
def linear_float(context: Context, node: Node) -> None:
    """Gemm or MatMul in float32."""
    shape = graph.shape(node.outputs[0])
    if constant_of(node.inputs[1]) is None or len(graph.shape(_value(node.inputs[1]))) != 2:
        a, b = (context.int8(_value(value)) for value in node.inputs[:2])
        if a is None or b is None:
            a, b = (context.value(_value(value)) for value in node.inputs[:2])
        context.set(node.outputs[0], _matmul(context, node, a, b, None))
        return
    if low_bits(context, node, shape) or _int8_to_float(context, node, shape):
        return
    weights, bias = _float_weights(node)
    x = _rows(context, context.value(_value(node.inputs[0])), weights.shape[1])
    made = context.new(node.outputs[0].name or "", (1, len(weights), 1, x.shape[3]), (0, 2, 3, 1), DType.F32)
    emit_float(context, node, x, made, Filter(weights[:, None], bias, POINT, 1, (1, x.shape[3])))
    context.set(node.outputs[0], _finish(context, made, shape))


def _int8_to_float(context: Context, node: Node, shape: tuple[int, ...]) -> bool:
    """int8 weights on rows that are int8, or that become int8 at run time (EZ-N1 rule 8), with a float result."""
    value = _value(node.inputs[0])
    x = context.int8(value)
    if x is None and graph.get_metadata(node, graph.DYNAMIC_ROWS[0]) != graph.DYNAMIC_ROWS[1]:
        return False
    transposed = _check_gemm(node)
    weights = stored_weights(node.inputs[1], 0 if transposed else 1, shape[-1])
    if weights is None or float(graph.attribute(node, "alpha", 1.0)) <= 0:
        return False
    _, bias = _float_weights(node)
    weights = _int8_matrix(context, node, shape[-1])
    x = context.plain(x if x is not None else context.value(value))
    if x.dtype not in (DType.S8, DType.F32):
        return False
    context.set(node.outputs[0], emit_linear(context, node, x, weights, bias))
    return True


def emit_linear(context: Context, node: Node, x: Ref, weights: Weights, addend: Array) -> Ref:
    """Append the LINEAR step from rows ``x`` (..., K), int8 or float32, to float32 (..., N); ``addend`` (N,) is added last."""
    builder, name, outputs = context.builder, node.name or node.op_type, len(weights.values)
    zero, scale = (x.zero_point, np.float64(np.float32(x.scale))) if x.dtype is DType.S8 else (0, np.float64(1))
    folded = folded_bias(node, np.zeros(outputs, np.int64), weights.values, zero, builder.act_sign)
    mult = (scale * weights.scale.astype(np.float64)).astype(np.float32)
    packed = layouts.pack_gemm_s8(weights.values[:, None], builder.layout)
    rows = elements(x.shape[:-1])
    panels = -(-outputs // layouts.PANEL)
    weights_tensor, told = sparse.constant(builder, f"{name}.weights", packed, panels, sparse.kinds_of_rows(rows))
    constants = (
        weights_tensor,
        builder.constant(f"{name}.bias", layouts.pad_outputs(folded), DType.S32),
        builder.constant(f"{name}.multiplier", layouts.pad_outputs(mult), DType.F32),
        builder.constant(f"{name}.addend", layouts.pad_outputs(addend.astype(np.float32)), DType.F32),
    )
    if x.dtype is DType.S8 and builder.tensors[x.tensor].place not in (Place.ARENA, Place.WEIGHTS):
        raise Unsupported("multiplies an int8 input of the graph itself")
    source = context.relabelled(x, (rows, x.shape[-1]), plain(2))
    made = context.new(node.outputs[0].name or "", (rows, outputs), plain(2), DType.F32)
    form = {"op": node.op_type, "node": node.name, "form": "int8", "macs": rows * weights.values.size}
    form |= told
    form["rows"] = "int8" if x.dtype is DType.S8 else "quantised at run time"
    builder.step(name, Op.LINEAR, (source.tensor, *constants), (made.tensor,), form)
    return context.relabelled(made, (*x.shape[:-1], outputs), plain(len(x.shape)))


@lowers_int8("Gemm", "MatMul")
def linear_int8(context: Context, node: Node, target: Target8) -> Ref:
    """Gemm or MatMul between Q/DQ."""
    shape = graph.shape(node.outputs[0])
    a = context.int8(_value(node.inputs[0]))
    if constant_of(node.inputs[1]) is None:
        b = context.int8(_value(node.inputs[1]))
        if a is None or b is None or node.op_type == "Gemm":
            raise Unsupported("has operands that are computed at run time")
        return _matmul(context, node, a, b, target)
    if a is None:
        raise Unsupported("has a constant first operand")
    weights = _int8_matrix(context, node, shape[-1])
    x = _rows(context, a, weights.values.shape[1])
    bias = _int8_bias(node, target, x, weights, shape[-1])
    made = context.new(node.outputs[0].name or "", (1, shape[-1], 1, x.shape[3]), (0, 2, 3, 1), DType.S8, target.q)
    emit_int8(context, node, x, made, Filter(weights.values[:, None], bias, POINT, 1, (1, x.shape[3])), weights.scale, target)
    return _finish(context, made, shape)


def _int8_matrix(context: Context, node: Node, outputs: int) -> Weights:
    """(outputs, K) int8; alpha goes into the scales."""
    transposed = _check_gemm(node)
    held = constant_of(node.inputs[1])
    if held is None or held.ndim != 2:
        raise Unsupported("has a constant second operand that is not a matrix")
    weights = int8_weights(context, node.inputs[1], node, 0 if transposed else 1, outputs)
    values = weights.values if transposed else weights.values.T
    alpha = np.float32(graph.attribute(node, "alpha", 1.0)) if node.op_type == "Gemm" else np.float32(1)
    if alpha <= 0:
        raise Unsupported("has alpha that is not positive")
    return Weights(np.ascontiguousarray(values), weights.scale * alpha)


def _int8_bias(node: Node, target: Target8, x: Ref, weights: Weights, outputs: int) -> Array:
    value = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    beta = float(graph.attribute(node, "beta", 1.0)) if value is not None else 1.0
    if beta == 1.0:
        return int32_bias(value, target.bias, params_of(x), weights.scale, outputs)
    held = constant_of(value)
    if held is None:
        raise Unsupported("has a bias that is computed at run time")
    scaled = np.broadcast_to(held.reshape(-1) * beta, (outputs,))
    return int32_bias(None, scaled if target.bias is None else scaled + target.bias, params_of(x), weights.scale, outputs)


def _matmul(context: Context, node: Node, a: Ref, b: Ref, target: Target8 | None) -> Ref:
    """Two activations, walked by their strides: transposes and heads cost no copy. Batch axes are merged into two levels."""
    if node.op_type == "Gemm":
        raise Unsupported("multiplies two activations; only MatMul can")
    shape = graph.shape(node.outputs[0])
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise Unsupported("multiplies a vector")
    if a.strides()[-1] != 1:
        a = context.plain(a)
    if target is not None and 1 not in b.strides()[-2:]:
        b = context.plain(b)
    dtype = DType.S8 if target else DType.F32
    made = context.new(node.outputs[0].name or "", shape, _result_order(node, len(shape)), dtype, target.q if target else None)
    context.builder.step(
        node.name or "MatMul", Op.MATMUL, (a.tensor, b.tensor), (made.tensor,), **_matmul_params(node, a, b, made, target)
    )
    return made


def _matmul_params(node: Node, a: Ref, b: Ref, y: Ref, target: Target8 | None) -> dict[str, Any]:
    batch = y.shape[:-2]
    walks = [[*broadcast_strides(ref, (*batch, *ref.shape[-2:]))] for ref in (a, b, y)]
    for walk, ref in zip(walks, (a, b, y), strict=True):
        walk[-1] = walk[-1] if ref.shape[-1] > 1 else 1  # a single column lies beside itself
    dims, *merged = merge_dims(list(batch), [walk[:-2] for walk in walks])
    if len(dims) > 2:
        raise Unsupported(f"has {len(dims)} independent batch axes; 2 are supported")
    outer, inner = (1, *dims)[-2:]
    strides = [(*(0, *levels)[-2:], *walk[-2:]) for levels, walk in zip(merged, walks, strict=True)]
    strides[0], strides[2] = (*strides[0][:-1], 1), (*strides[2][:-1], 1)  # a single column has no step of its own
    params: dict[str, Any] = {"scale": 1.0, "lo": -128, "hi": 127}
    if a.dtype is DType.S8:
        scale = np.float64(np.float32(a.scale)) * np.float64(np.float32(b.scale))
        params["scale"] = float(np.float32(scale / np.float64(np.float32(target.q.scale)) if target else scale))
    if target is not None:
        params |= {"lo": target.lo, "hi": target.hi}
    m, n, k = a.shape[-2], b.shape[-1], a.shape[-1]
    form = {
        "op": "MatMul",
        "node": node.name,
        "form": "int8" if a.dtype is DType.S8 else "float32",
        "macs": outer * inner * m * k * n,
    }
    return {"form": form, "outer": outer, "inner": inner, "M": m, "N": n, "K": k, **params,
            "stride_a": strides[0], "stride_b": strides[1], "stride_y": strides[2]}  # fmt: skip


def _result_order(node: Node, rank: int) -> tuple[int, ...]:
    """The memory order that a Transpose behind the product asks for, where columns stay innermost."""
    value = node.outputs[0]
    while (user := only_consumer(value)) is not None and user.op_type in ("QuantizeLinear", "DequantizeLinear"):
        value = user.outputs[0]
    perm = tuple(graph.attribute(user, "perm", ())) if user is not None and user.op_type == "Transpose" else ()
    return perm if len(perm) == rank and perm[-1] == rank - 1 else plain(rank)
