"""Each profile's runner under the weakest CPU that it is for: it starts, meets no foreign instruction, and gives the bits.

The program's vectors are of the NumPy reference. Profiles that differ in nothing but facts share a build.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from edgezip.cli import context
from edgezip.deploy.build import build_runner, find_compiler, isa_flags, source_folder
from edgezip.target import Target, list_targets, load_target

pytestmark = [pytest.mark.slow, pytest.mark.emulated, pytest.mark.xdist_group("cross")]
# What the emulated CPU has: qemu 7.2 has no AVX-512, AVX-VNNI or AMX, so those profiles are tried on AVX2, which they may meet.
RUNS = {"Haswell": "avx2", "qemu64": "portable"}


def expected_isa(target: Target) -> str:
    assert target.emulator is not None
    return RUNS.get(target.emulator.cpu, target.isa[0])


@pytest.mark.parametrize("target", list_targets(), ids=lambda t: t.name)
def test_the_weakest_cpu_of_a_profile_gives_the_bits(demo_programs, tmp_path: Path, require_tools, target: Target) -> None:
    assert target.emulator is not None
    require_tools(target.emulator.qemu)
    runner = build_runner(target, cache_dir=context.current.cache_dir, compiler=find_compiler(target, "zig"))
    assert b"/ld-" not in runner.read_bytes()
    (tmp_path / "model.ez").write_bytes(demo_programs(target.name).to_bytes())
    command = [target.emulator.qemu, "-cpu", target.emulator.cpu, runner, "verify", tmp_path / "model.ez"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["isa"], answer["passed"], answer["mismatched_bytes"]) == (expected_isa(target), answer["vectors"], 0)
    assert answer["vectors"] > 0


def test_a_binary_beyond_its_cpu_dies_there(tmp_path: Path, require_tools) -> None:
    """The planted fault: AVX2 kernels as the portable ones of a profile without AVX2."""
    target = load_target("x86-sse41")
    assert target.emulator is not None
    require_tools(target.emulator.qemu)
    compiler = find_compiler(target, "zig")
    avx2 = " ".join(isa_flags(source_folder() / "isa" / "avx2", "zig")).split()
    (tmp_path / "x.c").write_text('int main(void) { __asm__ volatile("vpaddd %ymm0, %ymm0, %ymm0"); return 0; }')
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(context.current.cache_dir / "zig")}
    subprocess.run([*compiler.link, *avx2, "-static", tmp_path / "x.c", "-o", tmp_path / "x"], check=True, env=environment)
    codes = [
        subprocess.run([target.emulator.qemu, "-cpu", cpu, tmp_path / "x"], check=False, capture_output=True).returncode
        for cpu in ("Haswell", target.emulator.cpu)
    ]
    assert codes == [0, -signal.SIGILL]
