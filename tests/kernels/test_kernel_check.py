"""The C check of every kernel (c/kernel_check.c): natively with sanitizers, and the ARM tables on emulated CPUs."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgezip.kernels.native import supported_isas

ROOT = Path(__file__).parent.parent.parent
CSRC = ROOT / "csrc"
EZN1_FLAGS = ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-pthread", f"-I{CSRC}", f"-I{CSRC / 'include'}", *EZN1_FLAGS]
Units = list[tuple[Path, list[str]]]
SANITIZE = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def isa_folders(arch: str) -> dict[Path, list[str]]:
    """Folders built for ``arch`` with their own compiler flags, as CMake reads them."""
    found = {}
    for flags in sorted(CSRC.glob("isa/*/flags.txt")):
        lines = dict(line.split("=", 1) for line in flags.read_text().splitlines() if "=" in line)
        if lines["arch"] in ("any", arch):
            found[flags.parent] = lines["gcc"].split()
    return found


def build(out: Path, compiler: str, arch: str, extra: list[str], more: Units | None = None) -> Path:
    """Compile the ISA folders, the dispatcher, the check program and ``more`` into ``out``."""
    folders = isa_folders(arch)
    defines = [f"-DEZ_HAVE_{folder.name.upper()}=1" for folder in folders]
    units: Units = [(source, flags) for folder, flags in folders.items() for source in sorted(folder.glob("*.c"))]
    units += [(CSRC / "core/cpu.c", []), (CSRC / "core/dispatch.c", []), (Path(__file__).parent / "c/kernel_check.c", [])]
    return link(out, compiler, units + (more or []), defines, extra)


def link(out: Path, compiler: str, units: Units, defines: list[str], extra: list[str]) -> Path:
    """``out``/kernel_check of these sources, each with flags of its own."""
    objects: list[Path] = []
    for source, flags in units:
        objects.append(out / f"{source.parent.name}_{source.stem}.o")
        subprocess.run([compiler, *FLAGS, *defines, *extra, *flags, "-c", source, "-o", objects[-1]], check=True)
    subprocess.run([compiler, *extra, *objects, "-o", out / "kernel_check", "-lm", "-pthread"], check=True)
    return out / "kernel_check"


def run(command: list[str | Path], code: int = 0) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.splitlines()


def kernels(lines: list[str]) -> dict[tuple[str, str], list[int]]:
    """(isa, kernel) -> number of failed cases in each of its formats."""
    found: dict[tuple[str, str], list[int]] = {}
    for line in lines:
        if " cases=" in line:
            isa, kernel, *facts = line.split()
            found.setdefault((isa, kernel), []).append(int(dict(f.split("=") for f in facts)["failed"]))
    return found


PRODUCTS = {"gemm_s8", "depthwise_s8", "gemm_f32", "depthwise_f32"}
ROWS = {"add_s8", "table_s8", "finish_f32"}
BLOCKS = {"blocks_s8"}
CODES = {"codes_decode", "codes_gemv", "codes_add"}
OWN_KERNELS = {"portable": PRODUCTS | BLOCKS | CODES, "neon": PRODUCTS | BLOCKS | CODES}
OWN_KERNELS |= dict.fromkeys(("dotprod", "i8mm"), {"gemm_s8", "depthwise_s8"} | BLOCKS | CODES)
OWN_KERNELS |= {"avx2": PRODUCTS | BLOCKS | CODES | {"winograd_s8"}}
OWN_KERNELS |= {"avx512vnni": PRODUCTS | BLOCKS, "avxvnni": {"gemm_s8", "depthwise_s8"}, "avx512vbmi": set(), "amx": {"gemm_s8"}}
ARM = {"portable", "neon", "dotprod", "i8mm"}
USED = {
    "dotprod_codes.o": {"sdot"},
    "i8mm_codes.o": {"sdot"},
    "dotprod_gemm_s8.o": {"sdot"},
    "dotprod_blocks_s8.o": {"sdot"},
    "i8mm_blocks_s8.o": {"smmla"},
    "dotprod_depthwise.o": {"sdot"},
    "i8mm_gemm_s8.o": {"smmla"},
    "i8mm_depthwise.o": {"sdot"},
}


@pytest.fixture(scope="session")
def native_check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arch = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    return build(tmp_path_factory.mktemp("native"), "gcc", arch, SANITIZE)


@pytest.fixture(scope="session")
def arm_check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("arm"), "aarch64-linux-gnu-gcc", "aarch64", ["-O3", "-static"])


@pytest.mark.xdist_group("kernel_check")
def test_every_native_table_equals_the_scalar_rules(native_check: Path) -> None:
    lines = run([native_check, "--cases", "600"])
    tables = [line.split()[0] for line in lines if ": " in line and " supported" in line]
    found = kernels(lines)
    assert {isa for isa, _ in found} == set(tables)
    for isa in tables:
        assert {kernel for table, kernel in found if table == isa} - ROWS == OWN_KERNELS.get(isa, PRODUCTS)
    assert {("portable", kernel) for kernel in ROWS} <= set(found)


@pytest.mark.xdist_group("kernel_check")
@pytest.mark.parametrize("fault", ["weight", "bias"])
def test_a_planted_fault_shows_in_every_kernel(native_check: Path, fault: str) -> None:
    found = kernels(run([native_check, "--cases", "40", "--plant", fault], code=1))
    assert all(failed > 0 for each in found.values() for failed in each), found


@pytest.fixture(scope="session")
def avxvnni_check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The AVX-VNNI folder with its one instruction made of AVX2, so that a processor without it checks the rest to the bit."""
    if platform.machine() != "x86_64" or "avx2" not in supported_isas():
        pytest.skip("needs an x86-64 processor with AVX2")
    out, here = tmp_path_factory.mktemp("avxvnni"), Path(__file__).parent / "c"
    folders = {
        "portable": [],
        "avx2": ["-mavx2", "-mfma"],
        "avxvnni": ["-mavx2", "-mfma", "-include", f"{here}/avxvnni_by_avx2.h"],
    }
    units = [(source, flags) for folder, flags in folders.items() for source in sorted((CSRC / "isa" / folder).glob("*.c"))]
    units += [(source, []) for source in (here / "cpu_with_avxvnni.c", CSRC / "core/dispatch.c", here / "kernel_check.c")]
    return link(out, "gcc", units, [f"-DEZ_HAVE_{name.upper()}=1" for name in folders], SANITIZE)


@pytest.mark.xdist_group("kernel_check")
def test_avxvnni_equals_the_scalar_rules_on_any_avx2(avxvnni_check: Path) -> None:
    found = kernels(run([avxvnni_check, "--cases", "400"]))
    assert {kernel for isa, kernel in found if isa == "avxvnni"} - ROWS == OWN_KERNELS["avxvnni"]


@pytest.mark.emulated
@pytest.mark.xdist_group("kernel_check")
@pytest.mark.parametrize(
    ("cpu", "tables"),
    [
        ("cortex-a53", {"neon", "portable"}),
        ("cortex-a72", {"neon", "portable"}),
        ("cortex-a76", {"dotprod", "neon", "portable"}),
        ("max,sve=off,sme=off", {"i8mm", "dotprod", "neon", "portable"}),
    ],
)
def test_arm_tables_equal_the_scalar_rules(
    request: pytest.FixtureRequest, require_tools: Callable[..., None], cpu: str, tables: set[str]
) -> None:
    require_tools("aarch64-linux-gnu-gcc", "qemu-aarch64")
    lines = run(["qemu-aarch64", "-cpu", cpu, request.getfixturevalue("arm_check"), "--cases", "400"])
    refused = {line.split()[0] for line in lines if " unsupported: " in line and "not offered by this CPU" in line}
    assert refused == ARM - tables
    found = kernels(lines)
    assert {isa for isa, _ in found} == tables
    for isa in tables:
        assert {kernel for table, kernel in found if table == isa} - ROWS == OWN_KERNELS[isa]


@pytest.mark.emulated
@pytest.mark.xdist_group("kernel_check")
@pytest.mark.parametrize("fault", ["weight", "bias"])
def test_a_planted_fault_shows_in_every_arm_kernel(
    request: pytest.FixtureRequest, require_tools: Callable[..., None], fault: str
) -> None:
    require_tools("aarch64-linux-gnu-gcc", "qemu-aarch64")
    check = request.getfixturevalue("arm_check")
    found = kernels(run(["qemu-aarch64", "-cpu", "max,sve=off,sme=off", check, "--cases", "40", "--plant", fault], code=1))
    assert {isa for isa, _ in found} == ARM
    assert all(failed > 0 for each in found.values() for failed in each), found


@pytest.mark.emulated
@pytest.mark.xdist_group("kernel_check")
def test_only_the_folders_of_an_extension_hold_its_instructions(require_tools: Callable[..., None], arm_check: Path) -> None:
    require_tools("aarch64-linux-gnu-objdump")
    for item in sorted(arm_check.parent.glob("*.o")):
        text = subprocess.run(["aarch64-linux-gnu-objdump", "-d", item], capture_output=True, text=True, check=True).stdout
        used = {name for name in ("sdot", "smmla") if f"\t{name}\t" in text}
        allowed = {"dotprod": {"sdot"}, "i8mm": {"sdot", "smmla"}}.get(item.name.split("_")[0], set())
        assert used <= allowed, item.name
        assert used == USED.get(item.name, used), item.name
