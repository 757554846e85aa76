"""Block-sparse int8 weights: the C steps equal the NumPy interpreter, which multiplies by the panels that they stand for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from block_cases import as_blocks, panels_of
from conv_cases import FORMATS, ConvSizes, by_kernels, by_reference, conv_program, random_arena

from edgezip.errors import ProgramError
from edgezip.kernels import native, sparse_blocks
from edgezip.kernels.sparse_blocks import ISAS
from edgezip.program import Layout, Op, Program

CASES = 200
NAMES = ["K4N16-unsigned", "K4N16-signed", "K8N16-signed"]


@pytest.mark.parametrize(("layout", "act_sign"), FORMATS, ids=NAMES)
def test_step_equals_reference_on_every_isa(layout: Layout, act_sign: int) -> None:
    rng = np.random.default_rng([layout, act_sign, 6])
    for case in range(CASES):
        dense_on = int(rng.choice([0, 0, 0, (1 << len(ISAS)) - 1]))
        program = as_blocks(rng, conv_program(rng, Op.CONV, layout, act_sign, True), dense_on)
        arena = random_arena(rng, program)
        want = by_reference(program, arena)
        for isa in native.supported_isas():
            got = by_kernels(program, arena, isa, threads=1 + case % 3)
            np.testing.assert_array_equal(got, want, f"case {case}, {isa}: {program.steps[0].params}")


@pytest.mark.parametrize(("layout", "act_sign"), FORMATS, ids=NAMES)
def test_large_products_in_many_pieces(layout: Layout, act_sign: int) -> None:
    """More k, rows and outputs than a kernel holds at a time; 3x3 over many channels, that the dense path may do by tiles."""
    rng = np.random.default_rng([layout, act_sign, 7])
    plain = [ConvSizes(3000, 40, (1, 197)), ConvSizes(1100, 300, (3, 9))]
    for sizes in [*plain, ConvSizes(64, 130, (11, 13), kernel=3), ConvSizes(516, 33, (7, 5), kernel=3)]:
        program = as_blocks(rng, conv_program(rng, Op.CONV, layout, act_sign, True, sizes))
        arena = random_arena(rng, program)
        want = by_reference(program, arena)
        for isa in native.supported_isas():
            for threads in (1, 3):
                np.testing.assert_array_equal(by_kernels(program, arena, isa, threads=threads), want, isa)


def test_extremes_do_not_saturate() -> None:
    rng = np.random.default_rng(9)
    for weights in (-127, 127):
        program = conv_program(rng, Op.CONV, Layout.K4N16, 0x80, True, ConvSizes(256, 48, (2, 7)))
        held = program.tensors[program.steps[0].inputs[1]]
        raw = bytearray(program.weights)
        raw[held.offset : held.offset + held.bytes] = np.full(held.bytes, weights, np.int8).tobytes()
        program = as_blocks(rng, replace(program, weights=bytes(raw)))
        arena = np.full(program.arena_bytes, 255, np.uint8)
        want = by_reference(program, arena)
        for isa in native.supported_isas():
            np.testing.assert_array_equal(by_kernels(program, arena, isa), want, isa)


# --- hostile lists ---------------------------------------------------------------------------------------------------------


def blocks_program() -> tuple[Program, int, int]:
    """A program with blocks, where they lie, and their panels."""
    rng = np.random.default_rng(4)
    plain = conv_program(rng, Op.CONV, Layout.K4N16, 0x80, True, ConvSizes(64, 48, (2, 3)))
    held = plain.tensors[plain.steps[0].inputs[1]]
    raw = bytearray(plain.weights)
    packed = np.frombuffer(plain.weights, np.uint8)[held.offset : held.offset + held.bytes].reshape(3, 16, 64).copy()
    packed[:, ::2], packed[1] = 0, 0
    raw[held.offset : held.offset + held.bytes] = packed.tobytes()
    made = sparse_blocks.blocks_of(packed, 3, 64).to_bytes()
    start = -(-len(raw) // 64) * 64
    tensors = list(plain.tensors)
    tensors[plain.steps[0].inputs[1]] = replace(held, dims=(len(made),), row_stride=len(made), offset=start, form=1)
    return replace(plain, weights=bytes(raw) + bytes(start - len(raw)) + made.tobytes(), tensors=tensors), start, 3


HEAD, STARTS, INDEX = 0, 64, 64 + 4 * 4
HOSTILE = {
    "panels": (HEAD, 4), "steps": (HEAD + 4, 17), "no steps": (HEAD + 4, 0), "groups": (HEAD + 8, 17),
    "fewer groups": (HEAD + 8, 15),
    "isa": (HEAD + 12, 1 << 9), "reserved": (HEAD + 60, 1), "first start": (STARTS, 1), "falling starts": (STARTS + 4, 17),
    "start beyond": (STARTS + 8, 2**32 - 1), "last start": (STARTS + 12, 15), "index beyond": (INDEX, 16),
    "index far": (INDEX, 65535),
    "twice": (INDEX + 2, 1), "order": (INDEX + 4, 0), "gap": (INDEX + 32, 1),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_unsound_blocks_are_refused(case: str) -> None:
    program, start, panels = blocks_program()
    assert panels == panels_of(program)
    arena = random_arena(np.random.default_rng(1), program)
    by_kernels(program, arena, "portable")  # sound as it is
    at, value = HOSTILE[case]
    raw = bytearray(program.weights)
    width = 2 if INDEX <= at < INDEX + 32 else 4
    raw[start + at : start + at + width] = value.to_bytes(width, "little")
    hostile = replace(program, weights=bytes(raw))
    with pytest.raises(ProgramError, match="blocks"):
        by_kernels(hostile, arena, "portable")
    if case not in ("isa", "reserved", "gap"):  # what Python reads of them must not lead it astray either
        with pytest.raises((ProgramError, ValueError)):
            by_reference(hostile, arena)


def test_blocks_say_what_they_stand_for() -> None:
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 256, (5, 9, 64), np.uint8) * (rng.random((5, 9, 1)) < 0.4)
    made = sparse_blocks.blocks_of(groups.astype(np.uint8), 5, 64, 3)
    again = sparse_blocks.read(made.to_bytes(), 64)
    np.testing.assert_array_equal(again.panels(), groups.reshape(-1))
    assert (again.dense_on, again.share, again.bytes) == (3, made.share, len(made.to_bytes()))
