"""The runtime on 32-bit ARM, 64-bit RISC-V and x86 without AVX2: every operator's vectors, to the bit, in portable C."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from rare_program import rare_program
from recurrent_program import recurrent_program
from small_program import small_program
from state_program import state_program

from edgezip.cli import context
from edgezip.deploy.build import build_runner, find_compiler
from edgezip.deploy.embed import build_exe
from edgezip.program import Layout, Program
from edgezip.target import Target, load_target

pytestmark = [pytest.mark.slow, pytest.mark.emulated, pytest.mark.xdist_group("cross")]


def programs(target: Target) -> list[Program]:
    layout, sign = Layout[target.layout.upper()], target.act_sign
    found = [small_program(layout, sign, seed, 2, channels) for seed, channels in enumerate((4, 19, 33))]
    found += [recurrent_program(name, name != "rnn", layout, sign, 2) for name in ("lstm", "gru", "rnn")]
    found[0].coded = True  # decoded on the device
    return [*found, state_program(target.name, 2), rare_program(target.name)]


@pytest.mark.parametrize("name", ["armv7", "riscv64-generic", "x86-sse41"])
def test_every_operator_gives_the_bits_where_only_portable_kernels_are(tmp_path: Path, require_tools, name: str) -> None:
    target = load_target(name)
    assert target.emulator is not None
    require_tools(target.emulator.qemu)
    runner = build_runner(target, cache_dir=context.current.cache_dir, compiler=find_compiler(target, "zig"))
    for number, program in enumerate(programs(target)):
        path = tmp_path / f"{number}.ez"
        program.save(path)
        command = [target.emulator.qemu, "-cpu", target.emulator.cpu, runner, "verify", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"program {number}: {done.stdout}{done.stderr}"
        answer = json.loads(done.stdout)
        assert answer["isa"] == "portable"
        assert answer["passed"] == answer["vectors"] == len(program.vectors) > 1


@pytest.mark.parametrize("name", ["rpi4", "x86-sse41"])
def test_binaries_with_programs_of_every_operator_lack_no_kernel(tmp_path: Path, require_tools, name: str) -> None:
    """Row kernels that no operator of a program names are left out of its binary: none too many."""
    target = load_target(name)
    assert target.emulator is not None
    require_tools(target.emulator.qemu)
    compiler = find_compiler(target, "zig")
    for program in (small_program(Layout[target.layout.upper()], target.act_sign, 1, 2, 19), rare_program(name)):
        build_exe(program, target, tmp_path / "net", compiler=compiler, cache_dir=context.current.cache_dir)
        command = [target.emulator.qemu, "-cpu", target.emulator.cpu, tmp_path / "net", "verify"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        assert answer["passed"] == answer["vectors"] == len(program.vectors) > 1
