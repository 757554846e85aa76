"""C and NumPy float functions give the same bits; their errors against float64 are what the header states."""

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


def _exact(kind: Unary, x: Array) -> Array:
    erf = np.vectorize(math.erf)
    functions = {
        Unary.EXP: np.exp, Unary.SIGMOID: lambda v: 1 / (1 + np.exp(-v)), Unary.TANH: np.tanh, Unary.ERF: erf,
        Unary.GELU: lambda v: 0.5 * v * (1 + erf(v / math.sqrt(2))), Unary.SILU: lambda v: v / (1 + np.exp(-v)),
        Unary.SOFTPLUS: lambda v: np.logaddexp(0, v), Unary.LOG: lambda v: np.log(np.abs(v)),
    }  # fmt: skip
    return np.asarray(functions[kind](x.astype(np.float64)))


# Stated in csrc/ops/float_functions.h: (absolute, relative) error; one of them holds.
STATED = {
    Unary.EXP: (0.0, 1.3e-7), Unary.SIGMOID: (1.2e-7, 0.0), Unary.TANH: (0.0, 3e-7), Unary.ERF: (2.5e-7, 0.0), Unary.GELU: (0.0,
    0.0),
    Unary.SILU: (0.0, 0.0), Unary.SOFTPLUS: (3e-7, 1.5e-7), Unary.LOG: (2e-7, 2e-7),
}  # fmt: skip


@pytest.mark.parametrize("kind", STATED, ids=lambda kind: kind.name.lower())
def test_error_is_what_the_header_states(kind: Unary) -> None:
    x = np.random.default_rng(2).uniform(-20, 20, 100_000).astype(np.float32)
    if kind is Unary.LOG:
        x = np.abs(x) + np.float32(1e-6)
    got = np.asarray(float_functions.apply(kind.name, x, 0.0, 0.0), np.float64)
    want = _exact(kind, x)
    absolute, relative = STATED[kind]
    allowed = absolute + relative * np.abs(want)
    if kind in (Unary.GELU, Unary.SILU):
        allowed = 3e-7 * np.maximum(np.abs(x), 1e-3)
    assert np.all(np.abs(got - want) <= allowed), float(np.max(np.abs(got - want) - allowed))
