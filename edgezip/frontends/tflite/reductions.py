"""Pooling, sums over axes, softmax, normalisation."""

from __future__ import annotations

import numpy as np
import onnx

from edgezip.frontends.tflite.activation import fused
from edgezip.frontends.tflite.emitter import Emitter, converts
from edgezip.frontends.tflite.products import padding
from edgezip.frontends.tflite.schema import Operator

REDUCTIONS = {
    "MEAN": "ReduceMean",
    "SUM": "ReduceSum",
    "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
}
L2_EPSILON = 1e-6  # TensorFlow Lite's floor of the sum of squares


@converts("MAX_POOL_2D", "AVERAGE_POOL_2D")
def pool(e: Emitter, op: Operator) -> None:
    """NHWC; padding is never counted."""
    _pool(e, op, "MaxPool" if op.name == "MAX_POOL_2D" else "AveragePool", e.value(op, 0))


def _pool(e: Emitter, op: Operator, kind: str, value: str, root: bool = False) -> None:
    o, shape = e.options(op, "Pool2DOptions"), e.tensor(op, 0).shape
    if len(shape) != 4:
        raise e.fail(op, f"needs a tensor of rank 4, not {shape}")
    kernel, stride = (o.FilterHeight(), o.FilterWidth()), (o.StrideH(), o.StrideW())
    pads = padding(e, op, o.Padding(), (shape[1], shape[2]), kernel, stride)
    y = e.node(kind, [e.nchw(value)], kernel_shape=kernel, strides=stride, pads=pads)
    y = e.node("Sqrt", [y]) if root else y
    e.give(op, e.nhwc(fused(e, op, y, o.FusedActivationFunction())))


@converts(*REDUCTIONS)
def reduce(e: Emitter, op: Operator) -> None:
    """Over constant axes."""
    keep = int(bool(e.options(op, "ReducerOptions").KeepDims()))
    axes = e.initializer(np.array(e.integers(op, 1), np.int64), "axes")
    e.give(op, e.node(REDUCTIONS[op.name], [e.value(op, 0), axes], keepdims=keep))


@converts("REDUCE_ANY", "REDUCE_ALL")
def any_all(e: Emitter, op: Operator) -> None:
    """Of booleans: the largest or the smallest of 0 and 1."""
    keep = int(bool(e.options(op, "ReducerOptions").KeepDims()))
    axes = e.initializer(np.array(e.integers(op, 1), np.int64), "axes")
    numbers = e.node("Cast", [e.value(op, 0)], to=onnx.TensorProto.FLOAT)
    y = e.node("ReduceMax" if op.name == "REDUCE_ANY" else "ReduceMin", [numbers, axes], keepdims=keep)
    e.give(op, e.node("Cast", [y], to=onnx.TensorProto.BOOL))


@converts("L2_POOL_2D")
def l2_pool(e: Emitter, op: Operator) -> None:
    """Root of the mean of the squares; padding is never counted."""
    x = e.value(op, 0)
    _pool(e, op, "AveragePool", e.node("Mul", [x, x]), root=True)


@converts("LOG_SOFTMAX")
def log_softmax(e: Emitter, op: Operator) -> None:
    """Over the last axis."""
    e.give(op, e.node("LogSoftmax", [e.value(op, 0)], axis=-1))


@converts("LOCAL_RESPONSE_NORMALIZATION")
def lrn(e: Emitter, op: Operator) -> None:
    """x / (bias + alpha * sum of squares over 2 radius + 1 channels) ^ beta; ONNX divides alpha by that number."""
    o = e.options(op, "LocalResponseNormalizationOptions")
    size = 2 * o.Radius() + 1
    y = e.node("LRN", [e.nchw(e.value(op, 0))], size=size, alpha=o.Alpha() * size, beta=o.Beta(), bias=o.Bias())
    e.give(op, e.nhwc(y))


@converts("SOFTMAX")
def softmax(e: Emitter, op: Operator) -> None:
    """Over the last axis, of beta * x."""
    beta, x = float(e.options(op, "SoftmaxOptions").Beta()), e.value(op, 0)
    if beta != 1.0:
        x = e.node("Mul", [x, e.initializer(np.float32(beta), "beta")])
    e.give(op, e.node("Softmax", [x], axis=-1))


@converts("L2_NORMALIZATION")
def l2_normalization(e: Emitter, op: Operator) -> None:
    """x / sqrt(max(sum of x squared over the last axis, 1e-6))."""
    x = e.value(op, 0)
    axes = e.initializer(np.array([-1], np.int64), "axes")
    squares = e.node("ReduceSum", [e.node("Mul", [x, x]), axes], keepdims=1)
    length = e.node("Sqrt", [e.node("Clip", [squares, e.initializer(np.float32(L2_EPSILON), "low")])])
    e.give(op, e.node("Div", [x, length]))
