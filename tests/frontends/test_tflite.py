"""TensorFlow Lite files: the answers of LiteRT, and typed errors for everything malformed."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers
from tflite_cases import CASES, FLOAT_ONLY, Net, build, conv
from tflite_writer import Writer

import edgezip
from edgezip.errors import EdgeZipError, InvalidModelError, MissingFileError, ShapeError, UnsupportedModelError
from edgezip.frontends import onnx, tflite
from edgezip.frontends.tflite import schema
from edgezip.runtime.reference import ReferenceSession

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
    read, rng = schema.parse(data), np.random.default_rng(seed)
    tensors = [read.tensors[i] for i in read.inputs]
    return [feed_of(t.dtype, t.shape, rng) for t in tensors]


def feed_of(dtype: np.dtype[Any], shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(np.float32) * 3
    low, high = {"int8": (-128, 128), "bool": (0, 2)}.get(dtype.name, (0, 3))
    return rng.integers(low, high, shape).astype(dtype)


@pytest.mark.parametrize("name", CASES)
def test_float_equals_litert(name: str, tmp_path: Path) -> None:
    data = build(name, int8=False)
    feeds, path = feeds_of(data, 1), written(tmp_path, data)
    for got, want in zip(by_edgezip(path, feeds), by_litert(data, feeds), strict=True):
        # each operation is rounded to float32 on both sides; their polynomials of exp and tanh are a few units apart
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in CASES if name not in FLOAT_ONLY])
def test_int8_is_within_one_step_of_litert(name: str, tmp_path: Path) -> None:
    data = build(name, int8=True)
    feeds, path = feeds_of(data, 2), written(tmp_path, data)
    for got, want in zip(by_edgezip(path, feeds), by_litert(data, feeds), strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        if want.dtype != np.int8:  # places, which have no steps
            np.testing.assert_array_equal(got, want)
            continue
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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["add", "resize bilinear half pixel", "fully connected", "softmax"])
def test_what_is_no_number_raises_no_warning(name: str, tmp_path: Path) -> None:
    """In the reference too, which makes the vectors of a hostile file."""
    data = build(name, int8=False)
    held = [t.data for t in schema.parse(data).tensors if t.data is not None and t.dtype == np.float32]
    for array in held:
        data = data.replace(array.tobytes(), np.where(np.arange(array.size) % 2, np.inf, 0).astype(np.float32).tobytes())
    program = edgezip.compile(edgezip.load(written(tmp_path, data)), vectors=2)
    session = ReferenceSession(program)
    tensors = [program.tensors[i] for i in program.inputs]
    session.run({t.name: np.full(t.dims, (-1) ** i * np.inf, np.float32) for i, t in enumerate(tensors)})
    session.run({t.name: np.full(t.dims, 3e38, np.float32) for t in tensors})


HOSTILE = ("conv 3x3 stride 2 same", "split", "strided slice", "space to batch", "top k", "composite")


def hostile(name: str) -> bytes:
    return with_composites() if name == "composite" else build(name, int8=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_1500_mutations_give_a_model_or_a_typed_error(name: str) -> None:
    rng, data = np.random.default_rng(7), hostile(name)
    refused = 0
    for _ in range(1500):
        try:
            onnx.load(tflite.to_onnx(schema.parse(mutated(data, rng))))
        except EdgeZipError:
            refused += 1
    assert 500 < refused < 1500  # some bytes are weights and names, most are offsets and lengths


@pytest.mark.parametrize("name", HOSTILE)
def test_every_truncation_is_refused(name: str) -> None:
    data = hostile(name)
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
    w.op("ATAN2", [a, a], [b])
    w.op("BITCAST", [b], [c])
    with pytest.raises(UnsupportedModelError, match=r"2 operators.*ATAN2 \(operator 0\), BITCAST \(operator 1\)"):
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
    with pytest.raises(ShapeError, match="the file fixes that shape"):
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


# --- detections --------------------------------------------------------------------------------------------------------------

SSD = {
    "max_detections": 10, "max_classes_per_detection": 1, "detections_per_class": 5, "use_regular_nms": False,
    "nms_score_threshold": 0.3, "nms_iou_threshold": 0.5, "num_classes": 4, "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0,
    "w_scale": 5.0,
}  # fmt: skip


def detector(options: bytes, anchors: int = 40, background: int = 1, quantised: bool = False) -> bytes:
    """The operator behind single-shot detectors, as their converters write it: shapes of the results are left out."""
    w, rng = Writer(), np.random.default_rng(3)
    scales = ({"dtype": "uint8", "scale": s, "zero_point": z} for s, z in ((0.05, 120), (1 / 256, 0)))
    kinds = list(scales) if quantised else [{}, {}]
    boxes = w.tensor((1, anchors, 4), name="boxes", **kinds[0])
    scores = w.tensor((1, anchors, 4 + background), name="scores", **kinds[1])
    centres = np.concatenate([rng.uniform(0.2, 0.8, (anchors, 2)), rng.uniform(0.1, 0.4, (anchors, 2))], 1).astype(np.float32)
    made = [w.tensor((), name=name) for name in ("places", "classes", "sure", "number")]
    anchors = w.constant((centres * 256).astype(np.uint8), scale=1 / 256) if quantised else w.constant(centres)
    w.op("TFLite_Detection_PostProcess", [boxes, scores, anchors], made, custom=options)
    w.inputs, w.outputs = [boxes, scores], made
    return w.to_bytes()


@pytest.mark.parametrize("changed", [
    {}, {"use_regular_nms": True}, {"nms_score_threshold": 0.95}, {"nms_score_threshold": 2.0}, {"max_detections": 60},
    {"use_regular_nms": True, "max_detections": 3}, {"use_regular_nms": True, "nms_score_threshold": 0.97},
    {"use_regular_nms": True, "max_detections": 60, "detections_per_class": 50},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("background", [0, 1])
@pytest.mark.parametrize("quantised", [False, True])
def test_detections_are_those_of_litert(changed: dict[str, Any], background: int, quantised: bool, tmp_path: Path) -> None:
    data = detector(bytes(flexbuffers.Dumps({**SSD, **changed})), background=background, quantised=quantised)
    rng = np.random.default_rng(8)
    feeds = [rng.normal(size=(1, 40, 4)).astype(np.float32) * 2, rng.random((1, 40, 4 + background)).astype(np.float32)]
    if quantised:
        feeds = [rng.integers(60, 180, feeds[0].shape).astype(np.uint8), rng.permutation(160 + 40 * background).astype(np.uint8)]
        feeds[1] = feeds[1].reshape(1, 40, -1)  # no two scores of a class are equal
    got, want = by_edgezip(written(tmp_path, data), feeds), by_litert(data, feeds)
    count = int(want[3][0])
    assert len(got) == len(want)
    assert got[3].tolist() == want[3].tolist()
    assert got[0].shape == want[0].shape
    for mine, theirs in zip(got[:3], want[:3], strict=True):
        np.testing.assert_allclose(mine[:, :count], theirs[:, :count], rtol=1e-5, atol=1e-5)
        assert not mine[:, count:].any()


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(("most", "score"), [(7, 0.4), (50, 0.0), (5, 2.0)])
def test_suppression_is_that_of_litert(version: int, most: int, score: float, tmp_path: Path) -> None:
    w, rng = Writer(), np.random.default_rng(most)
    inputs = [w.tensor((30, 4), name="boxes"), w.tensor((30,), name="scores")]
    numbers = [np.array(most, np.int32), np.array(0.4, np.float32), np.array(score, np.float32), np.array(0, np.float32)]
    scored = [w.tensor((most,), name="sure")] if version == 5 else []
    outputs = [w.tensor((most,), "int32", name="places"), *scored, w.tensor((), "int32", name="number")]
    w.op(f"NON_MAX_SUPPRESSION_V{version}", [*inputs, *map(w.constant, numbers[: version - 1])], outputs,
         f"NonMaxSuppressionV{version}Options")  # fmt: skip
    w.inputs, w.outputs = inputs, outputs
    corners = rng.random((30, 2)).astype(np.float32)
    feeds = [np.concatenate([corners, corners + rng.random((30, 2)) / 2], 1).astype(np.float32), rng.random(30, np.float32)]
    got, want = by_edgezip(written(tmp_path, w.to_bytes()), feeds), by_litert(w.to_bytes(), feeds)
    count = int(want[-1])
    assert int(got[-1].item()) == count
    for mine, theirs in zip(got[:-1], want[:-1], strict=True):
        assert mine.dtype == theirs.dtype
        assert np.array_equal(mine[:count], theirs[:count])


ODD_OPTIONS: list[tuple[Any, str]] = [
    (b"", "cannot be read"), (b"\xff" * 40, "cannot be read"), ([1, 2], "cannot be read"), ({}, "out of range"),
    ({**SSD, "max_detections": 1 << 40}, "out of range"), ({**SSD, "y_scale": 0.0}, "out of range"),
    ({**SSD, "num_classes": 9}, "9 classes"), ({**SSD, "max_classes_per_detection": 2}, "2 classes for each detection"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), ODD_OPTIONS, ids=range(len(ODD_OPTIONS)))
def test_odd_options_of_a_detector_are_typed_errors(options: Any, said: str, tmp_path: Path) -> None:
    options = options if isinstance(options, bytes) else bytes(flexbuffers.Dumps(options))
    with pytest.raises((InvalidModelError, UnsupportedModelError), match=said):
        edgezip.load(written(tmp_path, detector(options)))


def test_damaged_options_of_a_detector_give_a_model_or_a_typed_error(tmp_path: Path) -> None:
    options, rng = bytes(flexbuffers.Dumps(SSD)), np.random.default_rng(4)
    for number in range(400):
        damaged = mutated(b"." * 8 + options, rng)[8:] if number % 2 else options[: int(rng.integers(len(options)))]
        with suppress(EdgeZipError):
            tflite.to_onnx(schema.parse(detector(damaged)))


# --- several graphs in a file ------------------------------------------------------------------------------------------------

EMPTY_MAP = bytes(flexbuffers.Dumps({}))


def scaled(factor: float, called: int | None = None) -> Writer:
    """A graph (1, 4) -> (1, 4) that multiplies by ``factor``, or has graph ``called`` do the work, and hands its input on too."""
    w = Writer()
    x, y = w.tensor((1, 4)), w.tensor((1, 4))
    w.inputs, w.outputs = [x], [y, x] if called is None else [y]
    if called is None:
        w.op("MUL", [x, w.constant(np.array([factor], np.float32))], [y], "MulOptions")
    else:
        composite(w, [x], [y], called)
    return w


def composite(w: Writer, inputs: list[int], outputs: list[int], called: int) -> None:
    fields = {"DecompositionSubgraphIndex": called, "Name": "test.scale", "CompositeAttributes": EMPTY_MAP}
    w.op("STABLEHLO_COMPOSITE", inputs, outputs, "StableHLOCompositeOptions", **fields)


def with_composites() -> bytes:
    w = Writer()
    x, a, b, c, y = (w.tensor((1, 4)) for _ in range(5))
    w.inputs, w.outputs = [x], [y, b]
    composite(w, [x], [a, b], 1)
    composite(w, [a], [c], 2)
    w.op("ADD", [c, x], [y], "AddOptions")
    deep = scaled(0, called=3)
    inner = scaled(5)
    inner.outputs = inner.outputs[:1]
    w.others = [scaled(3), deep, inner]
    return w.to_bytes()


def test_composites_are_replaced_by_the_graphs_that_they_call(tmp_path: Path) -> None:
    data = with_composites()
    feeds = [np.arange(4, dtype=np.float32)[None]]
    got = by_edgezip(written(tmp_path, data), feeds)
    for mine, theirs in zip(got, by_litert(data, feeds), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(got[0], 16 * feeds[0])


@pytest.mark.parametrize("chosen", [True, False])
def test_a_constant_condition_chooses_the_branch(chosen: bool, tmp_path: Path) -> None:
    w = Writer()
    x, y = w.tensor((1, 4)), w.tensor((1, 4))
    w.inputs, w.outputs = [x], [y]
    w.op("IF", [w.constant(np.array([chosen])), x], [y], "IfOptions", ThenSubgraphIndex=1, ElseSubgraphIndex=2)
    w.others = [scaled(3), scaled(7)]
    for graph_of in w.others:
        graph_of.outputs = graph_of.outputs[:1]
    feeds = [np.ones((1, 4), np.float32)]
    np.testing.assert_array_equal(by_edgezip(written(tmp_path, w.to_bytes()), feeds)[0], by_litert(w.to_bytes(), feeds)[0])
    computed = Writer()
    flag, x, y = computed.tensor((1,), "bool"), computed.tensor((1, 4)), computed.tensor((1, 4))
    computed.inputs, computed.outputs, computed.others = [flag, x], [y], w.others
    computed.op("IF", [flag, x], [y], "IfOptions", ThenSubgraphIndex=1, ElseSubgraphIndex=2)
    with pytest.raises(UnsupportedModelError, match=r"operator 0 \(IF\).*computed at run time"):
        edgezip.load(written(tmp_path, computed.to_bytes()))


def test_graphs_that_call_each_other_in_a_circle_are_refused() -> None:
    w = scaled(0, called=1)
    w.others = [scaled(0, called=0)]
    with pytest.raises(InvalidModelError, match="in a circle"):
        schema.parse(w.to_bytes())


def test_calls_that_multiply_are_refused_in_time() -> None:
    def twice(called: int) -> Writer:
        w = Writer()
        values = [w.tensor((1, 4)) for _ in range(41)]
        w.inputs, w.outputs = [values[0]], [values[-1]]
        for a, b in pairwise(values):
            composite(w, [a], [b], called)
        return w

    last = scaled(2)
    last.outputs = last.outputs[:1]
    w = twice(1)
    w.others = [*(twice(i) for i in range(2, 8)), last]  # 40 ^ 7 operators
    with pytest.raises(InvalidModelError, match="more than 100000 operators"):
        schema.parse(w.to_bytes())


def test_the_signature_says_which_graph_runs_and_two_are_refused(tmp_path: Path) -> None:
    w = scaled(3)
    w.others, w.signatures = [scaled(7)], [("serving_default", 1)]
    feeds = [np.ones((1, 4), np.float32)]
    np.testing.assert_array_equal(by_edgezip(written(tmp_path, w.to_bytes()), feeds)[0], 7 * feeds[0])
    w.signatures.append(("train", 0))
    with pytest.raises(UnsupportedModelError, match="2 entry points: serving_default, train"):
        edgezip.load(written(tmp_path, w.to_bytes()))


# --- int8 weights on float activations ("dynamic range") ---------------------------------------------------------------------


def hybrid(
    op: str, options: str, x: tuple[int, ...], kernel: tuple[int, ...], out: tuple[int, ...], **fields: Any
) -> tuple[bytes, Array]:
    """The file, and its weights in float."""
    rng, w = np.random.default_rng(1), Writer()
    stored = rng.integers(-127, 128, kernel).astype(np.int8)
    scales = rng.uniform(0.002, 0.004, kernel[0]).astype(np.float32)
    a, y = w.tensor(x), w.tensor(out)
    w.inputs, w.outputs = [a], [y]
    w.op(op, [a, w.constant(stored, scale=scales), w.constant(np.zeros(kernel[0], np.float32))], [y], options, **fields)
    return w.to_bytes(), stored * scales.reshape(-1, *[1] * (len(kernel) - 1))


def test_a_fully_connected_layer_of_dynamic_range_quantises_its_rows_as_litert_does(tmp_path: Path) -> None:
    data, weights = hybrid("FULLY_CONNECTED", "FullyConnectedOptions", (3, 64), (32, 64), (3, 32))
    feeds, path = feeds_of(data, 5), written(tmp_path, data)
    program = edgezip.compile(path, vectors=0)
    assert [step["form"] for step in program.metadata["steps"]] == ["int8"]
    assert program.metadata["memory"]["weights_bytes"] < 32 * 64 * 2
    exact = feeds[0].astype(np.float64) @ weights.T.astype(np.float64)
    # each element of a row is off by half a step at most, a step being the row's largest / 127; LiteRT's by a whole one, since
    # its rows have a zero point in some versions
    half = np.abs(feeds[0]).max(1, keepdims=True) / 254 * np.abs(weights).sum(1)
    got, theirs = by_edgezip(path, feeds)[0], by_litert(data, feeds)[0]
    assert (np.abs(got - exact) <= half).all()
    assert (np.abs(theirs - exact) <= 2 * half).all()
    assert np.abs(got - exact).mean() > 1e-4  # it did quantise


def test_a_convolution_of_dynamic_range_is_computed_in_float_and_says_so(tmp_path: Path) -> None:
    fields = {"Padding": 0, "StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}
    data, weights = hybrid("CONV_2D", "Conv2DOptions", (1, 6, 6, 8), (16, 1, 1, 8), (1, 6, 6, 16), **fields)
    feeds, path = feeds_of(data, 5), written(tmp_path, data)
    step = edgezip.compile(path, vectors=0).metadata["steps"][0]
    assert step["form"] == "float32"
    assert step["reason"].startswith("int8 weights, float activations")
    np.testing.assert_allclose(by_edgezip(path, feeds)[0], feeds[0] @ weights.reshape(16, 8).T, rtol=1e-4, atol=1e-4)
