"""Convolution and depthwise steps in C equal the NumPy interpreter: every byte of the arena, on every ISA and thread count."""

from __future__ import annotations

import numpy as np
import pytest
from conv_cases import FORMATS, ConvSizes, by_kernels, by_reference, conv_program, random_arena, records

from edgezip.errors import ProgramError, UsageError
from edgezip.kernels import native
from edgezip.program import PARAMS, STEP, Layout, Op, Unary

PARAMS_AT = STEP.fields["params"][1]  # type: ignore[index]
CASES = 200


@pytest.mark.parametrize("quantised", [True, False], ids=["s8", "f32"])
@pytest.mark.parametrize("op", [Op.CONV, Op.DEPTHWISE], ids=lambda op: op.name.lower())
@pytest.mark.parametrize(("layout", "act_sign"), FORMATS, ids=["K4N16-unsigned", "K4N16-signed", "K8N16-signed"])
def test_step_equals_reference_on_every_isa(layout: Layout, act_sign: int, op: Op, quantised: bool) -> None:
    rng = np.random.default_rng([layout, act_sign, op, quantised])
    for case in range(CASES):
        program = conv_program(rng, op, layout, act_sign, quantised)
        arena = random_arena(rng, program)
        want = by_reference(program, arena)
        for isa in native.supported_isas():
            got = by_kernels(program, arena, isa, threads=1 + case % 3)
            np.testing.assert_array_equal(got, want, f"case {case}, {isa}: {program.steps[0].params}")


@pytest.mark.parametrize("op", [Op.CONV, Op.DEPTHWISE], ids=lambda op: op.name.lower())
def test_any_thread_count_gives_the_same_bytes(op: Op) -> None:
    rng = np.random.default_rng(7)
    for _ in range(10):
        program = conv_program(rng, op, Layout.K4N16, 0x80, True)
        arena = random_arena(rng, program)
        one = by_kernels(program, arena, "portable", threads=1)
        for threads in (2, 5, 16):
            np.testing.assert_array_equal(by_kernels(program, arena, "portable", threads=threads), one)


@pytest.mark.parametrize("quantised", [True, False], ids=["s8", "f32"])
def test_blocks_of_more_rows_for_large_weights(quantised: bool) -> None:
    """More than half a megabyte of weights: the driver takes 192 rows at a time instead of 96."""
    rng = np.random.default_rng(17)
    program = conv_program(rng, Op.CONV, Layout.K4N16, 0x80, quantised, sizes=ConvSizes(250, 1100, (1, 200)))
    arena = random_arena(rng, program)
    want = by_reference(program, arena)
    for isa in native.supported_isas():
        for threads in (1, 3):
            np.testing.assert_array_equal(by_kernels(program, arena, isa, threads=threads), want, isa)


def test_kernels_of_three_by_three_go_by_tiles_of_any_image() -> None:
    """Winograd where an ISA has it: odd sizes, any padding, channels and outputs that fill no register, tables and residuals."""
    rng = np.random.default_rng(33)
    for _ in range(40):
        channels, outputs = int(rng.choice([16, 20, 32, 36, 64, 100])), int(rng.choice([1, 7, 16, 17, 33, 64]))
        sizes = ConvSizes(channels, outputs, (int(rng.integers(6, 21)), int(rng.integers(6, 21))), kernel=3)
        program = conv_program(rng, Op.CONV, Layout.K4N16, 0x80, True, sizes)
        arena = random_arena(rng, program)
        want = by_reference(program, arena)
        for isa in native.supported_isas():
            for threads in (1, 3):
                np.testing.assert_array_equal(by_kernels(program, arena, isa, threads=threads), want, isa)


@pytest.mark.parametrize("rows", [1, 13, 14, 15, 29, 64, 65])
@pytest.mark.parametrize("channels", [160, 1153])
def test_long_float_sums_of_any_number_of_rows(channels: int, rows: int) -> None:
    """AVX-512 takes them in tiles of other heights, two panels at a time."""
    rng = np.random.default_rng([channels, rows])
    program = conv_program(rng, Op.CONV, Layout.K4N16, 0x80, False, sizes=ConvSizes(channels, 70, (1, rows)))
    arena = random_arena(rng, program)
    want = by_reference(program, arena)
    for isa in native.supported_isas():
        np.testing.assert_array_equal(by_kernels(program, arena, isa), want, isa)


def test_a_changed_weight_is_seen() -> None:
    rng = np.random.default_rng(3)
    seen = 0
    for _ in range(30):
        program = conv_program(rng, Op.CONV, Layout.K4N16, 0x80, True)
        arena = random_arena(rng, program)
        want = by_reference(program, arena)
        bias = program.tensors[program.steps[0].inputs[2]]
        damaged = bytearray(program.weights)
        damaged[bias.offset + 1] ^= 0x40  # 16384 steps of the accumulator of output 0
        program.weights = bytes(damaged)
        seen += not np.array_equal(by_kernels(program, arena, "avx2" if "avx2" in native.supported_isas() else "portable"), want)
    assert seen >= 10  # a clamp may hide it in some


BAD_PARAMS = [
    ("kernel_h", 0), ("kernel_h", -1), ("kernel_w", 2**31 - 1), ("stride_h", 0), ("stride_w", -2), ("stride_h", 2**31 - 1),
    ("dilation_w", 0), ("dilation_h", 2**31 - 1), ("pad_top", 2**31 - 1), ("pad_left", -(2**31)), ("out_h", 0), ("out_h", -5),
    ("out_w", 2**31 - 1), ("out_offset_h", -1), ("out_offset_w", 2**31 - 1), ("out_step_h", 0), ("out_step_w", -1),
    ("groups", 0), ("groups", -1), ("groups", 2**31 - 1), ("lo", -129), ("hi", 128), ("lo", 127), ("zero_point_mid", 128),
    ("zero_point_mid_out", -129), ("add_lo", -129), ("add_hi", 128), ("scale_a", np.nan), ("scale_b", np.inf),
]  # fmt: skip


def with_params(step: bytes, values: dict[str, float]) -> bytes:
    raw = bytearray(step)
    dtype = PARAMS[Op.CONV]
    record = np.frombuffer(bytes(raw[PARAMS_AT : PARAMS_AT + dtype.itemsize]), dtype).copy()
    for name, value in values.items():
        record[name] = value
    raw[PARAMS_AT : PARAMS_AT + dtype.itemsize] = record.tobytes()
    return bytes(raw)


@pytest.mark.parametrize(("field", "value"), BAD_PARAMS, ids=lambda v: str(v))
def test_check_refuses(field: str, value: float) -> None:
    rng = np.random.default_rng(11)
    program = conv_program(rng, Op.CONV, Layout.K4N16, 0x80, True)
    program.steps[0].params |= {"lo": -128, "hi": 100}
    arena = random_arena(rng, program)
    by_kernels(program, arena, "portable")
    with pytest.raises(ProgramError):
        by_kernels(program, arena, "portable", step=with_params(records(program)[0], {field: value}))


BAD_FLOAT_PARAMS = [
    ("act", -1), ("act", int(Unary.NOT)), ("act", max(Unary) + 1), ("act_alpha", np.nan), ("act_beta", np.nan), ("affine", 2),
    ("factor", np.nan), ("shift", np.nan), ("sum_lo", np.nan), ("sum_hi", -np.inf), ("float_lo", np.nan), ("float_hi", -np.inf),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), BAD_FLOAT_PARAMS, ids=lambda v: str(v))
def test_check_refuses_what_follows_a_float_product(field: str, value: float) -> None:
    program = conv_program(np.random.default_rng(11), Op.CONV, Layout.K4N16, 0x80, False)
    program.steps[0].params |= {"float_lo": 0.0, "sum_lo": 0.0}
    arena = random_arena(np.random.default_rng(11), program)
    by_kernels(program, arena, "portable")
    with pytest.raises(ProgramError):
        by_kernels(program, arena, "portable", step=with_params(records(program)[0], {field: value}))


@pytest.mark.parametrize("field", ["act", "affine"])
def test_check_refuses_float_functions_of_an_int8_product(field: str) -> None:
    program = conv_program(np.random.default_rng(11), Op.CONV, Layout.K4N16, 0x80, True)
    arena = random_arena(np.random.default_rng(11), program)
    with pytest.raises(ProgramError):
        by_kernels(program, arena, "portable", step=with_params(records(program)[0], {field: 1}))


def test_random_parameters_are_refused_or_stay_inside_the_output() -> None:
    rng = np.random.default_rng(13)
    names = [n for n in PARAMS[Op.CONV].names or () if PARAMS[Op.CONV].fields[n][0].kind == "i"]  # type: ignore[index]
    edges = [0, 1, -1, 2, 3, 7, 16, 127, 128, 255, 4096, 65536, 2**24, 2**30, 2**31 - 1, -(2**31)]
    ran = 0
    for _ in range(400):
        op = (Op.CONV, Op.DEPTHWISE)[int(rng.integers(2))]
        program = conv_program(rng, op, Layout.K4N16, 0x80, True)
        arena = random_arena(rng, program)
        values = {str(rng.choice(names)): int(rng.choice(edges)) for _ in range(int(rng.integers(1, 3)))}
        try:
            got = by_kernels(program, arena, "portable", step=with_params(records(program)[0], values))
        except ProgramError:
            continue
        ran += 1
        y = program.tensors[program.steps[0].outputs[0]]
        outside = np.r_[0 : y.offset, y.offset + y.bytes : program.arena_bytes]
        np.testing.assert_array_equal(got[outside], arena[outside])
    assert ran > 20


def test_unknown_isa_is_refused() -> None:
    program = conv_program(np.random.default_rng(0), Op.CONV, Layout.K4N16, 0x80, True)
    with pytest.raises(UsageError, match="not built into"):
        by_kernels(program, random_arena(np.random.default_rng(0), program), "mmx")
