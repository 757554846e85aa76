"""Products of two activations in C equal the NumPy interpreter: every byte of the arena, on every ISA and thread count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conv_cases import by_kernels, by_reference, random_arena

from edgezip.errors import ProgramError
from edgezip.kernels import native
from edgezip.program import DType, Layout, Op, Place, Program, Step, Tensor

F32, S8 = DType.F32, DType.S8
SIZES = [
    (1, 1, 1, 1, 1),
    (1, 1, 5, 17, 3),
    (2, 1, 13, 16, 33),
    (1, 3, 1, 31, 64),
    (1, 2, 100, 7, 5),
    (2, 2, 50, 65, 12),
    (1, 2, 3, 130, 40),
]


@dataclass(frozen=True)
class Form:
    """How the operands lie: ``heads`` side by side in each row, B transposed, B shared by all matrices."""

    heads: bool = False
    transposed: bool = False
    shared: bool = False


FORMS = [Form(), Form(transposed=True), Form(shared=True), Form(heads=True), Form(heads=True, transposed=True)]


def strides_of(outer_rows: int, inner: int, columns: int, heads: bool) -> tuple[int, int, int, int]:
    """(outer, inner, rows, columns), or with heads (outer, rows, inner, columns) in memory."""
    if heads:
        return (outer_rows * inner * columns, columns, inner * columns, 1)
    return (inner * outer_rows * columns, outer_rows * columns, columns, 1)


def matmul_program(size: tuple[int, ...], dtypes: tuple[DType, DType], form: Form, act_sign: int, zero_b: int = 5) -> Program:
    outer, inner, m, n, k = size
    a, y = strides_of(m, inner, k, form.heads), strides_of(m, inner, n, form.heads)
    b = strides_of(n if form.transposed else k, inner, k if form.transposed else n, form.heads)
    b = (b[0], b[1], b[3], b[2]) if form.transposed else b
    b = (0, 0, *b[2:]) if form.shared else b
    zero_points = {"a": -128, "b": zero_b, "y": 127}
    tensors, offset = [], 64
    counts = {"a": outer * inner * m * k, "b": (1 if form.shared else outer * inner) * k * n, "y": outer * inner * m * n}
    for name, count in counts.items():
        dtype = dtypes[name == "y"]
        tensors.append(Tensor(name, dtype, Place.ARENA, (count,), offset, 0.1 * (dtype is S8), zero_points[name] * (dtype is S8)))
        offset = -(-(offset + tensors[-1].bytes) // 64) * 64 + 64
    params: dict[str, Any] = {"outer": outer, "inner": inner, "M": m, "N": n, "K": k, "stride_a": a, "stride_b": b, "stride_y": y}
    params |= {"scale": 0.003, "lo": -100, "hi": 127}
    return Program(Layout.K4N16, act_sign, offset, 0, tensors, [Step("matmul", Op.MATMUL, (0, 1), (2,), params)], [], [])


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize(
    ("dtypes", "act_sign"),
    [((F32, F32), 0x80), ((S8, S8), 0x80), ((S8, S8), 0), ((S8, F32), 0x80)],
    ids=["f32", "s8-unsigned", "s8-signed", "s8-to-f32"],
)
def test_matmul_equals_reference_on_every_isa(dtypes: tuple[DType, DType], act_sign: int, form: Form) -> None:
    rng = np.random.default_rng([*dtypes, act_sign, FORMS.index(form)])
    for size in SIZES:
        for zero_b in (0, 5, -128):  # one, two and three taps
            program = matmul_program(size, dtypes, form, act_sign, zero_b)
            arena = random_arena(rng, program)
            if zero_b == 0:  # no -128: a single tap
                b = program.tensors[1]
                held = arena[b.offset : b.offset + b.bytes]
                held[held == (0x80 ^ act_sign)] = 0x81 ^ act_sign
            want = by_reference(program, arena)
            for isa in native.supported_isas():
                for threads in (1, 3):
                    np.testing.assert_array_equal(
                        by_kernels(program, arena, isa, threads), want, f"{size}, {isa}, {threads} threads"
                    )


BAD_PARAMS: list[tuple[str, Any]] = [
    ("outer", 0), ("outer", 2**31 - 1), ("inner", -1), ("M", -1), ("M", 2**31 - 1), ("N", 2**31 - 1), ("K", 2**31 - 1), ("K", 0),
    ("stride_a", (0, 0, -1, 1)), ("stride_a", (429, 429, 33, 2)), ("stride_b", (528, 2**31 - 1, 16, 1)),
    ("stride_b", (528, 528, 16, 100)),
    ("stride_y", (0, 0, 16, 1)), ("stride_y", (208, 0, 16, 1)), ("scale", np.nan), ("scale", 0.0), ("lo", -129), ("hi", 200),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), BAD_PARAMS, ids=str)
def test_check_refuses(field: str, value: Any) -> None:
    program = matmul_program((1, 2, 13, 16, 33), (S8, S8), Form(), 0x80)
    by_kernels(program, random_arena(np.random.default_rng(0), program), "portable")
    program.steps[0].params[field] = value
    with pytest.raises(ProgramError):
        by_kernels(program, random_arena(np.random.default_rng(0), program), "portable")
