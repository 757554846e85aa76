"""The small program of tests/runtime, and one sanitized build of csrc for all batteries."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("runtime", "pack")]
FLAGS = ["-std=c11", "-O1", "-g1", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-D_GNU_SOURCE", "-pthread"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
INCLUDE = [f"-I{ROOT}/csrc", f"-I{ROOT}/csrc/include", f"-I{ROOT}/tests/fuzz"]


def isa_flags(folder: Path) -> list[str] | None:
    """Compiler flags of an ISA folder, or None when it is of another architecture."""
    facts = dict(line.split("=", 1) for line in (folder / "flags.txt").read_text().splitlines() if "=" in line and line[0] != "#")
    return facts["gcc"].split() if facts["arch"] in ("any", platform.machine()) else None


@pytest.fixture(scope="session")
def battery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled battery, every ISA of this architecture in it."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.fail("needs gcc with its sanitizers")
    folder = tmp_path_factory.mktemp("battery")
    isas = {path.parent: isa_flags(path.parent) for path in (ROOT / "csrc/isa").glob("*/flags.txt")}
    defines = [f"-DEZ_HAVE_{path.name.upper()}=1" for path, flags in isas.items() if flags is not None]
    sources = [(path, []) for part in ("csrc/core", "csrc/ops", "tests/fuzz") for path in sorted((ROOT / part).glob("*.c"))]
    sources += [(path, flags) for isa, flags in isas.items() if flags is not None for path in sorted(isa.glob("*.c"))]
    objects = [folder / f"{i}.o" for i in range(len(sources))]

    def compile_one(job: tuple[tuple[Path, list[str]], Path]) -> None:
        (path, extra), out = job
        command = [compiler, *FLAGS, *SANITIZE, *defines, *INCLUDE, *extra, "-c", str(path), "-o", str(out)]
        subprocess.run(command, check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, zip(sources, objects, strict=True)))
    subprocess.run([compiler, *SANITIZE, "-pthread", *map(str, objects), "-lm", "-o", str(folder / "battery")], check=True)
    return folder / "battery"
