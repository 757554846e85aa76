"""The commands behind the README's figures, on the task that needs no download."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import bench.zoo.__main__ as zoo
from bench import agreement, footprint
from bench.peers import onnxruntime_quantizer
from bench.zoo import load_task


@pytest.fixture(autouse=True)
def one_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_quantizer, "METHODS", ("minmax",))


def test_int8_stays_within_one_point_and_not_below_the_peer(tmp_path: Path) -> None:
    row = agreement.agreement_row(load_task("demo"), tmp_path)
    assert (row["samples"], row["within_one_point"], row["sqnr_not_below_peer"]) == (400, True, True)
    assert row["float_pct"] > 90
    assert sum(row["edgezip"]["paired"][key] for key in ("worse", "better", "same")) == 400
    assert "demo" in agreement.table([row])


@pytest.mark.parametrize(("drop", "sqnr", "kept"), [(1.0, 20.0, (True, True)), (1.01, 19.9, (False, False))])
def test_a_broken_promise_is_caught(drop: float, sqnr: float, kept: tuple[bool, bool]) -> None:
    row = {"edgezip": {"drop_points": drop, "sqnr_db": sqnr}, "onnxruntime": {"a": {"sqnr_db": 20.0}, "b": {"failed": "x"}}}
    assert tuple(agreement.gates(row).values()) == kept


def test_a_peer_that_fails_is_a_row_and_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no histogram")

    monkeypatch.setattr(onnxruntime_quantizer, "quantize", fail)
    assert "no histogram" in agreement.agreement_row(load_task("demo"), tmp_path)["onnxruntime"]["minmax"]["failed"]


def test_zoo_scores_a_candidate_with_our_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["zoo", "score", "demo", "--work", str(tmp_path), "--runner", "edgezip"])
    assert zoo.main() == 0
    row = json.loads(capsys.readouterr().out)
    # the float model in our runtime: the same answers up to float32 rounding (over 100 dB)
    assert (row["candidate_pct"], row["paired"]["same"]) == (row["float_pct"], 400)
    assert row["sqnr_db"] > 100


def test_an_empty_call_takes_microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "BATCHES", 3)
    found = footprint.empty_call_us()
    # the goal is 2 us in a quiet process; here other tests share the core
    assert 0 < found["empty_call_us_min"] <= found["empty_call_us_p50"] < 100
