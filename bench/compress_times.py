"""How long compression takes, and how much memory: wall and processor seconds and the peak of the resident set.

    python -m bench.compress_times [--work .work/zoo] [--threads 2] [name ...]

Each recipe runs in a process of its own, loading of the model and of the samples included. Writes
bench/results/<date>-<host>-compress_times.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bench import protocol
from edgezip.errors import ToolError
from edgezip.report import text

INT8, GPTQ = (
    {"quantize": {"method": "auto"}},
    {"passes": [{"quantize_weights": {"bits": 4, "method": "gptq"}}], "recover": "none"},
)
# name -> task, samples, recipe, and the most seconds that issue 5 allows
RECIPES: dict[str, tuple[str, int, dict[str, Any], float | None]] = {
    "W8A8 of EfficientNet-Lite0, 100 pictures": ("efflite0", 100, INT8, 20.0),
    "W4 GPTQ of MiniLM, 50 texts": ("minilm", 50, GPTQ, 180.0),
    "W4 GPTQ of EfficientNet-Lite0, 40 pictures": ("efflite0", 40, GPTQ, None),
}
MOST_BYTES = 2e9
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def measure(name: str, work: Path, threads: int) -> dict[str, Any]:
    """Figures of one recipe, in a process of its own. Raises ToolError when that fails."""
    command = [sys.executable, "-m", "bench.compress_times", "--one", name, "--work", str(work)]
    pools = dict.fromkeys(POOLS, str(threads))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **pools})
    if done.returncode:
        raise ToolError("compression failed", where=name, got=done.stderr.strip()[-300:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    limit = RECIPES[name][3]
    return {"name": name, **found, "threads": threads, "limit_s": limit, "load_average": round(os.getloadavg()[0], 1)}


def one(name: str, work: Path) -> dict[str, Any]:
    """Compresses, and says what it took."""
    import edgezip
    from bench import ours
    from bench.zoo import load_task

    task_name, count, recipe, _ = RECIPES[name]
    task = load_task(task_name)
    feed = ours.first_feed(task, work)
    path = task.model(work)
    feeds = list(islice(chain(task.calibration(work), (f for f, _ in task.feeds(work))), count))
    started, wall = time.process_time(), time.perf_counter()
    edgezip.compress(str(path), edgezip.Recipe.model_validate(recipe), calibration=feeds, shapes=ours.shapes_of(feed))
    took = {"processor_s": round(time.process_time() - started, 1), "wall_s": round(time.perf_counter() - wall, 1)}
    return {**took, "samples": len(feeds), "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def table(rows: list[dict[str, Any]]) -> str:
    """One line a recipe."""
    lines = []
    for row in rows:
        times = (f"{row['wall_s']:.1f}", f"{row['processor_s']:.1f}", "-" if row["limit_s"] is None else f"{row['limit_s']:.0f}")
        lines.append((row["name"], row["samples"], *times, f"{row['peak_bytes'] / 1e9:.2f}", row["threads"], row["load_average"]))
    return text.table(("recipe", "samples", "wall s", "processor s", "goal s", "peak GB", "threads", "load"), lines)


def main() -> int:
    """Runs the named recipes (default: all)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(RECIPES), metavar="name", help="; ".join(RECIPES))
    parser.add_argument("--one", choices=tuple(RECIPES), help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path(".work/zoo"))
    parser.add_argument("--results", type=Path, default=protocol.RESULTS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one, arguments.work)))
        return 0
    rows = []
    for name in arguments.names:
        rows.append(measure(name, arguments.work, arguments.threads))
        print(table(rows[-1:]), flush=True)
    path = protocol.save("compress_times", {"rows": rows}, arguments.results)
    print(f"\n{table(rows)}\nwrote {path}")
    return 0 if all(row["peak_bytes"] <= MOST_BYTES for row in rows) else 3


if __name__ == "__main__":
    protocol.run_command(main)
