"""Small .tflite graphs, one operator family each, in float32 and in fully quantised int8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tflite_writer import Writer

Rng = np.random.Generator
SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 1, 2, 3
X = (0.05, 3)  # scale and zero point of int8 inputs


class Net:
    """A writer that knows whether its activations are int8."""

    def __init__(self, rng: Rng, int8: bool) -> None:
        self.rng, self.int8, self.w = rng, int8, Writer()

    def x(self, *shape: int, scale: float = X[0], zero_point: int = X[1]) -> int:
        index = self.activation(shape, scale, zero_point)
        self.w.inputs.append(index)
        return index

    def activation(self, shape: tuple[int, ...], scale: float = 0.1, zero_point: int = -5) -> int:
        if self.int8:
            return self.w.tensor(shape, "int8", scale=scale, zero_point=zero_point)
        return self.w.tensor(shape)

    def same(self, shape: tuple[int, ...]) -> int:
        """With the parameters of the inputs, as data movement needs."""
        return self.activation(shape, *X)

    def ints(self, *values: int) -> int:
        return self.w.constant(np.array(values, np.int32))

    def weights(self, shape: tuple[int, ...], axis: int) -> tuple[int, Any]:
        """Filter, and the scales of its channels (None in float)."""
        if not self.int8:
            return self.w.constant((self.rng.standard_normal(shape) * 0.3).astype(np.float32)), None
        scales = self.rng.uniform(0.002, 0.004, shape[axis]).astype(np.float32)
        return self.w.constant(self.rng.integers(-127, 128, shape).astype(np.int8), scale=scales, axis=axis), scales

    def bias(self, channels: int, scales: Any) -> int:
        if not self.int8:
            return self.w.constant(self.rng.standard_normal(channels).astype(np.float32))
        return self.w.constant(self.rng.integers(-500, 500, channels).astype(np.int32), scale=scales * np.float32(X[0]))

    def end(self, op: str, inputs: list[int], shape: tuple[int, ...], options: str = "", *, moves: bool = False,
            scale: float = 0.1, zero_point: int = -5, **fields: Any) -> bytes:  # fmt: skip
        y = self.same(shape) if moves else self.activation(shape, scale, zero_point)
        self.w.op(op, inputs, [y], options, **fields)
        self.w.outputs.append(y)
        return self.w.to_bytes()


def conv(
    net: Net, size: tuple[int, int], kernel: tuple[int, int], stride: int, dilation: int, padding: int, activation: int
) -> bytes:
    c, o = 5, 7
    out = [
        -(-n // stride) if padding == SAME else -(-(n - (k - 1) * dilation) // stride) for n, k in zip(size, kernel, strict=True)
    ]
    x = net.x(1, *size, c)
    f, scales = net.weights((o, *kernel, c), 0)
    return net.end(
        "CONV_2D", [x, f, net.bias(o, scales)], (1, *out, o), "Conv2DOptions", Padding=padding, StrideW=stride, StrideH=stride,
        DilationWFactor=dilation, DilationHFactor=dilation, FusedActivationFunction=activation,
    )  # fmt: skip


def depthwise(net: Net, multiplier: int, stride: int) -> bytes:
    c = 6
    x = net.x(1, 9, 8, c)
    f, scales = net.weights((1, 3, 3, c * multiplier), 3)
    out = (1, -(-9 // stride), -(-8 // stride), c * multiplier)
    return net.end(
        "DEPTHWISE_CONV_2D", [x, f, net.bias(c * multiplier, scales)], out, "DepthwiseConv2DOptions", Padding=SAME,
        StrideW=stride, StrideH=stride, DepthMultiplier=multiplier, DilationWFactor=1, DilationHFactor=1,
        FusedActivationFunction=RELU6,
    )  # fmt: skip


def transpose_conv(net: Net, padding: int) -> bytes:
    x = net.x(1, 4, 5, 3)
    f, scales = net.weights((6, 3, 3, 3), 0)
    out = (1, 8, 10, 6) if padding == SAME else (1, 9, 11, 6)
    return net.end(
        "TRANSPOSE_CONV", [net.ints(*out), f, x, net.bias(6, scales)], out, "TransposeConvOptions",
        Padding=padding, StrideW=2, StrideH=2,
    )  # fmt: skip


def fully_connected(net: Net) -> bytes:
    x = net.x(2, 19)
    f, scales = net.weights((11, 19), 0)
    return net.end(
        "FULLY_CONNECTED", [x, f, net.bias(11, scales)], (2, 11), "FullyConnectedOptions", FusedActivationFunction=RELU
    )


def two(op: str, options: str, activation: int = NONE) -> Callable[[Net], bytes]:
    def build(net: Net) -> bytes:
        fields = {"FusedActivationFunction": activation} if options in ("AddOptions", "MulOptions", "SubOptions") else {}
        return net.end(op, [net.x(1, 5, 6, 7), net.x(1, 5, 6, 7, scale=0.03, zero_point=-9)], (1, 5, 6, 7), options, **fields)

    return build


def one(
    op: str, options: str = "", shape: tuple[int, ...] = (1, 5, 6, 7), out: tuple[int, ...] = (), **fields: Any
) -> Callable[[Net], bytes]:
    def build(net: Net) -> bytes:
        return net.end(op, [net.x(*shape)], out or shape, options, **fields)

    return build


def moved(
    op: str, ints: tuple[tuple[int, ...], ...], out: tuple[int, ...], options: str = "", **fields: Any
) -> Callable[[Net], bytes]:
    """x and constant integers behind it."""

    def build(net: Net) -> bytes:
        x = net.x(1, 5, 6, 8)
        return net.end(op, [x, *(net.ints(*values) for values in ints)], out, options, moves=True, **fields)

    return build


def pad(net: Net) -> bytes:
    paddings = net.w.constant(np.array([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32))
    return net.end("PAD", [net.x(1, 5, 6, 7), paddings], (1, 8, 9, 7), "PadOptions", moves=True)


def mean(net: Net) -> bytes:
    return net.end("MEAN", [net.x(1, 5, 6, 7), net.ints(1, 2)], (1, 7), "ReducerOptions", KeepDims=False)


def concatenation(net: Net) -> bytes:
    return net.end(
        "CONCATENATION", [net.x(1, 4, 5, 3), net.x(1, 4, 5, 6)], (1, 4, 5, 9), "ConcatenationOptions", moves=True, Axis=3
    )


def split(net: Net) -> bytes:
    x, parts = net.x(1, 4, 5, 6), [net.same((1, 4, 5, 3)) for _ in range(2)]
    net.w.op("SPLIT", [net.ints(3), x], parts, "SplitOptions", NumSplits=2)
    net.w.outputs += parts
    return net.w.to_bytes()


def pack(net: Net) -> bytes:
    return net.end("PACK", [net.x(3, 4), net.x(3, 4)], (3, 2, 4), "PackOptions", moves=True, Axis=1, ValuesCount=2)


def prelu(net: Net) -> bytes:
    slope = net.rng.uniform(0, 0.5, (1, 1, 7)).astype(np.float32)
    f = net.w.constant(np.round(slope / 0.004).astype(np.int8), scale=0.004) if net.int8 else net.w.constant(slope)
    return net.end("PRELU", [net.x(1, 5, 6, 7), f], (1, 5, 6, 7))


POOL = {"Padding": SAME, "StrideW": 2, "StrideH": 2, "FilterWidth": 3, "FilterHeight": 3, "FusedActivationFunction": NONE}
CASES: dict[str, Callable[[Net], bytes]] = {
    "conv 1x1": lambda n: conv(n, (6, 7), (1, 1), 1, 1, SAME, NONE),
    "conv 3x3 stride 2 same": lambda n: conv(n, (7, 10), (3, 3), 2, 1, SAME, RELU6),
    "conv 3x5 valid": lambda n: conv(n, (9, 8), (3, 5), 1, 1, VALID, RELU),
    "conv dilated": lambda n: conv(n, (9, 8), (3, 3), 1, 2, SAME, RELU_N1_TO_1),
    "depthwise": lambda n: depthwise(n, 1, 1),
    "depthwise multiplier 2 stride 2": lambda n: depthwise(n, 2, 2),
    "transpose conv same": lambda n: transpose_conv(n, SAME),
    "transpose conv valid": lambda n: transpose_conv(n, VALID),
    "fully connected": fully_connected,
    "add": two("ADD", "AddOptions"),
    "add relu6": two("ADD", "AddOptions", RELU6),
    "sub": two("SUB", "SubOptions"),
    "mul": two("MUL", "MulOptions"),
    "maximum": lambda n: n.end("MAXIMUM", [n.x(1, 5, 6, 7), n.x(1, 5, 6, 7)], (1, 5, 6, 7), "MaximumMinimumOptions", moves=True),
    "relu": one("RELU", scale=0.05, zero_point=-128),
    "relu6": one("RELU6", scale=6 / 255, zero_point=-128),
    "logistic": one("LOGISTIC", scale=1 / 256, zero_point=-128),
    "tanh": one("TANH", scale=1 / 128, zero_point=0),
    "hard swish": one("HARD_SWISH"),
    "leaky relu": one("LEAKY_RELU", "LeakyReluOptions", Alpha=0.2),
    "prelu": prelu,
    "softmax": one("SOFTMAX", "SoftmaxOptions", shape=(3, 11), Beta=2.0, scale=1 / 256, zero_point=-128),
    "max pool": lambda n: n.end("MAX_POOL_2D", [n.x(1, 7, 8, 5)], (1, 4, 4, 5), "Pool2DOptions", moves=True, **POOL),
    "average pool": lambda n: n.end("AVERAGE_POOL_2D", [n.x(1, 7, 8, 5)], (1, 4, 4, 5), "Pool2DOptions", moves=True, **POOL),
    "mean": mean,
    "concatenation": concatenation,
    "split": split,
    "pack": pack,
    "pad": pad,
    "reshape": moved("RESHAPE", ((10, 24),), (10, 24), "ReshapeOptions"),
    "transpose": moved("TRANSPOSE", ((0, 2, 3, 1),), (1, 6, 8, 5), "TransposeOptions"),
    "slice": moved("SLICE", ((0, 1, 2, 0), (1, 3, -1, 4)), (1, 3, 4, 4), "SliceOptions"),
    "strided slice": moved("STRIDED_SLICE", ((0, 0, 1, 2), (0, 4, 6, 3), (1, 2, 2, 1)), (1, 2, 3), "StridedSliceOptions",
                           BeginMask=3, EndMask=1, ShrinkAxisMask=8),
    "resize bilinear half pixel": moved("RESIZE_BILINEAR", ((10, 9),), (1, 10, 9, 8), "ResizeBilinearOptions",
                                        HalfPixelCenters=True),
    "resize bilinear align corners": moved("RESIZE_BILINEAR", ((9, 11),), (1, 9, 11, 8), "ResizeBilinearOptions",
                                          AlignCorners=True),
    "resize nearest": moved("RESIZE_NEAREST_NEIGHBOR", ((10, 12),), (1, 10, 12, 8), "ResizeNearestNeighborOptions"),
    "resize nearest half pixel": moved("RESIZE_NEAREST_NEIGHBOR", ((3, 9),), (1, 3, 9, 8), "ResizeNearestNeighborOptions",
                                       HalfPixelCenters=True),
    "depth to space": moved("DEPTH_TO_SPACE", (), (1, 10, 12, 2), "DepthToSpaceOptions", BlockSize=2),
    "quantize": lambda n: one("QUANTIZE" if n.int8 else "ABS")(n),
}  # fmt: skip


def build(name: str, int8: bool, seed: int = 0) -> bytes:
    """The file of one case."""
    return CASES[name](Net(np.random.default_rng(seed), int8))
