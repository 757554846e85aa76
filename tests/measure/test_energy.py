"""Sensors on recorded trees, and energy from their samples: wrong names, missing files, wraps, signs, NaN, too few samples."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgezip.deploy.transports import Reply
from edgezip.deploy.transports.local import LocalTransport
from edgezip.errors import DeviceError, MissingFileError, SampleError, UsageError
from edgezip.measure import energy, sensors
from edgezip.measure.energy import Sampler, Trace, Window
from edgezip.measure.sensors.access import DeviceAccess, LocalAccess

HWMON = "sys/class/hwmon"
RAPL = "sys/class/powercap"
BATTERY = "sys/class/power_supply/battery"


def tree(root: Path, files: dict[str, str]) -> LocalAccess:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return LocalAccess(root, {})


INA226 = {f"{HWMON}/hwmon0/name": "cpu_thermal", f"{HWMON}/hwmon3/name": "ina226", f"{HWMON}/hwmon3/power1_input": "3250000"}
INA219 = {f"{HWMON}/hwmon1/name": "ina219", f"{HWMON}/hwmon1/in1_input": "5040", f"{HWMON}/hwmon1/curr1_input": "600"}
JETSON = {
    f"{HWMON}/hwmon2/name": "ina3221",
    **{f"{HWMON}/hwmon2/in{k}_label": label for k, label in ((1, "POM_5V_IN"), (2, "POM_5V_GPU"), (3, "POM_5V_CPU"))},
    **{f"{HWMON}/hwmon2/in{k}_input": "5000" for k in (1, 2, 3)},
    **{f"{HWMON}/hwmon2/curr{k}_input": str(amps) for k, amps in ((1, 1400), (2, 40), (3, 500))},
}
PHONE = {f"{BATTERY}/status": "Discharging", f"{BATTERY}/current_now": "-412000", f"{BATTERY}/voltage_now": "3987000"}
PACKAGE = {
    f"{RAPL}/intel-rapl:0/name": "package-0",
    f"{RAPL}/intel-rapl:0/energy_uj": "262143000000",
    f"{RAPL}/intel-rapl:0/max_energy_range_uj": "262143328850",
    f"{RAPL}/intel-rapl:0:0/name": "core",
    f"{RAPL}/intel-rapl:0:0/energy_uj": "5",
}
PI5 = """   3V7_WL_SW_A current(0)=0.09759400A
 VDD_CORE_A current(7)=1.59862000A
 3V7_WL_SW_V volt(8)=3.69872000V
 VDD_CORE_V volt(15)=0.86218000V
 EXT5V_V volt(24)=5.15640000V
"""


@pytest.mark.parametrize(
    ("files", "name", "source", "watts"),
    [
        (INA226, "hwmon", "ina226 (hwmon3)", 3.25),
        (INA219, "hwmon", "ina219 (hwmon1)", 3.024),
        (JETSON, "ina3221", "ina3221, POM_5V_IN", 7.0),
        ({k: v for k, v in JETSON.items() if "label" not in k}, "ina3221", "ina3221, channel 1 + channel 2 + channel 3", 9.7),
        (PHONE, "battery", "battery", 1.642644),
    ],
)
def test_a_power_sensor_reads_its_recorded_tree(
    tmp_path: Path, files: dict[str, str], name: str, source: str, watts: float
) -> None:
    for wanted in (name, "auto"):
        sensor = sensors.load(wanted, tree(tmp_path, files))
        assert sensor is not None
        assert (sensor.source, sensor.kind) == (source, "power")
        assert sensor.read() == pytest.approx(watts)


def test_rapl_counts_on_when_its_counter_wraps(tmp_path: Path) -> None:
    access = tree(tmp_path, PACKAGE)
    sensor = sensors.load("rapl", access)
    assert sensor is not None
    assert (sensor.source, sensor.kind, sensor.read()) == ("RAPL, package-0", "energy", 0.0)
    for counter, joules in (("262143328000", 0.328), ("171150", 0.5), ("1171150", 1.5)):
        (tmp_path / f"{RAPL}/intel-rapl:0/energy_uj").write_text(counter)
        assert sensor.read() == pytest.approx(joules, abs=1e-6)


def test_rapl_takes_the_platform_alone_where_there_is_one(tmp_path: Path) -> None:
    psys = {
        f"{RAPL}/intel-rapl:1/{name}": value
        for name, value in (("name", "psys"), ("energy_uj", "7"), ("max_energy_range_uj", "99"))
    }
    sensor = sensors.load("rapl", tree(tmp_path, PACKAGE | psys))
    assert sensor is not None
    assert sensor.source == "RAPL, psys"


def test_the_power_chip_of_the_raspberry_pi_5_is_the_sum_of_its_rails(tmp_path: Path) -> None:
    sensor = sensors.load("pmic", LocalAccess(tmp_path, {"vcgencmd pmic_read_adc": PI5}))
    assert sensor is not None
    assert sensor.read() == pytest.approx(0.097594 * 3.69872 + 1.59862 * 0.86218)
    assert "2 rails" in sensor.source
    assert sensors.load("auto", LocalAccess(tmp_path, {"vcgencmd pmic_read_adc": "Command not registered"})) is None


@pytest.mark.parametrize(
    ("files", "name", "path", "value", "says"),
    [
        (INA226, "hwmon", f"{HWMON}/hwmon3/power1_input", "-3250000", "impossible power.*wired the right way"),
        (INA226, "hwmon", f"{HWMON}/hwmon3/power1_input", "nan", "no number.*'nan'"),
        (INA226, "hwmon", f"{HWMON}/hwmon3/power1_input", "1e300", "impossible power"),
        (INA226, "hwmon", f"{HWMON}/hwmon3/power1_input", "", "no number"),
        (INA219, "hwmon", f"{HWMON}/hwmon1/curr1_input", "-600", "impossible power"),
        (JETSON, "ina3221", f"{HWMON}/hwmon2/curr1_input", "x", "no number"),
        (PHONE, "battery", f"{BATTERY}/status", "Charging", "not what feeds.*unplug"),
        (PHONE, "battery", f"{BATTERY}/current_now", "412", "unit cannot be told"),
        (PHONE, "battery", f"{BATTERY}/voltage_now", "3987", "unit cannot be told"),
        (PACKAGE, "rapl", f"{RAPL}/intel-rapl:0/energy_uj", "none", "no number"),
    ],
)
def test_what_no_honest_sensor_says_is_refused(
    tmp_path: Path, files: dict[str, str], name: str, path: str, value: str, says: str
) -> None:
    sensor = sensors.load(name, tree(tmp_path, files))
    assert sensor is not None
    (tmp_path / path).write_text(value)
    with pytest.raises(DeviceError, match=re.compile(says, re.DOTALL)):
        sensor.read()


@pytest.mark.parametrize("name", sensors.SENSORS)
def test_a_machine_without_the_sensor_has_none(tmp_path: Path, name: str) -> None:
    access = tree(
        tmp_path, {f"{HWMON}/hwmon0/name": "coretemp", f"{HWMON}/hwmon1/name": "ina226", f"{RAPL}/intel-rapl:0/name": "package-0"}
    )
    assert sensors.load("auto", access) is None
    assert sensors.load("none", access) is None
    with pytest.raises(DeviceError, match="no such sensor here"):
        sensors.load(name, access)


def test_a_sensor_that_nobody_knows_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rapl"):
        sensors.load("crystal ball", LocalAccess(tmp_path))


def test_sensors_of_a_device_are_read_through_its_transport(tmp_path: Path) -> None:
    tree(tmp_path, JETSON)

    class Rooted(LocalTransport):
        def run(self, argv, *, stdin=b"", timeout_s=120.0):
            here = [word.replace("/sys/", f"{tmp_path}/sys/") for word in argv]
            reply = super().run(here, stdin=stdin, timeout_s=timeout_s)
            return Reply(reply.code, reply.stdout.replace(f"{tmp_path}/sys/", "/sys/"), reply.stderr)

    sensor = sensors.load("auto", DeviceAccess(Rooted(tmp_path)))
    assert sensor is not None
    assert (sensor.source, sensor.read()) == ("ina3221, POM_5V_IN", 7.0)


# --- windows ---


def steady(idle_w: float = 2.0, run_w: float = 5.0, rate_hz: int = 10, last_w: float | None = None) -> tuple[Trace, list[Window]]:
    """Ten seconds idle, ten of run, ten idle."""
    times = [k / rate_hz for k in range(30 * rate_hz + 1)]
    watts = [run_w if 10 <= t <= 20 else idle_w if t < 10 or last_w is None else last_w for t in times]
    return Trace(times, watts), [Window(0, 9.99), Window(10, 20), Window(20.01, 30)]


def test_gross_and_net_energy_are_of_one_inference() -> None:
    trace, windows = steady(last_w=2.4)
    found = energy.figures(trace, *windows, 100, "test")
    assert found["gross_mj"] == pytest.approx(5 * 10 / 100 * 1e3)
    assert found["net_mj"] == pytest.approx((5 - 2.2) * 10 / 100 * 1e3)
    assert (found["samples"], found["spread_w"]) == (101, pytest.approx(0.0))
    assert found["idle_drift_w"] == pytest.approx(0.4)


def test_the_mean_is_by_time_not_by_sample() -> None:
    assert Trace([0, 1, 1.1, 1.2, 1.3], [4, 4, 8, 8, 8]).mean_w() == pytest.approx((4 + 0.6 + 1.6) / 1.3)


@pytest.mark.parametrize(("rate_hz", "window"), [(1, "run"), (0.3, "run")])
def test_too_few_samples_are_refused(rate_hz: float, window: str) -> None:
    times = [k / rate_hz for k in range(int(30 * rate_hz) + 1)]
    with pytest.raises(DeviceError, match=f"too few samples in the {window}"):
        energy.figures(Trace(times, [3.0] * len(times)), Window(0, 9.9), Window(10, 20), Window(20.1, 30), 9, "slow")


def test_a_reading_that_is_no_number_is_refused() -> None:
    trace, windows = steady()
    trace.watts[150] = math.nan
    with pytest.raises(DeviceError, match="no number"):
        energy.figures(trace, *windows, 9, "test")


def test_an_energy_counter_becomes_power_by_its_slope() -> None:
    moments = iter([0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 2.0, 2.0] + [3.0] * 99)
    joules = iter([0.0, 1.0, 2.0, 6.0])
    sensor = SimpleNamespace(kind="energy", source="x", read=lambda: next(joules))
    sampler = Sampler(sensor, 0.0, lambda: next(moments))
    with sampler:
        sampler._thread.join(0.5)
    sampler._fault = None  # the recorded joules ran out
    assert sampler.trace().watts == pytest.approx([2.0, 2.0, 4.0])


def test_a_sensor_that_fails_on_the_way_fails_the_measurement() -> None:
    def fail() -> float:
        raise DeviceError("gone")

    sensor = SimpleNamespace(kind="power", source="x", read=fail)
    with pytest.raises(DeviceError, match="gone"):
        energy.measure(sensor, lambda: 5, idle_s=0.01, run_s=0.01, interval_s=0.001)


def test_a_run_is_measured_between_two_idle_windows() -> None:
    sensor = SimpleNamespace(kind="power", source="steady", read=lambda: 3.0)

    def run() -> int:
        time.sleep(0.005)
        return 1

    found = energy.measure(sensor, run, idle_s=0.5, run_s=1.0, interval_s=0.005)
    assert found["run_w"] == found["idle_w"] == pytest.approx(3.0)
    assert found["net_mj"] == pytest.approx(0.0)
    assert found["gross_mj"] == pytest.approx(3e3 * found["seconds"] / found["runs"])
    assert found["runs"] >= 10


# --- an external meter ---


def meter(path: Path, rows: list[str], head: str = "time_s,watts,mark") -> Path:
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def marked() -> list[str]:
    trace, _ = steady()
    names = ["run" if 10 <= t <= 20 else "idle" for t in trace.times_s]
    return [f"{1000 + t},{w},{name}" for t, w, name in zip(trace.times_s, trace.watts, names, strict=True)]


def test_a_meters_marks_are_the_windows(tmp_path: Path) -> None:
    found = energy.from_meter(meter(tmp_path / "m.csv", marked()), None, 100)
    assert found["gross_mj"] == pytest.approx(500)
    assert found["net_mj"] == pytest.approx(300)
    assert found["source"] == "meter m.csv"


def test_without_marks_the_clock_says_the_windows(tmp_path: Path) -> None:
    rows = [",".join(row.split(",")[:2]) for row in marked()]
    windows = (Window(1000, 1009.99), Window(1010, 1020), Window(1020.01, 1030))
    path = meter(tmp_path / "m.csv", rows, "time_s,watts")
    assert energy.from_meter(path, windows, 100)["gross_mj"] == pytest.approx(500)
    with pytest.raises(SampleError, match="no marks"):
        energy.from_meter(path, None, 100)


@pytest.mark.parametrize(
    ("rows", "head", "says"),
    [
        (["1,2,idle"], "t,w", "columns time_s and watts"),
        (["1,nan,idle"], "time_s,watts,mark", "line 2"),
        (["1,2,idle", "1,2,idle"], "time_s,watts,mark", "line 3.*"),
        (["1,-2,idle"], "time_s,watts,mark", "not a sample"),
        (["1,,idle"], "time_s,watts,mark", "not a sample"),
        (["1,2,idle", "2,2,run"], "time_s,watts,mark", "idle, a run and an idle"),
    ],
)
def test_a_meters_file_that_is_wrong_is_refused_by_line(tmp_path: Path, rows: list[str], head: str, says: str) -> None:
    with pytest.raises(SampleError, match=says):
        energy.from_meter(meter(tmp_path / "m.csv", rows, head), None, 10)
    with pytest.raises(MissingFileError):
        energy.from_meter(tmp_path / "none.csv", None, 10)
