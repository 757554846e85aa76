"""What skipping empty blocks of weights brings: the same program with its blocks skipped and expanded, interleaved, on one ISA.

    python -m bench.blocks [--target host] [--isa avx2] [--rounds 9] [--pattern 4x16 ...] [--sparsity 0.5 ...] [MODEL ...]

Without a MODEL: int8 products of M = 196 and 1024 by K = N = 256 and 1024, the time of the operator's step. MODEL: a task of the
zoo or an int8 ONNX file with Q/DQ, whose weights lose their smallest blocks (accuracy aside: bits are compared, not answers),
the time of a run; `chosen` follows the target's break-even table. One thread; ratios are medians over rounds of least times.
Writes bench/results/<date>-<host>-blocks.json, what was measured before on the same day kept.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import one_op, protocol
from bench.arm.__main__ import int8_model
from edgezip import compilation, graph, pack
from edgezip.frontends import onnx as frontend
from edgezip.kernels.sparse_blocks import ISAS
from edgezip.passes.prune_weights import Pattern
from edgezip.report import text
from edgezip.runtime.session import Session
from edgezip.target import BreakEven, Target, load_target

Array = np.ndarray[Any, Any]
PRODUCTS = [one_op.Product(m, n, n) for n in (256, 1024) for m in (196, 1024)]
LEAST_COLUMNS = 32  # smaller layers stay as they are
ROUND_S, LEAST_RUNS = 0.04, 12  # of a round
COLUMNS = ("what", "pattern", "sparsity", "dense us", "skipped us", "ratio", "chosen us", "ratio chosen")


def thinned(model: graph.Model, pattern: Pattern, sparsity: float) -> graph.Model:
    """``model`` without the smallest blocks of the int8 weights of its Conv (ungrouped), Gemm and MatMul."""
    for node in graph.nodes(model):
        weight = node.inputs[1] if node.op_type in ("Conv", "Gemm", "MatMul") else None
        maker = graph.producer(weight) if weight is not None else None
        held = maker.inputs[0] if maker is not None and maker.op_type == "DequantizeLinear" else None
        stored = graph.constant(held) if held is not None else None
        if held is None or stored is None or stored.dtype != np.int8 or int(graph.attribute(node, "group", 1)) > 1:
            continue
        rows, back = _as_rows(node, stored)
        if len(rows) < 16 or rows.shape[1] < LEAST_COLUMNS:
            continue
        span = rows.shape[1] // (stored.shape[2] if stored.ndim == 4 else 1)
        kept = pattern.mask(rows.astype(np.float64) ** 2, 1 - sparsity, span)
        graph.replace_weight(model, str(held.name), back(np.where(kept, rows, 0).astype(np.int8)))
    return model


def _as_rows(node: graph.Node, stored: Array) -> tuple[Array, Callable[[Array], Array]]:
    """(outputs, columns in the order of packed weights), and the way back."""
    if node.op_type == "Conv":
        turned = np.moveaxis(stored, 1, -1)
        return turned.reshape(len(stored), -1), lambda rows: np.ascontiguousarray(np.moveaxis(rows.reshape(turned.shape), -1, 1))
    if graph.attribute(node, "transB", 0):
        return stored, np.ascontiguousarray
    return stored.T, lambda rows: np.ascontiguousarray(rows.T)


def sessions(model: graph.Model, target: Target, isa: str | None, *, profile: bool) -> dict[str, Session]:
    """The program with every block expanded, every block skipped, and as the target's table has it."""
    always = dict.fromkeys(ISAS, BreakEven(rows=1, few_rows=1, winograd=1))
    tables = {"dense": {}, "skipped": always, "chosen": target.sparse}
    programs = {name: pack.compile(model, target.model_copy(update={"sparse": table})) for name, table in tables.items()}
    return {name: Session(program, isa=isa, threads=1, profile=profile) for name, program in programs.items()}


def step_us(session: Session, feeds: dict[str, Array]) -> float:
    """The longest step of a run: the operator's."""
    session.run(feeds)
    return max(ns for *_, ns in session.profile()) / 1e3


def run_us(session: Session, feeds: dict[str, Array]) -> float:
    """A whole run."""
    start = time.perf_counter()
    session.run(feeds)
    return (time.perf_counter() - start) * 1e6


def measured(candidates: dict[str, Session], feeds: dict[str, Array], rounds: int, us_of: Callable[..., float]) -> dict[str, Any]:
    """Microseconds of each and the ratios to ``dense``: medians over rounds of the least time in a round."""
    answers = [session.run(feeds) for session in candidates.values()]
    assert all(a[key].tobytes() == answers[0][key].tobytes() for a in answers for key in a), "bits differ"
    least: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, session in candidates.items():
            until, times = time.perf_counter() + ROUND_S, [us_of(session, feeds)]
            while time.perf_counter() < until or len(times) < LEAST_RUNS:
                times.append(us_of(session, feeds))
            least[name].append(min(times))
    medians = {name: round(statistics.median(times), 2) for name, times in least.items()}
    ratio = {
        name: round(statistics.median(d / t for d, t in zip(least["dense"], times, strict=True)), 3)
        for name, times in least.items()
    }
    return {"us": medians, "ratio": ratio}


def product_model(operator: one_op.Product, folder: Path) -> graph.Model:
    """The operator between Q/DQ."""
    return frontend.load((one_op.make(operator, folder) / "ours.onnx").read_bytes())


def row_of(what: str, pattern: str, sparsity: float, found: dict[str, Any]) -> tuple[Any, ...]:
    """A line of the table."""
    us, ratio = found["us"], found["ratio"]
    return (what, pattern, sparsity, us["dense"], us["skipped"], ratio["skipped"], us["chosen"], ratio["chosen"])


def cases(models: Sequence[str], work: Path, folder: Path) -> list[tuple[str, Callable[[], graph.Model], Callable[..., float]]]:
    """(name, a fresh copy of the model, what is timed)."""
    if not models:
        return [(p.name, partial(product_model, p, folder), step_us) for p in PRODUCTS]
    paths = [int8_model(name, work) for name in models]
    return [(path.name.split(".")[0], partial(_fresh, path), run_us) for path in paths]


def _fresh(path: Path) -> graph.Model:
    return frontend.load(path.read_bytes())


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.blocks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--target", default="host")
    parser.add_argument("--isa")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pattern", action="append")
    parser.add_argument("--sparsity", action="append", type=float)
    parser.add_argument("--work", type=Path, default=Path(".work/zoo"))
    arguments = parser.parse_args()
    target, lines = load_target(arguments.target), []
    with tempfile.TemporaryDirectory() as folder:
        for name, model_of, us_of in cases(arguments.models, arguments.work, Path(folder)):
            for pattern in arguments.pattern or target.sparse_patterns:
                for sparsity in arguments.sparsity or (0.5, 0.75, 0.9):
                    model = thinned(model_of(), Pattern(pattern), sparsity)
                    candidates = sessions(model, target, arguments.isa, profile=us_of is step_us)
                    isa = candidates["dense"].isa
                    feeds = compilation.noise(pack.compile(model, target), 0)
                    found = measured(candidates, feeds, arguments.rounds, us_of)
                    row = {"what": name, "pattern": pattern, "sparsity": sparsity, "isa": isa, **found}
                    path = protocol.merge("blocks", row, ("what", "pattern", "sparsity", "isa"))
                    lines.append(row_of(name, pattern, sparsity, found))
                    print(text.table(COLUMNS, lines[-1:]), flush=True)
    print(text.table(COLUMNS, lines))
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
