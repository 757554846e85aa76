"""int8 that is a number: computed as int32 and wrapped, moved as it is, and never mistaken for a quantised value."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgezip import compile as compile_model
from edgezip import graph
from edgezip.frontends import onnx as front
from edgezip.program import DType
from edgezip.runtime.numba_session import NumbaSession
from edgezip.runtime.reference import ReferenceSession
from edgezip.runtime.session import Session

S8, U8, F32, S32 = TensorProto.INT8, TensorProto.UINT8, TensorProto.FLOAT, TensorProto.INT32
node = helper.make_node
EVERY = np.arange(-128, 128, dtype=np.int8)
SCALE = {"scale": np.asarray(0.5, np.float32), "zero": np.asarray(3, np.int8)}


def model(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[int]]], outputs: dict[str, int], **held: graph.Array
) -> bytes:
    ends = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
    ]
    body = helper.make_graph(nodes, "g", *ends, [numpy_helper.from_array(array, name) for name, array in held.items()])
    made: bytes = helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    return made


def answers(data: bytes, feeds: dict[str, graph.Array]) -> dict[str, graph.Array]:
    """Of the C runtime, with the NumPy reference and the numba session in agreement."""
    program = compile_model(front.load(data))
    found = Session(program).run(feeds)
    for kind in (ReferenceSession, NumbaSession):
        assert all(np.array_equal(found[name], array) for name, array in kind(program).run(feeds).items())
    return found


def pairs() -> tuple[graph.Array, graph.Array]:
    a, b = np.meshgrid(EVERY, EVERY[::17], indexing="ij")
    return a.copy(), b.copy()


@pytest.mark.parametrize(
    ("op", "wanted"), [("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Max", np.maximum), ("Less", np.less)]
)
def test_arithmetic_wraps_to_eight_bits(op: str, wanted: np.ufunc) -> None:
    a, b = pairs()
    kind = TensorProto.BOOL if op == "Less" else S8
    data = model([node(op, ["a", "b"], ["y"])], {"a": (S8, [*a.shape]), "b": (S8, [*b.shape])}, {"y": kind})
    got = answers(data, {"a": a, "b": b})["y"]
    assert got.dtype == (np.bool_ if op == "Less" else np.int8)
    assert np.array_equal(got, wanted(a, b))


def test_the_lowest_number_divided_by_minus_one_wraps() -> None:
    data = model([node("Div", ["a", "b"], ["y"])], {"a": (S8, [256])}, {"y": S8}, b=np.asarray([-1], np.int8))
    assert np.array_equal(answers(data, {"a": EVERY})["y"], (-EVERY.astype(np.int32)).astype(np.int8))


def test_numbers_that_are_only_moved_stay_bytes() -> None:
    nodes = [node("Transpose", ["x"], ["t"]), node("Slice", ["t", "one", "nine"], ["y"])]
    data = model(nodes, {"x": (S8, [16, 16])}, {"y": S8}, one=np.asarray([1]), nine=np.asarray([9]))
    program = compile_model(front.load(data))
    assert not [t for t in program.tensors if t.dtype in (DType.S32, DType.F32)]
    x = EVERY.reshape(16, 16)
    assert np.array_equal(answers(data, {"x": x})["y"], x.T[1:9])


@pytest.mark.parametrize("kind", [S32, TensorProto.INT64, F32, TensorProto.BOOL])
def test_casts_to_and_from_int8(kind: int) -> None:
    nodes = [node("Cast", ["x"], ["y"], to=kind), node("Cast", ["y"], ["z"], to=S8)]
    got = answers(model(nodes, {"x": (S8, [256])}, {"y": kind, "z": S8}), {"x": EVERY})
    wide = EVERY.astype(helper.tensor_dtype_to_np_dtype(kind))
    assert np.array_equal(got["y"], wide)
    assert np.array_equal(got["z"], wide.astype(np.int8))


def test_a_cast_from_wider_numbers_keeps_the_lowest_bits() -> None:
    x = np.array([-(2**31), -129, -128, 127, 128, 2**31 - 1], np.int32)
    data = model([node("Cast", ["x"], ["y"], to=S8)], {"x": (S32, [6])}, {"y": S8})
    assert np.array_equal(answers(data, {"x": x})["y"], x.astype(np.int8))


def test_quantised_values_keep_their_scale_and_are_numbers_to_others() -> None:
    """The same bytes: dequantised they are (b - 3) / 2, in an Add of int8 they are b."""
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]), node("Reshape", ["q", "shape"], ["r"]),
        node("DequantizeLinear", ["r", "scale", "zero"], ["y"]), node("Add", ["q", "q"], ["z"]),
    ]  # fmt: skip
    data = model(nodes, {"x": (F32, [4, 6])}, {"y": F32, "z": S8, "q": S8}, shape=np.asarray([24]), **SCALE)
    x = np.linspace(-70, 70, 24, dtype=np.float32).reshape(4, 6)
    got, peer = answers(data, {"x": x}), onnxruntime.InferenceSession(data.replace(b"Add", b"Sub"))
    y, _, q = peer.run(None, {"x": x})
    assert np.array_equal(got["q"], q)
    assert np.array_equal(got["y"], y)
    assert np.array_equal(got["z"], q + q)


def test_an_input_may_be_dequantised_and_counted() -> None:
    nodes = [node("DequantizeLinear", ["x", "scale", "zero"], ["y"]), node("Equal", ["x", "zero"], ["z"])]
    got = answers(model(nodes, {"x": (S8, [256])}, {"y": F32, "z": TensorProto.BOOL}, **SCALE), {"x": EVERY})
    assert np.array_equal(got["y"], (EVERY.astype(np.float32) - 3) / 2)
    assert np.array_equal(got["z"], EVERY == 3)


def test_uint8_of_a_quantizer_is_a_number_to_others() -> None:
    zero = np.asarray(131, np.uint8)
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]), node("Cast", ["q"], ["n"], to=S32),
        node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]  # fmt: skip
    data = model(nodes, {"x": (F32, [50])}, {"n": S32, "y": F32}, **(SCALE | {"zero": zero}))
    x = np.linspace(-80, 80, 50, dtype=np.float32)
    got, wanted = answers(data, {"x": x}), onnxruntime.InferenceSession(data).run(None, {"x": x})
    assert np.array_equal(got["n"], wanted[0])
    assert np.array_equal(got["y"], wanted[1])


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("block", [0, 2])
def test_activations_are_quantised_along_an_axis_and_in_blocks(kind: type[np.generic], block: int) -> None:
    random = np.random.default_rng(3)
    shape = (3, 5, 4) if not block else (3, 3, 4)  # five in blocks of two: the last has one
    scale = random.uniform(0.1, 0.2, (5,) if not block else shape).astype(np.float32)
    zero = random.integers(0, 9, scale.shape).astype(kind)
    attrs = {"axis": 1, **({"block_size": block} if block else {})}
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"], **attrs),
        node("DequantizeLinear", ["q", "scale", "zero"], ["y"], **attrs),
    ]
    data = model(nodes, {"x": (F32, [3, 5, 4])}, {"q": S8 if kind is np.int8 else U8, "y": F32}, scale=scale, zero=zero)
    x = random.uniform(-30, 30, (3, 5, 4)).astype(np.float32)
    got, wanted = answers(data, {"x": x}), onnxruntime.InferenceSession(data).run(None, {"x": x})
    assert np.array_equal(got["q"], wanted[0])
    assert np.allclose(got["y"], wanted[1], rtol=1e-6)
