"""Histograms and the rules on them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgezip.errors import CalibrationError
from edgezip.passes.calibrators import METHODS, _error, entropy, mse, percentile
from edgezip.passes.histogram import BINS, Histogram


def filled(values: np.ndarray, pieces: int = 1) -> Histogram:
    histogram = Histogram("t")
    for part in np.array_split(values, pieces):
        histogram.add(part)
    return histogram


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.floats(-12, 12))
def test_histogram_does_not_depend_on_how_samples_are_cut(seed: int, pieces: int, exponent: float) -> None:
    values = (np.random.default_rng(seed).standard_normal(997) * 2.0**exponent).astype(np.float32)
    whole, cut = filled(values), filled(values[::-1], pieces)
    assert whole.radius == cut.radius
    np.testing.assert_array_equal(whole.counts, cut.counts)
    assert (whole.low, whole.high) == (cut.low, cut.high) == (float(values.min()), float(values.max()))


def test_histogram_counts_every_value_in_its_bin() -> None:
    values = np.random.default_rng(2).uniform(-3, 5, 10_000).astype(np.float32)
    histogram = filled(values, 7)
    want, _ = np.histogram(values.astype(np.float64), BINS, (-histogram.radius, histogram.radius))
    assert histogram.counts.sum() == len(values)
    assert np.abs(histogram.counts - want).sum() <= 2  # np.histogram puts the topmost edge into the last bin


def test_memory_does_not_grow_with_samples() -> None:
    histogram = Histogram("t")
    for seed in range(50):
        histogram.add(np.random.default_rng(seed).standard_normal((1, 4, 8, 8)).astype(np.float32))
    assert histogram.counts.nbytes == BINS * 8
    assert histogram.channel_mean is not None
    assert histogram.channel_mean.shape == (4,)


def test_channel_mean_is_the_mean_over_everything_else() -> None:
    values = np.random.default_rng(3).standard_normal((6, 3, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(filled(values, 3).channel_mean, values.mean(axis=(0, 2, 3), dtype=np.float64), rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_name(bad: float) -> None:
    with pytest.raises(CalibrationError, match="'t'"):
        filled(np.array([1.0, bad], np.float32))


def test_percentile_equals_numpy_within_a_bin() -> None:
    values = np.random.default_rng(4).standard_normal(200_000).astype(np.float32)
    histogram = filled(values)
    low, high = percentile(histogram, 99.0)
    width = 2 * histogram.radius / BINS
    assert abs(low - np.percentile(values, 0.5)) <= 2 * width
    assert abs(high - np.percentile(values, 99.5)) <= 2 * width


def test_mse_range_is_no_worse_than_minmax_and_clips_an_outlier() -> None:
    values = np.append(np.random.default_rng(5).standard_normal(50_000), 40.0).astype(np.float32)
    histogram = filled(values)
    low, high = mse(histogram)
    used = np.flatnonzero(histogram.counts)
    centres, counts = histogram.centres[used], histogram.counts[used]
    assert _error(centres, counts, low, high) <= _error(centres, counts, float(values.min()), float(values.max()))
    assert high < 40


@pytest.mark.parametrize("method", METHODS)
def test_range_lies_within_what_was_seen(method: str) -> None:
    values = np.maximum(np.random.default_rng(6).standard_normal(20_000), 0).astype(np.float32)
    low, high = METHODS[method](filled(values))
    assert -1e-9 <= low <= 0.01
    assert 1.0 < high <= values.max() + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_constant_tensor_gives_a_range(method: str) -> None:
    low, high = METHODS[method](filled(np.zeros(100, np.float32)))
    assert low <= 0 <= high + 1e-6


def test_power_of_two_values_do_not_depend_on_the_cut() -> None:
    values = np.array([1.0] * 100 + [1.5] * 10, np.float32)
    whole, cut = Histogram("t"), Histogram("t")
    whole.add(values)
    cut.add(values[:100])
    cut.add(values[100:])
    np.testing.assert_array_equal(whole.counts, cut.counts)


def test_entropy_is_not_drowned_by_the_zeros_of_a_relu() -> None:
    values = np.random.default_rng(0).exponential(1.0, 20_000).astype(np.float32)
    few, many = Histogram("t"), Histogram("t")
    few.add(values)
    many.add(np.append(values, np.zeros(2_000_000, np.float32)))
    assert entropy(many)[1] == pytest.approx(entropy(few)[1], rel=0.02)


DRAWS = {
    "normal": lambda g, n: g.standard_normal(n),
    "laplace": lambda g, n: g.laplace(size=n),
    "heavy tails": lambda g, n: g.standard_t(4, n),
    "relu": lambda g, n: np.maximum(g.standard_normal(n), 0),
    "outlier": lambda g, n: np.append(g.standard_normal(n), 30.0),
    "uniform": lambda g, n: g.uniform(-1, 1, n),
}


def _plain_divergence(counts: list[int], bins: int) -> float:
    """Migacz, 2017, slide 28, value by value: P holds the clipped tail, Q the mean of each level's bins that are not empty."""
    p = [float(c) for c in counts[:bins]]
    p[-1] += sum(counts[bins:])
    members: dict[int, list[int]] = {}
    for number in range(bins):
        members.setdefault(number * 128 // bins, []).append(number)
    q = [0.0] * bins
    for numbers in members.values():
        filled = [number for number in numbers if counts[number]]
        for number in filled:
            q[number] = sum(counts[i] for i in numbers) / len(filled)
    p_sum, q_sum, found = sum(p), sum(q), 0.0
    for a, b in zip(p, q, strict=True):
        if a and b:
            found += a / p_sum * math.log(a / p_sum / (b / q_sum))
        elif a:
            found += a / p_sum * 20  # nothing stands for it: as if Q were e^-20 of P
    return found


@pytest.mark.parametrize("draw", DRAWS)
def test_entropy_is_the_least_of_the_divergences_written_out(draw: str) -> None:
    histogram = filled(DRAWS[draw](np.random.default_rng(5), 30_000).astype(np.float32))
    counts = [int(a + b) for a, b in zip(histogram.counts[BINS // 2 :], histogram.counts[: BINS // 2][::-1], strict=True)]
    counts[0] = counts[1]
    last = max(i for i, count in enumerate(counts) if count) + 1
    tried = range(min(128, last), last + 1, max(1, last // 128))
    best = min(tried, key=lambda bins: (_plain_divergence(counts, bins), bins))
    reach = best * 2 * histogram.radius / BINS
    assert entropy(histogram) == (max(histogram.low, -reach), min(histogram.high, reach))


@pytest.mark.parametrize("draw", sorted(set(DRAWS) - {"relu"}))
def test_entropy_is_near_the_threshold_of_onnx_runtime(draw: str) -> None:
    """Another implementation with bins of its own; it leaves the zeros of a Relu in and clips more there: not compared."""
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    values = DRAWS[draw](np.random.default_rng(0), 200_000).astype(np.float32)
    top = float(np.abs(values).max())
    counts, edges = np.histogram(values, bins=4001, range=(-top, top))
    collector = calibrate.HistogramCollector.__new__(calibrate.HistogramCollector)
    theirs = float(collector.get_entropy_threshold((counts, edges, values.min(), values.max(), top), 128)[1])
    assert theirs * 0.95 < entropy(filled(values))[1] < theirs * 1.4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_counts_are_those_of_numpy(dtype: type) -> None:
    values = (np.random.default_rng(3).standard_normal((3, 5, 77)) * 3).astype(dtype)[:, :, ::2]
    histogram = Histogram("x")
    histogram.add(values)
    index = np.floor(values.reshape(-1).astype(np.float64) * (BINS / (2 * histogram.radius))).astype(np.int64)
    assert np.array_equal(histogram.counts, np.bincount(index + BINS // 2, minlength=BINS))
