"""``edgezip inspect`` of models, of programs, and of what EdgeZip runs at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgezip import compilation
from edgezip.cli.main import main
from edgezip.data import DEMO_MODEL
from edgezip.frontends.decompose import RULES
from edgezip.pack.lower import FLOAT, INT8
from edgezip.program import HEADER


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inspect") / "demo.ez"
    compilation.compile(str(DEMO_MODEL), "host").save(path)
    return path


def inspect(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["inspect", *map(str, arguments)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_a_model_shows_its_layers(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = inspect(capsys, DEMO_MODEL)
    assert code == 0
    assert "Conv" in out
    assert "inputs: image float32 1x1x28x28" in out


def test_a_program_shows_header_sections_steps_and_kernels(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = inspect(capsys, program, "--json")
    facts: dict[str, Any] = json.loads(out)
    assert (code, facts["target"], facts["vectors"]) == (0, "host", 2)
    assert facts["file_bytes"] == program.stat().st_size
    assert facts["sections"]["header"] == HEADER.itemsize
    assert sum(facts["sections"].values()) <= facts["file_bytes"]
    assert facts["memory"]["arena_bytes"] > 0
    assert all(step["kernel_here"] for step in facts["steps"])
    assert sum(step["macs"] for step in facts["steps"]) > 1_000_000
    assert [tensor["name"] for tensor in facts["inputs"]] == ["image"]
    code, out, _ = inspect(capsys, program)
    assert code == 0
    for step in facts["steps"]:
        assert step["name"] in out
    assert "packing k4n16" in out or "packing k8n16" in out


def test_a_damaged_program_is_refused(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(program.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.ez").write_bytes(data)
    code, out, err = inspect(capsys, tmp_path / "bad.ez")
    assert (code, out) == (1, "")
    assert "damaged" in err


def test_the_operators_of_the_runtime_need_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = inspect(capsys, "--ops", "--json")
    rows = {row["operator"]: row for row in json.loads(out)["operators"]}
    assert code == 0
    assert set(rows) >= {*FLOAT, *INT8, *RULES, "Gelu", "QuantizeLinear"}
    assert [rows[name]["how"] for name in ("Conv", "Det", "Attention")] == ["kernel", "others", "body"]
    assert "Bernoulli" not in rows
    assert (rows["Conv"]["float32"], rows["Conv"]["int8"]) == (True, "kernel")
    assert rows["Sigmoid"]["int8"] == "table"
    assert rows["LSTM"]["int8"] == "by row"
    assert rows["Transpose"]["int8"] is not None
    assert "Conv" in inspect(capsys, "--ops")[1]
    assert inspect(capsys)[0] == 2


def test_operators_of_tflite_come_from_the_front_ends_own_table(capsys) -> None:
    from edgezip.frontends.tflite import CONVERTERS

    assert main(["inspect", "--ops", "--format", "tflite", "--json"]) == 0
    rows = {row["operator"]: row for row in json.loads(capsys.readouterr().out)["operators"]}
    assert {name for name, row in rows.items() if row["taken"]} >= set(CONVERTERS)
    assert not rows["WHILE"]["taken"]
    assert main(["inspect", "--ops", "--format", "tflite"]) == 0
    out = capsys.readouterr().out
    assert "CONV_2D" in out
    assert "refused by name: " in out


def test_what_import_rewrote_is_said_with_its_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two sigmoids in pieces, a norm behind a convolution, an operator without a kernel, a branch."""
    node, info = helper.make_node, helper.make_tensor_value_info
    weights = {"w": np.ones((2, 2, 1, 1), np.float32), "one": np.ones((), np.float32), "yes": np.array(True)}
    weights |= {name: np.ones(2, np.float32) for name in ("scale", "bias", "mean", "var")}
    branches = {
        f"{name}_branch": helper.make_graph(
            [node(op, ["h"], [f"{name}.y"])], name, [], [info(f"{name}.y", TensorProto.FLOAT, None)]
        )
        for name, op in (("then", "Relu"), ("else", "Neg"))
    }
    nodes = [node("Conv", ["x", "w"], ["c"]), node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["b"])]
    for start, end in (("b", "s"), ("s", "g")):
        nodes += [node("Neg", [start], [f"{end}.n"]), node("Exp", [f"{end}.n"], [f"{end}.e"])]
        nodes += [node("Add", ["one", f"{end}.e"], [f"{end}.a"]), node("Reciprocal", [f"{end}.a"], [end])]
    nodes += [node("Hardmax", ["g"], ["h"]), node("If", ["yes"], ["y"], **branches)]
    held = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    x, y = info("x", TensorProto.FLOAT, [1, 2, 3, 3]), info("y", TensorProto.FLOAT, None)
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], held), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(proto, tmp_path / "m.onnx")
    code, out, _ = inspect(capsys, tmp_path / "m.onnx", "--json")
    assert code == 0
    assert json.loads(out)["imported"] == {
        "If with a constant condition: the branch that is taken": 1, "Hardmax: written as other operators": 1,
        "BatchNormalization: folded into the layer before": 1, "Sigmoid in pieces: one operator": 2,
    }  # fmt: skip
    assert "on import: Sigmoid in pieces: one operator (2)" in inspect(capsys, tmp_path / "m.onnx")[1]


def test_a_prediction_has_an_error_bar_threads_slow_layers_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = inspect(capsys, DEMO_MODEL, "--target", "rpi5", "--json")
    facts: dict[str, Any] = json.loads(out)
    said = facts["prediction"]
    assert (code, said["target"], list(said["latency_us"])) == (0, "rpi5", ["1", "4"])
    assert said["latency_us"]["4"] < said["latency_us"]["1"] == pytest.approx(facts["totals"]["predicted_latency_us"])
    assert 0 < said["error"] < 1
    shares = [layer["share"] for layer in said["slowest"]]
    assert shares == sorted(shares, reverse=True)
    code, out, _ = inspect(capsys, DEMO_MODEL, "--target", "rpi5")
    assert all(word in out for word in ("predicted for rpi5", "not measured", "nine in ten within", "slowest: ", "2048 MB"))
    code, out, _ = inspect(capsys, DEMO_MODEL, "--target", "armv7")
    assert "error not known" in out
