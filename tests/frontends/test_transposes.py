"""Transposes to NHWC sink and cancel, and no number changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgezip import graph
from edgezip.frontends import onnx as front

TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
SHAPE = (2, 3, 5, 4)  # NCHW, no two alike

# NHWC operators between the two transposes: (operator, attributes, constants behind x by name, output shape in NHWC)
ISLANDS: dict[str, tuple[str, dict[str, Any], list[np.ndarray], tuple[int, ...]]] = {
    "relu": ("Relu", {}, [], (2, 5, 4, 3)),
    "clip": ("Clip", {}, [np.float32(-0.5), np.float32(0.5)], (2, 5, 4, 3)),
    "bias by channel": ("Add", {}, [np.arange(3, dtype=np.float32)], (2, 5, 4, 3)),
    "scale by row": ("Mul", {}, [np.arange(1, 6, dtype=np.float32).reshape(5, 1, 1)], (2, 5, 4, 3)),
    "scalar": ("Sub", {}, [np.float32(2)], (2, 5, 4, 3)),
    "slopes": ("PRelu", {}, [np.array([0.1, 0.2, 0.3], np.float32)], (2, 5, 4, 3)),
    "pad": ("Pad", {}, [np.array([0, 1, 2, 0, 0, 3, 4, 5], np.int64)], (2, 9, 10, 8)),
    "mean over space": ("ReduceMean", {"keepdims": 1}, [np.array([1, 2], np.int64)], (2, 1, 1, 3)),
    "max over channels": ("ReduceMax", {"keepdims": 1}, [np.array([-1], np.int64)], (2, 5, 4, 1)),
}


def island(name: str, back: bool = True) -> onnx.ModelProto:
    """Transpose to NHWC, the operator, and (with ``back``) a transpose to NCHW with a Relu behind it."""
    kind, attributes, constants, nhwc = ISLANDS[name]
    names = [f"c{i}" for i in range(len(constants))]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=TO_NHWC),
        helper.make_node(kind, ["t", *names], ["y" if not back else "u"], **attributes),
    ]
    out = tuple(nhwc[axis] for axis in TO_NCHW) if back else nhwc
    if back:
        nodes += [helper.make_node("Transpose", ["u"], ["v"], perm=TO_NCHW), helper.make_node("Relu", ["v"], ["y"])]
    return model(nodes, {"x": SHAPE}, {"y": out}, dict(zip(names, constants, strict=True)))


def model(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], constants: dict[str, Any]) -> onnx.ModelProto:
    def info(shapes: dict[str, Any]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    return helper.make_model(
        helper.make_graph(nodes, "g", info(inputs), info(outputs), held),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def feeds_of(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in proto.graph.input}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def simplified(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    loaded = front.load(proto.SerializeToString())
    return graph.to_proto(loaded), sum(node.op_type == "Transpose" for node in graph.nodes(loaded))


@pytest.mark.parametrize("name", ISLANDS)
def test_an_island_between_two_transposes_loses_both(name: str) -> None:
    proto = island(name)
    after, transposes = simplified(proto)
    assert transposes == 0
    np.testing.assert_array_equal(run(after, feeds_of(proto))[0], run(proto, feeds_of(proto))[0])


@pytest.mark.parametrize("name", ISLANDS)
def test_an_nhwc_output_keeps_its_name_and_numbers(name: str) -> None:
    proto = island(name, back=False)
    after, transposes = simplified(proto)
    assert [output.name for output in after.graph.output] == ["y"]
    assert transposes == 1
    np.testing.assert_array_equal(run(after, feeds_of(proto))[0], run(proto, feeds_of(proto))[0])


def test_a_residual_block_in_nhwc_becomes_one_in_nchw() -> None:
    rng = np.random.default_rng(1)
    weights = {"w": rng.standard_normal((3, 3, 1, 1)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=TO_NHWC),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Transpose", ["c"], ["d"], perm=TO_NCHW),
        helper.make_node("Conv", ["d", "w"], ["e"]),
        helper.make_node("Transpose", ["e"], ["f"], perm=TO_NHWC),
        helper.make_node("Add", ["f", "c"], ["g"]),
        helper.make_node("Concat", ["g", "c"], ["h"], axis=-1),
        helper.make_node("Transpose", ["h"], ["y"], perm=TO_NCHW),
    ]
    proto = model(nodes, {"x": SHAPE}, {"y": (2, 6, 5, 4)}, weights)
    after, transposes = simplified(proto)
    assert transposes == 0
    np.testing.assert_array_equal(run(after, feeds_of(proto))[0], run(proto, feeds_of(proto))[0])


def test_a_mean_that_drops_space_needs_no_transpose() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=TO_NHWC),
        helper.make_node("ReduceMean", ["t", "axes"], ["y"], keepdims=0),
    ]
    proto = model(nodes, {"x": SHAPE}, {"y": (2, 3)}, {"axes": np.array([1, 2], np.int64)})
    after, transposes = simplified(proto)
    assert transposes == 0
    np.testing.assert_array_equal(run(after, feeds_of(proto))[0], run(proto, feeds_of(proto))[0])


def test_other_permutations_stay() -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1, 3]), helper.make_node("Relu", ["t"], ["y"])]
    proto = model(nodes, {"x": SHAPE}, {"y": (2, 5, 3, 4)}, {})
    after, transposes = simplified(proto)
    assert transposes == 1
    assert [node.op_type for node in after.graph.node] == ["Transpose", "Relu"]


def test_an_operand_that_is_no_transpose_stops_it() -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=TO_NHWC), helper.make_node("Add", ["t", "z"], ["y"])]
    proto = model(nodes, {"x": SHAPE, "z": (2, 5, 4, 3)}, {"y": (2, 5, 4, 3)}, {})
    after, transposes = simplified(proto)
    assert transposes == 1
    np.testing.assert_array_equal(run(after, feeds_of(proto))[0], run(proto, feeds_of(proto))[0])
