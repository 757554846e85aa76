"""Values without elements: constants for who reads them, left out of sums of parts, handed out where they are results."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgezip import compile as compile_model
from edgezip import graph
from edgezip.frontends import onnx as front
from edgezip.runtime.session import Session

FLOAT = TensorProto.FLOAT


def model(nodes: list[onnx.NodeProto], inputs: dict[str, list[int]], outputs: str, **held: graph.Array) -> bytes:
    graph_proto = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    made: bytes = helper.make_model(graph_proto, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    return made


def run(data: bytes, shapes: dict[str, tuple[int, ...]], feeds: dict[str, graph.Array]) -> dict[str, graph.Array]:
    return Session(compile_model(front.load(data, shapes=shapes))).run(feeds)


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_concat_leaves_an_empty_input_out() -> None:
    data = model([helper.make_node("Concat", ["past", "x"], ["y"], axis=0)], {"past": [0, 3], "x": [2, 3]}, "y")
    loaded = front.load(data, shapes={"past": (0, 3)})
    assert [value.name for value in graph.input_values(loaded)] == ["x"]
    assert np.array_equal(run(data, {"past": (0, 3)}, {"x": X})["y"], X)


def test_a_sum_over_no_elements_is_a_constant() -> None:
    nodes = [helper.make_node("ReduceSum", ["none", "axis"], ["s"]), helper.make_node("Add", ["x", "s"], ["y"])]
    data = model(nodes, {"none": [2, 0], "x": [2, 3]}, "y", axis=np.array([1]))
    assert np.array_equal(run(data, {"none": (2, 0)}, {"x": X})["y"], X)


def test_parts_of_a_split_may_be_empty_and_others_not() -> None:
    nodes = [helper.make_node("Split", ["x", "sizes"], ["a", "b", "c"], axis=1)]
    got = run(model(nodes, {"x": [2, 3]}, "abc", sizes=np.array([1, 0, 2])), {}, {"x": X})
    assert [got[name].shape for name in "abc"] == [(2, 1), (2, 0), (2, 2)]
    assert np.array_equal(got["c"], X[:, 1:])


@pytest.mark.parametrize("op", ["Relu", "Transpose"])
def test_whatever_hangs_on_an_empty_value_is_empty_too(op: str) -> None:
    nodes = [
        helper.make_node("Slice", ["x", "two", "two", "axis"], ["s"]), helper.make_node(op, ["s"], ["a"]),
        helper.make_node("Neg", ["x"], ["b"]),
    ]  # fmt: skip
    data = model(nodes, {"x": [2, 3]}, "ab", two=np.array([2]), axis=np.array([1]))
    got = run(data, {}, {"x": X})
    assert got["a"].size == 0
    assert got["a"].shape == ((2, 0) if op == "Relu" else (0, 2))
    assert np.array_equal(got["b"], -X)


def test_an_empty_input_that_is_a_result_is_handed_out() -> None:
    nodes = [helper.make_node("Identity", ["past"], ["y"]), helper.make_node("Neg", ["x"], ["b"])]
    assert run(model(nodes, {"past": [0, 3], "x": [2, 3]}, "yb"), {"past": (0, 3)}, {"x": X})["y"].shape == (0, 3)
