"""The C functions and their NumPy twins: equal bits for every kind of float, and the stated errors."""

from __future__ import annotations

import ctypes
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgezip.kernels import float_functions

ROOT = Path(__file__).parents[2]
C_NAMES = {
    "EXP": "ez_expf", "SIGMOID": "ez_sigmoidf", "TANH": "ez_tanhf", "ERF": "ez_erff", "GELU": "ez_geluf", "SILU": "ez_siluf",
    "HARD_SWISH": "ez_hard_swishf", "LOG": "ez_logf", "GELU_TANH": "ez_gelu_tanhf", "SOFTPLUS": "ez_softplusf",
}  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("functions")
    body = '#include "core/float_functions.h"\n#include <stddef.h>\n'
    for name in [*C_NAMES.values()]:
        body += f"void all_{name}(const float *x, float *y, size_t n) {{ for (size_t i = 0; i < n; i++) y[i] = {name}(x[i]); }}\n"
    (folder / "all.c").write_text(body)
    flags = [
        "-std=c11",
        "-O3",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-shared",
        "-fPIC",
        f"-I{ROOT}/csrc",
    ]
    subprocess.run(["gcc", *flags, str(folder / "all.c"), "-o", str(folder / "all.so"), "-lm"], check=True)
    return ctypes.CDLL(str(folder / "all.so"))


def every_kind_of_float() -> np.ndarray:
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 2**32, 400_000, dtype=np.uint32).view(np.float32)
    near = (rng.standard_normal(400_000) * 8).astype(np.float32)
    edge = np.array(
        [0, -0.0, np.inf, -np.inf, np.nan, 88.72, 88.73, 89, 90, -87.3, -104, -105, 0.625, 1.0, 1e-45, 1.2e-38], np.float32
    )
    return np.concatenate([bits, near, edge, np.linspace(-1.5, 1.5, 100_001, dtype=np.float32)])


def in_c(library: ctypes.CDLL, kind: str, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    pointer = ctypes.POINTER(ctypes.c_float)
    getattr(library, f"all_{C_NAMES[kind]}")(x.ctypes.data_as(pointer), y.ctypes.data_as(pointer), ctypes.c_size_t(len(x)))
    return y


@pytest.mark.parametrize("kind", C_NAMES)
def test_c_and_numpy_give_the_same_bits(library: ctypes.CDLL, kind: str) -> None:
    x = every_kind_of_float()
    got, want = in_c(library, kind, x), float_functions.apply(kind, x, 0.0, 0.0)
    both_nan = np.isnan(got) & np.isnan(want)
    wrong = np.flatnonzero((got.view(np.uint32) != want.view(np.uint32)) & ~both_nan)
    assert wrong.size == 0, f"{kind}({x[wrong[0]]!r}): C {got[wrong[0]]!r}, NumPy {want[wrong[0]]!r}, {wrong.size} differ"


TRUTH = {
    "EXP": np.exp, "SIGMOID": lambda x: 1 / (1 + np.exp(-x)), "TANH": np.tanh, "ERF": np.vectorize(math.erf), "LOG": np.log,
    "GELU_TANH": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "SOFTPLUS": lambda x: np.logaddexp(0, x), "GELU": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
}  # fmt: skip
# The bounds stated in float_functions.h: (relative, absolute, low, high).
BOUNDS = {
    "EXP": (1.3e-7, 0, -86.9, 88), "SIGMOID": (0, 1.2e-7, -30, 30), "TANH": (3e-7, 0, -12, 12), "ERF": (0, 2.5e-7, -5, 5),
    "LOG": (2e-7, 1.5e-7, 1e-30, 1e6), "SOFTPLUS": (2e-7, 3e-7, -30, 30), "GELU": (0, 1.5e-6, -5, 5),
    "GELU_TANH": (0, 1.5e-6, -5, 5),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOUNDS)
def test_error_against_float64_is_as_stated(kind: str) -> None:
    relative, absolute, low, high = BOUNDS[kind]
    x = np.linspace(low, high, 200_001, dtype=np.float64).astype(np.float32)
    truth = TRUTH[kind](x.astype(np.float64))
    error = np.abs(float_functions.apply(kind, x, 0.0, 0.0) - truth)
    assert np.all(error <= absolute + relative * np.abs(truth)), (
        f"largest excess {np.max(error - absolute - relative * np.abs(truth))}"
    )


def test_a_changed_coefficient_is_caught(library: ctypes.CDLL) -> None:
    x = np.linspace(-1, 1, 10_001, dtype=np.float32)
    changed = float_functions.apply("EXP", x, 0.0, 0.0) * np.float32(1 + 2.0**-23)
    assert np.any(in_c(library, "EXP", x) != changed)
