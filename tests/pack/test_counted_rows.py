"""Results with as many rows as the data says: room for all, the count beside them, the same rows as ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgezip import compile as compile_model
from edgezip import graph
from edgezip.errors import UnsupportedModelError
from edgezip.frontends import onnx as front
from edgezip.runtime.numba_session import NumbaSession
from edgezip.runtime.reference import ReferenceSession
from edgezip.runtime.session import Session

KINDS = {np.float32: TensorProto.FLOAT, np.int64: TensorProto.INT64, np.int8: TensorProto.INT8, np.bool_: TensorProto.BOOL}
node = helper.make_node


def model(nodes: list[onnx.NodeProto], feeds: dict[str, graph.Array], outputs: dict[str, int]) -> bytes:
    inputs = [helper.make_tensor_value_info(name, KINDS[array.dtype.type], array.shape) for name, array in feeds.items()]
    results = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    body = helper.make_graph(nodes, "g", inputs, results)
    made: bytes = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return made


def assert_same_rows(data: bytes, feeds: dict[str, graph.Array], axes: dict[str, int], rtol: float = 0.0) -> None:
    """``axes``: the axis of each bounded output that is counted."""
    program = compile_model(front.load(data))
    results = Session(program).run(feeds)
    for kind in (ReferenceSession, NumbaSession):
        for name, array in kind(program).run(feeds).items():
            assert np.array_equal(array, results[name], equal_nan=array.dtype.kind == "f")
    session = onnxruntime.InferenceSession(data)
    for info, wanted in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        got = results[info.name]
        if info.name in axes:
            got = got.take(range(int(results[f"{info.name}.count"][0])), axes[info.name])
        assert got.dtype == wanted.dtype
        assert np.allclose(got, wanted, rtol, atol=0) if rtol else np.array_equal(got, wanted)


def data_of(kind: type[Any], shape: tuple[int, ...], seed: int) -> graph.Array:
    """Few different values, so that some repeat."""
    return np.random.default_rng(seed).integers(-1, 2, shape).astype(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_compress_gives_the_chosen_slices(kind: type[Any], share: float, axis: int | None) -> None:
    x = data_of(kind, (4, 5, 6), 1)
    condition = np.random.default_rng(2).random(3 if axis == 0 else 6) < share  # shorter than the axis: the rest is left out
    feeds, attrs = {"x": x, "c": condition}, {} if axis is None else {"axis": axis}
    data = model([node("Compress", ["x", "c"], ["y"], **attrs)], feeds, {"y": KINDS[kind]})
    assert_same_rows(data, feeds, {"y": (axis or 0) % 3})


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.bool_])
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4)])
def test_nonzero_gives_columns_of_indices(kind: type[Any], shape: tuple[int, ...]) -> None:
    feeds = {"x": data_of(kind, shape, 3)}
    assert_same_rows(model([node("NonZero", ["x"], ["y"])], feeds, {"y": TensorProto.INT64}), feeds, {"y": 1})


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.int8])
@pytest.mark.parametrize("is_sorted", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_unique_gives_slices_places_inverse_and_counts(kind: type[Any], is_sorted: int, axis: int | None) -> None:
    feeds, attrs = {"x": data_of(kind, (9, 2, 3), 4)}, {} if axis is None else {"axis": axis}
    made = node("Unique", ["x"], ["y", "first", "inverse", "counts"], sorted=is_sorted, **attrs)
    outputs = {"y": KINDS[kind], **dict.fromkeys(("first", "inverse", "counts"), TensorProto.INT64)}
    assert_same_rows(model([made], feeds, outputs), feeds, {"y": (axis or 0) % 3, "first": 0, "counts": 0})


def test_unique_takes_nan_for_equal_to_itself_and_zeros_for_equal() -> None:
    x = np.array([np.nan, 0.0, 3, -0.0, np.nan, -np.inf, 3, np.inf], np.float32)
    program = compile_model(front.load(model([node("Unique", ["x"], ["y"])], {"x": x}, {"y": TensorProto.FLOAT})))
    for kind in (Session, ReferenceSession):
        got = kind(program).run({"x": x})
        assert np.array_equal(got["y"][: got["y.count"][0]], [-np.inf, 0, 3, np.inf, np.nan], equal_nan=True)


@pytest.mark.parametrize("op", ["NonZero", "Unique"])
def test_rows_that_only_the_data_counts_are_refused_where_another_node_reads_them(op: str) -> None:
    """A mean over the room would be wrong without a word."""
    feeds = {"x": data_of(np.float32, (5,), 5)}
    nodes = [node(op, ["x"], ["u"]), node("ReduceSum", ["u"], ["y"])]
    with pytest.raises(UnsupportedModelError, match=op):
        front.load(model(nodes, feeds, {"y": TensorProto.INT64 if op == "NonZero" else TensorProto.FLOAT}))


def constant(name: str, array: Any) -> onnx.NodeProto:
    return node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array)))


BY_MASK = [
    node("Greater", ["x", "half"], ["m"]), node("NonZero", ["m"], ["at"]), node("Transpose", ["at"], ["t"], perm=[1, 0]),
    node("GatherND", ["x", "t"], ["v"]),
]  # fmt: skip
ROW_WISE: dict[str, list[onnx.NodeProto]] = {
    "as torch.jit writes x[x > c]": BY_MASK,
    "as torch.export writes rows": [
        constant("first", np.array(0)), constant("one", [1]), constant("last", [-1]),
        node("Gather", ["x", "first"], ["c"], axis=1), node("Greater", ["c", "half"], ["m"]), node("NonZero", ["m"], ["at"]),
        node("Transpose", ["at"], ["t"], perm=[1, 0]), node("Squeeze", ["t", "one"], ["s"]), node("Max", ["s"], ["u"]),
        node("Shape", ["u"], ["dims"]), node("Expand", ["s", "dims"], ["e"]), node("Unsqueeze", ["e", "last"], ["i"]),
        node("GatherND", ["x", "i"], ["v"]),
    ],
    "arithmetic on both sides": [
        *BY_MASK, node("Add", ["half", "v"], ["a"]), node("Mul", ["a", "v"], ["b"]), node("Sigmoid", ["b"], ["d"]),
        node("Cast", ["d"], ["w"], to=TensorProto.FLOAT),
    ],
    "a layer over the rows": [
        constant("col", np.arange(12, dtype=np.float32).reshape(6, 2)), constant("bias", np.array([1, -2], np.float32)),
        constant("first", np.array(0)), constant("axis1", [1]), constant("zero", [0]), constant("two", [1]),
        node("Gather", ["x", "first"], ["c"], axis=1), node("Greater", ["c", "half"], ["m"]),
        node("Compress", ["x", "m"], ["r"], axis=0), node("Gemm", ["r", "col", "bias"], ["g"]),
        node("Softmax", ["g"], ["p"], axis=-1), node("Slice", ["p", "zero", "two", "axis1"], ["w"]),
    ],
    "a sum within each row": [
        constant("first", np.array(0)), constant("axis1", [1]), node("Gather", ["x", "first"], ["c"], axis=1),
        node("Greater", ["c", "half"], ["m"]), node("Compress", ["x", "m"], ["r"], axis=0),
        node("ReduceSum", ["r", "axis1"], ["w"], keepdims=0),
    ],
}  # fmt: skip
MIXED = {
    "sum": node("ReduceSum", ["v"], ["w"]), "number": node("Shape", ["v"], ["w"]),
    "softmax": node("Softmax", ["v"], ["w"], axis=0), "places": node("Add", ["v", "steps"], ["w"]),
    "best": node("TopK", ["v", "three"], ["w", "k"]),
    "running": node("CumSum", ["v", "axis"], ["w"]),
}  # fmt: skip


def of_rows(nodes: list[onnx.NodeProto], shape: tuple[Any, ...] = (7, 6)) -> bytes:
    """``y`` is what the last node makes."""
    nodes = [constant("half", np.float32(0.5)), *nodes, node("Identity", [nodes[-1].output[0]], ["y"])]
    body = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], [helper.make_empty_tensor_value_info("y")]
    )
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made).SerializeToString()


@pytest.mark.parametrize("name", ROW_WISE)
@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_nodes_that_keep_rows_apart_may_read_them(name: str, share: float) -> None:
    x = (np.random.default_rng(6).random((7, 6)) < share).astype(np.float32) * np.arange(1, 7, dtype=np.float32)
    assert_same_rows(of_rows(ROW_WISE[name]), {"x": x}, {"y": 0}, rtol=1e-6)


@pytest.mark.parametrize("name", MIXED)
def test_nodes_that_mix_rows_are_refused(name: str) -> None:
    before = [constant("steps", np.arange(42, dtype=np.float32)), constant("three", [3]), constant("axis", np.array(0))]
    with pytest.raises(UnsupportedModelError, match="NonZero"):
        front.load(of_rows([*before, *BY_MASK, MIXED[name]]))


def test_one_that_mixes_beside_one_that_does_not_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="NonZero"):
        front.load(of_rows([*BY_MASK, node("ReduceMax", ["v"], ["t2"]), node("Sub", ["v", "t2"], ["w"])]))


@pytest.mark.parametrize("name", ROW_WISE)
def test_counted_rows_at_every_size_of_a_dynamic_dimension(name: str) -> None:
    data = of_rows(ROW_WISE[name], ("n", 6))
    program = compile_model(data, dims={"n": (2, 19)}, vectors=0)
    session, reference = Session(program), ReferenceSession(program)
    for n in range(2, 20):
        feeds = {"x": np.random.default_rng(n).random((n, 6)).astype(np.float32)}
        own = Session(compile_model(front.load(data, shapes={"x": (n, 6)}), vectors=0)).run(feeds)
        got, wanted = session.run(feeds), reference.run(feeds)
        assert list(got) == list(own) == ["y", "y.count"]
        assert all(got[k].tobytes() == own[k].tobytes() == wanted[k].tobytes() for k in own), n


def test_nonzero_of_two_dynamic_axes() -> None:
    feeds: dict[str, graph.Array] = {}
    body = helper.make_graph(
        [node("NonZero", ["x"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "w"])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
    )  # fmt: skip
    data = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    session = Session(compile_model(data, dims={"n": (1, 4), "w": (2, 90)}, vectors=0))
    for n, w in ((1, 2), (4, 90), (3, 17), (1, 90)):
        feeds = {"x": data_of(np.float32, (n, 3, w), w)}
        got = session.run(feeds)
        assert np.array_equal(got["y"][:, : got["y.count"][0]], np.stack(np.nonzero(feeds["x"])))


def test_a_result_that_is_called_as_the_count_is_refused_with_both_names() -> None:
    feeds = {"x": data_of(np.float32, (5,), 5)}
    nodes = [node("NonZero", ["x"], ["y"]), node("Abs", ["x"], ["y.count"])]
    data = model(nodes, feeds, {"y": TensorProto.INT64, "y.count": TensorProto.FLOAT})
    with pytest.raises(UnsupportedModelError, match=r"output 'y' has as many rows.*'y\.count', as another output is.*rename"):
        compile_model(front.load(data))
