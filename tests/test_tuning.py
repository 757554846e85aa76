"""Cost coefficients: how they are fitted, where they are kept, and what they decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgezip import compilation, tuning
from edgezip.cli.main import main
from edgezip.data import DEMO_MODEL
from edgezip.errors import TargetError
from edgezip.measure import step_cost
from edgezip.program import Op, Program, read
from edgezip.target import Cost, Measured, load_target, measured_path, write_measured

COST = Cost(
    s8_gmacs=7.0,
    f32_gmacs=3.0,
    depthwise_s8_gmacs=2.0,
    stream_gbs=1.5,
    overhead_us=4.0,
    solo_us=33,
    two_threads=1.8,
    source="a test",
)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def probes() -> tuple[Program, Program]:
    return tuning.probes(load_target("host"))


# --- fitting ----------------------------------------------------------------------------------------------------------


def machine(program: Program, s8: float, depthwise: float, stream: float, elementwise: float) -> list[float]:
    """Microseconds of each step on a machine of these rates."""
    times = []
    for step in program.steps:
        work, size = step_cost.macs(program, step), step_cost.bytes_moved(program, step)
        if step.name.startswith("stream"):
            times.append(size / stream / 1e3)
        elif step.name.startswith("elementwise"):
            times.append(size / elementwise / 1e3)
        elif step.op is Op.DEPTHWISE:
            times.append(work / depthwise / 1e3)
        else:
            times.append(work / s8 / 1e3 if step.op is Op.CONV and not step.name.startswith("tiny") else 2.0)
    return times


def test_the_rates_of_a_machine_are_found_again(probes: tuple[Program, Program]) -> None:
    s8, f32 = probes

    def step_times(program: Program, threads: int) -> list[float]:
        times = machine(program, 8.0, 3.0, 2.0, 5.0) if program is s8 else machine(program, 4.0, 1.0, 2.0, 5.0)
        return [us / threads + 5 * (threads - 1) for us in times]

    found = tuning.fit(s8, step_times(s8, 1)) | tuning.fit(f32, step_times(f32, 1))
    assert found == {
        "s8_gmacs": 8.0, "f32_gmacs": 4.0, "depthwise_s8_gmacs": 3.0, "depthwise_f32_gmacs": 1.0, "stream_gbs": 2.0,
        "elementwise_gbs": 5.0, "overhead_us": 2.0,
    }  # fmt: skip
    threads = tuning.fit_threads(step_times(s8, 1), step_times(s8, 2))
    assert threads["two_threads"] == pytest.approx(2.0, abs=0.1)
    shared = [us for us in step_times(s8, 1) if us >= threads["solo_us"]]
    assert shared
    assert min(shared) >= 10  # sharing costs 5 us: half of a step must be more than that
    assert all(us < 10 or us in shared for us in step_times(s8, 1))


def test_times_that_a_clock_cannot_resolve_still_make_a_valid_profile(probes: tuple[Program, Program]) -> None:
    for program in probes:
        Cost(**(COST.model_dump() | tuning.fit(program, [0.0] * len(program.steps))))


def test_a_machine_that_gains_nothing_by_threads_never_shares() -> None:
    assert tuning.fit_threads([100.0, 50.0, 1.0], [120.0, 60.0, 9.0]) == {"two_threads": 0.833, "solo_us": 1_000_000}


def test_the_probes_hold_every_kind_of_step_and_are_always_the_same(probes: tuple[Program, Program]) -> None:
    s8, f32 = probes
    for program in probes:
        kinds = {tuning._kind(step.name, step.op) for step in program.steps}
        assert {"product", "depthwise", "tiny", "elementwise"} <= kinds
    assert any(step.name == "stream0" for step in s8.steps)
    again = tuning.probes(load_target("host"))
    assert [p.to_bytes() for p in again] == [s8.to_bytes(), f32.to_bytes()]


# --- the user's file ----------------------------------------------------------------------------------------------------


def test_measured_coefficients_replace_those_of_the_profile(config: Path) -> None:
    before = load_target("pi4").cost
    write_measured(Measured(target="rpi4", cost=COST), measured_path("rpi4"))
    assert load_target("pi4").cost == load_target("rpi4").cost == COST
    assert load_target("rpi5").cost != COST
    measured_path("rpi4").unlink()
    assert load_target("rpi4").cost == before
    assert str(measured_path("rpi4")).startswith(str(config))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("target = 'rpi4'\n[cost]\ns8_gmacs = 1.0\n", "f32_gmacs"),
        ("nonsense", "invalid"),
        ("target = 'rpi5'\n[cost]\ns8_gmacs=1.0\nf32_gmacs=1.0\nstream_gbs=1.0\noverhead_us=1.0\nsource='x'\n", "another target"),
        (
            "target = 'rpi4'\n[cost]\ns8_gmacs=-1.0\nf32_gmacs=1.0\nstream_gbs=1.0\noverhead_us=1.0\nsource='x'\n",
            "greater than 0",
        ),
        ("target = 'rpi4'\n[cost]\ns8_gmacs=nan\nf32_gmacs=1.0\nstream_gbs=1.0\noverhead_us=1.0\nsource='x'\n", "s8_gmacs"),
        ("target = 'rpi4'\n[cost]\ns8_gmacs=1.0\nf32_gmacs=1.0\nstream_gbs=1.0\noverhead_us=1.0\nsource=''\n", "source"),
        (
            "target = 'rpi4'\nname = 'x'\n[cost]\ns8_gmacs=1.0\nf32_gmacs=1.0\nstream_gbs=1.0\noverhead_us=1.0\nsource='x'\n",
            "name",
        ),
    ],
)
def test_a_damaged_file_is_refused_by_name(config: Path, text: str, what: str) -> None:
    path = measured_path("rpi4")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(TargetError, match=what) as caught:
        load_target("rpi4")
    assert str(path) in str(caught.value.where)


def test_the_threshold_of_sharing_goes_into_the_program(config: Path, tmp_path: Path) -> None:
    model = compilation.compile(str(DEMO_MODEL), "host", vectors=0)
    assert (model.solo_us, model.spin_us) == (0, 0)
    write_measured(Measured(target="host", cost=COST), measured_path("host"))
    model = compilation.compile(str(DEMO_MODEL), "host", vectors=0)
    model.save(tmp_path / "m.ez")
    assert (model.solo_us, read(tmp_path / "m.ez").solo_us) == (33, 33)


# --- the verb -----------------------------------------------------------------------------------------------------------


def calibrate(capsys: Any, *arguments: str) -> dict[str, Any]:
    assert main(["targets", "calibrate", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_this_machine_is_measured_and_the_next_load_knows(config: Path, capsys: Any) -> None:
    facts = calibrate(capsys)
    assert facts["path"] == str(measured_path("host"))
    cost = load_target("host").cost
    assert cost.model_dump() == facts["after"]
    assert "measured on" in cost.source
    rates = [key for key in facts["after"] if key.endswith(("_gmacs", "_gbs")) and key != "stream_all_gbs"]
    assert len(rates) == 6
    assert all(facts["after"][key] for key in [*rates, "overhead_us"])
    assert all(step["us"] >= 0 for step in facts["steps"])


@pytest.mark.emulated
def test_an_emulated_device_goes_the_whole_way_and_says_what_its_figures_are(
    config: Path, tmp_path: Path, capsys: Any, require_tools: Any
) -> None:
    require_tools("qemu-aarch64")
    facts = calibrate(capsys, "--target", "rpi4", "--emulate", "--output", str(tmp_path / "x.toml"))
    assert facts["path"] == str(tmp_path / "x.toml")
    assert not measured_path("rpi4").exists()
    assert "mean nothing" in facts["after"]["source"]
    assert {step["form"] for step in facts["steps"]} == {"int8", "float32"}
    assert (tmp_path / "x.toml").read_text().startswith('target = "rpi4"')


@pytest.mark.parametrize(
    "arguments", [("--target", "rpi4"), ("--emulate",), ("--host", "a@b"), ("--target", "rpi4", "--host", "a@b", "--emulate")]
)
def test_a_device_that_is_nowhere_is_refused(arguments: tuple[str, ...]) -> None:
    assert main(["targets", "calibrate", *arguments]) == 2
