"""Results with as many rows as the data says: room for all, the count beside them, the same rows as ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

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


def assert_same_rows(data: bytes, feeds: dict[str, graph.Array], axes: dict[str, int]) -> None:
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
        assert np.array_equal(got, wanted)


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
