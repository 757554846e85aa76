"""Operators without a kernel, written as others: the numbers stay those of ONNX's own reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgezip import graph, pack
from edgezip.errors import ShapeError, UsageError
from edgezip.frontends import onnx as front
from edgezip.frontends import standard
from edgezip.frontends.decompose import RULES
from edgezip.pack.lower import FLOAT
from edgezip.runtime.session import Session

RNG = np.random.default_rng(3)


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def model_of(
    op: str,
    feeds: dict[str, np.ndarray[Any, Any]],
    constants: dict[str, np.ndarray[Any, Any]] | None = None,
    opset: int = 18,
    **attrs: Any,
) -> onnx.ModelProto:
    """One node; inputs then constants, in the order given; the output's type is left to inference."""
    held = constants or {}
    inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()]
    node = helper.make_node(op, [*feeds, *held], ["y"], name="n", **attrs)
    output = helper.make_empty_tensor_value_info("y")
    tensors = [onnx.numpy_helper.from_array(a, n) for n, a in held.items()]
    made = helper.make_graph([node], "g", inputs, [output], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])
    return onnx.shape_inference.infer_shapes(model)


def check(op: str, feeds: dict[str, Any], constants: dict[str, Any] | None = None, opset: int = 18, **attrs: Any) -> None:
    proto = model_of(op, feeds, constants, opset, **attrs)
    loaded = front.load(proto.SerializeToString())
    assert op not in {node.op_type for node in graph.nodes(loaded)} or op in ("Conv", "MatMul")
    got = Session(pack.compile(loaded)).run(feeds)["y"]
    expected = ReferenceEvaluator(proto).run(None, feeds)[0]
    # sums of at most some hundred products of size one in float32
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare"])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions_of_several_axes(op: str, keep: int) -> None:
    check(op, {"x": f32(2, 3, 4, 5)}, {"axes": np.array([1, -1])}, keepdims=keep)


def test_log_sum_exp_of_large_numbers_does_not_overflow() -> None:
    check("ReduceLogSumExp", {"x": f32(3, 40) * 200}, {"axes": np.array([1])})


@pytest.mark.parametrize(
    "equation",
    [
        "ij,jk->ik",
        "bij,bjk->bik",
        "...ij,...kj->...ik",
        "ij->ji",
        "ii->i",
        "ij,ij->",
        "bhqd,bhkd->bhqk",
        "i,j->ij",
        "ij,jk,kl->il",
    ],
)
def test_einsum(equation: str) -> None:
    sizes = {"i": 3, "j": 4, "k": 5, "l": 2, "b": 2, "h": 3, "q": 4, "d": 6}
    shapes = [[sizes[c] for c in ("b" + t[3:] if t.startswith("...") else t)] for t in equation.split("->")[0].split(",")]
    check("Einsum", {f"x{i}": f32(*shape) for i, shape in enumerate(shapes)}, equation=equation)


def test_gemm_of_two_activations() -> None:
    check("Gemm", {"a": f32(4, 3), "b": f32(5, 4), "c": f32(3, 1)}, transA=1, transB=1, alpha=0.5, beta=2.0)


@pytest.mark.parametrize(("a", "b"), [((4,), (4, 3)), ((3, 4), (4,)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (4,))])
def test_matmul_of_vectors_and_broadcast_batches(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check("MatMul", {"a": f32(*a), "b": f32(*b)})


def test_convolution_over_three_axes() -> None:
    attrs = {"strides": [2, 1, 2], "pads": [1, 0, 1, 0, 1, 1], "dilations": [1, 2, 1]}
    check("Conv", {"x": f32(2, 3, 5, 6, 7)}, {"w": f32(4, 3, 2, 3, 2), "b": f32(4)}, **attrs)


def test_layer_norm_whose_mean_is_read_is_expanded() -> None:
    assert "LayerNormalization" in standard.KEPT
    node = helper.make_node("LayerNormalization", ["x", "s"], ["y", "m"], name="n")
    info = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 8])]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("y", [3, 8]), ("m", [3, 1]))]
    made = helper.make_graph([node], "g", info, outputs, [onnx.numpy_helper.from_array(f32(8), "s")])
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    feeds = {"x": f32(3, 8)}
    got = Session(pack.compile(front.load(proto.SerializeToString()))).run(feeds)
    for name, expected in zip(("y", "m"), ReferenceEvaluator(proto).run(None, feeds), strict=True):
        np.testing.assert_allclose(got[name], expected, rtol=1e-5, atol=1e-5)


def test_mean_variance_normalization_without_axes() -> None:
    check("MeanVarianceNormalization", {"x": f32(2, 3, 4, 5)}, opset=13)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_half_and_double_models_are_computed_in_float32(kind: Any) -> None:
    proto = model_of("Add", {"x": f32(2, 3).astype(kind)}, {"c": f32(3).astype(kind)})
    loaded = front.load(proto.SerializeToString())
    assert {graph.dtype(v).name for v in [*graph.input_values(loaded), *graph.output_values(loaded)]} == {"float32"}
    feed = f32(2, 3)
    got = Session(pack.compile(loaded)).run({"x": feed})["y"]
    c = onnx.numpy_helper.to_array(proto.graph.initializer[0]).astype(np.float32)
    np.testing.assert_array_equal(got, feed + c)


def test_every_kept_operator_has_a_rule_to_run_it() -> None:
    unknown = {op for op in standard.KEPT - {"Range"} if op not in FLOAT and op not in RULES}
    assert not unknown


def test_an_input_fixed_to_a_value_is_no_input() -> None:
    info = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 6]),
        helper.make_tensor_value_info("s", TensorProto.INT64, [2]),
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph([helper.make_node("Reshape", ["x", "s"], ["y"])], "g", info, [out])
    data = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    loaded = front.load(data, constants={"s": np.array([3, 4])})
    assert [v.name for v in graph.input_values(loaded)] == ["x"]
    assert graph.shape(graph.output_values(loaded)[0]) == (3, 4)
    with pytest.raises(UsageError, match="no input"):
        front.load(data, constants={"t": np.array([3, 4])})
    with pytest.raises(ShapeError, match="cannot be fixed"):
        front.load(data, constants={"s": np.array([3, 4], np.int32)})


def test_an_old_operator_set_is_raised() -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3, 4]) for name in "xy"]
    made = helper.make_graph([helper.make_node("Clip", ["x"], ["y"], min=-0.5, max=0.25)], "g", info[:1], info[1:])
    data = helper.make_model(made, opset_imports=[helper.make_opsetid("", 6)], ir_version=3).SerializeToString()
    x = f32(2, 3, 4)
    got = Session(pack.compile(front.load(data))).run({"x": x})["y"]
    np.testing.assert_array_equal(got, np.clip(x, np.float32(-0.5), np.float32(0.25)))
