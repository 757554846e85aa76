"""Convolutions, fully connected layers and matrix products."""

from __future__ import annotations

import numpy as np

from edgezip import graph
from edgezip.errors import UnsupportedModelError
from edgezip.frontends.tflite.activation import fused
from edgezip.frontends.tflite.emitter import Emitter, converts
from edgezip.frontends.tflite.schema import Array, Operator, Tensor

SAME = 0  # Padding


def padding(e: Emitter, op: Operator, kind: int, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int],
            dilation: tuple[int, int] = (1, 1)) -> list[int]:  # fmt: skip
    """ONNX pads (top, left, bottom, right) of SAME or VALID padding over an input of ``size`` (height, width)."""
    if min(*size, *kernel, *stride, *dilation) < 1:
        raise e.fail(op, f"sizes must be positive: input {size}, kernel {kernel}, stride {stride}, dilation {dilation}")
    if kind != SAME:
        return [0, 0, 0, 0]
    totals = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]
    return [total // 2 for total in totals] + [total - total // 2 for total in totals]


def weights(e: Emitter, op: Operator, position: int, order: tuple[int, ...], axis: int) -> str:
    """A constant weight tensor with its dimensions in ``order``; quantised weights keep int8, their channels along ``axis``."""
    data, tensor = e.constant(op, position), e.tensor(op, position)
    if data.ndim != len(order):
        raise e.fail(op, f"weights have rank {data.ndim}, not {len(order)}")
    if not tensor.scale.size:
        return e.initializer(data.transpose(order).astype(np.float32), tensor.name)
    if tensor.scale.size > 1 and order[axis] != tensor.axis:
        raise UnsupportedModelError(f"weights are quantised along dimension {tensor.axis}", where=e.place(op))
    centred, shifted = _centred(e, op, data, tensor)
    return e.dequantize(e.initializer(centred.transpose(order), tensor.name), shifted, axis)


def _centred(e: Emitter, op: Operator, data: Array, tensor: Tensor) -> tuple[Array, Tensor]:
    """int8 weights whose zero point is 0: the kernels know no other."""
    shape = [1] * data.ndim
    shape[tensor.axis] = -1
    zero = tensor.zero_point.reshape(shape) if tensor.zero_point.size > 1 else tensor.zero_point[0]
    wide = data.astype(np.int64) - zero
    if wide.size and (wide.min() < -128 or wide.max() > 127):
        raise UnsupportedModelError(
            "asymmetric weights do not fit int8 around zero",
            where=e.place(op),
            got=f"{int(wide.min())} to {int(wide.max())} around the zero point",
            hint="convert with the int8 scheme of TensorFlow Lite 2.3 or later, or compress the float model with edgezip",
        )
    flat = Tensor(tensor.name, tensor.shape, np.dtype(np.int8), None, tensor.scale, np.zeros_like(tensor.zero_point), tensor.axis)
    return wide.astype(np.int8), flat


def _bias(e: Emitter, op: Operator, position: int) -> list[str]:
    if not e.has(op, position):
        return []
    data, tensor = e.constant(op, position), e.tensor(op, position)
    if data.dtype.kind == "f":
        return [e.initializer(data.astype(np.float32).reshape(-1), tensor.name)]
    if not tensor.scale.size:
        raise e.fail(op, "an integer bias has no scale")
    return [e.dequantize(e.initializer(data.reshape(-1), tensor.name), tensor)]


def _image(e: Emitter, op: Operator, position: int = 0) -> tuple[str, int, tuple[int, int]]:
    """(NCHW value, channels, (height, width)) of an NHWC input."""
    shape = e.tensor(op, position).shape
    if len(shape) != 4:
        raise e.fail(op, f"needs a tensor of rank 4, not {shape}")
    return e.nchw(e.value(op, position)), shape[3], (shape[1], shape[2])


@converts("CONV_2D")
def conv(e: Emitter, op: Operator) -> None:
    """Weights (outputs, height, width, inputs of a group); several groups are allowed."""
    o = e.options(op, "Conv2DOptions")
    x, channels, size = _image(e, op)
    _, kh, kw, inputs = (*e.tensor(op, 1).shape, 0, 0, 0, 0)[:4]
    if inputs < 1 or channels % inputs:
        raise e.fail(op, f"{channels} channels, weights for {inputs}")
    stride, dilation = (o.StrideH(), o.StrideW()), (o.DilationHFactor(), o.DilationWFactor())
    y = e.node(
        "Conv", [x, weights(e, op, 1, (0, 3, 1, 2), 0), *_bias(e, op, 2)], group=channels // inputs, strides=stride,
        dilations=dilation, kernel_shape=[kh, kw], pads=padding(e, op, o.Padding(), size, (kh, kw), stride, dilation),
    )  # fmt: skip
    e.give(op, e.nhwc(fused(e, op, y, o.FusedActivationFunction())))


@converts("DEPTHWISE_CONV_2D")
def depthwise_conv(e: Emitter, op: Operator) -> None:
    """Weights (1, height, width, channels * multiplier)."""
    o = e.options(op, "DepthwiseConv2DOptions")
    x, channels, size = _image(e, op)
    _, kh, kw, _ = (*e.tensor(op, 1).shape, 0, 0, 0, 0)[:4]
    stride, dilation = (o.StrideH(), o.StrideW()), (o.DilationHFactor(), o.DilationWFactor())
    y = e.node(
        "Conv", [x, weights(e, op, 1, (3, 0, 1, 2), 0), *_bias(e, op, 2)], group=channels, strides=stride, dilations=dilation,
        kernel_shape=[kh, kw], pads=padding(e, op, o.Padding(), size, (kh, kw), stride, dilation),
    )  # fmt: skip
    e.give(op, e.nhwc(fused(e, op, y, o.FusedActivationFunction())))


@converts("TRANSPOSE_CONV")
def transpose_conv(e: Emitter, op: Operator) -> None:
    """Inputs: output shape, weights (outputs, height, width, inputs), x, bias."""
    o = e.options(op, "TransposeConvOptions")
    x, _, size = _image(e, op, 2)
    _, kh, kw, _ = (*e.tensor(op, 1).shape, 0, 0, 0, 0)[:4]
    stride, out = (o.StrideH(), o.StrideW()), (e.integers(op, 0) if e.is_constant(op, 0) else e.shape_of(op))[1:3]
    if min(*stride, kh, kw) < 1 or len(out) != 2:
        raise e.fail(op, f"stride {stride}, kernel {(kh, kw)}, output {e.shape_of(op)}")
    more = [(n - 1) * s + k - wanted for n, s, k, wanted in zip(size, stride, (kh, kw), out, strict=True)]
    cut, missing = [max(m, 0) for m in more], [max(-m, 0) for m in more]
    y = e.node(
        "ConvTranspose", [x, weights(e, op, 1, (3, 0, 1, 2), 1), *_bias(e, op, 3)], strides=stride, kernel_shape=[kh, kw],
        pads=[c // 2 for c in cut] + [c - c // 2 for c in cut], output_padding=missing,
    )  # fmt: skip
    e.give(op, e.nhwc(fused(e, op, y, o.FusedActivationFunction())))


@converts("FULLY_CONNECTED")
def fully_connected(e: Emitter, op: Operator) -> None:
    """Weights (outputs, K); the input is read as rows of K.

    int8 weights on float rows ("dynamic range"): each row is quantised at run time, as TensorFlow Lite does.
    """
    o = e.options(op, "FullyConnectedOptions")
    if o.WeightsFormat() != 0:
        raise UnsupportedModelError("shuffled weights are not supported", where=e.place(op), hint="convert without them")
    k = (*e.tensor(op, 1).shape, 0, 0)[1]
    rows = e.node("Reshape", [e.value(op, 0), e.initializer(np.array([-1, k], np.int64), "shape")])
    y = e.node("Gemm", [rows, weights(e, op, 1, (0, 1), 0), *_bias(e, op, 2)], transB=1)
    if e.tensor(op, 1).scale.size and not e.tensor(op, 0).scale.size:
        e.annotate(y, *graph.DYNAMIC_ROWS)
    y = fused(e, op, y, o.FusedActivationFunction())
    outputs, lead = e.tensor(op, 1).shape[0], e.tensor(op, 0).shape[:-1]
    shape = [*lead, outputs] if o.KeepNumDims() and e.tensor(op, 0).shape[-1:] == (k,) else [-1, outputs]
    e.give(op, e.node("Reshape", [y, e.initializer(np.array(shape, np.int64), "shape")]))


@converts("BATCH_MATMUL")
def batch_matmul(e: Emitter, op: Operator) -> None:
    """Products of two tensors of rank 2 or more, either of them transposed."""
    o = e.options(op, "BatchMatMulOptions")
    sides = []
    for position, flip in enumerate((o.AdjX(), o.AdjY())):
        value, rank = e.value(op, position), len(e.tensor(op, position).shape)
        if flip:
            value = e.node("Transpose", [value], perm=[*range(rank - 2), rank - 1, rank - 2])
        sides.append(value)
    e.give(op, e.node("MatMul", sides))
