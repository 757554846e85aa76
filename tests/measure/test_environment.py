"""Reading of /proc and /sys, on invented trees and on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgezip.measure import environment


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_a_board_is_named_by_its_model_line(tmp_path: Path) -> None:
    write(
        tmp_path, "cpuinfo", "processor\t: 0\nBogoMIPS\t: 108.00\n\nRevision : c03111\nModel\t: Raspberry Pi 4 Model B Rev 1.1\n"
    )
    assert environment.cpu_name(tmp_path) == "Raspberry Pi 4 Model B Rev 1.1"


def test_clock_and_governor_come_from_cpufreq(tmp_path: Path) -> None:
    write(tmp_path, "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1500000\n")
    write(tmp_path, "devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n")
    described = environment.describe(tmp_path / "none", tmp_path)
    assert (described["clock_mhz"], described["governor"]) == (1500.0, "ondemand")


def test_temperature_is_that_of_the_warmest_zone(tmp_path: Path) -> None:
    write(tmp_path, "class/thermal/thermal_zone0/temp", "48312\n")
    write(tmp_path, "class/thermal/thermal_zone1/temp", "61000\n")
    assert environment.temperature_c(tmp_path) == 61.0


def test_what_cannot_be_read_is_null(tmp_path: Path) -> None:
    described = environment.describe(tmp_path, tmp_path)
    assert (described["governor"], described["temperature_c"], described["clock_mhz"], described["load_1min"]) == (None,) * 4
    assert environment.ThrottleWatch(tmp_path).throttled() is None


@pytest.mark.parametrize(("events", "throttled"), [("7", False), ("9", True)])
def test_throttling_is_a_counter_that_rose(tmp_path: Path, events: str, throttled: bool) -> None:
    counter = "devices/system/cpu/cpu1/thermal_throttle/core_throttle_count"
    write(tmp_path, counter, "7\n")
    watch = environment.ThrottleWatch(tmp_path)
    write(tmp_path, counter, events)
    assert watch.throttled() is throttled


def test_this_machine_has_a_processor_and_a_load() -> None:
    described = environment.describe()
    assert described["cpu"]
    assert described["load_1min"] >= 0
