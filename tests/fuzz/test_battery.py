"""Damaged and hostile program files under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from small_program import small_program
from state_program import state_program

from edgezip.program import Layout

MUTATIONS = int(os.environ.get("EDGEZIP_FUZZ_MUTATIONS", "6000"))  # of each format
FORMATS = [(Layout.K4N16, 0x80), (Layout.K4N16, 0), (Layout.K8N16, 0)]

pytestmark = pytest.mark.xdist_group("battery")


def run(battery: Path, *arguments: object) -> dict[str, int]:
    """Counts that the battery prints; a sanitizer report fails the test."""
    environment = os.environ | {"ASAN_OPTIONS": "allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run(
        [battery, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=300 + MUTATIONS // 100
    )
    assert done.returncode == 0, done.stderr[-4000:]
    words = done.stdout.split()
    return {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}


def saved(folder: Path, layout: Layout, act_sign: int, seed: int = 0, vectors: int = 1) -> Path:
    path = folder / "small.ez"
    small_program(layout, act_sign, seed, vectors).save(path)
    return path


def test_every_prefix_and_every_flipped_bit_is_refused(battery: Path, tmp_path: Path) -> None:
    path = saved(tmp_path, Layout.K4N16, 0x80)
    counts = run(battery, "damage", path)
    assert counts["whole"] == 1
    assert counts["prefixes_refused"] == counts["prefixes"] == path.stat().st_size
    assert counts["flips_refused"] == counts["flips"] == 8 * path.stat().st_size


@pytest.mark.parametrize(("layout", "act_sign"), FORMATS, ids=["K4N16-unsigned", "K4N16-signed", "K8N16-signed"])
def test_mutations_with_right_checksums_never_crash(battery: Path, tmp_path: Path, layout: Layout, act_sign: int) -> None:
    seed = layout * 1000 + act_sign
    counts = run(battery, "mutate", saved(tmp_path, layout, act_sign, vectors=0), seed, MUTATIONS)
    assert counts["silent"] == 0
    assert counts["ran"] > MUTATIONS // 50  # some pass the verifier, and run
    assert counts["refused"] > MUTATIONS // 4


def test_mutations_of_a_program_with_states_never_crash(battery: Path, tmp_path: Path) -> None:
    state_program(vectors=0).save(tmp_path / "state.ez")
    counts = run(battery, "mutate", tmp_path / "state.ez", 5, MUTATIONS // 2)
    assert counts["silent"] == 0
    assert counts["ran"] > MUTATIONS // 50
    assert counts["refused"] > MUTATIONS // 8


@pytest.mark.parametrize("carries", [False, True], ids=["plain", "states"])
def test_a_run_allocates_nothing(battery: Path, tmp_path: Path, carries: bool) -> None:
    path = tmp_path / "state.ez" if carries else saved(tmp_path, Layout.K4N16, 0x80)
    if carries:
        state_program().save(path)
    counts = run(battery, "allocations", path)
    assert counts["hooks"] == 2
    assert counts["heap_calls"] == 0
