"""What calibration holds: a bound that the number of samples does not move, measured."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from small_nets import load, node

from edgezip import graph
from edgezip.passes import follow_inputs as following
from edgezip.passes.calibrate import calibrate
from edgezip.passes.follow_inputs import follow_inputs
from edgezip.passes.gather_hessians import gather_hessians
from edgezip.passes.histogram import BINS
from edgezip.passes.products import find_products

SIZE = (1, 8, 64, 64)
SAMPLE_BYTES = 4 * int(np.prod(SIZE))
LAYERS = 5


def _net() -> Any:
    generator = np.random.default_rng(0)
    weights = {f"w{i}": (generator.standard_normal((8, 8, 3, 3)) / 8).astype(np.float32) for i in range(LAYERS)}
    names = ["x", *(f"v{i}" for i in range(1, LAYERS)), "y"]
    nodes = [node("Conv", [names[i], f"w{i}"], names[i + 1], pads=[1, 1, 1, 1]) for i in range(LAYERS)]
    return load(nodes, weights, SIZE)


def _feeds(count: int) -> Iterator[dict[str, Any]]:
    for seed in range(count):
        yield {"x": np.random.default_rng(seed).standard_normal(SIZE).astype(np.float32)}


def _peak(work: Callable[[], Any]) -> int:
    work()  # what is compiled or imported at the first call is no part of it
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1}, raising=False)


def test_ranges_hold_three_samples_and_a_histogram_a_tensor_however_many_there_are() -> None:
    model = _net()
    names = ["x", "v1", "v2", "v3", "v4", "y"]
    few, many = (_peak(lambda count=count: calibrate(model, names, _feeds(count))) for count in (6, 48))
    side_by_side = graph.UNDER_WAY + 1
    results = SAMPLE_BYTES * (LAYERS + 1) * (side_by_side + 1)  # and the one that is being counted
    assert many < few * 1.1
    assert many < results + len(names) * 4 * 8 * BINS + 4 * SAMPLE_BYTES
    assert many > SAMPLE_BYTES * LAYERS  # the measure sees the arrays of ONNX Runtime


def test_moments_hold_a_wave_however_many_samples_there_are() -> None:
    model = _net()
    products = find_products(model)
    columns = products[0].columns
    moments = 8 * columns**2

    def work(count: int, wave: int) -> Callable[[], Any]:
        def run() -> None:
            for _ in gather_hessians(model, products, lambda: _feeds(count), samples=count, rows=512, wave_bytes=wave):
                pass

        return run

    few, many = (_peak(work(count, moments)) for count in (6, 48))
    patches = 512 * columns * 8
    assert many < few * 1.1
    assert many < 3 * moments + 3 * patches + 10 * SAMPLE_BYTES + 2**20
    assert _peak(work(6, moments)) + 2 * moments < _peak(work(6, LAYERS * moments))


def test_a_walk_takes_fewer_samples_where_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """``HELD_BYTES`` of activations of both networks: the samples that do not fit are left out."""
    model = _net()
    products = find_products(model)

    def run() -> None:
        for _ in follow_inputs(model, graph.clone(model), products, lambda: _feeds(32), samples=32, rows=256):
            pass

    monkeypatch.setattr(following, "HELD_BYTES", 2**20)
    tight = _peak(run)
    monkeypatch.setattr(following, "HELD_BYTES", 32 * 2**20)
    wide = _peak(run)
    assert tight < 8 * 2**20
    assert wide > 3 * tight
