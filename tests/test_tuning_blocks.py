"""Where skipping blocks begins to pay on a device: the line through two shares, what is kept of it, and what it decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgezip import tuning_blocks
from edgezip.program import BLOCKS, Program
from edgezip.target import BreakEven, Measured, load_target, measured_path, write_measured

TARGET = load_target("x86-64")


@pytest.fixture(scope="module")
def probes() -> list[Program]:
    return tuning_blocks.probes(TARGET)


def test_probes_differ_in_their_blocks_alone(probes: list[Program]) -> None:
    forms = [{t.form for t in p.tensors if t.name.endswith(".weights")} for p in probes]
    assert forms == [{0}, {BLOCKS}, {BLOCKS}]
    for program, share in zip(probes[1:], tuning_blocks.SHARES, strict=True):
        told = [step["blocks"] for step in program.metadata["steps"] if "blocks" in step]
        assert len(told) == sum(map(len, tuning_blocks.LAYERS.values()))
        assert all(entry["kept"] == pytest.approx(share, abs=0.03) and "avx2" in entry["skipped_on"] for entry in told)


@pytest.mark.parametrize(("overhead", "slope", "want"), [(0.1, 1.0, 0.9), (0.1, 1.5, 0.6), (0.0, 0.5, 1.0), (1.2, 1.0, 0.0)])
def test_table_of_a_made_up_machine(probes: list[Program], overhead: float, slope: float, want: float) -> None:
    def step_times(program: Program, threads: int) -> list[float]:
        assert threads == 1
        share = dict(zip(map(id, probes), (None, *tuning_blocks.SHARES), strict=True))[id(program)]
        return [100.0 if share is None else 100 * (overhead + slope * share) for _ in program.steps]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning_blocks, "probes", lambda target: probes)
        even = tuning_blocks.measure(TARGET, step_times)
    expected = min(want * tuning_blocks.MARGIN, 1) if slope > 0.5 else 1.0
    assert even == BreakEven(rows=expected, few_rows=expected, winograd=expected)


def test_share_that_does_not_matter_is_no_gain() -> None:
    assert tuning_blocks.break_even(100, [50, 50]) == 0


def test_measured_table_replaces_that_of_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    even = BreakEven(rows=0.33, few_rows=0.2, winograd=0.1)
    write_measured(Measured(target="rpi4", cost=load_target("rpi4").cost, sparse=even), measured_path("rpi4"))
    assert load_target("rpi4").sparse == dict.fromkeys(load_target("rpi4").isa, even)
    write_measured(Measured(target="rpi4", cost=load_target("rpi4").cost), measured_path("rpi4"))
    assert load_target("rpi4").sparse["neon"].rows != 0.33
