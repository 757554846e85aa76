"""Small ONNX models with seeded weights, one for each operator family, for a given opset; and the tiny convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
RANDOM = np.random.default_rng


def tensor(name: str, array: Array) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def weights(name: str, *dims: int) -> onnx.TensorProto:
    seed = sum(name.encode()) + sum(dims)
    return tensor(name, RANDOM(seed).uniform(-0.5, 0.5, dims).astype(np.float32))


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto] = (),
    *,
    x: Sequence[int | str | None] = (1, 4, 8, 8),
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
    out_kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """One input ``x``, one output ``y``."""
    inputs = [helper.make_tensor_value_info("x", kind, list(x))]
    outputs = [helper.make_tensor_value_info("y", out_kind, None)]
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(op: str, inputs: Sequence[str], output: str = "y", name: str = "", **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [output], name=name, **attrs)


def tiny_conv() -> onnx.ModelProto:
    """About 250 bytes: x (1,1,3,3) -> Conv 3x3 -> y; the model of reliability.md 1.3."""
    return model([node("Conv", ["x", "w"], name="c", kernel_shape=[3, 3])], [weights("w", 1, 1, 3, 3)], x=(1, 1, 3, 3))


def _i64(name: str, *numbers: int) -> onnx.TensorProto:
    return tensor(name, np.array(numbers, np.int64))


def _norm(prefix: str, channels: int) -> list[onnx.TensorProto]:
    random = RANDOM(channels)
    parts = {
        "gamma": random.uniform(0.5, 2, channels),
        "beta": random.normal(size=channels),
        "mean": random.normal(size=channels),
    }
    parts["var"] = random.uniform(0.2, 3, channels)
    return [tensor(f"{prefix}_{key}", value.astype(np.float32)) for key, value in parts.items()]


def _bn(source: str, output: str = "y", prefix: str = "bn") -> onnx.NodeProto:
    return node(
        "BatchNormalization", [source, *(f"{prefix}_{key}" for key in ("gamma", "beta", "mean", "var"))], output, epsilon=1e-3
    )


def _conv(opset: int, w: tuple[int, ...], **attrs: Any) -> onnx.ModelProto:
    return model([node("Conv", ["x", "w", "b"], **attrs)], [weights("w", *w), weights("b", w[0])], opset=opset)


def _unary(op: str, **attrs: Any) -> Callable[[int], onnx.ModelProto]:
    return lambda opset: model([node(op, ["x"], **attrs)], opset=opset)


def _binary(op: str) -> Callable[[int], onnx.ModelProto]:
    return lambda opset: model(
        [node(op, ["x", "c"])], [tensor("c", RANDOM(3).uniform(1, 2, (4, 1, 1)).astype(np.float32))], opset=opset
    )


def _axes(op: str, axes: list[int], opset: int, since: int, **attrs: Any) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    """An operator whose ``axes`` attribute became an input at opset ``since``."""
    if opset < since:
        return node(op, ["x"], axes=axes, **attrs), []
    return node(op, ["x", "axes"], **attrs), [_i64("axes", *axes)]


def _with_axes(op: str, axes: list[int], since: int, **attrs: Any) -> Callable[[int], onnx.ModelProto]:
    def build(opset: int) -> onnx.ModelProto:
        made, constants = _axes(op, axes, opset, since, **attrs)
        return model([made], constants, x=(1, 4, 8, 1) if op == "Squeeze" else (1, 4, 8, 8), opset=opset)

    return build


def _split(opset: int) -> onnx.ModelProto:
    attrs: dict[str, Any] = {"axis": 1}
    constants: list[onnx.TensorProto] = []
    inputs = ["x"]
    if opset < 13:
        attrs["split"] = [1, 3]
    else:
        inputs, constants = ["x", "s"], [_i64("s", 1, 3)]
    return model(
        [helper.make_node("Split", inputs, ["a", "b"], **attrs), node("Concat", ["b", "a"], axis=1)], constants, opset=opset
    )


def _shape_arithmetic(opset: int) -> onnx.ModelProto:
    """Flatten as torch writes it: Shape -> Gather -> Unsqueeze -> Concat -> Reshape."""
    axes = ({"axes": [0]}, []) if opset < 13 else ({}, ["zero"])
    nodes = [
        node("Shape", ["x"], "s"),
        node("Gather", ["s", "index"], "n", axis=0),
        helper.make_node("Unsqueeze", ["n", *axes[1]], ["n1"], **axes[0]),
        node("Concat", ["n1", "minus"], "target", axis=0),
        node("Reshape", ["x", "target"]),
    ]
    return model(
        nodes, [tensor("index", np.array(0, np.int64)), _i64("zero", 0), _i64("minus", -1)], x=("N", 4, 8, 8), opset=opset
    )


def _resize(mode: str, **attrs: Any) -> Callable[[int], onnx.ModelProto]:
    scales = tensor("scales", np.array([1, 1, 2, 2], np.float32))
    roi = tensor("roi", np.zeros(0, np.float32))
    return lambda opset: model([node("Resize", ["x", "roi", "scales"], mode=mode, **attrs)], [scales, roi], opset=opset)


def _where(opset: int) -> onnx.ModelProto:
    nodes = [
        node("Greater", ["x", "zero"], "m"),
        node("Where", ["m", "x", "e"]),
    ]
    nodes.insert(0, node("Expand", ["zero", "dims"], "e"))
    return model(nodes, [tensor("zero", np.zeros(1, np.float32)), _i64("dims", 1, 4, 8, 8)], opset=opset)


def _dropout(opset: int) -> onnx.ModelProto:
    if opset < 12:
        return model([node("Dropout", ["x"], "d", ratio=0.5), node("Relu", ["d"])], opset=opset)
    return model([node("Dropout", ["x", "r"], "d"), node("Relu", ["d"])], [tensor("r", np.array(0.5, np.float32))], opset=opset)


FAMILIES: dict[str, Callable[[int], onnx.ModelProto]] = {
    "conv_1x1": lambda o: _conv(o, (6, 4, 1, 1)),
    "conv_3x3_padded_strided": lambda o: _conv(o, (6, 4, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1]),
    "conv_same_upper": lambda o: _conv(o, (6, 4, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    "conv_depthwise": lambda o: _conv(o, (4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    "conv_grouped": lambda o: _conv(o, (6, 2, 3, 3), group=2),
    "conv_dilated": lambda o: _conv(o, (6, 4, 3, 3), dilations=[2, 2], pads=[0, 1, 2, 3]),
    "conv_transpose": lambda o: model([node("ConvTranspose", ["x", "w"], strides=[2, 2])], [weights("w", 4, 3, 2, 2)], opset=o),
    "conv_bn": lambda o: model([node("Conv", ["x", "w"], "c"), _bn("c")], [weights("w", 6, 4, 3, 3), *_norm("bn", 6)], opset=o),
    "conv_transpose_grouped_bn": lambda o: model(
        [node("ConvTranspose", ["x", "w"], "c", group=2), _bn("c")], [weights("w", 4, 3, 2, 2), *_norm("bn", 6)], opset=o
    ),
    "conv_add_bn_relu": lambda o: model(
        [node("Conv", ["x", "w"], "c"), node("Add", ["k", "c"], "a"), _bn("a", "n"), node("Relu", ["n"])],
        [weights("w", 6, 4, 3, 3), weights("k", 1, 6, 1, 1), *_norm("bn", 6)],
        opset=o,
    ),
    "conv_shared_weight_bn": lambda o: model(
        [node("Conv", ["x", "w"], "c"), _bn("c", "n"), node("Conv", ["x", "w"], "d"), node("Add", ["n", "d"])],
        [weights("w", 6, 4, 3, 3), *_norm("bn", 6)],
        opset=o,
    ),
    "bn_alone": lambda o: model([_bn("x")], _norm("bn", 4), opset=o),
    "gemm_bn": lambda o: model(
        [node("Gemm", ["x", "w", "c"], "g", transB=1, alpha=0.5, beta=2.0), _bn("g")],
        [weights("w", 6, 8), weights("c", 6), *_norm("bn", 6)],
        x=(2, 8),
        opset=o,
    ),
    "gemm_no_trans_bn": lambda o: model(
        [node("Gemm", ["x", "w"], "g"), _bn("g")], [weights("w", 8, 6), *_norm("bn", 6)], x=(2, 8), opset=o
    ),
    "matmul_add": lambda o: model(
        [node("MatMul", ["x", "w"], "m"), node("Add", ["m", "c"])], [weights("w", 8, 6), weights("c", 6)], x=(2, 8), opset=o
    ),
    **{op.lower(): _binary(op) for op in ("Add", "Mul", "Sub", "Div", "PRelu")},
    **{
        op.lower(): _unary(op)
        for op in ("Relu", "Sigmoid", "Tanh", "HardSigmoid", "Exp", "Erf", "LeakyRelu", "GlobalAveragePool", "Abs", "Flatten")
    },
    "sqrt": lambda o: model([node("Abs", ["x"], "a"), node("Sqrt", ["a"])], opset=o),
    "clip": lambda o: model(
        [node("Clip", ["x", "lo", "hi"])], [tensor("lo", np.array(0, "f4")), tensor("hi", np.array(6, "f4"))], opset=o
    ),
    "maxpool": _unary("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "averagepool": _unary("AveragePool", kernel_shape=[2, 2], strides=[2, 2], count_include_pad=1, pads=[1, 1, 1, 1]),
    "softmax": _unary("Softmax", axis=1),
    "transpose": _unary("Transpose", perm=[0, 2, 3, 1]),
    "depth_to_space": _unary("DepthToSpace", blocksize=2),
    "reduce_mean": _with_axes("ReduceMean", [2, 3], 18, keepdims=0),
    "squeeze": _with_axes("Squeeze", [3], 13),
    "unsqueeze": _with_axes("Unsqueeze", [0], 13),
    "split_concat": _split,
    "slice": lambda o: model(
        [node("Slice", ["x", "a", "b", "c", "d"])], [_i64("a", 1), _i64("b", 7), _i64("c", 2), _i64("d", 2)], opset=o
    ),
    "pad": lambda o: model([node("Pad", ["x", "p"], mode="constant")], [_i64("p", 0, 0, 1, 1, 0, 0, 2, 2)], opset=o),
    "reshape": lambda o: model([node("Reshape", ["x", "s"])], [_i64("s", 0, -1)], opset=o),
    "gather": lambda o: model([node("Gather", ["x", "i"], axis=1)], [_i64("i", 2, 0)], opset=o),
    "resize_nearest": _resize("nearest"),
    "resize_linear": _resize("linear", coordinate_transformation_mode="half_pixel"),
    "shape_arithmetic": _shape_arithmetic,
    "where_expand_compare": _where,
    "dropout": _dropout,
}

SINCE = {
    "hardswish": (14, _unary("HardSwish")),
    "gelu": (20, _unary("Gelu")),
    "mish": (18, _unary("Mish")),
    "layer_normalization": (17, lambda o: model([node("LayerNormalization", ["x", "s"])], [weights("s", 8)], opset=o)),
}
