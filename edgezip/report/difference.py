"""What changed between two documents of the same verb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = tuple[str, Any, Any, float | None]


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Row]:
    """(figure, before, after, ratio) for every number that both have, then for every layer with a time in both."""
    rows = [
        _row(name, before_value, _numbers(after)[name])
        for name, before_value in _numbers(before).items()
        if name in _numbers(after)
    ]
    times_before, times_after = _layer_times(before), _layer_times(after)
    return rows + [_row(f"layer {name}, us", us, times_after[name]) for name, us in times_before.items() if name in times_after]


def _row(name: str, before: float, after: float) -> Row:
    return name, before, after, after / before if before else None


def _numbers(document: Mapping[str, Any]) -> dict[str, float]:
    flat = {key: value for key, value in document.items() if _is_number(value)}
    latency = document.get("latency_us") or {}
    return {**{f"{key}, us" if key != "n" else key: value for key, value in latency.items() if _is_number(value)}, **flat}


def _layer_times(document: Mapping[str, Any]) -> dict[str, float]:
    return {layer["name"]: layer["us"] for layer in document.get("layers") or [] if _is_number(layer.get("us"))}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
