"""Damaged and hostile program files under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from dynamic_graphs import dynamic_graph
from recurrent_program import recurrent_program
from small_program import small_program
from sparse_graphs import sparse_network, sparse_rows
from state_program import state_program

from edgezip.coded import Range, encode
from edgezip.compilation import compile
from edgezip.program import Layout, Program

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


def coded(folder: Path, program: Program) -> Path:
    program.coded = True
    program.save(folder / "coded.ez")
    return folder / "coded.ez"


def test_every_prefix_and_every_flipped_bit_of_a_coded_file_is_refused(battery: Path, tmp_path: Path) -> None:
    path = coded(tmp_path, small_program(Layout.K4N16, 0x80, 0, 1))
    counts = run(battery, "damage", path)
    assert counts["whole"] == 1
    assert counts["prefixes_refused"] == counts["prefixes"] == path.stat().st_size
    assert counts["flips_refused"] == counts["flips"] == 8 * path.stat().st_size


def test_mutations_of_a_coded_file_never_crash(battery: Path, tmp_path: Path) -> None:
    counts = run(battery, "mutate", coded(tmp_path, small_program(Layout.K4N16, 0x80, 0, 0)), 3, MUTATIONS)
    assert counts["silent"] == 0
    assert counts["refused"] > MUTATIONS // 2


@pytest.mark.parametrize("step", [4, 8])
def test_mutations_of_streams_with_contexts_never_crash(battery: Path, tmp_path: Path, step: int) -> None:
    """Packed weights with empty columns behind a program: decoded, and then refused as bytes that do not belong there."""
    generator = np.random.default_rng(step)
    kept = generator.random((4, 20, 16, step)) < generator.random((1, 20, 1, step)) ** 6
    weights = np.where(kept, generator.integers(1, 40, kept.shape), 0).astype(np.uint8).tobytes()
    plain = small_program(Layout.K4N16, 0x80, 0, 0).plain_bytes()
    ranges = [Range(0, len(plain)), Range(len(plain), len(weights), 1, 20 * 16 * step, step)]
    (tmp_path / "contexts.ez").write_bytes(encode(plain + weights, ranges))
    counts = run(battery, "mutate", tmp_path / "contexts.ez", 4, MUTATIONS)
    assert counts["silent"] == 0
    assert counts["refused"] == counts["mutations"]


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


@pytest.mark.parametrize(("name", "is_int8"), [("lstm", True), ("gru", False)])
def test_mutations_of_a_recurrent_program_never_crash(battery: Path, tmp_path: Path, name: str, is_int8: bool) -> None:
    recurrent_program(name, is_int8).save(tmp_path / "recurrent.ez")
    counts = run(battery, "mutate", tmp_path / "recurrent.ez", 9, MUTATIONS // 3)
    assert counts["silent"] == 0
    assert counts["ran"] > MUTATIONS // 100
    assert counts["refused"] > MUTATIONS // 12


@pytest.mark.parametrize("target", ["x86-64", "rpi4"])
def test_mutations_of_a_program_with_blocks_never_crash(battery: Path, tmp_path: Path, target: str) -> None:
    """Lists out of range, out of order, too many: refused; what passes is skipped on one ISA and expanded on another."""
    for number, model in enumerate((sparse_network(0.3), sparse_rows(0.3))):
        program = compile(model, target, vectors=0)
        assert any(tensor.form for tensor in program.tensors)
        program.metadata = {}
        program.save(tmp_path / "blocks.ez")
        counts = run(battery, "mutate", tmp_path / "blocks.ez", 11 + number, MUTATIONS // 2)
        assert counts["silent"] == 0
        assert counts["ran"] > MUTATIONS // 100
        assert counts["refused"] > MUTATIONS // 8


def test_every_flipped_bit_of_blocks_is_refused(battery: Path, tmp_path: Path) -> None:
    program = compile(sparse_rows(0.1), "x86-64", vectors=1)
    program.metadata = {}
    program.save(tmp_path / "blocks.ez")
    counts = run(battery, "damage", tmp_path / "blocks.ez")
    assert counts["whole"] == 1
    assert counts["prefixes_refused"] == counts["prefixes"]
    assert counts["flips_refused"] == counts["flips"]


def dynamic_program(kind: str, seed: int, vectors: int) -> Program:
    """Two symbols, several variants."""
    return compile(
        dynamic_graph(kind, seed), "x86-64", dims={"n": (1, 2), "w" if kind == "image" else "s": (8, 12)}, vectors=vectors
    )


@pytest.mark.parametrize(("kind", "seed"), [("image", 1), ("sequence", 13)])
def test_mutations_of_a_program_with_dynamic_shapes_never_crash(battery: Path, tmp_path: Path, kind: str, seed: int) -> None:
    dynamic_program(kind, seed, 0).save(tmp_path / "dynamic.ez")
    counts = run(battery, "mutate", tmp_path / "dynamic.ez", 6, MUTATIONS // 6)
    assert counts["silent"] == 0
    assert counts["ran"] > MUTATIONS // 100
    assert counts["refused"] > MUTATIONS // 24


def test_every_flipped_bit_of_a_program_with_dynamic_shapes_is_refused(battery: Path, tmp_path: Path) -> None:
    program = dynamic_program("sequence", 13, 3)
    program.metadata = {}
    program.save(tmp_path / "dynamic.ez")
    counts = run(battery, "damage", tmp_path / "dynamic.ez")
    assert counts["whole"] == 1
    assert counts["prefixes_refused"] == counts["prefixes"]
    assert counts["flips_refused"] == counts["flips"]


@pytest.mark.parametrize("kind", ["plain", "states", "dynamic", "blocks"])
def test_a_run_allocates_nothing(battery: Path, tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path, Layout.K4N16, 0x80)
    if kind == "states":
        state_program().save(path)
    if kind == "dynamic":  # resized before each run
        dynamic_program("image", 1, 0).save(path)
    if kind == "blocks":
        compile(sparse_network(0.3), "x86-64", vectors=0).save(path)
    counts = run(battery, "allocations", path)
    assert counts["hooks"] == 2
    assert counts["heap_calls"] == 0
