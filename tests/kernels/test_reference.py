"""The NumPy oracle itself, against libm, plain Python loops and hand-made cases."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest

from edgezip.kernels import reference as ref

LIBM = ctypes.CDLL("libm.so.6")
LIBM.fmaf.restype = ctypes.c_float
LIBM.fmaf.argtypes = [ctypes.c_float] * 3


def edge_floats() -> list[float]:
    tiny = float(np.finfo(np.float32).tiny)
    return [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1 + 2.0**-23,
        1 - 2.0**-24,
        2.0**-126,
        tiny / 8,
        3.4e38,
        -3.4e38,
        np.inf,
        -np.inf,
        np.nan,
        2.0**-75,
        2.0**24 + 2,
    ]


def test_fma_equals_libm_on_every_triple_of_edge_values() -> None:
    triples = np.array(list(itertools.product(edge_floats(), repeat=3)), np.float32)
    got = ref.fma(triples[:, 0], triples[:, 1], triples[:, 2])
    want = np.array([LIBM.fmaf(*map(float, t)) for t in triples], np.float32)
    np.testing.assert_array_equal(got, want)


def test_fma_equals_libm_on_random_values_of_mixed_exponents() -> None:
    rng = np.random.default_rng(1)
    values = (rng.standard_normal((30000, 3)) * 2.0 ** rng.integers(-30, 30, (30000, 3))).astype(np.float32)
    values[:10000, 2] = -(values[:10000, 0].astype(np.float64) * values[:10000, 1]).astype(np.float32)  # cancellation
    got = ref.fma(values[:, 0], values[:, 1], values[:, 2])
    want = np.array([LIBM.fmaf(*map(float, t)) for t in values], np.float32)
    np.testing.assert_array_equal(got, want)


def test_fma_rounds_once_where_float64_would_round_twice() -> None:
    a, b, c = np.float32(1 + 2.0**-12), np.float32(1 + 2.0**-12), np.float32(2.0**-60)
    exact_side = LIBM.fmaf(float(a), float(b), float(c))
    twice = np.float32(np.float64(a) * np.float64(b) + np.float64(c))
    assert ref.fma(np.array([a]), np.array([b]), np.array([c]))[0] == np.float32(exact_side) != twice


def test_rounding_is_half_to_even() -> None:
    t = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)
    assert ref.to_int8(t, -128, 127, 0).tolist() == [0, 2, 2, 0, -2, -2]


@pytest.mark.parametrize("zero_point", [-128, -1, 0, 127])
def test_clamp_happens_before_the_conversion(zero_point: int) -> None:
    t = np.array([np.inf, 3e38, -np.inf, -3e38, np.nan], np.float32)
    assert ref.to_int8(t, -128, 127, zero_point).tolist() == [127, 127, -128, -128, -128]


def test_tree_sum_has_the_stated_order() -> None:
    x = np.random.default_rng(2).standard_normal(37).astype(np.float32)
    lanes = [np.float32(0)] * 16
    for i, value in enumerate(x):
        lanes[i % 16] = np.float32(lanes[i % 16] + value)
    for distance in (8, 4, 2, 1):
        lanes = [np.float32(lanes[i] + lanes[i + distance]) for i in range(distance)]
    assert ref.sum_in_tree(x[None])[0] == lanes[0]


@pytest.mark.parametrize(("stride", "dilation", "pad", "groups"), [(1, 1, 0, 1), (2, 1, 1, 1), (1, 2, 2, 2), (3, 1, 1, 1)])
def test_convolution_equals_plain_loops(stride: int, dilation: int, pad: int, groups: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (1, 7, 6, 4))
    w = rng.integers(-127, 128, (6 // groups, 9, 4 // groups)).astype(np.int8)
    bias = rng.integers(-1000, 1000, 6 // groups).astype(np.int32)
    fill, size = 131, (x.shape[1] + 2 * pad - 2 * dilation - 1) // stride + 1
    width = (x.shape[2] + 2 * pad - 2 * dilation - 1) // stride + 1
    seen = ref.patches(x[..., : 4 // groups], (size, width), (3, 3), (stride,) * 2, (dilation,) * 2, (pad, pad), fill)
    got = ref.accumulate_s8(seen, w, bias)
    for i, j, n in itertools.product(range(size), range(width), range(len(w))):
        total = int(bias[n])
        for ky, kx, c in itertools.product(range(3), range(3), range(4 // groups)):
            row, column = i * stride - pad + ky * dilation, j * stride - pad + kx * dilation
            inside = 0 <= row < x.shape[1] and 0 <= column < x.shape[2]
            total += (int(x[0, row, column, c]) if inside else fill) * int(w[n, ky * 3 + kx, c])
        assert got[0, i, j, n] == total


def test_sums_wrap_modulo_two_to_the_32() -> None:
    seen = np.full((1, 1, 70000, 1), 255)
    w = np.full((1, 70000, 1), 127, np.int8)
    total = 255 * 127 * 70000
    assert ref.accumulate_s8(seen, w, np.zeros(1, np.int32))[0, 0, 0] == np.array(total, np.int64).astype(np.int32)


@pytest.mark.parametrize("step", [4, 8])
def test_unpacking_gemm_weights_is_the_inverse_of_the_stated_layout(step: int) -> None:
    rng = np.random.default_rng(4)
    outputs, taps, channels = 21, 3, 5
    w = rng.integers(-127, 128, (outputs, taps, channels)).astype(np.int8)
    padded = -(-channels // step) * step
    packed = np.zeros((2, taps * padded // step, 16, step), np.int8)
    for n, t, c in itertools.product(range(outputs), range(taps), range(channels)):
        k = t * padded + c
        packed[n // 16, k // step, n % 16, k % step] = w[n, t, c]
    np.testing.assert_array_equal(ref.unpack_gemm_s8(packed.reshape(-1).view(np.uint8), step, outputs, taps, channels), w)


def test_cast_truncates_saturates_and_maps_nan_to_zero() -> None:
    x = np.array([1.9, -1.9, np.nan, 3e9, -3e9, np.inf], np.float32)
    assert ref.cast(x, np.dtype(np.int32)).tolist() == [1, -1, 0, 2**31 - 1, -(2**31), 2**31 - 1]
    assert ref.cast(x, np.dtype(np.uint8)).tolist() == [1, 0, 0, 255, 0, 255]


def test_softmax_of_a_row_sums_to_one() -> None:
    x = np.random.default_rng(5).standard_normal((4, 37)).astype(np.float32) * 10
    np.testing.assert_allclose(ref.softmax_f32(x).sum(-1), 1, rtol=1e-5)
