"""What each compression pass costs on real models: ladders of recipes, every one scored on its task.

    python -m bench.ladders [--work .work/zoo] [--samples 40] [--ladder weights4|pruning|channels|shared|low_rank ...] [task ...]

Each recipe runs on the task's calibration samples; the result, plain ONNX, is scored in ONNX Runtime on samples that calibration
never saw. Columns: metric, paired counts against float, output SQNR, mean SQNR of the layers, bytes of the weights, seconds.
Writes bench/results/<date>-<host>-ladders.json.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from pathlib import Path
from typing import Any

import edgezip
from bench import ours, protocol
from bench.agreement import figures
from bench.zoo import TASKS, load_task
from bench.zoo.runners import RUNNERS
from bench.zoo.task import Score, Task
from edgezip.errors import EdgeZipError
from edgezip.recipe import Recipe
from edgezip.report import text

COLUMNS = ("task", "ladder", "recipe", "metric", "worse/better", "SQNR dB", "layers dB", "weights kB", "seconds")
Steps = list[dict[str, Any]]


def _weights(method: str, **options: Any) -> Steps:
    return [{"quantize_weights": {"bits": 4, "method": method, **options}}]


def _pruned(pattern: str, method: str) -> Steps:
    return [{"prune": {"pattern": pattern, "sparsity": 0.5, "method": method}}]


# ladder -> name of a rung -> passes; those whose name ends with "int8" get int8 activations after them
LADDERS: dict[str, dict[str, Steps]] = {
    "weights4": {
        "nearest, block 32": _weights("nearest"),
        "adaround, block 32": _weights("adaround"),
        "gptq, block 32": _weights("gptq"),
        "awq + nearest, block 32": [{"smooth": {"method": "awq"}}, *_weights("nearest")],
        "awq + gptq, block 32": [{"smooth": {"method": "awq"}}, *_weights("gptq")],
        "nearest, channel, int8": _weights("nearest", per="channel"),
        "adaround, channel, int8": _weights("adaround", per="channel"),
        "gptq, channel, int8": _weights("gptq", per="channel"),
    },
    "pruning": {
        f"{pattern} {method}": _pruned(pattern, method)
        for pattern in ("1x1", "2:4", "4x16")
        for method in ("magnitude", "wanda", "obs")
    },
    "channels": {f"{macs:.0%} of MACs": [{"prune_channels": {"macs": macs}}] for macs in (0.1, 0.25, 0.5)},
    "shared": {
        "k-means 16": [{"cluster": {"count": 16}}],
        "k-means 64": [{"cluster": {"count": 64}}],
        "powers of two": [{"cluster": {"table": "powers", "count": 15}}],
        "NF4": [{"cluster": {"table": "nf4"}}],
        "k-means 16, int8": [{"cluster": {"count": 16}}],
    },
    "low_rank": {
        f"energy {share}": [{"factorize": {"rank": share, "prefer": "size"}}] for share in (0.99, 0.95, 0.9)
    },
}  # fmt: skip


def rung(task: Task, work: Path, reference: Score, name: str, steps: Steps, samples: int) -> dict[str, Any]:
    """Figures of one recipe on one task; an error is kept as its text."""
    feed = ours.first_feed(task, work)
    model = edgezip.load(str(task.model(work)), shapes=ours.shapes_of(feed))
    recipe = Recipe.of(steps, Recipe.int8("mse") if name.endswith("int8") else None)
    started = time.perf_counter()
    try:
        small: Any = edgezip.compress(model, recipe, calibration=list(islice(task.calibration(work), samples)))
    except EdgeZipError as error:
        return {"refused": str(error)[:200]}
    seconds = time.perf_counter() - started
    path = work / f"{task.name}.ladder.onnx"
    small.save(path)
    layers = [
        row.sqnr_db for report in small.report.passes for row in report.layers if row.sqnr_db is not None and not row.reason
    ]
    return {
        **figures(reference, task.score(work, RUNNERS["ort"](path, feed))),
        "layers_sqnr_db": round(sum(layers) / len(layers), 2) if layers else None,
        "bytes_before": small.report.bytes_before,
        "bytes_after": small.report.bytes_after,
        "seconds": round(seconds, 1),
    }


def climb(task: Task, work: Path, ladder: str, samples: int) -> list[dict[str, Any]]:
    """All rungs of a ladder on one task, float first."""
    feed = ours.first_feed(task, work)
    reference = task.score(work, RUNNERS["ort"](task.model(work), feed))
    rows = [
        {"task": task.name, "ladder": ladder, "recipe": "float", "metric": reference.metric, "pct": round(reference.percent, 2)}
    ]
    for name, steps in LADDERS[ladder].items():
        found = rung(task, work, reference, name, steps, samples)
        rows.append({"task": task.name, "ladder": ladder, "recipe": name, "metric": reference.metric, **found})
        print(table(rows[-1:]), flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """One line a recipe."""
    lines = []
    for row in rows:
        paired = row.get("paired", {})
        moved = f"{paired['worse']}/{paired['better']}" if paired else "-"
        numbers = [row.get(key) for key in ("sqnr_db", "layers_sqnr_db")]
        size = f"{row['bytes_after'] / 1000:,.0f}" if "bytes_after" in row else "-"
        shown = ["-" if number is None else f"{number:.2f}" for number in numbers]
        metric = row.get("refused") or f"{row['pct']:.2f}"
        lines.append((row["task"], row["ladder"], row["recipe"], metric, moved, *shown, size, str(row.get("seconds", "-"))))
    return text.table(COLUMNS, lines)


def main() -> int:
    """Runs the named ladders on the named tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=["efflite0", "minilm"], metavar="task", help=", ".join(TASKS))
    parser.add_argument("--ladder", action="append", choices=tuple(LADDERS), help="default: all")
    parser.add_argument("--samples", type=int, default=40, help="calibration samples")
    parser.add_argument("--work", type=Path, default=Path(".work/zoo"))
    parser.add_argument("--results", type=Path, default=protocol.RESULTS)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.tasks:
        for ladder in arguments.ladder or LADDERS:
            rows += climb(load_task(name), arguments.work, ladder, arguments.samples)
    path = protocol.save("ladders", {"rows": rows}, arguments.results)
    print(f"\n{table(rows)}\nwrote {path}")
    return 0


if __name__ == "__main__":
    protocol.run_command(main)
