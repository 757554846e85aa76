"""Products of two activations in C equal the NumPy interpreter: every byte of the arena, on every ISA and thread count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_cases import by_kernels, by_reference, random_arena

from edgezip.errors import ProgramError
from edgezip.kernels import native
from edgezip.program import DType, Layout, Op, Place, Program, Step, Tensor

PROGRAM_SIZES = [(1, 1, 1, 1), (1, 5, 17, 3), (2, 13, 16, 33), (3, 1, 31, 64), (1, 100, 7, 5), (2, 97, 65, 12)]


def matmul_program(size: tuple[int, int, int, int], dtype: DType, transpose_b: int, act_sign: int, shared_b: bool) -> Program:
    batch, m, n, k = size
    shapes = {"a": (batch, m, k), "b": (1 if shared_b else batch, *((n, k) if transpose_b else (k, n))), "y": (batch, m, n)}
    zero_points = {"a": -128, "b": 5, "y": 127} if dtype is DType.S8 else dict.fromkeys("aby", 0)
    tensors, offset = [], 64
    for name, dims in shapes.items():
        tensors.append(Tensor(name, dtype, Place.ARENA, dims, offset, 0.1, zero_points[name]))
        offset = -(-(offset + tensors[-1].bytes) // 64) * 64 + 64
    params: dict[str, Any] = {"batch": batch, "M": m, "N": n, "K": k, "transpose_b": transpose_b}
    params |= {"batch_stride_a": m * k, "batch_stride_b": 0 if shared_b else k * n, "batch_stride_y": m * n}
    params |= {"scale": 0.003, "lo": -100, "hi": 127}
    return Program(Layout.K4N16, act_sign, offset, 0, tensors, [Step("matmul", Op.MATMUL, (0, 1), (2,), params)], [], [])


@pytest.mark.parametrize("transpose_b", [0, 1])
@pytest.mark.parametrize(
    ("dtype", "act_sign"), [(DType.F32, 0x80), (DType.S8, 0x80), (DType.S8, 0)], ids=["f32", "s8-unsigned", "s8-signed"]
)
@pytest.mark.parametrize("size", PROGRAM_SIZES, ids=str)
def test_matmul_equals_reference_on_every_isa(
    size: tuple[int, int, int, int], dtype: DType, act_sign: int, transpose_b: int
) -> None:
    rng = np.random.default_rng([*size, dtype, act_sign, transpose_b])
    for shared_b in (False, True):
        program = matmul_program(size, dtype, transpose_b, act_sign, shared_b)
        arena = random_arena(rng, program)
        want = by_reference(program, arena)
        for isa in native.supported_isas():
            for threads in (1, 3):
                np.testing.assert_array_equal(by_kernels(program, arena, isa, threads), want, f"{isa}, {threads} threads")


BAD_PARAMS = [
    ("batch", 0), ("batch", 2**31 - 1), ("M", -1), ("M", 2**31 - 1), ("N", 2**31 - 1), ("K", 2**31 - 1), ("K", 0),
    ("transpose_b", 2), ("batch_stride_a", -1), ("batch_stride_b", 2**31 - 1), ("batch_stride_y", 1), ("scale", np.nan),
    ("scale", 0.0), ("lo", -129), ("hi", 200),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), BAD_PARAMS, ids=str)
def test_check_refuses(field: str, value: float) -> None:
    program = matmul_program((2, 13, 16, 33), DType.S8, 0, 0x80, False)
    program.steps[0].params[field] = value
    with pytest.raises(ProgramError):
        by_kernels(program, random_arena(np.random.default_rng(0), program), "portable")
