"""What this machine offers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgezip.cli import doctor
from edgezip.cli.main import main


def test_json_names_every_finding_and_how_to_get_it(capsys) -> None:
    code = main(["doctor", "--json"])
    facts = json.loads(capsys.readouterr().out)
    findings = {finding["name"]: finding for finding in facts["findings"]}
    assert {"runtime", "zig", "qemu-aarch64", "ssh", "adb", "power sensor"} <= set(findings)
    assert all(finding["get"] and finding["purpose"] for finding in findings.values())
    assert "portable" in findings["runtime"]["found"]
    assert code == 0


def test_a_machine_with_nothing_is_told_where_everything_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(doctor, "_runtime", lambda: None)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    for hint in (
        "make build",
        "apt install gcc",
        "edgezip[cross]",
        "apt install qemu-user",
        "apt install openssh-client",
        "apt install adb",
    ):
        assert hint in out


def test_a_program_that_is_there_but_fails_is_not_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "gcc").write_text("#!/bin/sh\necho gcc 99; exit 1\n")
    (tmp_path / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert doctor._program("gcc") is None


@pytest.mark.parametrize(
    ("files", "power"),
    [
        ({}, None),
        ({"class/powercap/intel-rapl:0/energy_uj": "5"}, "RAPL, 1 domains"),
        ({"class/hwmon/hwmon3/curr1_input": "5", "class/hwmon/hwmon3/name": "ina3221"}, "hwmon ina3221"),
        ({"class/hwmon/hwmon3/temp1_input": "5", "class/hwmon/hwmon3/name": "cpu"}, None),
    ],
)
def test_power_sensors_are_found_in_sysfs(tmp_path: Path, files: dict[str, str], power: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert doctor._power(tmp_path) == power


@pytest.mark.parametrize(("text", "said"), [("48312\n", "48 °C (cpu-thermal)"), ("", None), ("nonsense", None)])
def test_temperature_is_read_in_degrees(tmp_path: Path, text: str, said: str | None) -> None:
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text(text)
    (zone / "type").write_text("cpu-thermal\n")
    assert doctor._temperature(tmp_path) == said
