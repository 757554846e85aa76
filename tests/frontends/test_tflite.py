"""TensorFlow Lite files: the answers of LiteRT, and typed errors for everything malformed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tflite_cases import CASES, Net, build, conv
from tflite_writer import Writer

import edgezip
from edgezip.errors import EdgeZipError, InvalidModelError, MissingFileError, ShapeError, UnsupportedModelError
from edgezip.frontends import onnx, tflite
from edgezip.frontends.tflite import schema

Array = np.ndarray[Any, Any]


def by_litert(data: bytes, feeds: list[Array]) -> list[Array]:
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    for detail, feed in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.set_tensor(detail["index"], feed)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def by_edgezip(path: Path, feeds: list[Array]) -> list[Array]:
    session = edgezip.Session(edgezip.compile(edgezip.load(path), "host", vectors=0))
    named = dict(zip((info.name for info in session.inputs), feeds, strict=True))
    got = session.run(named)
    return [got[info.name] for info in session.outputs]


def feeds_of(data: bytes, seed: int) -> list[Array]:
    graph, rng = schema.parse(data), np.random.default_rng(seed)
    tensors = [graph.tensors[i] for i in graph.inputs]
    return [
        rng.integers(-128, 128, t.shape).astype(np.int8)
        if t.dtype == np.int8
        else rng.standard_normal(t.shape).astype(np.float32) * 3
        for t in tensors
    ]


@pytest.mark.parametrize("name", CASES)
def test_float_equals_litert(name: str, tmp_path: Path) -> None:
    data = build(name, int8=False)
    (tmp_path / "m.tflite").write_bytes(data)
    feeds = feeds_of(data, 1)
    for got, want in zip(by_edgezip(tmp_path / "m.tflite", feeds), by_litert(data, feeds), strict=True):
        # each operation is rounded to float32 on both sides; their polynomials of exp and tanh are a few units apart
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_int8_is_within_one_step_of_litert(name: str, tmp_path: Path) -> None:
    data = build(name, int8=True)
    (tmp_path / "m.tflite").write_bytes(data)
    feeds = feeds_of(data, 2)
    for got, want in zip(by_edgezip(tmp_path / "m.tflite", feeds), by_litert(data, feeds), strict=True):
        assert got.dtype == want.dtype == np.int8
        assert got.shape == want.shape
        apart = np.abs(got.astype(int) - want)
        assert apart.max() <= 1, f"{np.count_nonzero(apart > 1)} of {apart.size} are further apart than a step"
        assert np.ptp(want.astype(int)) > 10, "the case is saturated: it would pass with anything"


def test_a_changed_weight_is_seen(tmp_path: Path) -> None:
    net = Net(np.random.default_rng(0), True)
    data = conv(net, (6, 6), (1, 1), 1, 1, 0, 0)
    filter_bytes = next(t["data"] for t in net.w.tensors if t["data"] is not None and t["data"].dtype == np.int8).tobytes()
    damaged = data.replace(filter_bytes, bytes([filter_bytes[0] ^ 64]) + filter_bytes[1:])
    assert damaged != data
    (tmp_path / "m.tflite").write_bytes(damaged)
    feeds = feeds_of(data, 2)
    assert np.abs(by_edgezip(tmp_path / "m.tflite", feeds)[0].astype(int) - by_litert(data, feeds)[0]).max() > 1


# --- what is refused ---------------------------------------------------------------------------------------------------------


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at, kind = int(rng.integers(8, len(changed))), int(rng.integers(3))
        if kind == 0:
            changed[at] = int(rng.integers(256))
        elif kind == 1:
            changed[at] ^= 1 << int(rng.integers(8))
        else:
            extremes = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\0")
            changed[at : at + 4] = extremes[int(rng.integers(4))]
    return bytes(changed)


HOSTILE = ("conv 3x3 stride 2 same", "split", "strided slice")


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_1500_mutations_give_a_model_or_a_typed_error(name: str) -> None:
    rng, data = np.random.default_rng(7), build(name, int8=True)
    refused = 0
    for _ in range(1500):
        try:
            onnx.load(tflite.to_onnx(schema.parse(mutated(data, rng))))
        except EdgeZipError:
            refused += 1
    assert 500 < refused < 1500  # some bytes are weights and names, most are offsets and lengths


@pytest.mark.parametrize("name", HOSTILE)
def test_every_truncation_is_refused(name: str) -> None:
    data = build(name, int8=True)
    for length in range(len(data) - 8):  # the last bytes may be padding
        with pytest.raises(EdgeZipError):
            tflite.to_onnx(schema.parse(data[:length]))


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    return path


def test_all_unknown_operators_are_named_at_once(tmp_path: Path) -> None:
    w = Writer()
    a, b, c = (w.tensor((1, 4)) for _ in range(3))
    w.inputs, w.outputs = [a], [c]
    w.op("ROUND", [a], [b])
    w.op("COS", [b], [c])
    with pytest.raises(UnsupportedModelError, match=r"2 operators.*ROUND \(operator 0\), COS \(operator 1\)"):
        edgezip.load(written(tmp_path, w.to_bytes()))


def test_int16_activations_are_refused_with_a_word(tmp_path: Path) -> None:
    w = Writer()
    a, b = w.tensor((1, 4), "int16", scale=0.1), w.tensor((1, 4), "int16", scale=0.1)
    w.inputs, w.outputs = [a], [b]
    w.op("RELU", [a], [b])
    with pytest.raises(UnsupportedModelError, match="int16 activations"):
        edgezip.load(written(tmp_path, w.to_bytes()))


def test_other_shapes_than_the_files_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, build("relu", int8=False))
    assert edgezip.load(path, shapes={"t0": (1, 5, 6, 7)})
    with pytest.raises(ShapeError, match="fixes its shapes"):
        edgezip.load(path, shapes={"t0": (2, 5, 6, 7)})


def test_asymmetric_weights_are_centred_or_refused(tmp_path: Path) -> None:
    def model(zero_point: int) -> bytes:
        w = Writer()
        x, y = w.tensor((2, 4), "uint8", scale=0.1, zero_point=7), w.tensor((2, 3), "uint8", scale=0.5, zero_point=100)
        values = np.arange(zero_point - 6, zero_point + 6).reshape(3, 4) if zero_point > 6 else np.full((3, 4), 250)
        f = w.constant(values.astype(np.uint8), scale=0.2, zero_point=zero_point)
        w.inputs, w.outputs = [x], [y]
        w.op("FULLY_CONNECTED", [x, f, -1], [y], "FullyConnectedOptions")
        return w.to_bytes()

    feeds = [np.array([[0, 50, 100, 255], [7, 8, 9, 10]], np.uint8)]
    got, want = by_edgezip(written(tmp_path, model(150)), feeds)[0], by_litert(model(150), feeds)[0]
    assert np.abs(got.astype(int) - want).max() <= 1
    with pytest.raises(UnsupportedModelError, match="do not fit int8"):
        edgezip.load(written(tmp_path, model(0)))


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        edgezip.load(tmp_path / "none.tflite")
    with pytest.raises(InvalidModelError, match="not a TensorFlow Lite file"):
        edgezip.load(written(tmp_path, b"PK\x03\x04 not a model"))


def test_sparse_weights_are_made_dense(tmp_path: Path) -> None:
    def model(indices: list[int]) -> bytes:
        w = Writer()
        x, y, dense = w.tensor((1, 4)), w.tensor((1, 2)), w.tensor((2, 4))
        levels = [
            (2, None, None),
            (0, [0, 1, 2], indices),
            (2, None, None),
        ]  # rows, compressed pairs of columns, insides of a pair
        f = w.constant(np.array([1, 2, 3, 4], np.float32), sparsity=([0, 1, 2], [1], levels), shape=(2, 4))
        w.inputs, w.outputs = [x], [y]
        w.op("DENSIFY", [f], [dense], "DensifyOptions")
        w.op("FULLY_CONNECTED", [x, dense, -1], [y], "FullyConnectedOptions")
        return w.to_bytes()

    x = np.array([[1, 10, 100, 1000]], np.float32)
    np.testing.assert_array_equal(by_edgezip(written(tmp_path, model([1, 0])), [x])[0], [[2100, 43]])
    with pytest.raises(InvalidModelError):
        edgezip.load(written(tmp_path, model([2, 0])))  # columns 4 and 5 do not exist
