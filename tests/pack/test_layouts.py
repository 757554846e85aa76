"""Packed weights come back out of the reference's inverses, padding is zero, and tables hold what their function says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgezip.kernels import reference
from edgezip.pack import layouts
from edgezip.pack.lower.resize_tables import Along, coordinates, nearest_index, neighbours
from edgezip.pack.tables import FUNCTIONS, table_of
from edgezip.program import Layout

SIZES = [1, 3, 4, 15, 16, 17, 33]


def random_s8(*dims: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(sum(dims)).integers(-127, 128, dims).astype(np.int8)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("outputs", SIZES)
@pytest.mark.parametrize(("taps", "channels"), [(1, 1), (1, 8), (9, 3), (4, 17)])
def test_gemm_weights_survive_packing(layout: Layout, outputs: int, taps: int, channels: int) -> None:
    weights = random_s8(outputs, taps, channels)
    packed = layouts.pack_gemm_s8(weights, layout)
    step = layouts.k_step(layout)
    assert packed.size == -(-outputs // 16) * 16 * taps * (-(-channels // step) * step)
    np.testing.assert_array_equal(reference.unpack_gemm_s8(packed, step, outputs, taps, channels), weights)
    assert np.abs(packed.view(np.int8).astype(int)).sum() == np.abs(weights.astype(int)).sum(), "padding is zero"


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("layout", Layout)
def test_groups_are_packed_one_after_another(layout: Layout, groups: int) -> None:
    weights = random_s8(6, 4, 5)
    packed = layouts.pack_gemm_s8(weights, layout, groups).reshape(groups, -1)
    parts = [reference.unpack_gemm_s8(np.ascontiguousarray(p), layouts.k_step(layout), 6 // groups, 4, 5) for p in packed]
    np.testing.assert_array_equal(np.concatenate(parts), weights)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("channels", SIZES)
@pytest.mark.parametrize("kernel", [(1, 1), (1, 3), (1, 9), (3, 1), (3, 3), (5, 5), (4, 2), (9, 1)], ids=str)
def test_depthwise_weights_survive_packing(layout: Layout, channels: int, kernel: tuple[int, int]) -> None:
    weights = random_s8(channels, kernel[0] * kernel[1])
    packed = layouts.pack_depthwise_s8(weights, layout, kernel)
    unpacked = reference.unpack_depthwise_s8(packed, layouts.k_step(layout), kernel, channels)
    np.testing.assert_array_equal(unpacked, weights)


@pytest.mark.parametrize("outputs", SIZES)
def test_float_weights_survive_packing(outputs: int) -> None:
    weights = np.random.default_rng(outputs).standard_normal((outputs, 9, 5)).astype(np.float32)
    packed = layouts.pack_gemm_f32(weights)
    np.testing.assert_array_equal(reference.unpack_gemm_f32(packed, outputs, 9, 5), weights)


def test_packed_k_runs_fastest_within_a_panel_of_sixteen() -> None:
    """The bytes themselves, from the layout's definition: (N/16, K/4, 16, 4)."""
    weights = np.arange(32, dtype=np.int8).reshape(4, 1, 8)
    packed = layouts.pack_gemm_s8(weights, Layout.K4N16).reshape(1, 2, 16, 4)
    assert packed[0, 0, 1].tolist() == [8, 9, 10, 11]
    assert packed[0, 1, 3].tolist() == [28, 29, 30, 31]
    assert layouts.pack_gemm_s8(weights, Layout.K8N16).reshape(1, 1, 16, 8)[0, 0, 2].tolist() == list(range(16, 24))


def test_outputs_of_each_group_are_padded_to_sixteen() -> None:
    padded = layouts.pad_outputs(np.arange(6), groups=2).reshape(2, 16)
    assert padded[:, :3].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not padded[:, 3:].any()


@pytest.mark.parametrize("act_sign", [0, 128])
@pytest.mark.parametrize("zero_point", [-128, 5, 127])
def test_table_is_indexed_and_filled_by_stored_bytes(act_sign: int, zero_point: int) -> None:
    values = np.arange(-128, 128) * 0.01
    table = table_of(values, 0.02, zero_point, act_sign)
    for logical in (-128, -1, 0, 127):
        stored = (logical & 0xFF) ^ act_sign
        expected = min(max(round(values[logical + 128] / np.float64(np.float32(0.02))) + zero_point, -128), 127)
        assert int(table[stored]) ^ act_sign == expected & 0xFF


def test_table_rounds_halves_to_even_and_bounds_what_is_not_finite() -> None:
    values = np.zeros(256)
    values[:5] = [0.5, 1.5, -np.inf, np.inf, np.nan]
    table = table_of(values, 1.0, 0, 0).view(np.int8)
    assert table[[128, 129, 130, 131]].tolist() == [0, 2, -128, 127]


@pytest.mark.parametrize(
    ("op", "x", "expected"),
    [
        ("Sigmoid", 0.0, 0.5),
        ("HardSwish", 1.0, 4 / 6),
        ("Gelu", 1.0, 0.8413447460685429),
        ("Softplus", 0.0, math.log(2)),
        ("Elu", -1.0, math.expm1(-1)),
        ("Mish", 1.0, math.tanh(math.log1p(math.e))),
        ("Erf", 0.5, math.erf(0.5)),
        ("ThresholdedRelu", 0.5, 0.0),
        ("Selu", -1.0, 1.0507009873554805 * 1.6732632423543772 * math.expm1(-1)),
    ],
)
def test_host_functions_are_exact_in_float64(op: str, x: float, expected: float) -> None:
    assert float(FUNCTIONS[op](np.array([x]))[0]) == pytest.approx(expected, rel=1e-7, abs=1e-15)


def test_neighbours_weigh_the_upper_one_and_do_not_know_the_size() -> None:
    index, weight = neighbours(np.array([-0.5, 0.0, 0.25, 1.75, 2.5], np.float32))
    assert index.tolist() == [[0, 0, 0, 1, 2], [1, 1, 1, 2, 3]]  # the runtime holds 3 inside of three pixels
    assert weight.tolist() == [0, 0, 0.25, 0.75, 0.5]


def test_align_corners_keeps_both_ends() -> None:
    assert coordinates("align_corners", Along(4, 7, 7 / 4))[[0, -1]].tolist() == [0, 3]
    assert coordinates("align_corners", Along(4, 1, 0.25)).tolist() == [0]


def test_halves_go_where_the_nearest_mode_says() -> None:
    position = np.array([0.5, 1.5], np.float32)
    assert nearest_index(position, "round_prefer_floor", 3).tolist() == [0, 1]
    assert nearest_index(position, "round_prefer_ceil", 3).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("groups", "per_group", "merged"),
    [(1, 5, 1), (8, 1, 1), (32, 1, 2), (6, 4, 2), (5, 4, 5), (4, 17, 4), (3, 16, 3), (12, 2, 2)],
)
def test_merged_groups_compute_the_same_sums(groups: int, per_group: int, merged: int) -> None:
    """(outputs, taps, C of a group) on the diagonal of fewer, wider groups."""
    rng = np.random.default_rng(groups)
    channels, taps = 3, 4
    weights = rng.integers(-127, 128, (groups * per_group, taps, channels), np.int8)
    x = rng.integers(-128, 128, (taps, groups * channels)).astype(np.int64)

    def sums(w: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
        parts = zip(np.split(w.astype(np.int64), count), np.split(x, count, axis=1), strict=True)
        return np.concatenate([np.einsum("otc,tc->o", part, seen) for part, seen in parts])

    wide, count = layouts.merge_groups(weights, groups)
    assert count == merged
    assert wide.shape[2] * count == groups * channels
    np.testing.assert_array_equal(sums(wide, count), sums(weights, groups))


def test_denormal_float_weights_are_packed_as_zero() -> None:
    weights = np.array([1e-39, -1e-45, 1.2e-38, -2.0, 0.0], np.float32).reshape(5, 1, 1)
    want = np.array([0, 0, 1.2e-38, -2.0, 0], np.float32)
    np.testing.assert_array_equal(layouts.pack_gemm_f32(weights)[:5], want)
    np.testing.assert_array_equal(layouts.pack_depthwise_f32(weights[:, 0])[:5], want)
