"""Small networks for the tests of passes, built with onnx.helper and loaded by the front end."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgezip.frontends import onnx as front


def load(nodes: list[Any], weights: dict[str, np.ndarray], shape: tuple[int, ...], opset: int = 17) -> Any:
    """A model with input ``x`` of ``shape`` and output ``y``."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return front.load(onnx.shape_inference.infer_shapes(model).SerializeToString())


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    """A node named after its output."""
    return helper.make_node(op, inputs, [output], name=f"{output}_node", **attributes)


def conv_net(seed: int = 0, channels: int = 8, size: int = 12) -> Any:
    """conv-relu, depthwise-relu6, 1x1 with a residual add, max pool, concat, global pool, gemm."""
    rng = np.random.default_rng(seed)

    def w(*dims: int) -> np.ndarray:
        return (rng.standard_normal(dims) / np.sqrt(np.prod(dims[1:]))).astype(np.float32)

    weights = {
        "w1": w(channels, 3, 3, 3),
        "b1": w(channels),
        "w2": w(channels, 1, 3, 3),
        "b2": w(channels),
        "w3": w(channels, channels, 1, 1),
        "zero": np.float32(0),
        "six": np.float32(6),
        "w4": w(10, 2 * channels),
        "b4": w(10),
    }
    nodes = [
        node("Conv", ["x", "w1", "b1"], "c1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], "r1"),
        node("Conv", ["r1", "w2", "b2"], "c2", pads=[1, 1, 1, 1], group=channels),
        node("Clip", ["c2", "zero", "six"], "r2"),
        node("Conv", ["r2", "w3"], "c3"),
        node("Add", ["c3", "r1"], "a"),
        node("MaxPool", ["a"], "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Sigmoid", ["p"], "s"),
        node("Concat", ["p", "s"], "cat", axis=1),
        node("GlobalAveragePool", ["cat"], "g"),
        node("Flatten", ["g"], "f"),
        node("Gemm", ["f", "w4", "b4"], "y", transB=1),
    ]
    return load(nodes, weights, (1, 3, size, size))


def samples(shape: tuple[int, ...] = (1, 3, 12, 12), count: int = 16, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Seeded normal inputs."""
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(count)]
