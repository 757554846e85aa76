"""Predicted times of a program's steps."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edgezip.cli import prediction
from edgezip.cli.main import main
from edgezip.measure import step_cost
from edgezip.program import DType, Op
from edgezip.target import Cost, load_target

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
from small_program import small_program

COST = Cost(
    s8_gmacs=10.0,
    f32_gmacs=4.0,
    depthwise_s8_gmacs=2.0,
    elementwise_gbs=8.0,
    stream_gbs=1e6,
    overhead_us=3.0,
    source="a test",
)


def test_each_kind_of_step_has_its_own_rate() -> None:
    program = small_program(channels=64)
    target = load_target("host").model_copy(update={"cost": COST})
    times = dict(zip((step.op.name for step in program.steps), prediction.step_times(program, target), strict=True))
    macs = {step.op.name: step_cost.macs(program, step) for step in program.steps}
    assert times["CONV"] == pytest.approx(macs["CONV"] / 10e3 + 3, abs=0.01)
    assert times["DEPTHWISE"] == pytest.approx(macs["DEPTHWISE"] / 2e3 + 3, abs=0.01)
    for step, time in zip(program.steps, prediction.step_times(program, target), strict=True):
        if step.op is Op.MATMUL:
            rate = 4e3 if program.tensors[step.inputs[0]].dtype is DType.F32 else 10e3
            assert time == pytest.approx(step_cost.macs(program, step) / rate + 3, abs=0.01)
    prelu = 2 * 6 * 6 * 64  # read and written; the step is in place, so its one tensor counts once
    assert times["PRELU"] == pytest.approx(prelu / 2 / 8e3 + 3, abs=0.01)


def test_bench_shows_prediction_and_measurement_side_by_side(tmp_path: Path, capsys: Any) -> None:
    program = small_program()
    program.metadata["target"] = "host"
    program.save(tmp_path / "p.ez")
    assert main(["bench", str(tmp_path / "p.ez"), "--per-layer", "--runs", "5", "--min-time", "0", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["predicted_us"] == pytest.approx(sum(layer["predicted_us"] for layer in facts["layers"]), abs=0.1)
    assert facts["predicted_source"] == load_target("host").cost.source
