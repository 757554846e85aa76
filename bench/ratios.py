"""Ratios of peers to ours, within one measurement only: the clock of a shared machine drifts between two."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from bench.peers.row import FLOAT32, INT8
from edgezip.report import text

Rows = Mapping[str, Mapping[str, Any]]
LEVELS = ("", "avx2", "avxvnni")
COLUMNS = ("task", "threads", "ours", "against", "peer", "median", "least")


def level_of(name: str) -> str:
    """ "litert int8 avx2" -> "avx2", "" for a candidate that may use all the processor has."""
    last = name.rpartition(" ")[2]
    return last if last in LEVELS else ""


def best(rows: Rows, precision: str, level: str) -> str | None:
    """The fastest peer (by median) of that precision among those held to ``level``."""
    able = {
        name: row["median_us"]
        for name, row in rows.items()
        if row["peer"] != "edgezip" and row["precision"] == precision and level_of(name) == level and "failure" not in row
    }
    return min(able, key=lambda name: able[name], default=None)


def of(rows: Rows) -> list[dict[str, Any]]:
    """For each of ours: against the best int8 peer and the best float32 peer of its level, and against our own float32."""
    found = []
    for level in LEVELS:
        suffix = f" {level}" if level else ""
        int8, float32 = f"edgezip int8{suffix}", f"edgezip float32{suffix}"
        pairs = [
            (int8, "best int8 peer", best(rows, INT8, level)),
            (int8, "best float32 peer", best(rows, FLOAT32, level)),
            (int8, "our float32", float32),
            (float32, "best float32 peer", best(rows, FLOAT32, level)),
        ]
        for ours, against, name in pairs:
            if ours in rows and name is not None and name in rows and "median_us" in rows[ours]:
                found.append({"ours": ours, "against": against, "peer": name, **_ratio(rows[name], rows[ours])})
    return found


def _ratio(peer: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, float]:
    return {key: round(peer[f"{key}_us"] / ours[f"{key}_us"], 3) for key in ("median", "least")}


def geomean(values: Iterable[float]) -> float:
    """Geometric mean."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """One line a ratio."""
    lines = [
        (result["task"], result["threads"], item["ours"], item["against"], item["peer"], item["median"], item["least"])
        for result in results
        for item in result["ratios"]
    ]
    return text.table(COLUMNS, lines)


def geomeans(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Over all tasks: geometric mean and least ratio of each kind, by thread count."""
    groups: dict[tuple[int, str, str], list[Mapping[str, Any]]] = {}
    for result in results:
        for item in result["ratios"]:
            groups.setdefault((result["threads"], item["ours"], item["against"]), []).append({**item, "task": result["task"]})
    found = []
    for (threads, ours, against), items in groups.items():
        worst = min(items, key=lambda item: float(item["median"]))
        row = {"threads": threads, "ours": ours, "against": against, "tasks": len(items), "worst_task": worst["task"]}
        row |= {key: round(geomean(float(item[key]) for item in items), 3) for key in ("median", "least")}
        found.append({**row, "worst": worst["median"]})
    return found


def summary(results: Iterable[Mapping[str, Any]]) -> str:
    """The geometric means as a table."""
    rows = geomeans(results)
    columns = ("threads", "ours", "against", "tasks", "geomean", "of least times", "smallest", "at")
    keys = ("threads", "ours", "against", "tasks", "median", "least", "worst", "worst_task")
    return text.table(columns, [tuple(row[key] for key in keys) for row in rows])
