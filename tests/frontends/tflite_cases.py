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


def _ids(net: Net, *shape: int, dtype: str = "int32") -> int:
    index = net.w.tensor(shape, dtype)
    net.w.inputs.append(index)
    return index


def _typed(net: Net, op: str, inputs: list[int], shape: tuple[int, ...], dtype: str, options: str = "", **fields: Any) -> bytes:
    """Its output is not float: places, comparisons."""
    y = net.w.tensor(shape, dtype)
    net.w.op(op, inputs, [y], options, **fields)
    net.w.outputs.append(y)
    return net.w.to_bytes()


def _top_k(net: Net) -> bytes:
    x, values, places = net.x(3, 17), net.same((3, 4)), net.w.tensor((3, 4), "int32")
    net.w.op("TOPK_V2", [x, net.ints(4)], [values, places], "TopKV2Options")
    net.w.outputs += [values, places]
    return net.w.to_bytes()


def _pairs(net: Net, *values: tuple[int, int]) -> int:
    return net.w.constant(np.array(values, np.int32))


def _integer_division(net: Net, op: str) -> bytes:
    return _typed(net, op, [_ids(net, 2, 5), net.w.constant(np.array([-2, -1, 2, 3, 5], np.int32))], (2, 5), "int32")


def _scalar(net: Net, value: float) -> int:
    return net.w.constant(np.array(value, np.float32 if isinstance(value, float) else np.int32))


def _any(net: Net, op: str) -> bytes:
    x = _ids(net, 3, 5, dtype="bool")
    return _typed(net, op, [x, net.ints(1)], (3,), "bool", "ReducerOptions")


def _embedding(net: Net) -> bytes:
    table = net.w.constant(net.rng.standard_normal((3, 6)).astype(np.float32))
    return net.end("EMBEDDING_LOOKUP", [_ids(net, 5), table], (5, 6))


SPACE = (1, 6, 8, 5)
EDGES = ((0, 0), (2, 1), (0, 2), (0, 0))


def places(op: str, axis: int, out: tuple[int, ...], dtype: str, kind: int) -> Callable[[Net], bytes]:
    def build(net: Net) -> bytes:
        return _typed(
            net, op, [net.x(1, 5, 6, 7), net.ints(axis)], out, dtype, f"{op[:3].title()}{op[4:].title()}Options", OutputType=kind
        )

    return build


def mirrored(mode: int) -> Callable[[Net], bytes]:
    def build(net: Net) -> bytes:
        x = net.x(1, 3, 4, 2)
        return net.end("MIRROR_PAD", [x, _pairs(net, *EDGES)], (1, 6, 6, 2), "MirrorPadOptions", moves=True, Mode=mode)

    return build


def space_to_batch(net: Net) -> bytes:
    inputs = [net.x(*SPACE), net.ints(2, 3), _pairs(net, (1, 1), (0, 1))]
    return net.end("SPACE_TO_BATCH_ND", inputs, (6, 4, 3, 5), "SpaceToBatchNDOptions", moves=True)


def batch_to_space(net: Net) -> bytes:
    inputs = [net.x(6, 4, 3, 5), net.ints(2, 3), _pairs(net, (1, 0), (0, 2))]
    return net.end("BATCH_TO_SPACE_ND", inputs, (1, 7, 7, 5), "BatchToSpaceNDOptions", moves=True)


def not_equal(net: Net) -> bytes:
    inputs = [_ids(net, 4, 5), net.w.constant(np.arange(5, dtype=np.int32) % 3)]
    return _typed(net, "NOT_EQUAL", inputs, (4, 5), "bool", "NotEqualOptions")


def one_hot(net: Net) -> bytes:
    inputs = [_ids(net, 2, 3), _scalar(net, 3), _scalar(net, 5.0), _scalar(net, -1.0)]
    return net.end("ONE_HOT", inputs, (2, 3, 3), "OneHotOptions", Axis=-1)


def gather_of_batches(net: Net) -> bytes:
    return net.end("GATHER", [net.x(2, 3, 4), _ids(net, 2, 5)], (2, 5, 4), "GatherOptions", moves=True, Axis=1, BatchDims=1)


def scatter_nd(net: Net) -> bytes:
    return net.end("SCATTER_ND", [_ids(net, 5, 1), net.x(5, 4), net.ints(3, 4)], (3, 4), "ScatterNdOptions", moves=True)


def _filled(net: Net) -> bytes:
    shape, filled = net.w.tensor((2,), "int32"), net.activation((3, 4))
    x = net.x(3, 4)
    net.w.op("SHAPE", [x], [shape], "ShapeOptions", OutType=2)
    net.w.op("FILL", [shape, _scalar(net, 2.5)], [filled], "FillOptions")
    return net.end("ADD", [x, filled], (3, 4), "AddOptions")


CASES |= {
    "round": one("ROUND"),
    "sin": one("SIN"),
    "cos": one("COS"),
    "sign": one("SIGN"),
    "relu 0 to 1": one("RELU_0_TO_1", scale=1 / 255, zero_point=-128),
    "floor div": two("FLOOR_DIV", "FloorDivOptions"),
    "floor mod": two("FLOOR_MOD", "FloorModOptions"),
    "floor div of integers": lambda n: _integer_division(n, "FLOOR_DIV"),
    "floor mod of integers": lambda n: _integer_division(n, "FLOOR_MOD"),
    "not equal": not_equal,
    "add n": lambda n: n.end("ADD_N", [n.x(3, 4), n.x(3, 4), n.x(3, 4)], (3, 4), "AddNOptions"),
    "reduce prod": lambda n: n.end("REDUCE_PROD", [n.x(2, 3, 4), n.ints(1)], (2, 1, 4), "ReducerOptions", KeepDims=True),
    "reduce any": lambda n: _any(n, "REDUCE_ANY"),
    "reduce all": lambda n: _any(n, "REDUCE_ALL"),
    "l2 pool": lambda n: n.end("L2_POOL_2D", [n.x(1, 7, 8, 5)], (1, 4, 4, 5), "Pool2DOptions", **POOL),
    "log softmax": one("LOG_SOFTMAX", "LogSoftmaxOptions", shape=(3, 11), scale=16 / 256, zero_point=127),
    "local response normalization": one(
        "LOCAL_RESPONSE_NORMALIZATION", "LocalResponseNormalizationOptions", Radius=2, Bias=1.0, Alpha=0.3, Beta=0.75
    ),
    "arg max": places("ARG_MAX", -1, (1, 5, 6), "int32", 2),
    "arg min": places("ARG_MIN", 1, (1, 6, 7), "int64", 4),
    "top k": _top_k,
    "gather nd": lambda n: n.end("GATHER_ND", [n.x(3, 3, 4), _ids(n, 5, 2)], (5, 4), "GatherNdOptions", moves=True),
    "gather of batches": gather_of_batches,
    "scatter nd": scatter_nd,
    "embedding lookup": _embedding,
    "one hot": one_hot,
    "cumsum": lambda n: n.end("CUMSUM", [n.x(2, 5), n.ints(1)], (2, 5), "CumsumOptions", Exclusive=True, Reverse=True),
    "reverse": lambda n: n.end("REVERSE_V2", [n.x(2, 5, 3), n.ints(1)], (2, 5, 3), "ReverseV2Options", moves=True),
    "fill and add": _filled,
    "space to batch": space_to_batch,
    "batch to space": batch_to_space,
    "mirror pad symmetric": mirrored(1),
    "mirror pad reflect": mirrored(0),
    "strided slice with a new axis": moved(
        "STRIDED_SLICE", ((0, 0, 1), (0, 0, 6), (1, 1, 2)), (1, 5, 6, 1, 3), "StridedSliceOptions", EllipsisMask=1, NewAxisMask=2
    ),
    "strided slice backwards": moved(
        "STRIDED_SLICE", ((0, 3, 0), (1, -9, 0), (1, -2, 1)), (1, 2, 6, 8), "StridedSliceOptions", EndMask=4
    ),
}
# LiteRT has no int8 kernels of these, or they hold no activations
FLOAT_ONLY = {
    "round", "sin", "cos", "sign", "floor div", "floor mod", "floor div of integers", "floor mod of integers", "not equal",
    "add n", "reduce any", "reduce all", "l2 pool", "local response normalization", "one hot", "cumsum", "fill and add",
    "embedding lookup", "scatter nd", "relu 0 to 1",
}  # fmt: skip


def build(name: str, int8: bool, seed: int = 0) -> bytes:
    """The file of one case."""
    return CASES[name](Net(np.random.default_rng(seed), int8))
