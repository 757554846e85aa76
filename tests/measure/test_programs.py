"""Measuring real programs: the demo network compiled in float and in int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgezip import compilation, compression
from edgezip.data import DEMO_MODEL, DEMO_SAMPLES
from edgezip.measure import bench_here, bit_exact, layers, step_cost
from edgezip.measure.onnx_reference import OnnxSession
from edgezip.measure.protocol import Protocol
from edgezip.program import Program, read
from edgezip.runtime.reference import ReferenceSession

QUICK = Protocol(warmup_runs=1, warmup_s=0, runs=5, min_time_s=0)


def pictures(count: int) -> list[dict[str, np.ndarray[Any, Any]]]:
    images = np.load(DEMO_SAMPLES)["images"][:count]
    return [{"image": image[None, None].astype(np.float32) / np.float32(255)} for image in images]


@pytest.fixture(scope="module")
def program() -> Program:
    return compilation.compile(str(DEMO_MODEL), "host", vectors=0)


def test_multiplications_of_the_steps_are_those_of_the_network(program: Program) -> None:
    conv = 28 * 28 * 16 * 9
    widths = [(16, 48, 24, 28, 14), (24, 72, 24, 14, 14), (24, 72, 40, 14, 7), (40, 120, 40, 7, 7), (40, 120, 40, 7, 7)]
    blocks = sum(h * h * cin * mid + g * g * (9 * mid + mid * cout) for cin, mid, cout, h, g in widths)
    head = 7 * 7 * 40 * 160 + 160 * 10
    assert sum(step_cost.macs(program, step) for step in program.steps) == conv + blocks + head


def test_planned_memory_holds_program_arena_and_edges(program: Program) -> None:
    size = len(program.to_bytes())
    assert step_cost.planned_memory_bytes(program, size) == size + program.arena_bytes + program.scratch_bytes + 4 * (784 + 10)


def test_every_path_of_this_processor_equals_the_reference(program: Program) -> None:
    checks = bit_exact.check_paths(program, pictures(2))
    assert len(checks) >= 2, "portable C and at least one vector path"
    assert [check.first_difference for check in checks] == [""] * len(checks)
    assert {(check.samples, check.steps) for check in checks} == {(2, 2 * len(program.steps))}


def test_a_path_names_the_kernels_that_really_ran() -> None:
    small = compression.compress(str(DEMO_MODEL), calibration=pictures(4)).model
    # no x86 product reads the layout of the Raspberry Pi 4: convolutions run in portable C here, whatever path is asked for
    checks = bit_exact.check_paths(compilation.compile(small, "rpi4", vectors=0), pictures(1))
    assert [check.first_difference for check in checks] == [""] * len(checks)
    assert all("portable" in check.kernels for check in checks)


def test_one_changed_weight_is_found_and_its_step_named(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    other = read(program.to_bytes())
    step = next(step for step in other.steps if "block3.project" in step.name)
    offset = other.tensors[step.inputs[1]].offset
    changed = bytearray(other.weights)
    changed[offset + 2] ^= 0x40
    other.weights = bytes(changed)
    monkeypatch.setattr(bit_exact, "ReferenceSession", lambda _: ReferenceSession(other))
    checks = bit_exact.check_paths(program, pictures(1))
    assert all("block3.project" in check.first_difference for check in checks)


def test_bench_gives_every_promised_figure_and_the_rival_beside(program: Program) -> None:
    rival = OnnxSession(DEMO_MODEL)
    found = bench_here.bench(program, pictures(1)[0], 1, plan=QUICK, rivals={"peer": rival.run}, per_layer=True)
    assert found["latency_us"]["n"] == 5
    assert found["comparisons"][0]["ratio_p50"] > 0
    assert [layer["name"] for layer in found["layers"]] == [step.name for step in program.steps]
    assert all(layer["us"] >= 0 and layer["kernel"] for layer in found["layers"])
    assert (found["energy_mj"], found["power_source"]) == (None, "no sensor")


def test_layers_of_a_float_program_agree_with_the_float_model(program: Program) -> None:
    found = layers.compare_layers(program, DEMO_MODEL, pictures(2))
    assert len(found) >= 15
    # float32 sums of at most 360 products in another order: relative errors of about 1e-6, 120 dB; 90 leaves room
    assert found[0]["sqnr_db"] > 90
    assert found == sorted(found, key=lambda layer: layer["sqnr_db"])


def test_exposed_inner_values_come_with_the_outputs(tmp_path: Path) -> None:
    session = OnnxSession(DEMO_MODEL, expose={"stem_out", "no such value"})
    assert set(session.run(pictures(1)[0])) == {"stem_out", "logits"}
