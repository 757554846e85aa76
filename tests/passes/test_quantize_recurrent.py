"""int8 recurrent layers: weights by row in the file, activations quantised row by row at run time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgezip import graph, pack
from edgezip.compression import compress
from edgezip.frontends.onnx import load
from edgezip.program import Op
from edgezip.recipe import Recipe
from edgezip.target import load_target

sys.path.insert(0, str(Path(__file__).parents[1] / "pack"))

from pack_graphs import build, node, run_everywhere, weights
from recurrent_graphs import Net

Array = np.ndarray[Any, np.dtype[Any]]
NETS = {
    "LSTM": Net("LSTM", steps=6, batch=3, inputs=24, hidden=20),
    "LSTM both ways": Net("LSTM", steps=6, batch=2, inputs=24, hidden=33, direction="bidirectional", lengths=(6, 3)),
    "GRU": Net("GRU", steps=6, batch=2, inputs=24, hidden=20),
    "GRU before, both ways": Net(
        "GRU", steps=4, batch=2, inputs=7, hidden=9, direction="bidirectional", attributes={"linear_before_reset": 1}
    ),
    "RNN": Net("RNN", steps=6, batch=17, inputs=24, hidden=20),
    "LSTM one sequence": Net("LSTM", steps=1, batch=1, inputs=64, hidden=64, outputs=("Y_h",)),
}


def compressed(model: graph.Model, feeds: dict[str, Array]) -> graph.Model:
    return compress(model, Recipe.int8(), calibration=[feeds]).model


@pytest.mark.parametrize("name", NETS)
def test_int8_layer_is_near_float_and_equal_everywhere(name: str) -> None:
    net = NETS[name]
    feeds = net.feeds()
    model = load(net.model())
    small = compressed(model, feeds)
    program, got = run_everywhere(small, feeds)
    forms = {form["op"]: form for form in program.metadata["steps"] if "form" in form}
    assert [step.op for step in program.steps if step.op in (Op.LINEAR, Op.RECURRENT)] == [Op.LINEAR, Op.RECURRENT]
    assert {forms[net.kind]["form"]} == {"int8"}
    for key, want in graph.run(model, feeds).items():
        noise = np.sqrt(((got[key] - want) ** 2).mean() / (want**2).mean())
        assert (
            1e-5 < noise < 0.03
        )  # eight bits each on weights and activations: 1 in 127 and 1 in 127, at worst both at once, twice


def test_file_runs_in_onnx_runtime_as_float_with_rounded_weights() -> None:
    net = NETS["LSTM both ways"]
    feeds, model = net.feeds(), load(net.model())
    small = compressed(model, feeds)
    assert graph.find_node(small, "net").metadata_props["edgezip.activation"] == "dynamic_s8_row"
    assert onnx.load_from_string(graph.to_bytes(small)).graph.node[-1].op_type == "LSTM"
    for key, want in graph.run(model, feeds).items():
        got = graph.run(small, feeds)[key]
        assert 0 < np.abs(got - want).max() < 0.05


def test_float_remains_where_it_is_asked_for() -> None:
    model = build(
        [node("Transpose", ["x"], "t", perm=[2, 0, 1]), node("GRU", ["t", "w", "r"], ["", "h"], hidden_size=4),
         node("Reshape", ["h", "s"], "f"), node("Gemm", ["f", "g"])],
        {"w": weights(1, 12, 5), "r": weights(1, 12, 4), "s": np.array([2, 4]), "g": weights(4, 6)},
        {"x": (2, 5, 7)},
    )  # fmt: skip
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)}
    for keep, form in ((("GRU",), "float32"), ((), "int8")):
        kept = compress(model, Recipe.int8(keep=keep), calibration=[feeds])
        steps = pack.compile(kept.model, load_target("x86-64")).metadata["steps"]
        assert {s["form"] for s in steps if s.get("op") == "GRU"} == {form}
        assert {s["form"] for s in steps if s.get("op") == "Gemm"} == {"int8"}


def test_input_that_is_int8_already_is_not_quantised_again() -> None:
    model = build(
        [node("Conv", ["x", "k"], "c", pads=[1, 1]), node("Relu", ["c"], "a"), node("Transpose", ["a"], "t", perm=[2, 0, 1]),
         node("LSTM", ["t", "w", "r"], ["y"], hidden_size=8)],
        {"k": weights(12, 5, 3), "w": weights(1, 32, 12), "r": weights(1, 32, 8)},
        {"x": (2, 5, 7)},
    )  # fmt: skip
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)}
    program, got = run_everywhere(compressed(model, feeds), feeds)
    (linear,) = (form for form in program.metadata["steps"] if form.get("rows"))
    assert linear["rows"] == "int8"
    assert np.abs(got["y"] - graph.run(model, feeds)["y"]).max() < 0.02


def test_report_counts_the_bytes_of_both_matrices() -> None:
    net = NETS["LSTM"]
    report = compress(load(net.model()), Recipe.int8(), calibration=[net.feeds()]).report
    (layer,) = report.layers
    assert layer.form == "int8"
    assert layer.bytes_before == 4 * (80 * 24 + 80 * 20 + 160)
    assert layer.bytes_after == 80 * 24 + 80 * 20 + 2 * 4 * 80 + 4 * 160
