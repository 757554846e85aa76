"""The tables of AVX512 (and of AMX, where Bochs is new enough) on an emulated processor, where this one has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bochs_pc import LINK_FLAGS, MACHINE, models, run_on
from test_kernel_check import OWN_KERNELS, ROWS, build, kernels, link

from edgezip.kernels.native import supported_isas

pytestmark = [pytest.mark.emulated, pytest.mark.slow, pytest.mark.xdist_group("bochs")]
PROCESSORS = {"avx512vnni": "tigerlake", "avx512vbmi": "tigerlake", "amx": "sapphire_rapids"}


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bochs"), "gcc", "x86_64", ["-O2", *LINK_FLAGS], [MACHINE])


def need(require_tools: Callable[..., None], isa: str) -> None:
    if isa in supported_isas():
        pytest.skip("this processor has it: test_kernel_check runs it")
    require_tools("bochs")
    if isa == "amx" and PROCESSORS[isa] not in models():
        pytest.skip("AMX needs Bochs 3")


@pytest.mark.parametrize("isa", list(PROCESSORS))
def test_table_equals_the_scalar_rules(
    request: pytest.FixtureRequest, require_tools: Callable[..., None], tmp_path: Path, isa: str
) -> None:
    need(require_tools, isa)
    program = request.getfixturevalue("check")
    code, lines = run_on(PROCESSORS[isa], program, ["--isa", isa, "--cases", "60"], tmp_path)
    found = kernels(lines)
    assert code == 0, lines
    assert all(failed == [0] * len(failed) for failed in found.values()), lines
    assert {kernel for _, kernel in found} - ROWS == OWN_KERNELS[isa] - ROWS


@pytest.mark.parametrize("fault", ["weight", "bias"])
def test_a_planted_fault_shows_on_the_emulated_processor(
    request: pytest.FixtureRequest, require_tools: Callable[..., None], tmp_path: Path, fault: str
) -> None:
    need(require_tools, "avx512vnni")
    program = request.getfixturevalue("check")
    code, lines = run_on("tigerlake", program, ["--isa", "avx512vnni", "--cases", "16", "--plant", fault], tmp_path)
    found = kernels(lines)
    assert code == 1, lines
    assert all(failed > 0 for each in found.values() for failed in each), found


def test_a_read_past_the_end_is_a_fault_there_too(require_tools: Callable[..., None], tmp_path: Path) -> None:
    require_tools("bochs")
    source = tmp_path / "past.c"
    source.write_text(
        "#include <sys/mman.h>\n"
        "int main(void) {\n"
        "  volatile char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);\n"
        "  mprotect((void *)(p + 4096), 4096, PROT_NONE);\n"
        "  p[4095] = 1;\n"
        "  return p[4096];\n"
        "}\n"
    )
    program = link(tmp_path, "gcc", [(source, []), MACHINE], [], ["-O2", *LINK_FLAGS])
    with pytest.raises(AssertionError, match=r"machine: vector 14 at [0-9a-f]+ address 8000001000"):
        run_on("tigerlake", program, [], tmp_path)
