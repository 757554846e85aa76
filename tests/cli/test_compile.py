"""``edgezip compile`` as a command: what is written, what is printed, what is refused and with which exit code."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgezip.cli.main import main
from edgezip.program import read
from edgezip.runtime.session import Session


def written(folder: Path, nodes: list[onnx.NodeProto], dims: tuple[int | str, ...] = (1, 2, 4, 4)) -> Path:
    w = numpy_helper.from_array(np.ones((3, 2, 1, 1), np.float32), "w")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, [w]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    path = folder / "m.onnx"
    onnx.save(model, str(path))
    return path


def conv() -> list[onnx.NodeProto]:
    return [helper.make_node("Conv", ["x", "w"], ["y"], name="c")]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["compile", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_program_is_written_with_vectors_that_the_runtime_repeats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.ez"
    code, text, _ = run(capsys, written(tmp_path, conv()), "-o", out)
    assert code == 0
    program = read(out)
    assert len(program.vectors) == 2
    x, y = program.vectors[0]
    np.testing.assert_array_equal(Session(out).run({"x": x})["y"], y)
    assert str(out) in text
    assert "arena" in text


def test_json_states_program_memory_and_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.ez"
    code, text, _ = run(capsys, written(tmp_path, conv()), "-o", out, "--target", "rpi4", "--json")
    facts: dict[str, Any] = json.loads(text)
    assert code == 0
    assert (facts["verb"], facts["target"], facts["layout"]) == ("compile", "rpi4", "k8n16")
    assert facts["program"]["bytes"] == out.stat().st_size
    assert facts["macs"] == 3 * 2 * 16
    assert facts["steps"] == len(facts["layers"])
    assert facts["memory"]["arena_bytes"] >= facts["memory"]["arena_lower_bound"]


def test_coded_files_are_smaller_and_run_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out, plain = written(tmp_path, conv()), tmp_path / "m.ez", tmp_path / "plain.ez"
    assert run(capsys, model, "-o", plain)[0] == 0
    code, text, _ = run(capsys, model, "-o", out, "--coded")
    assert code == 0
    assert "entropy-coded" in text
    assert out.stat().st_size < plain.stat().st_size / 2  # the records are mostly zeros
    x, y = read(plain).vectors[0]
    np.testing.assert_array_equal(Session(out).run({"x": x})["y"], y)
    assert json.loads(run(capsys, model, "-o", out, "--coded", "--json")[1])["coded"] is True


def test_real_samples_become_the_bundled_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples, out = np.random.default_rng(0).random((3, 2, 4, 4), np.float32), tmp_path / "m.ez"
    np.save(tmp_path / "samples.npy", samples)
    code, _, _ = run(capsys, written(tmp_path, conv()), "-o", out, "--inputs", tmp_path / "samples.npy", "--vectors", 3)
    assert code == 0
    np.testing.assert_array_equal(np.concatenate([x for x, _ in read(out).vectors]), samples)


def test_two_runs_write_the_same_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = written(tmp_path, conv())
    for name in ("a.ez", "b.ez"):
        assert run(capsys, model, "-o", tmp_path / name)[0] == 0
    assert (tmp_path / "a.ez").read_bytes() == (tmp_path / "b.ez").read_bytes()


def test_free_dimension_is_fixed_by_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = written(tmp_path, conv(), (1, 2, "h", "w")), tmp_path / "m.ez"
    code, _, err = run(capsys, model, "-o", out)
    assert code == 1
    assert "--shape" in err
    assert not out.exists()
    assert run(capsys, model, "-o", out, "--shape", "x=1x2x3x5")[0] == 0
    assert read(out).tensors[read(out).inputs[0]].dims == (1, 2, 3, 5)


def test_unsupported_model_exits_with_five_and_names_all_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        helper.make_node("RandomUniformLike", ["x"], ["a"], name="n"),
        helper.make_node("RandomNormalLike", ["x"], ["b"], name="m"),
        helper.make_node("Add", ["a", "b"], ["y"], name="s"),
    ]
    out = tmp_path / "m.ez"
    code, _, err = run(capsys, written(tmp_path, nodes), "-o", out)
    assert code == 5
    assert "n (RandomUniformLike)" in err
    assert "m (RandomNormalLike)" in err
    assert not out.exists()


REFUSED = {
    "missing model": (["nowhere.onnx", "-o", "out.ez"], 1, "no such model"),
    "missing folder": (["{model}", "-o", "no/such/folder/m.ez"], 1, "folder does not exist"),
    "output is the model": (["{model}", "-o", "{model}"], 2, "ends with .ez"),
    "output of another kind": (["{model}", "-o", "m.bin"], 2, "ends with .ez"),
    "no output": (["{model}"], 2, "output"),
    "unknown target": (["{model}", "-o", "m.ez", "--target", "rpi44"], 2, "rpi4"),
    "unknown form": (["{model}", "-o", "m.ez", "--emit", "exe"], 2, "--emit"),
    "bad shape": (["{model}", "-o", "m.ez", "--shape", "x=1xfoo"], 2, "--shape"),
    "too many vectors": (["{model}", "-o", "m.ez", "--vectors", "65"], 2, "--vectors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_use_is_one_clear_message_and_nothing_written(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = written(tmp_path, conv())
    before = model.read_bytes()
    arguments, expected, words = REFUSED[case]
    code, out, err = run(capsys, *(a.format(model=model) for a in arguments))
    assert code == expected
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx"]
    assert model.read_bytes() == before


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    model = written(tmp_path, conv())
    monkeypatch.setattr("os.fsync", full)
    code, _, err = run(capsys, model, "-o", tmp_path / "m.ez")
    assert code == 1
    assert "m.ez: No space left" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx"]
