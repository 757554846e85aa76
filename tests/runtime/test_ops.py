"""Every operator in C equals the NumPy interpreter: every byte of arena and outputs, on every ISA and thread count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import selection_cases
from op_cases import GENERATORS, Case, by_kernels, by_reference, with_params

from edgezip.errors import ProgramError
from edgezip.kernels import native
from edgezip.program import PARAMS, Op, Place, Unary

CASES = 250
SIGNS = [0x80, 0]


def assert_same(got: tuple[Any, list[Any]], want: tuple[Any, list[Any]], note: str) -> None:
    np.testing.assert_array_equal(got[0], want[0], note)
    for mine, theirs in zip(got[1], want[1], strict=True):
        np.testing.assert_array_equal(mine.reshape(-1).view(np.uint8), theirs.reshape(-1).view(np.uint8), note)


@pytest.mark.parametrize("act_sign", SIGNS, ids=["unsigned", "signed"])
@pytest.mark.parametrize("op", GENERATORS, ids=lambda op: op.name.lower())
def test_step_equals_reference_on_every_isa(op: Op, act_sign: int) -> None:
    rng = np.random.default_rng([op, act_sign])
    portable_only = op in selection_cases.GENERATORS  # no ISA has a path of its own for these
    for number in range(CASES // 5 if portable_only else CASES):
        case = GENERATORS[op](Case(rng, act_sign))
        program, (arena, feeds) = case.program(), case.fill()
        want = by_reference(program, arena, feeds)
        for isa in ("portable",) if portable_only else native.supported_isas():
            note = f"case {number}, {isa}: {program.steps[0].params} {program.tensors}"
            assert_same(by_kernels(program, arena, feeds, isa, threads=1 + number % 3), want, note)


@pytest.mark.parametrize("op", GENERATORS, ids=lambda op: op.name.lower())
def test_any_thread_count_gives_the_same_bytes(op: Op) -> None:
    rng = np.random.default_rng([op, 99])
    for _ in range(10):
        case = GENERATORS[op](Case(rng, 0x80))
        program, (arena, feeds) = case.program(), case.fill()
        one = by_kernels(program, arena, feeds, "portable")
        for threads in (2, 4, 16):
            assert_same(by_kernels(program, arena, feeds, "portable", threads), one, str(program.steps[0].params))


# A parameter that changes the result of every case of its operator, were it not obeyed.
FAULTS: dict[Op, dict[str, Any]] = {
    Op.BINARY: {"lo": 100, "hi": 100, "float_lo": 7.0, "float_hi": 7.0},
    Op.UNARY: {"alpha": 0.125, "beta": 0.25},
    Op.POOL: {"lo": 101, "hi": 101, "count_include_pad": 1, "kind": 1},
    Op.REDUCE: {"lo": 101, "hi": 101, "kind": 2},
    Op.RESIZE: {"lo": 101, "hi": 101},
    Op.SOFTMAX: {"scale": 3.0},
    Op.PRELU: {"lo": 99, "hi": 99},
    Op.ATTENTION: {"factor": 30.0, "scale_p": 0.3},
    Op.NORM: {"epsilon": 3.0, "kind": 2},
    Op.COPY: {"scale": 0.01, "lo": 55, "hi": 55},
    Op.RECURRENT: {"clip": 0.125},
}


@pytest.mark.parametrize("op", FAULTS, ids=lambda op: op.name.lower())
def test_a_changed_parameter_is_seen(op: Op) -> None:
    rng, seen = np.random.default_rng([op, 3]), 0
    for _ in range(40):
        case = GENERATORS[op](Case(rng, 0x80))
        program, (arena, feeds) = case.program(), case.fill()
        want = by_reference(program, arena, feeds)
        try:
            got = by_kernels(program, arena, feeds, native.supported_isas()[0], step=with_params(program, FAULTS[op]))
        except ProgramError:
            continue
        seen += not all(np.array_equal(a, b) for a, b in zip([got[0], *got[1]], [want[0], *want[1]], strict=True))
    assert seen >= 5


EDGES = [0, 1, -1, 2, 3, 7, 64, 127, 128, -129, 255, 4096, 65536, 2**24, 2**30, 2**31 - 1, -(2**31)]


def integers(op: Op) -> list[str]:
    return [n for n in PARAMS[op].names or () if PARAMS[op][n].base.kind == "i"]


@pytest.mark.parametrize("op", [op for op in GENERATORS if integers(op)], ids=lambda op: op.name.lower())
def test_random_parameters_are_refused_or_stay_inside_the_output(op: Op) -> None:
    dtype, names = PARAMS[op], integers(op)
    rng, ran, refused = np.random.default_rng([op, 5]), 0, 0
    for _ in range(300):
        case = GENERATORS[op](Case(rng, 0x80))
        program, (arena, feeds) = case.program(), case.fill()
        values: dict[str, Any] = {}
        for name in rng.choice(names, int(rng.integers(1, 3))):
            wanted = program.steps[0].params.get(name, 0)
            if dtype[name].shape:
                listed = [*wanted, *[0] * (8 - len(wanted))]
                listed[int(rng.integers(0, 3))] = int(rng.choice(EDGES))
                values[str(name)] = listed
            else:
                values[str(name)] = int(rng.choice(EDGES))
        try:
            got, _ = by_kernels(program, arena, feeds, "portable", step=with_params(program, values))
        except ProgramError:
            refused += 1
            continue
        ran += 1
        outside = np.ones(len(arena), bool)
        for y in (program.tensors[t] for t in program.steps[0].outputs):
            if y.place is Place.ARENA:
                outside[y.offset : y.offset + y.bytes] = False
        np.testing.assert_array_equal(got[outside], arena[outside], str(values))
    assert refused > 20
    assert ran > 2  # mutations that happen to change nothing, or something harmless


BAD: list[tuple[Op, str, Any]] = [
    (Op.BINARY, "kind", 0), (Op.BINARY, "kind", 14), (Op.BINARY, "rank", 0), (Op.BINARY, "rank", 9),
    (Op.BINARY, "float_lo", np.nan),
    (Op.UNARY, "kind", 0), (Op.UNARY, "kind", 22), (Op.UNARY, "alpha", np.nan),
    (Op.POOL, "kind", 3), (Op.POOL, "kernel_h", 0), (Op.POOL, "stride_w", 0), (Op.POOL, "dilation_h", -1),
    (Op.POOL, "pad_top", 2**31 - 1),
    (Op.REDUCE, "kind", 5), (Op.REDUCE, "n", 0), (Op.REDUCE, "outer", -1), (Op.REDUCE, "inner", 2**31 - 1),
    (Op.COPY, "convert", 5), (Op.COPY, "rank", 9), (Op.COPY, "x_offset", -1), (Op.COPY, "y_offset", 2**62), (Op.COPY, "fill", 2),
    (Op.GATHER, "outer", 0), (Op.GATHER, "m", 2**31 - 1), (Op.GATHER, "n", -1),
    (Op.NORM, "kind", 0), (Op.NORM, "kind", 3), (Op.NORM, "results", 8), (Op.NORM, "results", 0), (Op.NORM, "epsilon", np.nan),
    (Op.PRELU, "channels", 0), (Op.WHERE, "rank", 0),
    (Op.RECURRENT, "kind", 0), (Op.RECURRENT, "kind", 4), (Op.RECURRENT, "hidden", 0), (Op.RECURRENT, "hidden", 2**30),
    (Op.RECURRENT, "directions", 3), (Op.RECURRENT, "reverse", 2), (Op.RECURRENT, "linear_before_reset", -1),
    (Op.RECURRENT, "input_forget", 2), (Op.RECURRENT, "clip", 0.0), (Op.RECURRENT, "clip", np.nan),
    (Op.RECURRENT, "cell_clip", -1.0),
    (Op.RECURRENT, "activation", [int(Unary.EXP)] * 8), (Op.RECURRENT, "alpha", [np.nan] * 8),
]  # fmt: skip


@pytest.mark.parametrize(("op", "field", "value"), BAD, ids=lambda v: v.name.lower() if isinstance(v, Op) else str(v))
def test_check_refuses(op: Op, field: str, value: Any) -> None:
    case = GENERATORS[op](Case(np.random.default_rng([op, 7]), 0x80))
    program, (arena, feeds) = case.program(), case.fill()
    by_kernels(program, arena, feeds, "portable")
    with pytest.raises(ProgramError):
        by_kernels(program, arena, feeds, "portable", step=with_params(program, {field: value}))
