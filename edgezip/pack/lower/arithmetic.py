"""Whole numbers, rare functions, products and pooling that the fast kernels do not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Ref, elements, plain
from edgezip.pack.context import NUMBERS, Context, Unsupported, dtype_of, merge_dims
from edgezip.pack.lower.elementwise import broadcast_strides
from edgezip.pack.lower.registry import lowers
from edgezip.pack.lower.selection import result, value_of
from edgezip.program import Border, DType, Fold, Integer, Math, Op, Sample, Window

if TYPE_CHECKING:
    from edgezip.graph import Node

WHOLE = (DType.S32, DType.S64, DType.U8)


def emit_integer(context: Context, node: Node, kind: Integer, a: Ref, b: Ref, shape: tuple[int, ...], name: str) -> Ref:
    """Append the INTEGER step of ``kind`` on two values of one dtype."""
    compares = Integer.EQUAL <= kind <= Integer.GREATER_EQUAL
    y = context.new(name, shape, plain(len(shape)), DType.BOOL if compares else a.dtype)
    dims, sa, sb, sy = merge_dims(list(shape), [broadcast_strides(a, shape), broadcast_strides(b, shape), list(y.strides())])
    form = {"op": node.op_type, "node": node.name, "form": a.dtype.name.lower()}
    params: dict[str, Any] = {"rank": len(dims), "dims": dims, "stride_a": sa, "stride_b": sb, "stride_y": sy}
    context.builder.step(node.name or node.op_type, Op.INTEGER, (a.tensor, b.tensor), (y.tensor,), form, kind=kind, **params)
    return y


def operands(context: Context, node: Node) -> tuple[Ref, Ref]:
    """Both operands of a binary node."""
    a, b = (context.value(value_of(value)) for value in node.inputs[:2])
    return a, b


BITS = {"BitwiseAnd": Integer.AND, "BitwiseOr": Integer.OR, "BitwiseXor": Integer.XOR, "Xor": Integer.XOR}


@lowers(*BITS)
def bits(context: Context, node: Node) -> None:
    """Bit by bit; Xor on bool."""
    made = emit_integer(
        context, node, BITS[node.op_type], *operands(context, node), graph.shape(node.outputs[0]), node.outputs[0].name or ""
    )
    context.set(node.outputs[0], made)


@lowers("Mod", "BitShift")
def remainder(context: Context, node: Node) -> None:
    """Remainders with the sign of either operand, shifts, powers; Pow computes in the type of its base."""
    a, b = operands(context, node)
    if node.op_type == "Mod":
        kind = Integer.FMOD if int(graph.attribute(node, "fmod", 0)) else Integer.MOD
    elif node.op_type == "BitShift":
        kind = Integer.SHIFT_LEFT if graph.attribute(node, "direction") == "LEFT" else Integer.SHIFT_RIGHT
    else:
        kind = Integer.POW
    shape, name = graph.shape(node.outputs[0]), node.outputs[0].name or ""
    own = a.dtype
    if a.dtype is not b.dtype:  # only Pow has two types
        wide = DType.F32 if DType.F32 in (a.dtype, b.dtype) else DType.S64
        a, b = (_as(context, ref, wide, name) for ref in (a, b))
    made = emit_integer(context, node, kind, a, b, shape, name)
    context.set(node.outputs[0], _as(context, made, own, name))


def _as(context: Context, ref: Ref, dtype: DType, name: str) -> Ref:
    if ref.dtype is dtype:
        return ref
    made = context.like(ref, f"{name}.{dtype.name.lower()}", dtype)
    context.copy(name, ref, made, form={"op": "Cast"})
    return made


@lowers("Cast")
def cast(context: Context, node: Node) -> None:
    """Between float32, integers and bool; int8 gets the numbers wrapped to eight bits."""
    x, name = context.value(value_of(node.inputs[0])), node.outputs[0].name or ""
    dtype = dtype_of(graph.dtype(node.outputs[0]), name)
    context.set(node.outputs[0], _to_int8(context, node, x, name) if dtype is DType.S8 else _cast(context, node, x, dtype, name))


def _cast(context: Context, node: Node, x: Ref, dtype: DType, name: str) -> Ref:
    if x.dtype is dtype:
        return x
    y = context.like(x, name, dtype)
    context.copy(node.name or "", x, y, form={"op": "Cast", "node": node.name})
    return y


def _to_int8(context: Context, node: Node, x: Ref, name: str) -> Ref:
    """The lowest eight bits as a signed number, which float32 holds exactly on its way to int8 of scale 1."""
    whole = context.plain(_cast(context, node, x, DType.S32, f"{name}.int32"))
    count = context.constant(f"{name}.bits", np.asarray(24, np.int32))
    for kind in (Integer.SHIFT_LEFT, Integer.SHIFT_RIGHT):
        whole = emit_integer(context, node, kind, whole, count, whole.shape, f"{name}.{kind.name.lower()}")
    return context.quantized(_cast(context, node, whole, DType.F32, f"{name}.float"), NUMBERS, name)


MATH = {
    "Sin": Math.SIN, "Cos": Math.COS, "Tan": Math.TAN, "Asin": Math.ASIN, "Acos": Math.ACOS, "Atan": Math.ATAN, "Sinh": Math.SINH,
    "Cosh": Math.COSH, "Asinh": Math.ASINH, "Acosh": Math.ACOSH, "Atanh": Math.ATANH, "Round": Math.ROUND, "Sign": Math.SIGN,
    "Softsign": Math.SOFTSIGN, "Mish": Math.MISH, "IsNaN": Math.IS_NAN, "IsInf": Math.IS_INF, "BitwiseNot": Math.BIT_NOT,
    "Selu": Math.SELU, "Celu": Math.CELU, "ThresholdedRelu": Math.THRESHOLDED, "Shrink": Math.SHRINK,
}  # fmt: skip
PARAMETERS: dict[str, tuple[tuple[str, float], ...]] = {
    "Selu": (("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875)),
    "Celu": (("alpha", 1.0),),
    "ThresholdedRelu": (("alpha", 1.0),),
    "Shrink": (("bias", 0.0), ("lambd", 0.5)),
    "IsInf": (("detect_negative", 1), ("detect_positive", 1)),
}


def emit_math(context: Context, node: Node, kind: Math, x: Ref) -> Ref:
    """Append the MATH step of ``kind``."""
    given = [float(graph.attribute(node, name, default)) for name, default in PARAMETERS.get(node.op_type, ())]
    alpha, beta = [*given, 0.0, 0.0][:2]
    y = context.like(x, node.outputs[0].name or "", DType.BOOL if kind in (Math.IS_NAN, Math.IS_INF) else x.dtype)
    form = {"op": node.op_type, "node": node.name, "form": x.dtype.name.lower()}
    context.builder.step(node.name or "", Op.MATH, (x.tensor,), (y.tensor,), form, kind=kind, alpha=alpha, beta=beta)
    return y


@lowers(*MATH)
def rare(context: Context, node: Node) -> None:
    """A rare function of one tensor."""
    x = context.value(value_of(node.inputs[0]))
    if x.dtype is DType.BOOL or (x.dtype is not DType.F32 and node.op_type not in ("Sign", "BitwiseNot")):
        raise Unsupported(f"works on {x.dtype.name}; the runtime has it for float32")
    context.set(node.outputs[0], emit_math(context, node, MATH[node.op_type], x))


def emit_fold(context: Context, node: Node, kind: Fold, x: Ref, axes: list[int]) -> Ref:
    """Append the FOLD step over ``axes`` of ``x``."""
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    x = context.ordered(x, (*kept, *axes))
    outer, n = elements(tuple(x.shape[a] for a in kept)), elements(tuple(x.shape[a] for a in axes))
    y = result(context, node, x.dtype)
    form = {"op": node.op_type, "node": node.name, "form": x.dtype.name.lower()}
    context.builder.step(node.name or "", Op.FOLD, (x.tensor,), (y.tensor,), form, kind=kind, outer=outer, n=n, inner=1)
    return y


# --- pooling over volumes, norms, places of maxima ------------------------------------------------


def window(context: Context, node: Node, kind: Window, geometry: Any) -> None:
    """Append a WINDOW step; ``geometry`` names kernel, strides, dilations, pads and pads at the end, each of all spatial axes."""
    x = context.plain(context.value(value_of(node.inputs[0])))
    if x.dtype not in (DType.F32, DType.U8):
        raise Unsupported(f"pools {x.dtype.name}")
    out = graph.shape(node.outputs[0])[2:]
    spare = 3 - len(out)
    if spare < 0:
        raise Unsupported(f"has {len(out)} spatial axes; 3 are the limit")
    outputs = [result(context, node, x.dtype)]
    if len(node.outputs) > 1 and node.outputs[1].name:
        outputs.append(result(context, node, DType.S64, 1))
    rows = {"in": (x.shape[2:], 1), "out": (out, 1), "kernel": (geometry[0], 1), "stride": (geometry[1], 1),
            "dilation": (geometry[2], 1), "pad": (geometry[3], 0), "pad_end": (geometry[4], 0)}  # fmt: skip
    sizes = {
        f"{name}_{axis}": int(number)
        for name, (numbers, fill) in rows.items()
        for axis, number in zip("dhw", [fill] * spare + list(numbers), strict=True)
    }
    context.builder.step(
        node.name or "", Op.WINDOW, (x.tensor,), tuple(y.tensor for y in outputs), {"op": node.op_type, "node": node.name},
        kind=kind, planes=elements(x.shape[:2]), power=int(graph.attribute(node, "p", 2)),
        include=int(graph.attribute(node, "count_include_pad", 0)), column_major=int(graph.attribute(node, "storage_order", 0)),
        **sizes,
    )  # fmt: skip
    for value, y in zip(node.outputs, outputs, strict=False):
        context.set(value, y)


# --- sampling -------------------------------------------------------------------------------------

MODES = {
    "linear": Sample.LINEAR,
    "bilinear": Sample.LINEAR,
    "nearest": Sample.NEAREST,
    "cubic": Sample.CUBIC,
    "bicubic": Sample.CUBIC,
}
BORDERS = {"zeros": Border.ZEROS, "border": Border.EDGE, "reflection": Border.REFLECTION}


@lowers("GridSample")
def grid_sample(context: Context, node: Node) -> None:
    """Pictures or volumes read at computed places."""
    x, grid = (context.plain(ref) for ref in operands(context, node))
    axes = len(x.shape) - 2
    if axes not in (2, 3):
        raise Unsupported(f"has {axes} spatial axes; 2 and 3 are supported")
    y = result(context, node, DType.F32)
    sizes = dict(zip(("in_d", "in_h", "in_w"), [1] * (3 - axes) + list(x.shape[2:]), strict=True))
    context.builder.step(
        node.name or "", Op.GRID_SAMPLE, (x.tensor, grid.tensor), (y.tensor,), {"op": "GridSample", "node": node.name},
        mode=MODES[graph.attribute(node, "mode", "linear")], border=BORDERS[graph.attribute(node, "padding_mode", "zeros")],
        align=int(graph.attribute(node, "align_corners", 0)), batch=x.shape[0], channels=x.shape[1], axes=axes,
        points=elements(grid.shape[1:-1]), **sizes,
    )  # fmt: skip
    context.set(node.outputs[0], y)


@lowers("RoiAlign")
def roi_align(context: Context, node: Node) -> None:
    """Regions of pictures brought to one size."""
    x, rois, batch = (context.plain(context.value(value_of(value))) for value in node.inputs)
    y = result(context, node, DType.F32)
    default = "half_pixel" if context.opset >= 16 else "output_half_pixel"
    is_half = graph.attribute(node, "coordinate_transformation_mode", default) == "half_pixel"
    context.builder.step(
        node.name or "", Op.ROI_ALIGN, (x.tensor, rois.tensor, batch.tensor), (y.tensor,), {"op": "RoiAlign", "node": node.name},
        batch=x.shape[0], channels=x.shape[1], height=x.shape[2], width=x.shape[3], rois=rois.shape[0], out_h=y.shape[2],
        out_w=y.shape[3], sampling=int(graph.attribute(node, "sampling_ratio", 0)),
        is_max=int(graph.attribute(node, "mode", "avg") == "max"),
        scale=float(graph.attribute(node, "spatial_scale", 1.0)), offset=0.5 if is_half else 0.0,
    )  # fmt: skip
    context.set(node.outputs[0], y)
