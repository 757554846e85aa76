"""Conv and ConvTranspose, in int8 and float32: one CONV or DEPTHWISE step, or one CONV a phase when transposed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.kernels.reference import spans
from edgezip.pack import layouts, sparse
from edgezip.pack.builder import Ref
from edgezip.pack.context import Context, Unsupported, constant_of
from edgezip.pack.lower.geometry import Window, image, image_shape, like_output, two, window_of
from edgezip.pack.lower.registry import Target8, lowers, lowers_int8
from edgezip.pack.weights import (
    fit_accumulator,
    folded_bias,
    int8_weights,
    int32_bias,
    multipliers,
    params_of,
    reach,
    sums_are_small,
)
from edgezip.program import DType, Op, Place

if TYPE_CHECKING:
    from edgezip.graph import Node, Value

Array = np.ndarray[Any, Any]
FUNCTIONS = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "Tanh"}


@dataclass(slots=True)
class Filter:
    """One product step: ``weights`` (outputs, taps, C of a group) int8 or float32, its window and place in the output grid."""

    weights: Array
    bias: Array  # int64 unfolded, or float32
    window: Window
    groups: int
    grid: tuple[int, int]
    out_offset: tuple[int, int] = (0, 0)
    out_step: tuple[int, int] = (1, 1)
    beside: int = 1  # neighbours of an output row that are outputs of one pixel here


def _bias_value(node: Node) -> Value | None:
    return node.inputs[2] if len(node.inputs) > 2 else None


def _float_bias(node: Node, outputs: int) -> Array:
    held = constant_of(_bias_value(node))
    if held is None and _bias_value(node) is not None:
        raise Unsupported("has a bias that is computed at run time")
    return np.zeros(outputs, np.float32) if held is None else np.asarray(held, np.float32).reshape(-1)


def _taps(weights: Array) -> Array:
    """(outputs, C, kernel...) -> (outputs, taps, C)."""
    outputs, channels = weights.shape[:2]
    return np.ascontiguousarray(weights.reshape(outputs, channels, -1).transpose(0, 2, 1))


def _conv_window(node: Node, weights_shape: tuple[int, ...]) -> Window:
    x, y = graph.shape(_required(node.inputs[0])), graph.shape(node.outputs[0])
    return window_of(node, weights_shape[2:], x[2:], y[2:])


def _required(value: Value | None) -> Value:
    assert value is not None
    return value


@lowers_int8("Conv")
def conv_int8(context: Context, node: Node, target: Target8) -> Ref:
    """Conv between Q/DQ."""
    shape = graph.shape(node.outputs[0])
    x = image(context, _int8(context, node.inputs[0]))
    weights = int8_weights(context, node.inputs[1], node, 0, shape[1])
    bias = int32_bias(_bias_value(node), target.bias, params_of(x), weights.scale, shape[1])
    groups = int(graph.attribute(node, "group", 1))
    made = context.new(node.outputs[0].name or "", image_shape(shape), (0, 2, 3, 1), DType.S8, target.q)
    grid = two(shape[2:], 1)
    emit_int8(
        context,
        node,
        x,
        made,
        Filter(_taps(weights.values), bias, _conv_window(node, weights.values.shape), groups, grid),
        weights.scale,
        target,
    )
    return like_output(context, made, shape)


@lowers("Conv")
def conv_float(context: Context, node: Node) -> None:
    """Conv in float32."""
    weights = constant_of(node.inputs[1])
    if weights is None:
        raise Unsupported("has weights that are computed at run time")
    shape = graph.shape(node.outputs[0])
    x = image(context, context.value(_required(node.inputs[0])))
    made = context.new(node.outputs[0].name or "", image_shape(shape), (0, 2, 3, 1), DType.F32)
    groups = int(graph.attribute(node, "group", 1))
    filter_ = Filter(
        _taps(np.asarray(weights, np.float32)),
        _float_bias(node, shape[1]),
        _conv_window(node, weights.shape),
        groups,
        two(shape[2:], 1),
    )
    emit_float(context, node, x, made, filter_)
    context.set(node.outputs[0], like_output(context, made, shape))


def _int8(context: Context, value: Value | None) -> Ref:
    ref = context.int8(_required(value))
    if ref is None:
        raise Unsupported(
            "reads integers that were moved before they were dequantised: move the Transpose behind DequantizeLinear"
        )
    return ref


def _is_depthwise(f: Filter, x: Ref) -> bool:
    return f.groups == x.shape[1] == len(f.weights) and f.groups > 1 and f.out_step == (1, 1)


def _spans(weights: Array, f: Filter) -> Array:
    """(outputs, taps, C) -> (outputs, spans, K of a span): the same k in the same order, cut where the layout pads."""
    return weights.reshape(len(weights), *spans(f.window.kernel, f.window.dilation[1], f.groups, weights.shape[2]))


def _params(f: Filter) -> dict[str, Any]:
    w = f.window
    return {
        "kernel_h": w.kernel[0],
        "kernel_w": w.kernel[1],
        "stride_h": w.stride[0],
        "stride_w": w.stride[1],
        "dilation_h": w.dilation[0],
        "dilation_w": w.dilation[1],
        "pad_top": w.pad[0],
        "pad_left": w.pad[1],
        "out_h": f.grid[0],
        "out_w": f.grid[1],
        "out_offset_h": f.out_offset[0],
        "out_offset_w": f.out_offset[1],
        "out_step_h": f.out_step[0],
        "out_step_w": f.out_step[1],
        "groups": f.groups,
    }


def _form(f: Filter, x: Ref, node: Node, form: str) -> dict[str, Any]:
    macs = x.shape[0] * f.grid[0] * f.grid[1] * f.weights.size
    return {"op": node.op_type, "node": node.name, "form": form, "macs": macs}


def emit_int8(context: Context, node: Node, x: Ref, y: Ref, f: Filter, scale: Array, target: Target8) -> None:
    """Append the int8 step for ``f`` from ``x`` to ``y`` ((N, C, H, W), channels-last)."""
    builder, outputs = context.builder, len(f.weights)
    name = node.name or node.op_type
    bias, weights, scale = fit_accumulator(context, node, f.bias, f.weights, scale, x.zero_point)
    folded = folded_bias(node, bias, weights.reshape(outputs, -1), x.zero_point, builder.act_sign)
    mult = multipliers(params_of(x), scale, target.q)
    small = int(sums_are_small(reach(bias, weights.reshape(outputs, -1), x.zero_point), mult))
    depthwise = _is_depthwise(f, x)
    form = _form(f, x, node, "int8")
    if depthwise:
        packed = layouts.pack_depthwise_s8(weights[:, :, 0], builder.layout, f.window.kernel)
    else:
        weights, groups = layouts.merge_groups(weights, f.groups)
        f = replace(f, weights=weights, groups=groups)
        packed = layouts.pack_gemm_s8(_spans(weights, f), builder.layout, groups)
    groups = 1 if depthwise else f.groups
    held = f"{name}.weights"
    if depthwise:
        weights_tensor = builder.constant(held, packed, DType.U8)
    else:
        panels = groups * -(-outputs // groups // layouts.PANEL)
        kinds = sparse.kinds_of_conv(_params(f), x.shape[0], x.shape[1])
        weights_tensor, told = sparse.constant(builder, held, packed, panels, kinds)
        form |= told
    inputs = (
        x.tensor,
        weights_tensor,
        builder.constant(f"{name}.bias", layouts.pad_outputs(folded, groups), DType.S32),
        builder.constant(f"{name}.multiplier", layouts.pad_outputs(mult, groups), DType.F32),
    )
    zero = target.q.zero_point
    builder.step(
        name,
        Op.DEPTHWISE if depthwise else Op.CONV,
        inputs,
        (y.tensor,),
        form,
        **_params(f),
        lo=target.lo,
        hi=target.hi,
        zero_point_mid=zero,
        zero_point_mid_out=zero,
        float_lo=-math.inf,
        float_hi=math.inf,
        add_lo=-128,
        add_hi=127,
        small_sums=small,
    )


def emit_float(context: Context, node: Node, x: Ref, y: Ref, f: Filter) -> None:
    """Append the float32 step for ``f``."""
    builder = context.builder
    name = node.name or node.op_type
    depthwise = _is_depthwise(f, x)
    if depthwise and builder.tensors[x.tensor].place is Place.INPUT:  # its kernels read past the end of a row
        inside = context.like(x, f"{name}.inside")
        context.copy(name, x, inside)
        x = inside
    packed = layouts.pack_depthwise_f32(f.weights[:, :, 0]) if depthwise else layouts.pack_gemm_f32(f.weights, f.groups)
    inputs = (
        x.tensor,
        builder.constant(f"{name}.weights", packed, DType.F32),
        builder.constant(f"{name}.bias", layouts.pad_outputs(f.bias.astype(np.float32), 1 if depthwise else f.groups), DType.F32),
    )
    builder.step(
        name,
        Op.DEPTHWISE if depthwise else Op.CONV,
        inputs,
        (y.tensor,),
        _form(f, x, node, "float32"),
        **_params(f),
        lo=-128,
        hi=127,
        float_lo=-math.inf,
        float_hi=math.inf,
        add_lo=-128,
        add_hi=127,
    )


# --- transposed -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Phase:
    """Output positions ``offset, offset + stride, ...`` (``count`` of them) of one axis and the taps that reach them."""

    offset: int
    count: int
    taps: tuple[int, ...]  # in ascending input position
    pad: int
    dilation: int


def phases(size_out: int, kernel: int, stride: int, dilation: int, pad: int) -> list[Phase]:
    """Cut one axis of a transposed convolution into plain convolutions of stride 1.

    Output o receives input i through tap k when ``o + pad = i * stride + k * dilation``; outputs with the same
    ``(o + pad) mod stride`` share their taps.
    """
    found = []
    for offset in range(min(stride, size_out)):
        taps = [k for k in range(kernel) if (offset + pad - k * dilation) % stride == 0]
        taps.sort(key=lambda k: -k)  # larger k reads an earlier input
        first = [(offset + pad - k * dilation) // stride for k in taps]
        gap = first[1] - first[0] if len(first) > 1 else 1
        count = -(-(size_out - offset) // stride)
        found.append(Phase(offset, count, tuple(taps), -first[0] if first else 0, gap))
    return found


def _transposed_pad(
    node: Node, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], x: Ref, out: tuple[int, int]
) -> tuple[int, int]:
    axes = len(graph.shape(node.outputs[0])) - 2
    auto = graph.attribute(node, "auto_pad", "NOTSET")
    extra = two(tuple(graph.attribute(node, "output_padding", (0,) * axes)), 0)
    total = [
        (i - 1) * s + e + (k - 1) * d + 1 - o
        for i, s, e, k, d, o in zip(x.shape[2:], stride, extra, kernel, dilation, out, strict=True)
    ]
    if auto in ("SAME_UPPER", "SAME_LOWER") or graph.attribute(node, "output_shape") is not None:
        smaller = auto == "SAME_UPPER"  # the odd one goes to the end there, to the beginning otherwise
        head = [max(t, 0) // 2 if smaller else max(t, 0) - max(t, 0) // 2 for t in total]
        return head[0], head[1]
    return two(tuple(graph.attribute(node, "pads", (0,) * 2 * axes))[:axes], 0)


def _transposed_filters(node: Node, weights: Array, bias: Array, x: Ref, shape: tuple[int, ...]) -> list[Filter]:
    """``weights`` (C_in, C_out / groups, kernel...) as one Filter for each phase of the output."""
    groups = int(graph.attribute(node, "group", 1))
    axes = weights.ndim - 2
    kernel = two(weights.shape[2:], 1)
    stride, dilation = (two(tuple(graph.attribute(node, key, (1,) * axes)), 1) for key in ("strides", "dilations"))
    out = two(shape[2:], 1)
    pad = _transposed_pad(node, kernel, stride, dilation, x, out)
    per_group = weights.reshape(groups, weights.shape[0] // groups, weights.shape[1], *kernel)
    as_conv = per_group.transpose(0, 2, 1, 3, 4).reshape(
        -1, weights.shape[0] // groups, *kernel
    )  # (outputs, C of a group, kh, kw)
    columns = phases(out[1], kernel[1], stride[1], dilation[1], pad[1])
    together = groups == 1 and _read_alike(columns) and not _joins_others(node.outputs[0])
    sets = [columns] if together else [[column] for column in columns]
    return [
        _phase(as_conv, bias, row, held, groups, stride)
        for row in phases(out[0], kernel[0], stride[0], dilation[0], pad[0])
        for held in sets
    ]


def _read_alike(columns: list[Phase]) -> bool:
    """Whether all phases of a row read the same inputs, so that their outputs are neighbours made of one pixel."""
    return len({(len(c.taps), c.pad, c.dilation, c.count) for c in columns}) == 1 and bool(columns[0].taps)


def _joins_others(value: Value) -> bool:
    """Whether the result becomes a part of a Concat: pixels that lie apart there are written in place one by one."""
    users = [node for node, _ in graph.consumers(value)]
    while len(users) == 1 and users[0].op_type in FUNCTIONS | {"QuantizeLinear", "DequantizeLinear"}:
        users = [node for node, _ in graph.consumers(users[0].outputs[0])]
    return any(user.op_type == "Concat" for user in users)


def _phase(as_conv: Array, bias: Array, row: Phase, columns: list[Phase], groups: int, stride: tuple[int, int]) -> Filter:
    """One convolution for the outputs of a row phase and of column phases that read alike."""
    first, beside = columns[0], len(columns)
    if row.taps and first.taps:
        part = np.concatenate([as_conv[:, :, list(row.taps)][:, :, :, list(column.taps)] for column in columns])
    else:  # no tap reaches these outputs: only the bias does
        part = np.zeros((*as_conv.shape[:2], 1, 1), as_conv.dtype)
    window = Window((part.shape[2], part.shape[3]), (1, 1), (row.dilation, first.dilation), (row.pad, first.pad), (0, 0))
    grid, step = (row.count, first.count), (stride[0], stride[1] if beside == 1 else 1)
    return Filter(_taps(part), np.tile(bias, beside), window, groups, grid, (row.offset, first.offset), step, beside)


def _widened(context: Context, y: Ref, beside: int) -> Ref:
    """(N, C, H, W) channels-last seen as (N, beside * C, H, W / beside)."""
    n, channels, height, width = y.shape
    shape = (n, beside * channels, height, width // beside)
    return replace(y, tensor=context.builder.view(y.tensor, (n, height, width // beside, beside * channels)), shape=shape)


@lowers_int8("ConvTranspose")
def conv_transpose_int8(context: Context, node: Node, target: Target8) -> Ref:
    """ConvTranspose between Q/DQ."""
    shape = graph.shape(node.outputs[0])
    groups = int(graph.attribute(node, "group", 1))
    x = image(context, _int8(context, node.inputs[0]))
    weights = int8_weights(context, node.inputs[1], node, 1, shape[1], groups)
    bias = int32_bias(_bias_value(node), target.bias, params_of(x), weights.scale, shape[1])
    made = context.new(node.outputs[0].name or "", image_shape(shape), (0, 2, 3, 1), DType.S8, target.q)
    for part in _transposed_filters(node, weights.values, bias, x, shape):
        emit_int8(context, node, x, _widened(context, made, part.beside), part, np.tile(weights.scale, part.beside), target)
    return like_output(context, made, shape)


@lowers("ConvTranspose")
def conv_transpose_float(context: Context, node: Node) -> None:
    """ConvTranspose in float32."""
    weights = constant_of(node.inputs[1])
    if weights is None:
        raise Unsupported("has weights that are computed at run time")
    shape = graph.shape(node.outputs[0])
    x = image(context, context.value(_required(node.inputs[0])))
    made = context.new(node.outputs[0].name or "", image_shape(shape), (0, 2, 3, 1), DType.F32)
    for part in _transposed_filters(node, np.asarray(weights, np.float32), _float_bias(node, shape[1]), x, shape):
        emit_float(context, node, x, _widened(context, made, part.beside), part)
    context.set(node.outputs[0], like_output(context, made, shape))
