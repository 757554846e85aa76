"""What this core can do at most, measured beside the figures that are given in percent of it (peak.c)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from bench.quiet import Quiet
from edgezip.errors import ToolError

# Of an ISA path and a precision: the family of instructions in peak.c that its kernels are built on.
FAMILIES = {
    ("amx", "int8"): "amx_u8s8",
    ("avx512vbmi", "int8"): "avx512vnni_u8s8",
    ("avx512vnni", "int8"): "avx512vnni_u8s8",
    ("avxvnni", "int8"): "avxvnni_u8s8",
    ("avx2", "int8"): "avx2_u8s8",
    ("amx", "float32"): "avx512_f32",
    ("avx512vbmi", "float32"): "avx512_f32",
    ("avx512vnni", "float32"): "avx512_f32",
    ("avxvnni", "float32"): "avx2_f32",
    ("avx2", "float32"): "avx2_f32",
}
MILLISECONDS = 12


def build(folder: Path) -> Path:
    """Compiles peak.c into ``folder``; raises ToolError when there is no gcc."""
    folder.mkdir(parents=True, exist_ok=True)
    program = (folder / "peak").absolute()
    command = ["gcc", "-O2", "-o", str(program), str(Path(__file__).with_suffix(".c"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError("gcc failed", where="bench/peak.c", got=done.stderr[-300:])
    return program


def measure(program: Path, quiet: Quiet) -> dict[str, float]:
    """Giga-operations a second of each family."""
    done = subprocess.run([*quiet.prefix(), str(program), str(MILLISECONDS)], capture_output=True, text=True, check=True)
    return {name: value / 1e9 for name, value in json.loads(done.stdout).items()}
