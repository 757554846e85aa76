"""Pass, fail or inconclusive: a limit such as ``p50>+5%`` held against a measurement and its baseline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgezip.errors import UsageError

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6}
_FORM = re.compile(r"\s*(p\d+(?:\.\d+)?|min|mean)\s*>\s*(\+)?(\d+(?:\.\d+)?)\s*(%|us|ms|s)\s*")
# What must be alike before two measurements may be compared at all.
COMPARABLE = ("cpu", "governor", "threads", "isa")
# Standard error of a figure over stdev / sqrt(n), for a measurement that came without intervals (a device's runner gives none):
# 1 for the mean, sqrt(q (1 - q)) / density(quantile q) of the normal distribution for percentiles.
ERROR_FACTOR = {"mean": 1.0, "p50": 1.2533, "p90": 1.7094, "p99": 3.7333}


@dataclass(frozen=True)
class Limit:
    """Fail when ``figure`` exceeds the baseline by more than ``percent``, or exceeds ``absolute_us``."""

    figure: str
    percent: float | None = None
    absolute_us: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Verdict:
    """The answer, and the sentence that explains it."""

    answer: str
    reason: str


def parse_limit(text: str) -> Limit:
    """ "p50>+5%" (against a baseline) or "p99>30ms"; raises UsageError on anything else."""
    found = _FORM.fullmatch(text)
    if not found or (found[2] is not None) != (found[4] == "%"):
        raise UsageError("limit not understood", where="--fail-if", expected='like "p50>+5%" or "p99>30ms"', got=text)
    figure, value = found[1], float(found[3])
    if found[4] == "%":
        return Limit(figure, percent=value, text=text.strip())
    return Limit(figure, absolute_us=value * _UNITS_US[found[4]], text=text.strip())


def judge(limit: Limit, current: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> Verdict:
    """Hold two bench documents against the limit.

    A figure counts with its 95 % interval: fail when all of it is above the limit, pass when all of it is below, and
    inconclusive in between, when a device throttled, or when the two machines or settings differ.
    """
    low, high = _interval(current, limit.figure)
    if current.get("throttled"):
        return Verdict(INCONCLUSIVE, "the device throttled while it was measured")
    if limit.absolute_us is not None:
        return _compare(limit, low, high, limit.absolute_us, limit.absolute_us)
    if baseline is None:
        raise UsageError("a limit in percent needs something to compare with", where="--fail-if", hint="give --baseline FILE")
    differing = [key for key in COMPARABLE if _fact(current, key) != _fact(baseline, key)]
    if differing:
        pairs = ", ".join(f"{key} {_fact(baseline, key)} then, {_fact(current, key)} now" for key in differing)
        return Verdict(INCONCLUSIVE, f"the baseline is from another setting: {pairs}")
    factor = 1 + (limit.percent or 0.0) / 100
    base_low, base_high = _interval(baseline, limit.figure)
    return _compare(limit, low, high, base_low * factor, base_high * factor)


def _compare(limit: Limit, low: float, high: float, limit_low: float, limit_high: float) -> Verdict:
    bound = f"{limit_low:.1f}" if limit_low == limit_high else f"{limit_low:.1f} .. {limit_high:.1f}"
    seen = f"{limit.figure} is within {low:.1f} .. {high:.1f} us, the limit {limit.text} stands at {bound} us"
    if low > limit_high:
        return Verdict(FAIL, seen)
    return Verdict(PASS if high <= limit_low else INCONCLUSIVE, seen)


def _interval(document: Mapping[str, Any], figure: str) -> tuple[float, float]:
    latency = document.get("latency_us") or {}
    if figure not in latency:
        known = ", ".join(key for key in latency if not key.endswith("_interval"))
        raise UsageError("the measurement has no such figure", where="--fail-if", expected=known or "a bench result", got=figure)
    if f"{figure}_interval" in latency:
        low, high = latency[f"{figure}_interval"]
        return float(low), float(high)
    error = ERROR_FACTOR.get(figure, 0.0) * float(latency["stdev"]) / float(latency["n"]) ** 0.5
    value = float(latency[figure])
    return value - 1.96 * error, value + 1.96 * error


def _fact(document: Mapping[str, Any], key: str) -> Any:
    return document.get(key, (document.get("environment") or {}).get(key))
