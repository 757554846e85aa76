"""Every step on a device against the host's hashes: the first step that differs has a name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgezip.cli.context import Context
from edgezip.deploy.build import build_runner
from edgezip.deploy.transports.local import LocalTransport
from edgezip.measure.device import Device
from edgezip.measure.step_hashes import write_hashes
from edgezip.program import Op, Program
from edgezip.target import load_target

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
from small_program import small_program

VECTORS = 2


@pytest.fixture(scope="module")
def runner() -> Path:
    return build_runner(load_target("host"), cache_dir=Context().cache_dir)


def with_other_weight(op: Op) -> tuple[Program, int]:
    """The small program with a weight of its first ``op`` step changed (of a table: every entry), and that step's number."""
    program = small_program(vectors=VECTORS)
    number = next(i for i, step in enumerate(program.steps) if step.op is op)
    weights = bytearray(program.weights)
    tensor = program.tensors[program.steps[number].inputs[1]]
    for at in range(tensor.bytes if op is Op.TABLE else 1):
        weights[tensor.offset + at] ^= 0x55
    program.weights = bytes(weights)
    return program, number


def test_equal_steps_are_all_counted(runner: Path, tmp_path: Path) -> None:
    program = small_program(vectors=VECTORS)
    with Device(LocalTransport(tmp_path), runner.read_bytes(), program) as device:
        (check,) = device.check_bits(program, [])
    assert check.is_exact
    assert check.steps == VECTORS * len(program.steps)


@pytest.mark.parametrize("op", [Op.CONV, Op.DEPTHWISE, Op.TABLE, Op.MATMUL])
def test_the_first_step_that_differs_is_named(runner: Path, tmp_path: Path, op: Op) -> None:
    reference = small_program(vectors=VECTORS)
    wrong, number = with_other_weight(op)
    with Device(LocalTransport(tmp_path), runner.read_bytes(), wrong) as device:
        (check,) = device.check_bits(reference, [])
    name = reference.steps[number].name
    assert f"step {number} ({name}, {op.name.lower()}, kernel " in check.first_difference


def per_step(runner: Path, folder: Path, program: Program, hashes: bytes) -> subprocess.CompletedProcess[str]:
    program.save(folder / "p.ez")
    (folder / "steps.txt").write_bytes(hashes)
    command = [runner, "verify", folder / "p.ez", "--per-step", folder / "steps.txt"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_hashes_of_another_program_are_refused(runner: Path, tmp_path: Path) -> None:
    program, other = small_program(), small_program(seed=1)
    done = per_step(runner, tmp_path, program, write_hashes(other, other.to_bytes()))
    assert done.returncode == 1
    assert "another program" in done.stderr


@pytest.mark.parametrize("keep", [0, 10, 40, -10])
def test_a_damaged_file_of_hashes_is_refused(runner: Path, tmp_path: Path, keep: int) -> None:
    program = small_program()
    done = per_step(runner, tmp_path, program, write_hashes(program, program.to_bytes())[:keep])
    assert done.returncode == 1
    assert done.stdout == ""
    assert "make it again" in done.stderr


def test_the_hashes_are_small() -> None:
    program = small_program(vectors=VECTORS)
    assert len(write_hashes(program, program.to_bytes())) < 100 + 9 * VECTORS * len(program.steps)
