"""How fast? Whole models, ours on each ISA beside every peer that is installed, interleaved round by round.

    python -m bench.peers setup                     # once: environments of the peers below .work/peers
    python -m bench.models [--threads 1,2] [--isa avx2,avxvnni] [--peers onnxruntime,litert] [task ...]

Every candidate is a process of its own with its input bound; in each round each runs for --seconds. One thread is measured in
processor time (on a shared core the wall clock counts other people's slices), more threads by the wall clock. A ratio is a
peer's time over ours, above 1 we are faster: of the medians, and of the least times seen, which are nearer to a quiet machine.
With --isa, ours is forced by EDGEZIP_ISA, and the leading peers are held by hiding newer instructions from them (hold_isa.c).
A peer that is not installed or fails is listed with the reason. Writes bench/results/<date>-<host>-models.json, a task and thread
count measured again replacing the older.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import kit, protocol, quiet, ratios
from bench.peers import PEERS, candidates, client
from bench.peers.row import Row
from bench.zoo import LATENCY_TASKS, load_task
from edgezip.report import text

TASKS = (
    "mobilenet_v2",
    "efflite0",
    "resnet18",
    "squeezenet",
    "yolo_nano",
    "ds_cnn",
    "ocr_det",
    "ocr_rec",
    "vad",
    "minilm",
    "magika",
)
COLUMNS = ("task", "threads", "candidate", "median us", "least us", "error", "peer/ours", "least/least")
MAX_ERROR = 0.5  # of a float32 answer's norm: beyond it the candidate computes something else (random nets quantise badly)


def measure(kit_folder: Path, found: Sequence[client.Candidate], threads: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One kit at one thread count: a figure or a reason for every candidate."""
    settings = quiet.from_arguments(arguments)
    workers = client.measure(found, kit_folder, threads, arguments.rounds, arguments.seconds, settings)
    rows = {worker.candidate.name: row_of(worker, threads) for worker in workers}
    return {"task": kit_folder.name, "threads": threads, "candidates": rows, "ratios": ratios.of(rows)}


def row_of(worker: client.Worker, threads: int) -> dict[str, Any]:
    """Peer, precision and version with the figures, or with the failure."""
    row: Row = worker.candidate.row
    facts: dict[str, Any] = {"peer": worker.candidate.peer, "precision": row.precision, **worker.facts}
    latency = worker.latency()
    if latency is None:
        return {**facts, "failure": worker.failure}
    times = latency.processor_us if threads == 1 else latency.wall_us
    facts |= {"median_us": round(statistics.median(times), 2), "least_us": round(min(times), 2), "samples": len(times)}
    if facts["norm_error"] > MAX_ERROR:
        facts["failure"] = f"its answer is off by {facts['norm_error']:.2f} of the reference's norm"
    return facts


def table(results: Iterable[dict[str, Any]]) -> str:
    """One line a candidate, and one of ratios for each of ours."""
    lines = []
    for result in results:
        best = result["candidates"].get("edgezip int8", {})
        for name, row in result["candidates"].items():
            head = (result["task"], result["threads"], name)
            if "median_us" not in row:
                lines.append((*head, row["failure"], "", "", "", ""))
                continue
            against = [f"{row[key] / best[key]:.2f}" if key in best else "" for key in ("median_us", "least_us")]
            note = "wrong answer" if "failure" in row else f"{row['norm_error']:.3f}"
            lines.append((*head, f"{row['median_us']:.1f}", f"{row['least_us']:.1f}", note, *against))
    return text.table(COLUMNS, lines) + "\n" + ratios.table(results)


def parser() -> argparse.ArgumentParser:
    """The command line; ``bench.kernels`` shares most of it."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("tasks", nargs="*", help=", ".join((*TASKS, *LATENCY_TASKS)))
    made.add_argument("--work", type=Path, default=Path(".work/zoo"))
    made.add_argument("--kits", type=Path, default=Path(".work/kits"))
    made.add_argument("--threads", default="1")
    made.add_argument("--isa", default="", help=f"also on these: {', '.join(candidates.HOLDABLE)}")
    made.add_argument("--peers", default=",".join(PEERS))
    made.add_argument("--rounds", type=int, default=9)
    made.add_argument("--seconds", type=float, default=0.1)
    made.add_argument("--results", type=Path, default=protocol.RESULTS)
    quiet.add_arguments(made)
    return made


def all_candidates(arguments: argparse.Namespace) -> list[client.Candidate]:
    """Ours, then the peers, then the held peers."""
    names, levels = [n for n in arguments.peers.split(",") if n], [i for i in arguments.isa.split(",") if i]
    return [*candidates.ours(levels), *candidates.peers(names), *candidates.held(names, levels, arguments.kits)]


def main() -> int:
    """Measures the named tasks (default: those of the README)."""
    arguments = parser().parse_args()
    found = all_candidates(arguments)
    for name in arguments.tasks or TASKS:
        folder = kit.make(load_task(name), arguments.work, arguments.kits)
        kit.pack_ours(folder)
        for threads in arguments.threads.split(","):
            result = measure(folder, found, int(threads), arguments)
            print(table([result]), flush=True)
            path = protocol.merge("models", result, ("task", "threads"), arguments.results)
    print(f"\n{ratios.summary(protocol.load(path)['results'])}\nwrote {path}")
    return 0


if __name__ == "__main__":
    protocol.run_command(main)
