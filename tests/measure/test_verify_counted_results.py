"""Counted results are compared by the rows that are meant, on the command line too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgezip.cli.main import main
from edgezip.errors import InvalidModelError
from edgezip.measure.counted_rows import aligned
from edgezip.measure.onnx_reference import OnnxSession


def test_rows_behind_the_count_are_left_out() -> None:
    room = np.array([[1, 2, 9, 9], [3, 4, 9, 9]])
    wanted, made = aligned({"y": np.array([[1, 2], [3, 4]])}, {"y": room, "y.count": np.array([2])})
    np.testing.assert_array_equal(made["y"], wanted["y"])
    assert list(made) == ["y"]


@pytest.mark.parametrize("count", [1, 3])
def test_another_count_is_a_difference(count: int) -> None:
    room = np.array([5, 6, 7, 8])
    wanted, made = aligned({"y": np.array([5, 6])}, {"y": room, "y.count": np.array([count])})
    assert wanted["y"].shape == made["y"].shape
    assert not np.array_equal(wanted["y"], made["y"])


def test_a_result_that_is_called_count_by_the_model_stays() -> None:
    results = {"y": np.ones(3), "y.count": np.ones(1)}
    assert aligned(results, results)[1].keys() == results.keys()


def saved(folder: Path, node: onnx.NodeProto, kind: int = TensorProto.FLOAT, out: int = TensorProto.INT64) -> Path:
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info(name, kind, [3, 4]) for name in node.input],
        [helper.make_tensor_value_info("y", out, None)],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(folder / "m.onnx"))
    return folder / "m.onnx"


def test_verify_takes_a_model_with_counted_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved(tmp_path, helper.make_node("NonZero", ["x"], ["y"]))
    np.save(tmp_path / "x.npy", np.array([[0, 1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 4]], np.float32))
    assert main(["verify", str(model), "--bitexact", "--inputs", str(tmp_path / "x.npy"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["bitexact"], document["max_abs_error"]) == (True, 0.0)


def test_a_reference_that_cannot_run_says_so(tmp_path: Path) -> None:
    model = saved(tmp_path, helper.make_node("Mod", ["a", "b"], ["y"]), TensorProto.INT32, TensorProto.INT32)
    session = OnnxSession(model)
    with pytest.raises(InvalidModelError, match="cannot run"):
        session.run({"a": np.ones((3, 4), np.int32), "b": np.zeros((3, 4), np.int32)})
