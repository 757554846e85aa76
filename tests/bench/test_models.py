"""The side-by-side measurement: kits, workers, absent and failing peers, ratios, merged results."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import kit, models, protocol, ratios
from bench.peers import PEERS, candidates, client, environments
from bench.peers.row import FLOAT32, INT8, Row
from bench.peers.worker import norm_error
from bench.quiet import Quiet
from bench.zoo import load_task
from edgezip.errors import UsageError

ONLY_ONNXRUNTIME = [*candidates.ours([]), *candidates.peers(["onnxruntime"])]


@pytest.fixture(scope="module")
def small_kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kits")
    folder = kit.make(load_task("ds_cnn"), root, root)
    kit.pack_ours(folder)
    return folder


def measured(folder: Path, found: list[client.Candidate]) -> dict[str, Any]:
    arguments = models.parser().parse_args(["--rounds", "2", "--seconds", "0.002"])
    return models.measure(folder, found, 1, arguments)


def test_every_candidate_answers_right_and_is_timed(small_kit: Path) -> None:
    result = measured(small_kit, ONLY_ONNXRUNTIME)
    rows = result["candidates"]
    assert set(rows) == {
        "edgezip int8", "edgezip float32", "onnxruntime float32", "onnxruntime int8 u8s8", "onnxruntime int8 s8s8",
    }  # fmt: skip
    assert all(0 < row["least_us"] <= row["median_us"] and row["samples"] >= 6 for row in rows.values())
    # float32 sums of at most 576 products; int8 on a network whose activations span some 8 deviations
    assert all(row["norm_error"] < 1e-5 for row in rows.values() if row["precision"] == FLOAT32)
    assert rows["edgezip int8"]["norm_error"] < 0.15
    assert all(row["norm_error"] < 0.3 for row in rows.values())  # a peer's sums of pairs saturate without VNNI
    assert {item["against"] for item in result["ratios"]} == {"best int8 peer", "best float32 peer", "our float32"}
    assert "edgezip int8" in models.table([result])


def test_a_peer_without_its_environment_is_listed_as_not_installed(
    small_kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    rows = measured(small_kit, candidates.peers(["litert"]))["candidates"]
    assert {row["failure"] for row in rows.values()} == {"not installed"}
    assert dict(environments.states())["litert"] == "not installed"
    assert dict(environments.states())["onnxruntime"] == "installed"


def test_a_peer_that_fails_is_a_row_with_its_last_words(small_kit: Path) -> None:
    broken = small_kit.parent / "broken"
    broken.mkdir()
    for name in ("feed.npz", "reference.npz"):
        (broken / name).write_bytes((small_kit / name).read_bytes())
    (broken / "float.onnx").write_bytes(b"not a model")
    rows = measured(broken, [candidates.peers(["onnxruntime"])[0]])["candidates"]
    assert "exit 1" in rows["onnxruntime float32"]["failure"]


def test_a_wrong_answer_is_no_figure(small_kit: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wrong"
    folder.mkdir()
    for name in ("feed.npz", "float.onnx"):
        (folder / name).write_bytes((small_kit / name).read_bytes())
    reference = dict(np.load(small_kit / "reference.npz"))
    np.savez(folder / "reference.npz", **{name: -array for name, array in reference.items()})
    result = measured(folder, [candidates.peers(["onnxruntime"])[0]])
    assert "off by 2.00" in result["candidates"]["onnxruntime float32"]["failure"]
    assert ratios.best(result["candidates"], FLOAT32, "") is None


@pytest.mark.parametrize("name", [*PEERS, "edgezip"])
def test_a_peer_module_keeps_the_contract_and_loads_without_its_runtime(name: str) -> None:
    peer = environments.peer(name)
    assert peer.ROWS or peer.OPERATOR_ROWS
    assert all(row.precision in (INT8, FLOAT32) for row in (*peer.ROWS, *peer.OPERATOR_ROWS))
    assert callable(peer.load)
    assert callable(peer.convert)
    assert bool(peer.ENVIRONMENT) == bool(peer.REQUIREMENTS)
    assert (Path(environments.__file__).parent / f"{name}.py").exists()


def test_an_unknown_peer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="litert"):
        environments.peer("tflite")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="CPUID is of x86")
def test_a_held_process_does_not_see_newer_instructions(tmp_path: Path) -> None:
    library = candidates.build_holder(tmp_path)
    command = [sys.executable, "-c", "from edgezip.runtime.session import isas; print([n for n, here in isas() if here])"]
    held = {"LD_PRELOAD": str(library), "EDGEZIP_HOLD": "avx2", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=held, capture_output=True, text=True, check=False)
    if done.returncode == 97:
        assert "cannot hold" in done.stderr  # no CPUID faulting here: refused, never measured unheld
        return
    assert eval(done.stdout) == ["avx2", "portable"]
    wrong = subprocess.run(command, env={**held, "EDGEZIP_HOLD": "sse9"}, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (97, "")


def test_the_error_is_the_worst_output_against_the_reference_of_its_size() -> None:
    reference = [np.ones(4), np.full(2, 2.0)]
    assert norm_error([np.full(2, 2.0), np.full(4, 1.5)], reference) == 0.5
    with pytest.raises(ValueError, match="no output has 2"):
        norm_error([np.ones(4)], reference)


def row(peer: str, precision: str, median: float) -> dict[str, Any]:
    return {"peer": peer, "precision": precision, "median_us": median, "least_us": median / 2}


def test_ratios_compare_within_a_level_and_leave_failures_out() -> None:
    rows = {
        "edgezip int8": row("edgezip", INT8, 10),
        "edgezip int8 avx2": row("edgezip", INT8, 20),
        "a int8": row("a", INT8, 15),
        "a int8 avx2": row("a", INT8, 60),
        "b int8": {**row("b", INT8, 5), "failure": "its answer is off"},
        "a float32": row("a", FLOAT32, 40),
    }
    found = {(item["ours"], item["against"]): (item["peer"], item["median"]) for item in ratios.of(rows)}
    assert found == {
        ("edgezip int8", "best int8 peer"): ("a int8", 1.5),
        ("edgezip int8", "best float32 peer"): ("a float32", 4.0),
        ("edgezip int8 avx2", "best int8 peer"): ("a int8 avx2", 3.0),
    }
    results = [{"task": name, "threads": 1, "ratios": ratios.of(rows)} for name in ("x", "y")]
    assert ratios.geomeans(results)[0] | {"tasks": 2, "median": 1.5} == ratios.geomeans(results)[0]
    assert ratios.geomean([2.0, 8.0]) == pytest.approx(4.0)


def test_a_result_measured_again_replaces_the_older_one_only(tmp_path: Path) -> None:
    for task, value in (("a", 1), ("b", 2), ("a", 3)):
        path = protocol.merge("models", {"task": task, "threads": 1, "value": value}, ("task", "threads"), tmp_path)
    saved = json.loads(path.read_text())
    assert [(item["task"], item["value"]) for item in saved["results"]] == [("b", 2), ("a", 3)]
    assert saved["versions"]["onnxruntime"]


def test_a_moment_of_quiet_pins_and_locks(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        quiet = Quiet(cores=(0,), lock=tmp_path / "lock")
        quiet.settle(process.pid, 1)
        with quiet.moment([process.pid]):
            assert (tmp_path / "lock").exists()
        assert Path(f"/proc/{process.pid}/status").read_text().split("Cpus_allowed_list:")[1].split()[0] == "0"
    finally:
        process.kill()
        process.wait()


def test_rows_have_one_name_each() -> None:
    labels = [row.label for name in (*PEERS, "edgezip") for row in environments.peer(name).ROWS]
    assert len(set(labels)) == len(labels)
    assert isinstance(environments.peer("litert").ROWS[0], Row)
