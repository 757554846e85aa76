"""Pooling, sums over axes, softmax, normalisation."""

from __future__ import annotations

import numpy as np

from edgezip.frontends.tflite.activation import fused
from edgezip.frontends.tflite.emitter import Emitter, converts
from edgezip.frontends.tflite.products import padding
from edgezip.frontends.tflite.schema import Operator

REDUCTIONS = {"MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin"}
L2_EPSILON = 1e-6  # TensorFlow Lite's floor of the sum of squares


@converts("MAX_POOL_2D", "AVERAGE_POOL_2D")
def pool(e: Emitter, op: Operator) -> None:
    """NHWC; padding is never counted."""
    o, shape = e.options(op, "Pool2DOptions"), e.tensor(op, 0).shape
    if len(shape) != 4:
        raise e.fail(op, f"needs a tensor of rank 4, not {shape}")
    kernel, stride = (o.FilterHeight(), o.FilterWidth()), (o.StrideH(), o.StrideW())
    pads = padding(e, op, o.Padding(), (shape[1], shape[2]), kernel, stride)
    kind = "MaxPool" if op.name == "MAX_POOL_2D" else "AveragePool"
    y = e.node(kind, [e.nchw(e.value(op, 0))], kernel_shape=kernel, strides=stride, pads=pads)
    e.give(op, e.nhwc(fused(e, op, y, o.FusedActivationFunction())))


@converts(*REDUCTIONS)
def reduce(e: Emitter, op: Operator) -> None:
    """Over constant axes."""
    keep = int(bool(e.options(op, "ReducerOptions").KeepDims()))
    axes = e.initializer(np.array(e.integers(op, 1), np.int64), "axes")
    e.give(op, e.node(REDUCTIONS[op.name], [e.value(op, 0), axes], keepdims=keep))


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
