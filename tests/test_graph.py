"""The vocabulary over onnx_ir: edits keep the model valid, names of outputs stay, runs leave the model alone."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgezip import cost, graph
from edgezip.errors import ShapeError, UnsupportedModelError, UsageError
from edgezip.frontends import onnx as front
from edgezip.target import load_target

X = np.random.default_rng(0).standard_normal((1, 4, 6, 6)).astype(np.float32)
ZERO = np.int8(0)


def small(opset: int = 17, tail: list[onnx.NodeProto] | None = None) -> graph.Model:
    """x -> Conv 'c' -> h -> Relu 'r' -> y, or another tail behind h."""
    weight = np.random.default_rng(1).uniform(-1, 1, (3, 4, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"], name="c"), *(tail or [helper.make_node("Relu", ["h"], ["y"], name="r")])]
    body = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return front.load(helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString())


def checked(model: graph.Model) -> graph.Model:
    onnx.checker.check_model(graph.to_proto(model), full_check=True)
    return model


def ops(model: graph.Model) -> list[str]:
    return [node.op_type for node in graph.nodes(model)]


def per_channel(weight: graph.Array) -> tuple[graph.Array, graph.Array]:
    scale = (np.abs(weight).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    return np.rint(weight / scale[:, None, None, None]).astype(np.int8), scale


def test_reading_names_shapes_constants_and_attributes() -> None:
    model = small()
    conv = graph.find_node(model, "c")
    assert graph.attributes(conv) == {}
    assert graph.attribute(conv, "group", 1) == 1
    assert graph.shape(conv.outputs[0]) == (1, 3, 4, 4)
    assert graph.dtype(conv.outputs[0]) == np.float32
    assert graph.producer(conv.outputs[0]) is conv
    assert [(n.name, i) for n, i in graph.consumers(conv.outputs[0])] == [("r", 0)]
    assert graph.constant(conv.inputs[0]) is None
    assert graph.constant(conv.inputs[1]).shape == (3, 4, 3, 3)
    with pytest.raises(UsageError, match="nothing"):
        graph.find_value(model, "nothing")


@pytest.mark.parametrize("where", ["x", "h", "y"])
def test_qdq_stands_behind_any_value_and_output_names_stay(where: str) -> None:
    model = small()
    before = graph.run(model, {"x": X})["y"]
    graph.insert_qdq(model, graph.find_value(model, where), np.float32(0.08), ZERO)  # range +-10, nothing saturates
    got = graph.run(checked(model), {"x": X}, optimize=False)
    assert ops(model).count("QuantizeLinear") == ops(model).count("DequantizeLinear") == 1
    assert list(got) == ["y"]
    assert 0 < np.abs(got["y"] - before).max() <= 36 * 0.04  # half a step on each of 36 taps, weights within +-1


def test_qdq_on_chosen_uses_leaves_the_others() -> None:
    tail = [helper.make_node("Relu", ["h"], ["a"], name="r"), helper.make_node("Add", ["a", "h"], ["y"], name="s")]
    model = small(tail=tail)
    value = graph.find_value(model, "h")
    graph.insert_qdq(model, value, np.float32(0.1), ZERO, uses=[(graph.find_node(model, "s"), 1)])
    assert graph.find_node(checked(model), "r").inputs[0] is value
    assert graph.producer(graph.find_node(model, "s").inputs[1]).op_type == "DequantizeLinear"


def test_a_quantised_weight_is_an_int8_initializer_and_raises_opset_11_to_13() -> None:
    model = small(opset=11)
    weight = graph.find_value(model, "w")
    quantized, scale = per_channel(graph.constant(weight))
    graph.quantize_weight(model, weight, quantized, scale, np.zeros(3, np.int8), axis=0)
    assert graph.opset(checked(model)) == 13
    assert [v.name for v in graph.initializers(model)] == ["w_quantized", "w_scale", "w_zero_point"]
    want = graph.run(small(), {"x": X})["y"]
    assert np.abs(graph.run(model, {"x": X}, optimize=False)["y"] - want).max() < 36 * 0.5 / 127 * np.abs(X).max()


def test_parameters_of_the_wrong_shape_are_refused() -> None:
    model = small()
    weight = graph.find_value(model, "w")
    with pytest.raises(ShapeError, match="tensor 'w'"):
        graph.quantize_weight(
            model, weight, np.zeros((3, 4, 3, 3), np.int8), np.ones(4, np.float32), np.zeros(4, np.int8), axis=0
        )
    with pytest.raises(ShapeError, match="another shape"):
        graph.quantize_weight(model, weight, np.zeros((3, 4), np.int8), np.float32(1), ZERO)


def test_insert_after_an_output_keeps_the_output_name() -> None:
    model = small()
    graph.insert_after(model, graph.find_value(model, "y"), "Neg")
    assert ops(checked(model)) == ["Conv", "Relu", "Neg"]
    assert graph.run(model, {"x": X})["y"].max() <= 0


def test_replace_weight_changes_the_numbers_and_not_the_clone() -> None:
    model = small()
    copy = graph.clone(model)
    graph.replace_weight(model, "w", np.zeros((3, 4, 3, 3), np.float32))
    assert graph.run(model, {"x": X})["y"].max() == 0
    assert graph.run(copy, {"x": X})["y"].max() > 0
    with pytest.raises(UsageError):
        graph.replace_weight(model, "q", X)


def test_a_node_in_use_is_not_removed_and_an_unused_one_is() -> None:
    model = small()
    relu = graph.find_node(model, "r")
    with pytest.raises(UsageError, match="still in use"):
        graph.remove_node(model, relu)
    graph.new_node(model, "Abs", [graph.find_value(model, "h")], "dead", like=graph.find_value(model, "h"))
    graph.remove_unused(model)
    assert ops(model) == ["Conv", "Relu"]


def test_metadata_survives_a_file(tmp_path: Path) -> None:
    model = small()
    graph.set_metadata(model, "edgezip.test", "1")
    graph.set_metadata(graph.find_node(model, "c"), "edgezip.form", "int8")
    graph.save(model, tmp_path / "m.onnx")
    back = graph.load(tmp_path / "m.onnx")
    assert graph.get_metadata(back, "edgezip.test") == "1"
    assert graph.get_metadata(graph.find_node(back, "c"), "edgezip.form") == "int8"


def test_a_failed_save_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    graph.save(small(), path)
    old = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="space"):
        graph.save(small(opset=18), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_yields_intermediate_tensors_and_leaves_the_model_alone() -> None:
    model = small()
    before = graph.to_bytes(model)
    got = graph.run(model, {"x": X}, ["h", "y"])
    assert np.array_equal(np.maximum(got["h"], 0), got["y"])
    assert graph.to_bytes(model) == before


def test_run_many_is_a_stream_of_single_runs() -> None:
    model = small()
    feeds = [{"x": X * k} for k in range(3)]
    for feed, got in zip(feeds, graph.run_many(model, iter(feeds)), strict=True):
        assert np.array_equal(got["y"], graph.run(model, feed)["y"])


def test_feeds_that_run_side_by_side_come_back_in_order_with_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One feed at a time gives what two at a time give, each beside the feed that it came from."""
    model = small()
    feeds = [{"x": X * k} for k in range(40)]
    found = {}
    for side_by_side in (1, 2, 5):
        monkeypatch.setattr(graph, "UNDER_WAY", side_by_side)
        monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
        pairs = list(graph.run_beside(model, iter(feeds), ["h", "y"]))
        assert all(feed is given for feed, (given, _) in zip(feeds, pairs, strict=True))
        found[side_by_side] = b"".join(results[name].tobytes() for _, results in pairs for name in ("h", "y"))
    assert found[1] == found[2] == found[5]


def test_only_so_many_feeds_are_read_ahead_and_large_results_come_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1}, raising=False)
    read = []

    def watched() -> Any:
        for k in range(10):
            read.append(k)
            yield {"x": X * k}

    next(graph.run_beside(small(), watched()))
    assert len(read) == graph.UNDER_WAY + 1
    monkeypatch.setattr(graph, "UNDER_WAY_BYTES", 1)
    read.clear()
    next(graph.run_beside(small(), watched()))
    assert len(read) == 1


def test_a_feed_that_does_not_fit_is_refused_behind_those_that_do() -> None:
    with pytest.raises(ShapeError, match="wrong shape"):
        list(graph.run_many(small(), iter([{"x": X}, {"x": X}, {"x": X[:1, :1]}])))


def test_int8_sums_do_not_saturate_and_four_bits_leave_the_other_operand_alone() -> None:
    """On AVX2 two products of 255 by 127 leave 16 bits; MatMulNBits of ONNX Runtime takes rows as int8 unless it is told."""
    generator = np.random.default_rng(4)
    held = {"s": np.float32(0.1), "z": np.uint8(0), "ws": np.float32(0.01), "wz": np.int8(0), "w": np.full((64, 8), 127, np.int8)}
    held |= {"v": generator.integers(-8, 8, (8, 4)).astype(ml_dtypes.int4), "vs": np.float32(0.3)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], name="wd"),
        helper.make_node("MatMul", ["d", "wd"], ["h"], name="h"),
        helper.make_node("DequantizeLinear", ["v", "vs"], ["vd"], name="vd"),
        helper.make_node("MatMul", ["h", "vd"], ["y"], name="y"),
    ]
    shapes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", (2, 64)), ("y", (2, 4)))]
    body = helper.make_graph(
        nodes, "g", shapes[:1], shapes[1:], [numpy_helper.from_array(np.asarray(a), n) for n, a in held.items()]
    )
    data = helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    model = graph.from_bytes(data)
    feed = {"x": np.full((2, 64), 25.5, np.float32)}
    for optimize in (True, False):
        made = graph.run(model, feed, ["h", "y"], optimize=optimize)
        np.testing.assert_allclose(made["h"], 64 * 25.5 * 1.27, rtol=1e-5)
        wanted = made["h"][:, :1] * (held["v"].astype(np.float64) * 0.3).sum(axis=0)
        np.testing.assert_allclose(made["y"], wanted, rtol=1e-4)


def test_nodes_that_no_output_hangs_on_are_not_run() -> None:
    model = small()
    before = graph.to_bytes(model)
    assert [n.op_type for n in graph._with_outputs(model, ["h"]).graph.node] == ["Conv"]
    assert graph.to_bytes(model) == before


@pytest.mark.parametrize(
    ("feed", "error"),
    [({}, UsageError), ({"x": X[0]}, ShapeError), ({"x": X.astype(np.float64)}, ShapeError), ({"x": X, "z": X}, UsageError)],
)
def test_a_wrong_feed_is_refused(feed: dict[str, graph.Array], error: type[Exception]) -> None:
    with pytest.raises(error):
        graph.run(small(), feed)


OLD_FORMS: dict[str, tuple[list[onnx.NodeProto], int]] = {
    "softmax that flattens": ([helper.make_node("Softmax", ["h"], ["y"], axis=1)], 11),
    "softmax on the last axis": ([helper.make_node("Softmax", ["h"], ["y"], axis=3)], 11),
    "unsqueeze": ([helper.make_node("Unsqueeze", ["h"], ["y"], axes=[0])], 11),
    "squeeze": ([helper.make_node("Unsqueeze", ["h"], ["a"], axes=[2]), helper.make_node("Squeeze", ["a"], ["y"], axes=[0])], 11),
    "split": ([helper.make_node("Split", ["h"], ["a", "b", "y"], axis=1, split=[1, 1, 1])], 11),
    "even split": ([helper.make_node("Split", ["h"], ["a", "y"], axis=2)], 13),
    "reduce sum": ([helper.make_node("ReduceSum", ["h"], ["y"], axes=[1])], 11),
    "reduce mean": ([helper.make_node("ReduceMean", ["h"], ["y"], axes=[2, 3], keepdims=0)], 13),
}


@pytest.mark.parametrize("case", OLD_FORMS)
def test_a_raised_opset_computes_the_same(case: str) -> None:
    tail, opset = OLD_FORMS[case]
    model = small(opset=opset, tail=tail)
    before = graph.run(model, {"x": X})["y"]
    graph.raise_opset(model, 21)
    assert graph.opset(checked(model)) == 21
    assert np.allclose(graph.run(model, {"x": X})["y"], before, rtol=1e-6, atol=1e-7)  # one softmax in another order of sums


def test_an_operator_that_cannot_be_raised_is_named() -> None:
    grid = [helper.make_node("Constant", [], ["g"], value=numpy_helper.from_array(np.zeros((1, 2, 2, 2), np.float32)))]
    model = small(opset=17, tail=[*grid, helper.make_node("GridSample", ["h", "g"], ["y"], name="gs")])
    with pytest.raises(UnsupportedModelError, match="gs"):
        graph.raise_opset(model, 21)


# ---------------------------------------------------------------- cost


def test_cost_of_a_convolution_in_float_and_int8() -> None:
    model = small()
    layer = cost.layer_cost(graph.find_node(model, "c"))
    assert (layer.macs, layer.params, layer.weight_bytes, layer.activation_bytes) == (48 * 36, 108, 432, 4 * (144 + 48))
    weight = graph.find_value(model, "w")
    quantized, scale = per_channel(graph.constant(weight))
    graph.quantize_weight(model, weight, quantized, scale, np.zeros(3, np.int8), axis=0)
    graph.insert_qdq(model, graph.find_value(model, "x"), np.float32(0.05), ZERO)
    int8 = cost.layer_cost(graph.find_node(model, "c"))
    assert (int8.form, int8.macs, int8.params, int8.weight_bytes) == ("int8", 48 * 36, 108, 108)


def test_prediction_is_the_larger_of_arithmetic_and_traffic_plus_overhead() -> None:
    class Target:
        class Cost:
            s8_gmacs, f32_gmacs, stream_gbs, overhead_us = 20.0, 10.0, 4.0, 2.0
            depthwise_s8_gmacs, depthwise_f32_gmacs, elementwise_gbs = None, 5.0, 8.0
            square_s8, square_f32, square_f32_weights, first_layer = 2.0, 0.5, 4.0, 0.25
            cache_kb, stream_all_gbs, two_threads = None, 6.0, 1.5

        cost: Any = Cost()

    layer = cost.LayerCost("n", "Conv", "float32", (1,), macs=10**7, params=0, weight_bytes=4000, activation_bytes=4000)
    assert cost.predict_us(layer, Target()) == pytest.approx(1000 + 2)
    slow = cost.LayerCost("n", "Relu", "float32", (1,), macs=0, params=0, weight_bytes=0, activation_bytes=8_000_000)
    assert cost.predict_us(slow, Target()) == pytest.approx(1000 + 2)  # at the rate of elementwise steps
    assert cost.predict_us(replace(layer, is_depthwise=True), Target()) == pytest.approx(2000 + 2)
    int8 = replace(layer, form="int8")
    assert cost.predict_us(replace(int8, is_depthwise=True), Target()) == cost.predict_us(int8, Target())  # not measured
    assert cost.predict_us(replace(int8, is_square=True), Target()) == pytest.approx(250 + 2)
    assert cost.predict_us(replace(layer, is_first=True), Target()) == pytest.approx(4000 + 2)
    assert cost.predict_us(layer, Target(), threads=4) == pytest.approx(1000 / 1.5**2 + 2)
    heavy = replace(layer, macs=1, weight_bytes=4_000_000, activation_bytes=0)
    assert cost.predict_us(heavy, Target(), threads=4) == pytest.approx(4000 / 6 + 2, rel=1e-3)  # all threads share 6 GB/s
    assert cost.predict_us(replace(heavy, is_square=True), Target()) == pytest.approx(4000 + 2, rel=1e-3)  # Winograd's weights


def test_activations_that_fit_into_the_cache_come_from_there() -> None:
    target = load_target("rpi4")
    assert target.cost.cache_kb
    assert target.cost.elementwise_gbs
    layer = cost.LayerCost(
        "n", "Relu", "int8", (1,), macs=0, params=0, weight_bytes=0, activation_bytes=1024 * target.cost.cache_kb
    )
    small, large = (replace(layer, activation_bytes=layer.activation_bytes + more) for more in (0, 1))
    for each, rate in ((small, target.cost.elementwise_gbs), (large, target.cost.stream_gbs)):
        assert cost.predict_us(each, target) == pytest.approx(each.activation_bytes / rate / 1e3 + target.cost.overhead_us)


def test_only_a_convolution_of_one_channel_a_group_is_depthwise() -> None:
    def layer(outputs: int, group: int) -> cost.LayerCost:
        nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="c", group=group)]
        w = numpy_helper.from_array(np.ones((outputs, 4 // group, 1, 1), np.float32), "w")
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 2, 2]) for n, c in (("x", 4), ("y", outputs)))
        made = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [w]), opset_imports=[helper.make_opsetid("", 21)])
        return cost.layer_cost(graph.find_node(graph.from_proto(made), "c"))

    assert [layer(8, group).is_depthwise for group in (1, 2, 4)] == [False, False, True]


def test_peak_counts_what_is_alive_together() -> None:
    assert cost.peak_activation_bytes(small()) == 4 * (144 + 48)


# ---------------------------------------------------------------- inspect


def _inspect(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    from edgezip.cli.main import main

    code = main(["inspect", *arguments])
    return code, capsys.readouterr().out


def test_inspect_prints_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    graph.save(small(), tmp_path / "m.onnx")
    code, text = _inspect(capsys, str(tmp_path / "m.onnx"), "--json", "--weights")
    facts = json.loads(text)
    assert code == 0
    assert facts["verb"] == "inspect"
    assert facts["totals"]["macs"] == 48 * 36
    assert [layer["name"] for layer in facts["layers"]] == ["c", "r"]
    assert facts["weights"][0]["name"] == "w"


@pytest.mark.parametrize("flag", [[], ["--ops"], ["--weights"], ["--sparsity"]])
def test_inspect_prints_a_table(flag: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph.save(small(), tmp_path / "m.onnx")
    code, text = _inspect(capsys, str(tmp_path / "m.onnx"), *flag)
    assert code == 0
    assert "opset 17, 2 nodes, 108 parameters" in text


@pytest.mark.parametrize("text", ["x", "x=", "x=1xax3", "=1x2", "x=1x-2", "x=1x99999999999"])
def test_inspect_refuses_a_shape_that_cannot_be_read(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph.save(small(), tmp_path / "m.onnx")
    assert _inspect(capsys, str(tmp_path / "m.onnx"), "--shape", text)[0] == 2


def test_importing_graph_loads_no_heavy_package() -> None:
    import subprocess

    code = "import sys, edgezip.graph, edgezip.frontends, edgezip.cost\n"
    code += "print([m for m in ('onnx', 'onnx_ir', 'onnxruntime') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
