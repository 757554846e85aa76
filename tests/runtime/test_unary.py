"""The unary step gives the bits of the NumPy functions on every ISA (their errors: tests/kernels/test_float_functions.py)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from op_cases import Case, by_kernels

from edgezip.kernels import float_functions, native
from edgezip.program import DType, Op, Unary

Array = np.ndarray[Any, Any]
KINDS = [kind for kind in Unary if kind is not Unary.NOT]
SPECIAL = [
    0.0, -0.0, 1.0, -1.0, 0.625, 88.5, 89.0, 104.0, -88.0, -104.5, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38,
    -3.4028235e38, math.inf, -math.inf, math.nan,
]  # fmt: skip


def inputs(count: int) -> Array:
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**32, count, np.uint32).view(np.float32)
    return np.concatenate([np.array(SPECIAL, np.float32), bits, rng.normal(0, 4, count).astype(np.float32)])


def in_c(kind: Unary, x: Array, isa: str) -> Array:
    case = Case(np.random.default_rng(0), 0x80)
    a, y = case.arena(DType.F32, x.shape), case.arena(DType.F32, x.shape)
    program = case.run(Op.UNARY, (a,), y, kind=kind, alpha=0.3, beta=0.6).program()
    arena = np.zeros(program.arena_bytes, np.uint8)
    arena[case.tensors[a].offset :][: x.nbytes] = x.view(np.uint8)
    memory, _ = by_kernels(program, arena, [], isa, threads=2)
    return memory[case.tensors[y].offset :][: x.nbytes].view(np.float32)


def comparable(values: Array) -> Array:
    """Bits, every NaN alike: its sign and payload are the processor's own."""
    return np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.lower())
def test_c_equals_numpy_on_any_bits(kind: Unary) -> None:
    x = inputs(400_000)
    with np.errstate(all="ignore"):
        want = float_functions.apply(kind.name, x, 0.3, 0.6)
    for isa in native.supported_isas():
        np.testing.assert_array_equal(comparable(in_c(kind, x, isa)), comparable(np.asarray(want)), isa)
