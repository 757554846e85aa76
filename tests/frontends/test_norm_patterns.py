"""Layer and RMS norms, GELU, softmax and one-hot products in pieces become one operator; near misses stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pieces
import pytest
from pieces import Pieces, Writer

from edgezip import graph
from edgezip.frontends import onnx as front

# float32 roundings of the pieces, of values of some units: sums of 30 terms at most, one root, one quotient
CLOSE = 2e-5


def run(content: bytes, x: Any) -> Any:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def loaded(write: Writer, opset: int = 17) -> tuple[onnx.ModelProto, graph.Model, list[str]]:
    g = Pieces(opset=opset)
    source = g.proto(write(g))
    model = front.load(source.SerializeToString())
    return source, model, [node.op_type for node in graph.nodes(model)]


def difference(source: onnx.ModelProto, model: graph.Model) -> float:
    dims = [dim.dim_value for dim in source.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(4).normal(1, 2, dims).astype(np.float32)
    expected, got = run(source.SerializeToString(), x), run(graph.to_bytes(model), x)
    return float(np.nanmax(np.abs(expected - got)))


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("write", pieces.LAYER_NORMS, ids=lambda w: w.__name__)
def test_a_layer_norm_in_pieces_is_one_operator(write: Writer, opset: int) -> None:
    source, model, operators = loaded(write, opset)
    turned = write is pieces.channels_of_a_picture
    assert operators == (["Transpose", "LayerNormalization", "Transpose"] if turned else ["LayerNormalization"])
    assert difference(source, model) < CLOSE
    (node,) = (n for n in graph.nodes(model) if n.op_type == "LayerNormalization")
    assert graph.attribute(node, "epsilon") == pytest.approx(pieces.EPSILON)
    assert [v.name for v in graph.output_values(model)] == ["y"]


@pytest.mark.parametrize("write", pieces.RMS_NORMS, ids=lambda w: w.__name__)
def test_an_rms_norm_in_pieces_is_one_operator(write: Writer) -> None:
    source, model, operators = loaded(write)
    assert operators == ["RMSNormalization"]
    assert difference(source, model) < CLOSE
    assert graph.opset(model) >= 23


@pytest.mark.parametrize(("write", "approximate"), pieces.GELUS, ids=lambda w: getattr(w, "__name__", w))
def test_a_gelu_in_pieces_is_one_operator(write: Writer, approximate: str) -> None:
    source, model, operators = loaded(write)
    assert operators == ["Gelu"]
    assert graph.attribute(graph.nodes(model)[0], "approximate", "none") == approximate
    assert difference(source, model) < CLOSE


@pytest.mark.parametrize("write", pieces.SOFTMAXES, ids=lambda w: w.__name__)
def test_a_softmax_in_pieces_is_one_operator(write: Writer) -> None:
    source, model, operators = loaded(write)
    assert operators == ["Softmax"]
    assert difference(source, model) < CLOSE


NEAR = {
    **dict.fromkeys(pieces.NOT_LAYER_NORMS, "LayerNormalization"),
    **dict.fromkeys(pieces.NOT_RMS_NORMS, "RMSNormalization"),
    **dict.fromkeys(pieces.NOT_GELUS, "Gelu"),
    **dict.fromkeys(pieces.NOT_SOFTMAXES, "Softmax"),
}


@pytest.mark.parametrize(("write", "operator"), NEAR.items(), ids=lambda w: getattr(w, "__name__", w))
def test_what_only_looks_alike_is_not_taken_for_it(write: Writer, operator: str) -> None:
    source, model, operators = loaded(write)
    assert operator not in operators
    assert difference(source, model) < CLOSE


def test_a_scale_behind_two_readers_stays_outside() -> None:
    def write(g: Pieces) -> str:
        norm = pieces.bare(g)
        return g.op("Sub", g.op("Mul", norm, pieces.SCALE), norm)

    source, model, operators = loaded(write)
    assert operators == ["LayerNormalization", "Mul", "Sub"]
    assert difference(source, model) < CLOSE


def test_a_scale_for_each_row_stays_outside() -> None:
    source, model, operators = loaded(lambda g: g.op("Mul", pieces.bare(g), np.linspace(1, 2, 5)[:, None]))
    assert operators == ["LayerNormalization", "Mul"]
    assert difference(source, model) < CLOSE


def test_a_second_bias_stays_outside() -> None:
    source, model, operators = loaded(lambda g: g.op("Add", pieces.torch_layer_norm(g), pieces.BIAS))
    assert operators == ["LayerNormalization", "Add"]
    assert difference(source, model) < CLOSE


def test_a_wrong_pattern_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgezip.frontends.patterns import layer_norm

    monkeypatch.setattr(layer_norm, "variance_of", lambda value: (source_of(value), (2,)))
    source, model, _ = loaded(pieces.cube_for_square)
    assert difference(source, model) > 0.1


def source_of(value: Any) -> Any:
    """The graph's input, wherever one stands."""
    return next(v for v in value.graph.inputs if v.name == "x")


INDICES = (2, 7)


def one_hot(g: Pieces, classes: Any, table: Any) -> str:
    g.dims, g.kind = INDICES, onnx.TensorProto.INT32
    equal = g.op("Equal", g.op("Reshape", "x", [*INDICES, 1]), classes)
    return g.op("MatMul", g.op("Cast", equal, to=1), table)


TABLE = np.random.default_rng(2).normal(size=(5, 3))


def test_a_one_hot_product_gathers_rows_and_zeros_outside_of_the_table() -> None:
    g = Pieces()
    source = g.proto(one_hot(g, np.arange(5, dtype=np.int32)[None, None], TABLE))
    model = front.load(source.SerializeToString())
    assert [node.op_type for node in graph.nodes(model)] == ["Clip", "Gather"]
    x = np.array([[0, 1, 2, 3, 4, 5, 99], [-1, -2, -5, -6, 4, 3, 0]], np.int32)
    assert np.array_equal(run(source.SerializeToString(), x), run(graph.to_bytes(model), x))


def test_a_comparison_with_other_numbers_stays() -> None:
    g = Pieces()
    source = g.proto(one_hot(g, np.array([0, 1, 2, 4, 3], np.int32)[None, None], TABLE))
    assert "Gather" not in [node.op_type for node in graph.nodes(front.load(source.SerializeToString()))]


def test_a_table_with_infinity_stays_as_zero_times_it_is_no_number() -> None:
    g = Pieces()
    table = TABLE.copy()
    table[1, 1] = np.inf
    source = g.proto(one_hot(g, np.arange(5, dtype=np.int32)[None, None], table))
    assert "Gather" not in [node.op_type for node in graph.nodes(front.load(source.SerializeToString()))]


def gathered(g: Pieces, rows: int, bias: Any) -> str:
    g.dims, g.kind = INDICES, onnx.TensorProto.INT64
    x = g.op("Gather", np.random.default_rng(3).normal(size=(rows, 3)), "x")
    return g.op("Tanh", g.op("Add", bias, x))


@pytest.mark.parametrize("bias", [np.array([1.0, 2, 3]), np.ones((1, 1, 3)), np.array(0.5)], ids=["row", "wide", "number"])
def test_elementwise_work_on_rows_of_a_small_table_is_done_once(bias: Any) -> None:
    g = Pieces()
    source = g.proto(gathered(g, 5, bias))
    model = front.load(source.SerializeToString())
    assert [node.op_type for node in graph.nodes(model)] == ["Gather"]
    x = np.arange(14).reshape(INDICES) % 5
    assert np.abs(run(source.SerializeToString(), x) - run(graph.to_bytes(model), x)).max() < 1e-6


@pytest.mark.parametrize(("rows", "bias"), [(15, np.ones(3)), (5, np.ones((7, 1))), (5, np.ones((1, 1, 1, 3)))])
def test_a_large_table_and_another_bias_are_left(rows: int, bias: Any) -> None:
    g = Pieces()
    source = g.proto(gathered(g, rows, bias))
    assert "Add" in [node.op_type for node in graph.nodes(front.load(source.SerializeToString()))]


def test_a_slice_of_everything_goes_and_a_mirror_stays() -> None:
    for step, left in ((1, ["Relu"]), (-1, ["Slice", "Relu"])):
        g = Pieces()
        ends = (0, 99) if step > 0 else (99, -99)
        source = g.proto(g.op("Relu", g.op("Slice", "x", [ends[0]], [ends[1]], [1], [step])))
        assert [node.op_type for node in graph.nodes(front.load(source.SerializeToString()))] == left
