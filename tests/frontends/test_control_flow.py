"""If nodes with constant conditions give way to their branch, others to both and a choice; Loop and Scan are refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgezip import compile as compile_model
from edgezip import graph
from edgezip.errors import UnsupportedModelError
from edgezip.frontends.onnx import load
from edgezip.runtime.session import Session

Array = np.ndarray[Any, np.dtype[Any]]
X = (1, 3, 4)


def node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [output], name=f"{op}_{output}", **attributes)


def branch(nodes: Sequence[onnx.NodeProto], output: str, **constants: Array) -> onnx.GraphProto:
    """A subgraph that captures what it does not make."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    return helper.make_graph(list(nodes), f"make_{output}", [], [helper.make_tensor_value_info(output, 1, None)], tensors)


def conditional(condition: str, then: onnx.GraphProto, other: onnx.GraphProto, output: str = "y") -> onnx.NodeProto:
    return helper.make_node("If", [condition], [output], name=f"choose_{output}", then_branch=then, else_branch=other)


def model_of(nodes: Sequence[onnx.NodeProto], constants: dict[str, Array], inputs: dict[str, int] | None = None) -> bytes:
    made = helper.make_graph(
        list(nodes),
        "control",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X)]
        + [helper.make_tensor_value_info(name, kind, []) for name, kind in (inputs or {}).items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString())


def both_answers(data: bytes) -> tuple[list[str], Array, Array]:
    """Operators left, our result of the simplified graph, and that of ONNX Runtime for the file."""
    x = np.random.default_rng(0).normal(size=X).astype(np.float32)
    model = load(data)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    want = onnxruntime.InferenceSession(data, options).run(None, {"x": x})[0]
    return [n.op_type for n in graph.nodes(model)], graph.run(model, {"x": x})["y"], want


PLUS = branch([node("Add", ["x", "k"], "t")], "t", k=np.float32([1]))
TIMES = branch([node("Mul", ["x", "k"], "t")], "t", k=np.float32([3]))  # the same names as in its sibling


@pytest.mark.parametrize("condition", [True, False])
def test_constant_condition_leaves_its_branch(condition: bool) -> None:
    left, got, want = both_answers(model_of([conditional("c", PLUS, TIMES)], {"c": np.array(condition)}))
    assert left == (["Add"] if condition else ["Mul"])
    np.testing.assert_array_equal(got, want)


def test_condition_that_shapes_decide() -> None:
    nodes = [
        node("Shape", ["x"], "s"), node("Gather", ["s", "one"], "d"), node("Equal", ["d", "three"], "c"),
        conditional("c", PLUS, TIMES, "z"), node("Relu", ["z"], "y"),
    ]  # fmt: skip
    left, got, want = both_answers(model_of(nodes, {"one": np.int64(1), "three": np.int64(3)}))
    assert left == ["Add", "Relu"]
    np.testing.assert_array_equal(got, want)


def test_branch_that_contradicts_the_shapes_is_no_obstacle_when_it_is_not_taken() -> None:
    squeeze = branch([node("Squeeze", ["x", "a"], "t")], "t", a=np.int64([1]))  # what torch.jit writes for squeeze(1)
    nodes = [node("Shape", ["x"], "s"), node("Gather", ["s", "one"], "d"), node("Equal", ["d", "one"], "c"),
             conditional("c", squeeze, TIMES, "z"), node("Relu", ["z"], "y")]  # fmt: skip
    model = load(model_of(nodes, {"one": np.int64(1)}))  # ONNX Runtime itself refuses the file
    x = np.random.default_rng(1).normal(size=X).astype(np.float32)
    assert [n.op_type for n in graph.nodes(model)] == ["Mul", "Relu"]
    np.testing.assert_array_equal(graph.run(model, {"x": x})["y"], np.maximum(x * np.float32(3), 0))


def test_nested_branches_with_captured_values() -> None:
    inner = branch([node("Sub", ["q", "x"], "u"), conditional("d", branch([node("Neg", ["u"], "t")], "t"), TIMES, "w")], "w")
    outer = branch([node("Mul", ["x", "p"], "q"), conditional("c", TIMES, inner, "v")], "v")
    nodes = [node("Exp", ["x"], "p"), conditional("d", outer, PLUS)]
    left, got, want = both_answers(model_of(nodes, {"c": np.array(False), "d": np.array([True])}))
    assert left == ["Exp", "Mul", "Sub", "Neg"]
    np.testing.assert_array_equal(got, want)


def test_condition_made_by_the_branch_of_another() -> None:
    truth = helper.make_graph([node("Not", ["c"], "n")], "n", [], [helper.make_tensor_value_info("n", TensorProto.BOOL, None)])
    nodes = [
        helper.make_node("If", ["c"], ["e"], name="first", then_branch=truth, else_branch=truth),
        conditional("e", PLUS, TIMES),
    ]
    left, got, want = both_answers(model_of(nodes, {"c": np.array(True)}))
    assert left == ["Mul"]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("condition", [True, False])
@pytest.mark.parametrize("shape", [[], [1]])
def test_condition_of_run_time_chooses_between_both_branches(condition: bool, shape: list[int]) -> None:
    """A branch within a branch, a value of the outer graph as a result, and two results."""
    inner = branch([conditional("d", PLUS, TIMES, "w")], "w")
    outer = branch([node("Identity", ["x"], "v")], "v")
    nodes = [conditional("c", inner, outer, "u"), node("Relu", ["u"], "y")]
    data = model_of(nodes, {}, {"c": TensorProto.BOOL, "d": TensorProto.BOOL})
    proto = onnx.load_from_string(data)
    for info in list(proto.graph.input)[1:]:
        info.type.tensor_type.shape.Clear()
        info.type.tensor_type.shape.SetInParent()
        for size in shape:
            info.type.tensor_type.shape.dim.add(dim_value=size)
    program = compile_model(load(proto.SerializeToString()))
    x = np.random.default_rng(0).normal(size=X).astype(np.float32)
    for second in (True, False):
        feeds = {"x": x, "c": np.full(shape, condition), "d": np.full(shape, second)}
        want = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feeds)[0]
        np.testing.assert_array_equal(Session(program).run(feeds)["y"], want)


def test_branches_of_run_time_with_other_shapes_are_refused() -> None:
    """A Where would spread the smaller one without a word."""
    smaller = branch([node("ReduceMax", ["x"], "t", keepdims=1)], "t")
    with pytest.raises(UnsupportedModelError, match=r"different shapes.*choose_y|choose_y.*different shapes") as caught:
        load(model_of([conditional("c", smaller, PLUS)], {}, {"c": TensorProto.BOOL}))
    assert "(1, 1, 1)" in str(caught.value)


def test_loop_is_refused_by_name() -> None:
    body = helper.make_graph(
        [node("Identity", ["go"], "on"), node("Add", ["v", "v"], "w")],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", TensorProto.FLOAT, X)],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("w", TensorProto.FLOAT, X)],
    )  # fmt: skip
    turns = helper.make_node("Loop", ["n", "c", "x"], ["y"], name="turns", body=body)
    with pytest.raises(UnsupportedModelError, match=r"turns.*\(Loop\)"):
        load(model_of([turns], {"n": np.int64(3), "c": np.array(True)}))
