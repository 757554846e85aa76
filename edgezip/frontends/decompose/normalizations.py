"""Normalisations over images: means, products and a root."""

from __future__ import annotations

import numpy as np

from edgezip.frontends.decompose.emitter import Emitter, decomposes


@decomposes("InstanceNormalization")
def instance_normalization(emit: Emitter) -> bool:
    """Each channel of each picture less its mean over its deviation, times scale plus bias."""
    axes, column = list(range(2, len(emit.shape))), (1, -1, *[1] * (len(emit.shape) - 2))
    centred = emit("Sub", emit.x, emit.reduce("ReduceMean", emit.x, axes))
    variance = emit.reduce("ReduceMean", emit("Mul", centred, centred), axes)
    deviation = emit("Sqrt", emit("Add", variance, emit.number(emit.attr("epsilon", 1e-5))))
    scale, bias = (emit.reshape(value, column) for value in emit.node.inputs[1:3] if value is not None)
    return emit.finish(emit("Add", emit("Mul", emit("Div", centred, deviation), scale), bias))


@decomposes("MeanVarianceNormalization")
def mean_variance_normalization(emit: Emitter) -> bool:
    """x less its mean, over the root of E[x^2] - E[x]^2 plus 1e-9, as the standard's own body has it."""
    axes = list(emit.attr("axes", (0, 2, 3)))
    mean = emit.reduce("ReduceMean", emit.x, axes)
    squares = emit.reduce("ReduceMean", emit("Mul", emit.x, emit.x), axes)
    deviation = emit("Sqrt", emit("Relu", emit("Sub", squares, emit("Mul", mean, mean))))
    return emit.finish(emit("Div", emit("Sub", emit.x, mean), emit("Add", deviation, emit.number(1e-9))))


@decomposes("LpNormalization")
def lp_normalization(emit: Emitter) -> bool:
    """x over its norm; 0 where the norm is."""
    axis = [int(emit.attr("axis", -1)) % len(emit.shape)]
    if emit.attr("p", 2) == 1:
        norm = emit.reduce("ReduceSum", emit("Abs", emit.x), axis)
    else:
        norm = emit("Sqrt", emit.reduce("ReduceSum", emit("Mul", emit.x, emit.x), axis))
    return emit.finish(emit("Div", emit.x, emit("Max", norm, emit.number(float(np.finfo(np.float32).tiny)))))


@decomposes("LRN")
def local_response(emit: Emitter) -> bool:
    """x / (bias + alpha * mean of squares in a window of channels)^beta; the window pads with zeros."""
    size, beta = int(emit.attr("size", 1)), float(emit.attr("beta", 0.75))
    batch, channels = emit.shape[:2]
    pixels = int(np.prod(emit.shape[2:]))
    squares = emit.reshape(emit("Mul", emit.x, emit.x), (batch, 1, channels, pixels))
    pads = [(size - 1) // 2, 0, size - 1 - (size - 1) // 2, 0]
    mean = emit("AveragePool", squares, kernel_shape=[size, 1], pads=pads, count_include_pad=1)
    base = emit("Add", emit("Mul", mean, emit.number(emit.attr("alpha", 1e-4))), emit.number(emit.attr("bias", 1.0)))
    if beta == 0.75:
        root = emit("Sqrt", base)
        power = emit("Mul", root, emit("Sqrt", root))
    else:
        power = emit("Pow", base, emit.number(beta))
    return emit.finish(emit("Div", emit.x, emit.reshape(power, emit.shape)))


@decomposes("BatchNormalization")
def batch_normalization(emit: Emitter) -> bool:
    """With statistics that are computed, or of one value each: a product and a sum."""
    if all(emit.constant(i) is not None for i in range(1, 5)) and len(emit.shape) > 1:
        return False
    column = (1, -1, *[1] * (len(emit.shape) - 2)) if len(emit.shape) > 1 else (-1,)
    scale, bias, mean, variance = (emit.reshape(value, column) for value in emit.node.inputs[1:5] if value is not None)
    factor = emit("Div", scale, emit("Sqrt", emit("Add", variance, emit.number(emit.attr("epsilon", 1e-5)))))
    return emit.finish(emit("Add", emit("Mul", emit("Sub", emit.x, mean), factor), bias))


@decomposes("GlobalLpPool")
def global_lp_pool(emit: Emitter) -> bool:
    """The p-norm over all pixels."""
    power = emit.attr("p", 2)
    axes = list(range(2, len(emit.shape)))
    if power not in (1, 2):
        raised = emit("Pow", emit("Abs", emit.x), emit.number(power))
        return emit.finish(emit("Pow", emit.reduce("ReduceSum", raised, axes), emit.number(1 / power)))
    return emit.finish(emit.reduce(f"ReduceL{power}", emit.x, axes))
