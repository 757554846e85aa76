"""The AMX kernel against a model of the tile instructions: this project's machines have none of the real ones.

The very source of ``csrc/isa/amx/gemm_s8.c`` is compiled twice: with the real instructions (it must assemble, and stay
undispatched where the CPU lacks them) and with the model of ``c/amx_model.c``, which runs it under guard pages and sanitizers.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from test_kernel_check import CSRC, EZN1_FLAGS, FLAGS, SANITIZE, isa_folders, kernels, run

from edgezip.kernels import native

pytestmark = pytest.mark.skipif("avx512vnni" not in native.supported_isas(), reason="the epilogue needs AVX512-VNNI")
HERE = Path(__file__).parent / "c"
MODEL = ['-DEZ_AMX_MODEL="amx_model.h"', f"-I{HERE}"]


def compile_all(out: Path, extra: list[str], sources: list[Path], main: str) -> Path:
    """``main`` with the model, the AMX kernel on it, the other x86 folders and ``sources``."""
    folders = isa_folders("x86_64")
    defines = [f"-DEZ_HAVE_{folder.name.upper()}=1" for folder in folders]
    units = [(c, flags) for folder, flags in folders.items() for c in sorted(folder.glob("*.c")) if folder.name != "amx"]
    units += [
        (CSRC / "isa/amx/gemm_s8.c", folders[CSRC / "isa/amx"]),
        (HERE / "amx_model.c", []),
        (HERE / "amx_model_table.c", []),
    ]
    units += [(source, []) for source in [*sources, HERE / main]]
    objects = []
    for source, flags in units:
        objects.append(out / f"{source.parent.name}_{source.stem}.o")
        subprocess.run(["gcc", *FLAGS, *defines, *extra, *flags, *MODEL, "-c", source, "-o", objects[-1]], check=True)
    program = out / Path(main).stem
    subprocess.run(["gcc", *extra, *objects, "-o", program, "-lm", "-pthread"], check=True)
    return program


@pytest.fixture(scope="module")
def model_check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = [CSRC / "core/cpu.c", CSRC / "core/dispatch.c"]
    return compile_all(tmp_path_factory.mktemp("amx"), SANITIZE, sources, "kernel_check.c")


@pytest.mark.xdist_group("amx")
def test_kernel_on_the_model_equals_the_scalar_rules(model_check: Path) -> None:
    lines = run([model_check, "--isa", "amx", "--cases", "1500"])
    assert kernels(lines) == {("amx", "gemm_s8"): [0]}
    counted = dict(f.split("=") for f in lines[-1].split() if "=" in f)
    assert int(counted["products"]) > 5000  # most cases have more than a few rows


@pytest.mark.xdist_group("amx")
@pytest.mark.parametrize("fault", ["weight", "bias"])
def test_a_planted_fault_shows_on_the_model(model_check: Path, fault: str) -> None:
    found = kernels(run([model_check, "--isa", "amx", "--cases", "60", "--plant", fault], code=1))
    assert found["amx", "gemm_s8"][0] > 10


@pytest.mark.xdist_group("amx")
def test_tile_instructions_are_as_few_as_the_shape_allows(tmp_path: Path) -> None:
    program = compile_all(tmp_path, ["-O2"], [CSRC / "core/cpu.c", CSRC / "core/dispatch.c"], "amx_counts.c")
    shapes = [
        (3136, 64, 64, 1),
        (196, 256, 256, 1),
        (49, 512, 512, 1),
        (128, 384, 1536, 1),
        (196, 96, 576, 1),
        (196, 256, 2304, 3),
    ]
    lines = run([program, *(str(n) for shape in shapes for n in shape)])
    for (_, n, k, _), line in zip(shapes, lines[: len(shapes)], strict=True):
        facts = dict(f.split("=") for f in line.split()[1:])
        tiles = -(-int(facts["tiled"]) // 16) * -(-n // 16)  # the last rows of a block may be left to avx512vnni
        assert int(facts["products"]) == tiles * -(-k // 64), line
        assert int(facts["stores"]) == tiles * -(-k // 1024), line
        assert int(facts["loads"]) <= 1.5 * int(facts["products"]) + int(facts["stores"]), line  # 1 where tiles come in twos


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_real_instructions_assemble(tmp_path: Path, compiler: str) -> None:
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-mcpu=x86_64"]
    command = ["gcc"] if compiler == "gcc" else zig
    made = tmp_path / "gemm_s8.o"
    flags = [
        "-std=c11",
        "-D_GNU_SOURCE",
        "-O3",
        f"-I{CSRC}",
        f"-I{CSRC / 'include'}",
        *EZN1_FLAGS,
        *isa_folders("x86_64")[CSRC / "isa/amx"],
    ]
    subprocess.run([*command, *flags, "-c", CSRC / "isa/amx/gemm_s8.c", "-o", made], check=True)
    text = subprocess.run(["objdump", "-d", made], capture_output=True, text=True, check=True).stdout
    assert {name for name in ("ldtilecfg", "tileloadd", "tdpbusd", "tilestored") if name in text} == {
        "ldtilecfg", "tileloadd", "tdpbusd", "tilestored"
    }  # fmt: skip


def test_amx_is_built_in_and_refused_where_the_cpu_lacks_it() -> None:
    assert "amx" in native.compiled_isas()
    flags = Path("/proc/cpuinfo").read_text()
    assert ("amx" in native.supported_isas()) <= ("amx_int8" in flags)
