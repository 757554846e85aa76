"""Pass, fail, inconclusive."""

from __future__ import annotations

from typing import Any

import pytest

from edgezip.errors import UsageError
from edgezip.measure.protocol import Latency
from edgezip.measure.verdict import FAIL, INCONCLUSIVE, PASS, judge, parse_limit


def bench(center_us: float, spread_us: float = 1.0, **facts: Any) -> dict[str, Any]:
    durations = tuple(center_us + spread_us * (k % 21 - 10) / 10 for k in range(420))
    base = {"threads": 1, "isa": "avx2", "throttled": False, "environment": {"cpu": "x", "governor": None}}
    return {**base, "latency_us": Latency(durations).as_dict(), **facts}


@pytest.mark.parametrize(("now", "answer"), [(100.0, PASS), (103.0, PASS), (120.0, FAIL), (105.0, INCONCLUSIVE)])
def test_five_percent_over_the_baseline(now: float, answer: str) -> None:
    assert judge(parse_limit("p50>+5%"), bench(now), bench(100.0)).answer == answer


@pytest.mark.parametrize(("limit", "answer"), [("p99>1ms", PASS), ("p50>90us", FAIL), ("mean>0.0001s", INCONCLUSIVE)])
def test_absolute_limits_need_no_baseline(limit: str, answer: str) -> None:
    assert judge(parse_limit(limit), bench(100.0), None).answer == answer


def test_a_slowdown_beyond_the_noise_is_caught() -> None:
    assert judge(parse_limit("p50>+5%"), bench(100 * 1.08, 2.0), bench(100.0, 2.0)).answer == FAIL


def test_noise_wider_than_the_limit_is_inconclusive() -> None:
    assert judge(parse_limit("p50>+1%"), bench(101.5, 80.0), bench(100.0, 80.0)).answer == INCONCLUSIVE


@pytest.mark.parametrize("change", [{"threads": 2}, {"isa": "portable"}, {"environment": {"cpu": "y", "governor": None}}])
def test_another_setting_is_inconclusive(change: dict[str, Any]) -> None:
    verdict = judge(parse_limit("p50>+5%"), bench(100.0), bench(100.0, **change))
    assert verdict.answer == INCONCLUSIVE
    assert "another setting" in verdict.reason


def test_throttling_is_inconclusive() -> None:
    assert judge(parse_limit("p50>1us"), bench(100.0, throttled=True), None).answer == INCONCLUSIVE


@pytest.mark.parametrize("text", ["p50", "p50>5%", "p50>+5ms", "p50<+5%", "speed>+5%", "p50>+-5%", ""])
def test_malformed_limits_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="limit not understood"):
        parse_limit(text)


def test_percent_without_baseline_is_refused() -> None:
    with pytest.raises(UsageError, match="--baseline"):
        judge(parse_limit("p50>+5%"), bench(1.0), None)


def test_a_figure_that_was_not_measured_is_refused() -> None:
    with pytest.raises(UsageError, match="no such figure"):
        judge(parse_limit("p75>1us"), bench(1.0), None)
