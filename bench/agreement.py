"""Does int8 still answer right? Each zoo task: float metric, ours, paired counts, SQNR; other quantisers beside it.

    python -m bench.agreement [--work .work/zoo] [task ...]

All quantisers see the same calibration samples; ours runs in the C runtime, the others' files in ONNX Runtime as they are
written: its own static quantiser with each of its methods (min-max, percentile, entropy), and NNCF with each of its settings,
where ``python -m bench.peers setup openvino`` was run. Pictures count once, not their crops. Merged into
bench/results/<date>-<host>-agreement.json, a task replacing its older row; prints a table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench import ours, protocol
from bench.kit import fix_shapes
from bench.peers import environments, nncf_quantizer, onnxruntime_quantizer
from bench.zoo import TASKS, fidelity, load_task
from bench.zoo.runners import RUNNERS
from bench.zoo.task import Score, Task
from edgezip.report import text

COLUMNS = ("task", "metric", "n", "float", "ours", "worse/better", "SQNR dB")


def agreement_row(task: Task, work: Path) -> dict[str, Any]:
    """All figures of one task."""
    feed = ours.first_feed(task, work)
    reference = task.score(work, RUNNERS["ort"](task.model(work), feed))
    program = ours.compile_for_host(task, work, ours.quantize(task, work))
    row: dict[str, Any] = {"task": task.name, "metric": reference.metric, "samples": reference.samples}
    row["float_pct"] = round(reference.percent, 2)
    row["edgezip"] = figures(reference, task.score(work, RUNNERS["edgezip"](program, feed)))
    row["onnxruntime"] = {
        method: peer_figures(task, work, f"ort-{method}", reference, partial(_ort, task, work, method))
        for method in onnxruntime_quantizer.METHODS
    }
    there = environments.python(nncf_quantizer.PEER) is not None
    row["nncf"] = {
        setting: peer_figures(task, work, f"nncf-{setting}", reference, partial(_nncf, task, work, setting))
        for setting in (nncf_quantizer.SETTINGS if there else ())
    }
    return {**row, **gates(row), **protocol.stamp()}


def figures(reference: Score, score: Score) -> dict[str, Any]:
    """Metric, drop in points, paired counts, SQNR and cosine."""
    agreement = fidelity.outputs_agreement(reference, score)
    return {
        "pct": round(score.percent, 2),
        "drop_points": round(reference.percent - score.percent, 2),
        "paired": fidelity.paired(reference, score),
        "sqnr_db": round(agreement.sqnr_db, 2),
        "cosine": round(agreement.cosine, 6),
    }


def peer_figures(task: Task, work: Path, name: str, reference: Score, quantize: Callable[[Path], object]) -> dict[str, Any]:
    """The same with another quantiser, which writes its file; an error is kept as its text: it is a result too."""
    output = work / f"{task.name}.{name}.onnx"
    try:
        quantize(output)
        run = RUNNERS["ort"](output, ours.first_feed(task, work))
        return figures(reference, task.score(work, run))
    except Exception as error:  # any failure of the peer's tool
        return {"failed": f"{type(error).__name__}: {error}"[:200]}


def _ort(task: Task, work: Path, method: str, output: Path) -> None:
    onnxruntime_quantizer.quantize(task.model(work), task.calibration(work), method, output)


def _nncf(task: Task, work: Path, setting: str, output: Path) -> None:
    fixed = output.with_suffix(".float.onnx")
    fix_shapes(task.model(work), ours.first_feed(task, work), fixed)
    nncf_quantizer.quantize(fixed, task.calibration(work), setting, output)


def gates(row: dict[str, Any]) -> dict[str, bool]:
    """The project's two promises: within one point of float, SQNR not below the best of the peers."""
    peers = [*row["onnxruntime"].values(), *row.get("nncf", {}).values()]
    best = max((peer["sqnr_db"] for peer in peers if "sqnr_db" in peer), default=float("-inf"))
    return {"within_one_point": row["edgezip"]["drop_points"] <= 1.0, "sqnr_not_below_peer": row["edgezip"]["sqnr_db"] >= best}


def with_older(rows: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """``rows`` and those of other tasks in today's file, in the order of the zoo."""
    path = protocol.path_of("agreement", folder)
    older = protocol.load(path) if path.exists() else {"rows": []}
    stamped = [{"commit": older["commit"], "at": older["date"], **row} for row in older["rows"]]
    held = {row["task"]: row for row in (*stamped, *rows)}
    return [held[name] for name in TASKS if name in held]


def table(rows: list[dict[str, Any]]) -> str:
    """One line a task; the peer's columns are its SQNR and, in brackets, its metric."""
    lines = []
    for row in rows:
        mine, peers = row["edgezip"], _peers(row)
        moved = f"{mine['paired']['worse']}/{mine['paired']['better']}"
        theirs = [f"{p['sqnr_db']} ({p['pct']})" if "pct" in p else "failed" for p in peers.values()]
        figures = (f"{row['float_pct']:.2f}", f"{mine['pct']:.2f}", moved, f"{mine['sqnr_db']:.2f}")
        lines.append((row["task"], row["metric"], row["samples"], *figures, *theirs))
    return text.table((*COLUMNS, *_peers(rows[0])), lines)


def _peers(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Figures by the heading of their column."""
    each = {"ORT": row["onnxruntime"], "NNCF": row["nncf"]}
    return {f"{name} {setting}": figures for name, settings in each.items() for setting, figures in settings.items()}


def main() -> int:
    """Runs the named tasks (default: all); exit code 3 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--work", type=Path, default=Path(".work/zoo"))
    parser.add_argument("--results", type=Path, default=protocol.RESULTS)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.tasks or TASKS:
        rows.append(agreement_row(load_task(name), arguments.work))
        print(table(rows[-1:]), flush=True)
        path = protocol.save("agreement", {"rows": with_older(rows, arguments.results)}, arguments.results)
    print(f"\n{table(rows)}\nwrote {path}")
    return 0 if all(row["within_one_point"] and row["sqnr_not_below_peer"] for row in rows) else 3


if __name__ == "__main__":
    protocol.run_command(main)
