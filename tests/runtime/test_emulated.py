"""The ARM build of the runtime, under the CPUs it is for: bundled vectors of the NumPy interpreter, on every ISA path."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dynamic_graphs import dynamic_graph
from rare_program import rare_program
from recurrent_program import recurrent_program
from small_program import small_program
from state_program import state_program

from edgezip.compilation import compile
from edgezip.program import Layout

ROOT = Path(__file__).parents[2]
COMPILER = "aarch64-linux-gnu-gcc"
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-D_GNU_SOURCE", "-pthread"]
FORMATS = {"i8mm": (Layout.K8N16, 0), "neon": (Layout.K8N16, 0), "dotprod": (Layout.K4N16, 0), "portable": (Layout.K4N16, 0x80)}
CPUS = {
    "cortex-a53": ["neon", "portable"],
    "cortex-a72": ["neon", "portable"],
    "cortex-a76": ["dotprod", "neon", "portable"],
    "max,sve=off,sme=off": ["i8mm", "dotprod", "neon", "portable"],
}

pytestmark = [pytest.mark.emulated, pytest.mark.xdist_group("emulated_runtime")]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ez_run`` for aarch64, static. Without the tools: skipped, but a failure in CI."""
    missing = [tool for tool in ("qemu-aarch64", COMPILER) if shutil.which(tool) is None]
    if missing:
        (pytest.fail if os.environ.get("EDGEZIP_REQUIRE_TOOLS") else pytest.skip)(f"needs {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("aarch64")
    jobs: list[tuple[Path, list[str]]] = [
        (p, []) for part in ("core", "ops", "tools") for p in sorted((ROOT / "csrc" / part).glob("*.c"))
    ]
    defines = []
    for file in sorted((ROOT / "csrc/isa").glob("*/flags.txt")):
        facts = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line and line[0] != "#")
        if facts["arch"] in ("any", "aarch64"):
            defines.append(f"-DEZ_HAVE_{file.parent.name.upper()}=1")
            jobs += [(path, facts["gcc"].split()) for path in sorted(file.parent.glob("*.c"))]

    def compile_one(numbered: tuple[int, tuple[Path, list[str]]]) -> str:
        number, (path, extra) = numbered
        out = str(folder / f"{number}.o")
        include = [f"-I{ROOT}/csrc", f"-I{ROOT}/csrc/include"]
        subprocess.run([COMPILER, *FLAGS, *defines, *include, *extra, "-c", str(path), "-o", out], check=True)
        return out

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, enumerate(jobs)))
    subprocess.run([COMPILER, "-static", *objects, "-lm", "-pthread", "-o", str(folder / "ez_run")], check=True)
    return folder / "ez_run"


@pytest.mark.parametrize(("cpu", "isa"), [(cpu, isa) for cpu, isas in CPUS.items() for isa in isas])
def test_arm_gives_the_bits_of_the_interpreter(runner: Path, tmp_path: Path, cpu: str, isa: str) -> None:
    layout, sign = FORMATS[isa]
    programs = [small_program(layout, sign, seed, 2, channels) for seed, channels in enumerate((4, 19, 33))]
    programs += [recurrent_program(name, name != "rnn", layout, sign, 2) for name in ("lstm", "gru", "rnn")]
    programs[0].coded = True  # decoded on the device
    if (layout, sign) == (Layout.K8N16, 0):
        programs.append(state_program("rpi4", 2))
        programs.append(rare_program("rpi4"))
        programs.append(compile(dynamic_graph("sequence", 13), "rpi4", dims={"n": (1, 2), "s": (8, 20)}))
    for program in programs:
        program.save(tmp_path / "p.ez")
        done = subprocess.run(
            ["qemu-aarch64", "-cpu", cpu, str(runner), "verify", str(tmp_path / "p.ez")],
            capture_output=True,
            text=True,
            env=os.environ | {"EDGEZIP_ISA": isa},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        reply = json.loads(done.stdout)
        assert reply["passed"] == reply["vectors"] == len(program.vectors) > 1


def test_a_wrong_vector_is_seen(runner: Path, tmp_path: Path) -> None:
    program = small_program(Layout.K8N16, 0)
    program.vectors[0][1] = -program.vectors[0][1]
    program.save(tmp_path / "p.ez")
    done = subprocess.run(["qemu-aarch64", str(runner), "verify", str(tmp_path / "p.ez")], capture_output=True, text=True)
    assert done.returncode != 0
    assert json.loads(done.stdout)["passed"] == 0
