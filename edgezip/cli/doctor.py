"""``edgezip doctor``: what this machine offers, and how to get what is missing. Probes run in a second and change nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from edgezip.cli import context

PROBE_S = 10
CROSS = "aarch64-linux-gnu-gcc"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked for: ``found`` says what it is, or is None and ``get`` says how to get it."""

    name: str
    purpose: str
    found: str | None
    get: str
    is_needed: bool = False


def command(as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False) -> int:
    """Compilers, emulator, ssh, adb, sensors: found, or how to get them. Exit code 1 when a needed one is missing."""
    findings = examine()
    if as_json:
        from edgezip import __version__

        facts = [{**asdict(finding), "ok": finding.found is not None} for finding in findings]
        typer.echo(json.dumps({"edgezip": __version__, "verb": "doctor", "machine": _machine(), "findings": facts}))
    else:
        _show(findings)
    return int(any(finding.is_needed and finding.found is None for finding in findings))


def examine() -> list[Finding]:
    """All findings, the needed ones first."""

    return [
        Finding("runtime", "run programs here", _runtime(), "make build (needs a C compiler)", True),
        Finding("onnxruntime", "calibration, float reference", _package("onnxruntime"), "pip install onnxruntime", True),
        Finding("PyTorch", "torch modules and .pt2 files in", _package("torch"), "pip install 'edgezip[train]'"),
        Finding("tflite", ".tflite files in", _package("tflite"), "pip install 'edgezip[tflite]'"),
        Finding("C compiler", "runner for this machine", _program("gcc") or _program("cc"), "apt install gcc"),
        Finding("zig", "runner for any target, no toolchain", _zig(), "pip install 'edgezip[cross]'"),
        Finding(
            "cross gcc",
            "runner for 64-bit ARM, without zig",
            _program("aarch64-linux-gnu-gcc"),
            "apt install gcc-aarch64-linux-gnu",
        ),
        Finding("qemu-aarch64", "--emulate: ARM answers on this machine", _program("qemu-aarch64"), "apt install qemu-user"),
        Finding("ssh", "--host: send to a device", _program("ssh", "-V"), "apt install openssh-client"),
        Finding("adb", "send to an Android device", _program("adb"), "apt install adb"),
        Finding("power sensor", "energy per inference here", _power(Path("/sys")), "none here; energy is only printed from one"),
        Finding("temperature", "throttling seen", _temperature(Path("/sys")), "none here; throttling cannot be seen"),
        Finding("cache", "builds are kept", _cache(context.current.cache_dir), "choose another with --cache-dir"),
    ]


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _show(findings: list[Finding]) -> None:
    from edgezip.cli.screen import console

    screen = console()
    screen.print(_machine(), markup=False)
    for finding in findings:
        mark = "[green]✓[/green]" if finding.found else "[red]✗[/red]" if finding.is_needed else "[yellow]-[/yellow]"
        screen.print(mark, end=" ")
        text = finding.found or f"not found ({finding.purpose}): {finding.get}"
        screen.print(f"{finding.name:13} {text}", markup=False)


def _first_line(argv: list[str]) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PROBE_S, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines and not done.returncode else None


def _program(name: str, flag: str = "--version") -> str | None:
    path = shutil.which(name)
    said = _first_line([path, flag]) if path else None
    return f"{said} ({path})" if said else None


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _zig() -> str | None:
    if importlib.util.find_spec("ziglang") is None:
        return None
    said = _first_line([sys.executable, "-m", "ziglang", "version"])
    return f"zig {said}" if said else None


def _runtime() -> str | None:
    """The C extension with the kernels that this CPU can run; None when it is not built."""
    from edgezip.errors import RuntimeUnavailableError

    try:
        from edgezip.runtime.session import isas

        return "kernels " + " ".join(name for name, is_here in isas() if is_here)
    except (RuntimeUnavailableError, ImportError):
        return None


def _power(sysfs: Path) -> str | None:
    """Sensors that give this machine's own power: RAPL, or a power or current channel of hwmon."""
    rapl = [path for path in sorted(sysfs.glob("class/powercap/intel-rapl:*/energy_uj")) if os.access(path, os.R_OK)]
    hwmon = [*sorted(sysfs.glob("class/hwmon/hwmon*/power*_input")), *sorted(sysfs.glob("class/hwmon/hwmon*/curr*_input"))]
    if rapl:
        return f"RAPL, {len(rapl)} domains"
    return f"hwmon {_text(hwmon[0].parent / 'name')}" if hwmon else None


def _temperature(sysfs: Path) -> str | None:
    zones = sorted(sysfs.glob("class/thermal/thermal_zone*/temp"))
    value = _text(zones[0]) if zones else ""
    return f"{int(value) / 1000:.0f} °C ({_text(zones[0].parent / 'type')})" if value.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _cache(folder: Path) -> str | None:
    """Its first existing parent must be writable."""
    near = next(path for path in (folder, *folder.parents) if path.exists())
    return str(folder) if os.access(near, os.W_OK | os.X_OK) else None
