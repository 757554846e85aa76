"""How small, and how quickly loaded and called: runner size, program load time, arena against its lower bound, an empty call.

    python -m bench.footprint [--work .work/zoo] [--target rpi4] [task ...]

The runner is cross-compiled for ``--target`` (static, stripped). Load time is what ``ez_run`` of this machine reports, from
opening the file to a session that is ready (verification, CRC, arena, threads): median of 21 fresh processes. The same of the
entropy-coded file; it decodes at plain bytes over what its load takes longer. The bound of the weights is the order-0 entropy of
each int8 tensor. The empty call is one ReLU of 16 floats with its arrays bound, in batches of 1000, processor time. Writes
bench/results/<date>-<host>-footprint.json and prints a table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import edgezip
from bench import ours, protocol
from bench.zoo import TASKS, load_task
from bench.zoo.onnx_writer import GraphWriter
from edgezip.cli import context
from edgezip.deploy.build import build_runner
from edgezip.deploy.runner import Runner
from edgezip.deploy.transports.local import LocalTransport
from edgezip.errors import EdgeZipError
from edgezip.program import DType, Op, Program, read
from edgezip.report import text
from edgezip.runtime.session import Session
from edgezip.target import load_target

PROCESSES = 21
BATCHES, CALLS_OF_A_BATCH = 200, 1000
COLUMNS = ("task", "program bytes", "arena", "lower bound", "over %", "load ms p50", "load ms min")
CODED_COLUMNS = ("task", "program bytes", "coded bytes", "int8 weights", "their bound", "load ms p50", "load ms min", "MB/s")


def footprint(name: str, work: Path, runner: Path) -> dict[str, Any]:
    """Sizes and load time of one task's int8 program."""
    task = load_task(name)
    path = ours.compile_for_host(task, work, ours.quantize(task, work))
    program = read(path)
    memory = program.metadata["memory"]
    loads = load_ms(path.read_bytes(), runner)
    return {
        "task": name,
        "program_bytes": path.stat().st_size,
        "arena_bytes": memory["arena_bytes"],
        "arena_lower_bound": memory["arena_lower_bound"],
        "load_ms_p50": round(statistics.median(loads), 3),
        "load_ms_min": round(min(loads), 3),
        "coded": coded_footprint(program, min(loads), runner),
    }


def load_ms(program: bytes, runner: Path) -> list[float]:
    """Load times of a program file in fresh processes, milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "ez_run").write_bytes(runner.read_bytes())
        (here / "ez_run").chmod(0o755)
        (here / "model.ez").write_bytes(program)
        device = Runner(LocalTransport(here), str(here))
        return [device.info().load_us / 1e3 for _ in range(PROCESSES)]


def coded_footprint(program: Program, plain_ms: float, runner: Path) -> dict[str, Any]:
    """The same program entropy-coded."""
    plain = program.plain_bytes()
    program.coded = True
    data = program.to_bytes()
    loads = load_ms(data, runner)
    weights, bound = weights_entropy(program)
    return {
        "bytes": len(data),
        "weight_bytes": weights,
        "weight_bound": round(bound),
        "load_ms_p50": round(statistics.median(loads), 3),
        "load_ms_min": round(min(loads), 3),
        "mb_per_s": round(len(plain) / 1e3 / (min(loads) - plain_ms)),
    }


def weights_entropy(program: Program) -> tuple[int, float]:
    """Bytes of the packed int8 weights, and their order-0 entropy in bytes, tensor by tensor."""
    steps = [step for step in program.steps if step.op in (Op.CONV, Op.DEPTHWISE, Op.LINEAR)]
    tensors = {step.inputs[1] for step in steps if program.tensors[step.inputs[1]].dtype is DType.U8}
    counts = [np.bincount(program.weight_array(index).ravel(), minlength=256) for index in tensors]
    bits = [float(-(c[c > 0] * np.log2(c[c > 0] / c.sum())).sum()) for c in counts]
    return sum(int(c.sum()) for c in counts), sum(bits) / 8


def empty_call_us() -> dict[str, float]:
    """What a call costs beside its computation: median and least of 200 batches."""
    writer = GraphWriter("empty")
    writer.op("Relu", "relu", ["x"], "y")
    with tempfile.TemporaryDirectory() as folder:
        path = writer.save(Path(folder) / "empty.onnx", {"x": (1, 16)}, {"y": (1, 16)})
        session = Session(edgezip.compile(str(path), "host", vectors=0))
    run = session.bind({"x": np.ones((1, 16), np.float32)}, {"y": np.empty((1, 16), np.float32)})
    times = []
    for _ in range(BATCHES):
        start = time.process_time_ns()
        for _ in range(CALLS_OF_A_BATCH):
            run()
        times.append((time.process_time_ns() - start) / CALLS_OF_A_BATCH / 1e3)
    return {"empty_call_us_p50": round(statistics.median(times), 3), "empty_call_us_min": round(min(times), 3)}


def cells(row: dict[str, Any]) -> tuple[Any, ...]:
    """One line of the table."""
    over = 100 * (row["arena_bytes"] / row["arena_lower_bound"] - 1)
    sizes = (row["task"], row["program_bytes"], row["arena_bytes"], row["arena_lower_bound"])
    return (*sizes, f"{over:.2f}", row["load_ms_p50"], row["load_ms_min"])


def coded_cells(row: dict[str, Any]) -> tuple[Any, ...]:
    """One line of the table of coded files."""
    coded = row["coded"]
    keys = ("bytes", "weight_bytes", "weight_bound", "load_ms_p50", "load_ms_min", "mb_per_s")
    return (row["task"], row["program_bytes"], *(coded[key] for key in keys))


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--work", type=Path, default=Path(".work/zoo"))
    parser.add_argument("--target", default="rpi4")
    arguments = parser.parse_args()
    try:
        cache = context.current.cache_dir
        cross = build_runner(load_target(arguments.target), cache_dir=cache)
        here = build_runner(load_target("host"), cache_dir=cache)
        rows = [footprint(name, arguments.work, here) for name in arguments.tasks]
        call = empty_call_us()
    except EdgeZipError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    size = cross.stat().st_size
    print(text.table(COLUMNS, [cells(row) for row in rows]))
    print(text.table(CODED_COLUMNS, [coded_cells(row) for row in rows]))
    print(f"ez_run for {arguments.target}: {size:,} bytes, static")
    print(f"empty call: {call['empty_call_us_p50']} us, least {call['empty_call_us_min']} us")
    print(f"wrote {protocol.save('footprint', {'target': arguments.target, 'runner_bytes': size, **call, 'rows': rows})}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
