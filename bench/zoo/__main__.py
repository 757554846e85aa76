"""Command line of the zoo.

    python -m bench.zoo list
    python -m bench.zoo fetch [--work W] [task ...]
    python -m bench.zoo compile [--work W] [task ...]
    python -m bench.zoo score [--work W] [task ...] [--model task=candidate.onnx|.ez] [--runner ort|edgezip]

``compile`` also quantises with our quantiser and packs for this machine: <task>.onnx (float, where the zoo builds it),
<task>.edgezip.onnx (int8 QDQ) and <task>.ez in the work folder. ``score`` prints one JSON line a task: the float model's metric
and, with --model or --runner edgezip, the candidate's, how many samples got worse or better,
SQNR and cosine to the float outputs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench import ours, protocol
from bench.zoo import LATENCY_TASKS, TASKS, fidelity, load_task
from bench.zoo.runners import RUNNERS
from bench.zoo.task import Score, Task
from edgezip.errors import UsageError


def score_row(task: Task, work: Path, candidate: Path | None, runner: str) -> dict[str, Any]:
    """Scores the float model, then the candidate (if any) with ``runner``."""
    path = task.model(work)
    feed = next(iter(task.feeds(work)))[0]
    reference = task.score(work, RUNNERS["ort"](path, feed))
    row: dict[str, Any] = {"task": task.name, "metric": reference.metric, "samples": reference.samples}
    row["float_pct"] = round(reference.percent, 2)
    if candidate is None and runner == "ort":
        return row
    chosen = candidate or path
    started = time.perf_counter()
    score = task.score(work, RUNNERS[_runner_of(chosen, runner)](chosen, feed))
    return {**row, **compare(reference, score), "candidate": chosen.name, "seconds": round(time.perf_counter() - started, 1)}


def compare(reference: Score, score: Score) -> dict[str, Any]:
    """Metric of the candidate, paired counts and fidelity to the reference."""
    agreement = fidelity.outputs_agreement(reference, score)
    return {
        "candidate_pct": round(score.percent, 2),
        "paired": fidelity.paired(reference, score),
        "sqnr_db": round(agreement.sqnr_db, 2),
        "cosine": round(agreement.cosine, 6),
    }


def _runner_of(path: Path, runner: str) -> str:
    return "edgezip" if path.suffix == ".ez" else runner


def _candidates(items: list[str]) -> dict[str, Path]:
    pairs = [item.partition("=") for item in items]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise UsageError("--model takes task=file", got=wrong[0])
    return {name: Path(path) for name, _, path in pairs}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.zoo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("list", "fetch", "compile", "score"))
    parser.add_argument("tasks", nargs="*", metavar="task", help=", ".join((*TASKS, *LATENCY_TASKS)))
    parser.add_argument("--work", type=Path, default=Path(".work/zoo"))
    parser.add_argument("--model", action="append", default=[], metavar="TASK=FILE")
    parser.add_argument("--runner", choices=tuple(RUNNERS), default="ort")
    return parser


def main() -> int:
    """Runs one verb over the named tasks (default: those of --model, else all)."""
    arguments = _parser().parse_intermixed_args()
    candidates = _candidates(arguments.model)
    every = TASKS if arguments.verb == "score" else (*TASKS, *LATENCY_TASKS)
    for name in arguments.tasks or list(candidates) or every:
        task = load_task(name)
        if arguments.verb == "list":
            print(f"{name:18} {(sys.modules[f'bench.zoo.{name}'].__doc__ or '').splitlines()[0]}")
        elif arguments.verb == "fetch":
            print(name, task.model(arguments.work), flush=True)
            next(iter(task.feeds(arguments.work)))
        elif arguments.verb == "compile":
            print(name, ours.compile_for_host(task, arguments.work, ours.quantize(task, arguments.work)), flush=True)
        else:
            print(json.dumps(score_row(task, arguments.work, candidates.get(name), arguments.runner)), flush=True)
    return 0


if __name__ == "__main__":
    protocol.run_command(main)
