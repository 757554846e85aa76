"""Rows of the agreement table: a task that runs again replaces only its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import agreement, protocol


def test_a_task_run_again_replaces_only_its_row(tmp_path: Path) -> None:
    def run(**figures: float) -> list[dict[str, Any]]:
        rows = agreement.with_older([{"task": task, "float_pct": pct} for task, pct in figures.items()], tmp_path)
        protocol.save("agreement", {"rows": rows}, tmp_path)
        return rows

    run(squeezenet=1.0, efflite0=2.0, gone=3.0)
    rows = run(squeezenet=4.0)
    assert {row["task"]: row["float_pct"] for row in rows} == {"efflite0": 2.0, "squeezenet": 4.0}
    assert {row["task"]: row.get("commit") for row in rows}["efflite0"], "an older row keeps the commit that gave it"
