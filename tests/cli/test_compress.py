"""``edgezip compress`` as a command: what is written, what is printed, what is refused and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgezip import graph
from edgezip.cli.main import main
from edgezip.recipe import Recipe


@pytest.fixture
def model(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(dims).astype(np.float32), name)
        for name, dims in {"w": (8, 3, 3, 3), "b": (8,), "v": (4, 8, 1, 1)}.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="first"),
        helper.make_node("Relu", ["c"], ["r"], name="act"),
        helper.make_node("Conv", ["r", "v"], ["y"], name="second"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 3, 8, 8))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 11)], ir_version=8
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, str(path))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "samples.npz"
    np.savez(path, x=np.random.default_rng(1).standard_normal((12, 3, 8, 8)).astype(np.float32))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["compress", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


SHAPE = ("--shape", "x=1x3x8x8")


def test_result_is_valid_onnx_that_onnx_runtime_runs(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.onnx"
    code, text, _ = run(capsys, model, "-o", out, "--int8", "--calib", data, *SHAPE)
    assert code == 0
    onnx.checker.check_model(onnx.load(str(out)), full_check=True)
    feed = {"x": np.ones((1, 3, 8, 8), np.float32)}
    exact, got = (graph.run(graph.load(path), feed)["y"] for path in (model, out))
    assert np.abs(exact - got).max() < 0.1 * np.abs(exact).max()
    assert "edgezip compile" in text
    assert "first" in text


def test_json_and_report_hold_a_row_for_every_layer(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.onnx"
    code, text, _ = run(capsys, model, "-o", out, "--calib", data, "--num-samples", 5, "--keep", "sec*", "--json", *SHAPE)
    facts: dict[str, Any] = json.loads(text)
    assert code == 0
    assert facts == json.loads((tmp_path / "small.report.json").read_text())
    assert facts["verb"] == "compress"
    assert facts["samples"] == 5
    keys = {"name", "op", "form", "bits", "sparsity", "bytes_before", "bytes_after", "sqnr_db", "reason"}
    assert all(set(row) == keys for row in facts["layers"])
    assert {row["name"]: row["form"] for row in facts["layers"]} == {"first": "int8", "act": "int8", "second": "float32"}
    assert facts["bytes_after"] < facts["bytes_before"]


def test_recipe_and_flags_give_the_same_file(model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Recipe.int8("percentile", keep=("second",)).save(tmp_path / "r.yaml")
    by_recipe, by_flags = tmp_path / "a.onnx", tmp_path / "b.onnx"
    assert run(capsys, model, "-o", by_recipe, "--calib", data, "--recipe", tmp_path / "r.yaml", *SHAPE)[0] == 0
    assert run(capsys, model, "-o", by_flags, "--calib", data, "--method", "percentile", "--keep", "second", *SHAPE)[0] == 0
    assert by_recipe.read_bytes() == by_flags.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "--calib"),
        (("--calib", "none.npz"), 1, "none.npz"),
        (("--calib", "samples.npz", "--method", "best"), 2, "method"),
        (("--calib", "samples.npz", "--keep", "Convolution"), 2, "Convolution"),
        (("--calib", "samples.npz", "--recipe", "r.yaml", "--num-samples", "3"), 2, "--recipe"),
        (("--calib", "samples.npz", "-o", "none/small.onnx"), 1, "none"),
        (("--calib", "samples.npz", "-o", "m.onnx"), 2, "m.onnx"),
        (("--calib", "samples.npz", "-o", "small.txt"), 2, ".onnx"),
    ],
)
def test_refusals_leave_nothing_behind(
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    got, out, err = run(capsys, "m.onnx", "-o", "small.onnx", *SHAPE, *arguments)
    assert out == ""
    assert got == code
    assert told in err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_interrupt_leaves_nothing_half_written(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgezip.passes.quantize_static.quantize_static", interrupted)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run(capsys, model, "-o", tmp_path / "small.onnx", "--calib", data, *SHAPE)[0] == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_flags_are_short_recipes(model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.onnx"
    flags = ("--prune", "1x1:0.5", "--codebook", 8, "--int8", "--json")
    code, text, _ = run(capsys, model, "-o", out, "--calib", data, *SHAPE, *flags)
    facts = json.loads(text)
    assert code == 0
    assert [step["name"] for step in facts["passes"]] == ["prune", "cluster"]
    assert {layer["form"] for layer in facts["layers"] if layer["bytes_before"]} == {"int8"}
    assert facts["recipe"]["passes"][0]["prune"]["pattern"] == "1x1"
    assert all(row["sqnr_db"] is not None for step in facts["passes"] for row in step["layers"])


def test_passes_without_data_need_none(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.onnx"
    code, text, _ = run(capsys, model, "-o", out, *SHAPE, "--prune", "2:4", "--int4", "--json")
    facts = json.loads(text)
    assert code == 0
    assert facts["bytes_after"] < facts["bytes_before"] / 4
    assert graph.load(out) is not None
    code, _, err = run(capsys, model, "-o", out, *SHAPE, "--int8")
    assert code != 0
    assert "calibration data" in err


@pytest.mark.parametrize("text", ["4x16", "4x16:half", "2:0", ":0.5", "4x17:0.5"])
def test_a_pattern_that_is_none_is_refused(
    text: str, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, model, "-o", tmp_path / "o.onnx", "--calib", data, *SHAPE, "--prune", text)
    assert code == 2
    assert "pattern" in err
