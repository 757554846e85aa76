"""The measuring protocol: order of runs, percentiles, intervals."""

from __future__ import annotations

import time

import pytest

from edgezip.errors import UsageError
from edgezip.measure.protocol import Latency, Protocol, measure_interleaved, measure_latency

QUICK = Protocol(warmup_runs=1, warmup_s=0, runs=6, min_time_s=0)


@pytest.mark.parametrize(("percent", "expected"), [(50, 50.0), (90, 90.0), (99, 99.0), (100, 100.0), (1, 1.0)])
def test_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert Latency(tuple(float(v) for v in range(100, 0, -1))).percentile(percent) == expected


def test_percentiles_of_one_run_are_that_run() -> None:
    single = Latency((7.0,)).as_dict()
    assert (single["p50"], single["p99"], single["stdev"], single["n"]) == (7.0, 7.0, 0.0, 1)


def test_interval_contains_its_percentile_and_narrows_with_more_runs() -> None:
    few, many = Latency(tuple(float(v) for v in range(20))), Latency(tuple(v / 50 for v in range(1000)))
    for latency in (few, many):
        low, high = latency.interval(50)
        assert low <= latency.percentile(50) <= high
    assert many.interval(50)[1] - many.interval(50)[0] < few.interval(50)[1] - few.interval(50)[0]


def test_interval_covers_a_machine_that_became_slower_on_the_way() -> None:
    steady, drifting = (
        Latency(tuple(100.0 + k % 5 for k in range(1000))),
        Latency(tuple(100.0 + k / 10 + k % 5 for k in range(1000))),
    )
    assert steady.interval(50)[1] - steady.interval(50)[0] < 3
    assert drifting.interval(50)[1] - drifting.interval(50)[0] > 20


def test_candidates_run_once_a_round_and_their_order_turns() -> None:
    order: list[str] = []
    measured = measure_interleaved({name: lambda name=name: order.append(name) for name in "abc"}, QUICK)
    rounds = ["".join(order[3:][k : k + 3]) for k in range(0, 18, 3)]  # the first three are the warm-up
    assert rounds == ["abc", "bca", "cab", "abc", "bca", "cab"]
    assert {len(latency.wall_us) for latency in measured.values()} == {6}


def test_sleeping_costs_wall_time_and_no_processor_time() -> None:
    # the warm-up also outlasts the threads of NumPy's product, which spin for a moment after an earlier test
    latency = measure_latency(lambda: time.sleep(0.02), Protocol(warmup_runs=1, warmup_s=0.5, runs=3, min_time_s=0))
    assert min(latency.wall_us) >= 20_000
    assert latency.as_dict()["processor_p50"] < 10_000


def test_min_time_prolongs_the_measurement() -> None:
    latency = measure_latency(lambda: time.sleep(0.002), Protocol(warmup_runs=0, warmup_s=0, runs=1, min_time_s=0.05))
    assert len(latency.wall_us) >= 5


def test_warmup_of_zero_runs_warms_nothing() -> None:
    calls: list[int] = []
    measure_latency(lambda: calls.append(1), Protocol(warmup_runs=0, warmup_s=1, runs=2, min_time_s=0))
    assert len(calls) == 2


def test_no_runs_is_refused() -> None:
    with pytest.raises(UsageError):
        Protocol(runs=0)
