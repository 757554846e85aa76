"""run, verify, bench and report as a user calls them: the demo network in float, and in int8 from ONNX Runtime's quantiser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.peers import onnxruntime_quantizer
from edgezip import compilation
from edgezip.cli.main import main
from edgezip.data import DEMO_MODEL, DEMO_SAMPLES
from edgezip.measure import device
from edgezip.measure.onnx_reference import OnnxSession
from edgezip.program import Program, read

QUICK = ["--runs", "20", "--warmup", "1", "--min-time", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x.npz (four pictures), one.npy, int8.onnx and int8.ez (for this machine)."""
    folder = tmp_path_factory.mktemp("verbs")
    samples = np.load(DEMO_SAMPLES)
    images = samples["images"][:4, None].astype(np.float32) / np.float32(255)
    np.savez(folder / "x.npz", image=images)
    np.save(folder / "one.npy", images[:1])
    calibration = ({"image": image[None, None].astype(np.float32) / np.float32(255)} for image in samples["calibration"][:16])
    onnxruntime_quantizer.quantize(DEMO_MODEL, calibration, "minmax", folder / "int8.onnx")
    compilation.compile(str(folder / "int8.onnx"), "host", samples=[{"image": images[:1]}]).save(folder / "int8.ez")
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(item) for item in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_run_gives_the_float_models_answer(call: Any, folder: Path, tmp_path: Path) -> None:
    code, out, _ = call("run", DEMO_MODEL, "--input", f"image={folder / 'one.npy'}", "-o", tmp_path / "out", "--json")
    document = json.loads(out)
    got = np.load(document["outputs"][0]["file"])
    expected = OnnxSession(DEMO_MODEL).run({"image": np.load(folder / "one.npy")})["logits"]
    assert code == 0
    # float32 sums of at most 360 products in two orders, then ten more layers: a few 1e-6 relative
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


def test_verify_compares_with_the_float_model_and_every_path_bit_for_bit(call: Any, folder: Path) -> None:
    code, out, _ = call(
        "verify", folder / "int8.ez", "--against", DEMO_MODEL, "--inputs", folder / "x.npz", "--bitexact", "--per-layer", "--json"
    )  # fmt: skip
    document = json.loads(out)
    assert (code, document["bitexact"], document["samples"], document["top1_agreement"]) == (0, True, 4, 1.0)
    assert document["sqnr_db"] > 20
    assert len(document["layers"]) >= 15
    assert {"portable"} < {path["isa"] for path in document["paths"]}
    assert all(path["samples"] == 4 for path in document["paths"])


def test_verify_of_a_program_without_a_reference_asks_for_one(call: Any, folder: Path) -> None:
    code, _, error = call("verify", folder / "int8.ez")
    assert code == 2
    assert "--against MODEL.onnx, or --bitexact" in error


@pytest.mark.parametrize(("metric", "minimum", "code"), [("sqnr", 10, 0), ("sqnr", 90, 3), ("cos", 0.99, 0), ("top1", 1.01, 3)])
def test_verify_gate_answers_by_exit_code(call: Any, folder: Path, metric: str, minimum: float, code: int) -> None:
    arguments = ("--against", DEMO_MODEL, "--inputs", folder / "x.npz", "--metric", metric, "--min", minimum)
    assert call("verify", folder / "int8.ez", *arguments)[0] == code


def test_verify_fails_when_the_reference_interpreter_disagrees(call: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgezip.measure import bit_exact
    from edgezip.runtime.reference import ReferenceSession

    def with_another_zero_point(program: Program) -> ReferenceSession:
        other = read(program.to_bytes())
        other.steps[3].params["zero_point_mid"] += 1
        return ReferenceSession(other)

    monkeypatch.setattr(bit_exact, "ReferenceSession", with_another_zero_point)
    code, out, error = call("verify", folder / "int8.ez", "--bitexact")
    assert code == 3
    assert "step 3" in out + error


def test_bench_document_is_complete_and_holds_against_itself(call: Any, folder: Path, tmp_path: Path) -> None:
    arguments = (
        "bench",
        folder / "int8.ez",
        "--threads",
        "1,2",
        "--per-layer",
        "--compare",
        "onnxruntime",
        "--against",
        DEMO_MODEL,
    )
    code, out, _ = call(*arguments, *QUICK, "--json")
    document = json.loads(out)
    assert (code, [result["threads"] for result in document["by_threads"]]) == (0, [1, 2])
    assert document["latency_us"]["n"] == 20
    assert document["comparisons"][0]["ratio_p50"] > 0
    assert len(document["environment"]["program_sha256"]) == 64
    assert [layer["op"] for layer in document["layers"]].count("depthwise") == 5
    (tmp_path / "base.json").write_text(out)
    slow = {**document, "latency_us": {**document["latency_us"], "p50": 1.0, "p50_interval": [1.0, 1.0]}}
    (tmp_path / "fast.json").write_text(json.dumps(slow))
    gate = ("bench", folder / "int8.ez", *QUICK, "--fail-if", "p50>+900%", "--baseline")
    assert call(*gate, tmp_path / "base.json")[0] == 0
    code, out, error = call(*gate, tmp_path / "fast.json")
    assert code == 3
    assert "slower than the limit" in error


def test_bench_text_names_the_circumstances(call: Any, folder: Path) -> None:
    code, out, _ = call("bench", folder / "int8.ez", *QUICK)
    assert code == 0
    assert all(word in out for word in ("p50", "p99", "warm-up", "throttled", "governor", "no sensor"))


def test_report_of_bench_documents_is_one_page(call: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(call("bench", folder / "int8.ez", *QUICK, "--per-layer", "--json")[1])
    assert call("report", tmp_path / "a.json", "-o", tmp_path / "r.html")[0] == 0
    assert "block1.depthwise" in (tmp_path / "r.html").read_text()
    code, out, _ = call("report", "--diff", tmp_path / "a.json", tmp_path / "a.json", "--json")
    assert code == 0
    assert {row["ratio"] for row in json.loads(out)["diff"] if row["before"]} == {1.0}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["verify", "absent.ez"], 1),
        (["verify", "int8.ez", "--bitexact", "--metric", "beauty"], 2),
        (["verify", "int8.ez", "--bitexact", "--inputs", "absent"], 1),
        (["run", "int8.ez"], 2),
        (["run", "int8.ez", "--input", "picture=one.npy"], 2),
        (["bench", "int8.ez", "--threads", "0"], 2),
        (["bench", "int8.ez", "--threads", "1.5"], 2),
        (["bench", "int8.ez", "--percentiles", "50,x"], 2),
        (["bench", "int8.ez", "--compare", "onnxruntime"], 2),
        (["bench", "int8.ez", "--compare", "abacus", "--against", "int8.onnx"], 2),
        (["bench", "int8.ez", "--fail-if", "p50>+5%"], 2),
        (["bench", "int8.ez", "--fail-if", "slow"], 2),
        (["bench", "int8.ez", "--host", "a@b", "--emulate"], 2),
        (["bench", "int8.onnx", "--emulate"], 2),
        (["bench", "x.npz"], 5),
        (["report", "int8.onnx", "-o", "r.html"], 2),
        (["report", "absent.json", "-o", "r.html"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_misuse_is_one_message_and_the_right_code(
    call: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.chdir(folder)
    got, out, error = call(*arguments)
    assert (got, out) == (code, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.fixture
def emulator(require_tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """qemu, and the quicker of the two compilers where it is installed (tests/deploy builds with the other)."""
    require_tools("qemu-aarch64")
    if shutil.which("aarch64-linux-gnu-gcc"):
        monkeypatch.setenv("EDGEZIP_COMPILER", "gcc")


@pytest.mark.emulated
@pytest.mark.usefixtures("emulator")
def test_emulated_pi_gives_the_same_bits_and_no_time(call: Any, folder: Path) -> None:
    target = ("--target", "rpi4", "--emulate", "--json")
    code, out, _ = call("verify", folder / "int8.onnx", "--against", DEMO_MODEL, "--inputs", folder / "x.npz", *target)
    document = json.loads(out)
    assert (code, document["bitexact"], document["top1_agreement"], document["isa"]) == (0, True, 1.0, "neon")
    code, out, _ = call("bench", folder / "int8.onnx", *target)
    document = json.loads(out)
    assert (code, document["latency_us"], document["vectors_passed"]) == (0, None, 2)
    assert "emulated" in document["note"]
    code, out, _ = call("run", folder / "int8.onnx", "--input", folder / "one.npy", *target)
    assert json.loads(out)["outputs"][0]["argmax"] == int(np.load(DEMO_SAMPLES)["labels"][0])


@pytest.mark.emulated
@pytest.mark.usefixtures("emulator")
def test_a_program_says_its_target_itself(call: Any, folder: Path) -> None:
    program = folder / "pi.ez"
    assert call("compile", folder / "int8.onnx", "-o", program, "--target", "rpi4", "--coded")[0] == 0
    code, out, _ = call("verify", program, "--bitexact", "--emulate", "--json")
    document = json.loads(out)
    assert (code, document["target"], document["bitexact"]) == (0, "rpi4", True)
    assert [path["isa"].split()[0] for path in document["paths"]][-1] == "neon"
    assert call("bench", program, "--emulate")[0] == 0
    assert call("run", program, "--emulate", "--input", folder / "one.npy")[0] == 0


@pytest.mark.parametrize("verb", [["verify", "--bitexact"], ["bench"], ["run", "--input", "one.npy"], ["deploy"]])
def test_a_program_packed_for_another_target_is_refused(
    call: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    """It would run on portable C there, many times slower, and nobody would know."""
    monkeypatch.chdir(folder)
    code, _, error = call(verb[0], "int8.ez", *verb[1:], "--target", "rpi4", "--emulate")
    assert code == 2
    assert "packed for host" in error
    assert "--target rpi4" in error


def test_a_free_dimension_is_fixed_by_every_verb(call: Any, tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "free",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "free.onnx")
    np.save(tmp_path / "x.npy", np.ones((1, 5), np.float32))
    model = tmp_path / "free.onnx"
    for verb in (["bench", *QUICK], ["verify", "--bitexact"], ["run", "--input", tmp_path / "x.npy"]):
        code, _, error = call(verb[0], model, *verb[1:])
        assert (code, "--shape x=1x224" in error) == (1, True)
        assert call(verb[0], model, *verb[1:], "--shape", "x=1x5")[0] == 0


def test_outputs_of_like_names_get_files_of_their_own(call: Any, tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    names = ["a b", "a_b", "a/b"]
    nodes = [helper.make_node(op, ["x"], [name]) for op, name in zip(("Relu", "Neg", "Abs"), names, strict=True)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", *names)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.array([[-1, 2]], np.float32))
    code, out, _ = call("run", tmp_path / "m.onnx", "--input", tmp_path / "x.npy", "-o", tmp_path / "out", "--json")
    assert code == 0
    held = {row["name"]: np.load(row["file"]).tolist() for row in json.loads(out)["outputs"]}
    assert held == {"a b": [[0, 2]], "a_b": [[1, -2]], "a/b": [[1, 2]]}


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "int8.ez", "--against", str(DEMO_MODEL), "--inputs", "x.npz", "--min", "1.5", "--json"],
        ["bench", "int8.ez", *QUICK, "--fail-if", "p50>0.001us", "--json"],
    ],
)
def test_a_failed_gate_is_one_json_object_and_exit_code_3(
    call: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(folder)
    code, out, error = call(*arguments)
    assert code == 3
    assert json.loads(out)["verb"] == arguments[0]
    assert error.startswith("error: ")


@pytest.mark.emulated
@pytest.mark.usefixtures("emulator")
def test_a_device_with_another_answer_is_caught(call: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send = device.Device._send

    def damaged(self: device.Device, name: str, data: bytes) -> None:
        flipped = name.startswith("IN_")
        send(self, name, bytes([data[0] ^ 0x7F, *data[1:3], data[3] ^ 0x40]) + data[4:] if flipped else data)

    monkeypatch.setattr(device.Device, "_send", damaged)
    arguments = ("--inputs", folder / "x.npz", "--target", "rpi4", "--emulate")
    code, _, error = call("verify", folder / "int8.onnx", "--against", DEMO_MODEL, *arguments)
    assert code == 3
    assert "bytes differ" in error


def test_a_model_without_inputs_is_run_verified_and_timed(call: Any, tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    held = [helper.make_tensor(n, TensorProto.INT64, [], [v]) for n, v in (("from", 3), ("to", 9), ("by", 2))]
    node, y = helper.make_node("Range", ["from", "to", "by"], ["y"]), helper.make_tensor_value_info("y", TensorProto.INT64, None)
    save(
        helper.make_model(helper.make_graph([node], "g", [], [y], held), opset_imports=[helper.make_opsetid("", 17)]),
        tmp_path / "c.onnx",
    )
    code, out, _ = call("run", tmp_path / "c.onnx", "-o", tmp_path, "--json")
    assert (code, json.loads(out)["outputs"][0]["max"]) == (0, 7)
    assert np.load(tmp_path / "y.npy").tolist() == [3, 5, 7]
    code, out, _ = call("verify", tmp_path / "c.onnx", "--bitexact", "--json")
    assert (code, json.loads(out)["bitexact"]) == (0, True)
    assert call("bench", tmp_path / "c.onnx", "--runs", 5, "--min-time", 0)[0] == 0


def test_energy_is_of_a_sensor_of_a_meter_or_unknown(call: Any, folder: Path, tmp_path: Path) -> None:
    """Twenty runs in ten seconds at 5 W, between ten idle seconds at 2 W each."""
    rows = [(k / 10, "run" if 100 <= k <= 200 else "idle") for k in range(301)]
    lines = [f"{moment},{5 if mark == 'run' else 2},{mark}" for moment, mark in rows]
    (tmp_path / "meter.csv").write_text("\n".join(["time_s,watts,mark", *lines]))
    code, out, _ = call("bench", folder / "int8.ez", *QUICK, "--power", f"meter:{tmp_path}/meter.csv", "--json")
    drawn = json.loads(out)
    assert (code, drawn["power_source"], drawn["power_w"]) == (0, "meter meter.csv", pytest.approx(5))
    assert drawn["energy_mj"] == pytest.approx(5 * 10 / drawn["latency_us"]["n"] * 1e3)
    assert drawn["energy"]["net_mj"] == pytest.approx(3 * 10 / drawn["latency_us"]["n"] * 1e3)
    code, out, _ = call("bench", folder / "int8.ez", *QUICK, "--power", f"meter:{tmp_path}/meter.csv")
    assert "mJ above idle" in out
    code, _, err = call("bench", folder / "int8.ez", *QUICK, "--power", "crystal ball")
    assert (code, "rapl" in err) == (2, True)
    code, out, _ = call("bench", folder / "int8.ez", *QUICK, "--json")
    assert (json.loads(out)["energy_mj"], json.loads(out)["power_source"]) == (None, "no sensor")
