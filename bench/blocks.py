"""What skipping empty blocks of weights brings, interleaved on one ISA: against the weights before pruning, all as panels.

    python -m bench.blocks [--target host] [--isa avx2] [--rounds 5] [--pattern 4x16 ...] [--sparsity 0.5 ...] [MODEL ...]

Without a MODEL: int8 products of M = 196 and 1024 by K = N = 256 and 1024, the operator's step alone. MODEL: a task of the zoo
or an int8 ONNX file with Q/DQ, whose weights lose their smallest blocks (accuracy aside), all steps. `unpruned` is the dense
kernel on all weights, `dense` the same on what is left of them (its bits must be those of `skipped`), `chosen` follows the
target's break-even table. A step's time is the least of a round's runs, on one thread; ratios to `unpruned` are medians over
rounds. Writes bench/results/<date>-<host>-blocks.json, what was measured before on the same day kept.
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
ROUND_S, LEAST_RUNS = 0.04, 10  # of a round
COLUMNS = ("what", "pattern", "sparsity", "unpruned us", "dense us", "skipped us", "ratio", "chosen us", "ratio chosen")


def thinned(model: graph.Model, pattern: Pattern, sparsity: float) -> graph.Model:
    """``model`` without the smallest blocks of the int8 weights of its Conv (ungrouped), Gemm and MatMul."""
    for node in graph.nodes(model):
        weight = node.inputs[1] if node.op_type in ("Conv", "Gemm", "MatMul") else None
        maker = graph.producer(weight) if weight is not None else None
        stored = graph.constant(maker.inputs[0]) if maker is not None and maker.op_type == "DequantizeLinear" else None
        if maker is None or stored is None or stored.dtype != np.int8 or int(graph.attribute(node, "group", 1)) > 1:
            continue
        rows, back = _as_rows(node, stored)
        if len(rows) < 16 or rows.shape[1] < LEAST_COLUMNS:
            continue
        span = rows.shape[1] // (stored.shape[2] if stored.ndim == 4 else 1)
        kept = pattern.mask(rows.astype(np.float64) ** 2, 1 - sparsity, span)
        source = maker.inputs[0]
        assert source is not None
        graph.replace_weight(model, str(source.name), back(np.where(kept, rows, 0).astype(np.int8)))
    return model


def _as_rows(node: graph.Node, stored: Array) -> tuple[Array, Callable[[Array], Array]]:
    """(outputs, columns in the order of packed weights), and the way back."""
    if node.op_type == "Conv":
        turned = np.moveaxis(stored, 1, -1)
        return turned.reshape(len(stored), -1), lambda rows: np.ascontiguousarray(np.moveaxis(rows.reshape(turned.shape), -1, 1))
    if graph.attribute(node, "transB", 0):
        return stored, np.ascontiguousarray
    return stored.T, lambda rows: np.ascontiguousarray(rows.T)


def sessions(
    model_of: Callable[[], graph.Model], cut: tuple[Pattern, float], target: Target, isa: str | None
) -> dict[str, Session]:
    """The program before pruning, and after it with every block expanded, skipped, and as the target's table has it."""
    always = dict.fromkeys(ISAS, BreakEven(rows=1, few_rows=1, winograd=1))
    tables: dict[str, dict[str, BreakEven]] = {"unpruned": {}, "dense": {}, "skipped": always, "chosen": dict(target.sparse)}
    made = {}
    for name, table in tables.items():
        model = model_of() if name == "unpruned" else thinned(model_of(), *cut)
        program = pack.compile(model, target.model_copy(update={"sparse": table}))
        made[name] = Session(program, isa=isa, threads=1, profile=True)
    return made


def step_ns(session: Session, feeds: dict[str, Array]) -> list[int]:
    """Of each step of a run."""
    session.run(feeds)
    return [ns for *_, ns in session.profile()]


def measured(candidates: dict[str, Session], feeds: dict[str, Array], rounds: int, *, whole: bool) -> dict[str, Any]:
    """Microseconds of all steps, or of the longest, and the ratios to ``unpruned``."""
    answers = [candidates[name].run(feeds) for name in ("dense", "skipped", "chosen")]
    assert all(a[key].tobytes() == answers[0][key].tobytes() for a in answers for key in a), "bits differ"
    least: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        runs: dict[str, list[list[int]]] = {name: [] for name in candidates}
        until = time.perf_counter() + ROUND_S * len(candidates)
        while time.perf_counter() < until or len(runs["chosen"]) < LEAST_RUNS:
            for name, session in candidates.items():
                runs[name].append(step_ns(session, feeds))
        for name, times in runs.items():
            steps = np.min(times, axis=0)
            least[name].append(float(steps.sum() if whole else steps.max()) / 1e3)
    base = least["unpruned"]
    ratio = {name: statistics.median(b / t for b, t in zip(base, times, strict=True)) for name, times in least.items()}
    us = {name: round(statistics.median(times), 2) for name, times in least.items()}
    return {"us": us, "ratio": {name: round(value, 3) for name, value in ratio.items()}}


def product_model(operator: one_op.Product, folder: Path) -> graph.Model:
    """The operator between Q/DQ."""
    return frontend.load((one_op.make(operator, folder) / "ours.onnx").read_bytes())


def row_of(what: str, pattern: str, sparsity: float, found: dict[str, Any]) -> tuple[Any, ...]:
    """A line of the table."""
    us, ratio = found["us"], found["ratio"]
    return (what, pattern, sparsity, us["unpruned"], us["dense"], us["skipped"], ratio["skipped"], us["chosen"], ratio["chosen"])


def cases(models: Sequence[str], work: Path, folder: Path) -> list[tuple[str, Callable[[], graph.Model]]]:
    """(name, a fresh copy of the model)."""
    if not models:
        return [(p.name, partial(product_model, p, folder)) for p in PRODUCTS]
    paths = [int8_model(name, work) for name in models]
    return [(path.name.split(".")[0], partial(_loaded, path)) for path in paths]


def _loaded(path: Path) -> graph.Model:
    return frontend.load(path.read_bytes())


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.blocks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--target", default="host")
    parser.add_argument("--isa")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pattern", action="append")
    parser.add_argument("--sparsity", action="append", type=float)
    parser.add_argument("--work", type=Path, default=Path(".work/zoo"))
    arguments = parser.parse_args()
    target, lines = load_target(arguments.target), []
    with tempfile.TemporaryDirectory() as folder:
        for name, model_of in cases(arguments.models, arguments.work, Path(folder)):
            for pattern in arguments.pattern or target.sparse_patterns:
                for sparsity in arguments.sparsity or (0.5, 0.75, 0.9):
                    candidates = sessions(model_of, (Pattern(pattern), sparsity), target, arguments.isa)
                    isa = candidates["dense"].isa
                    feeds = compilation.noise(pack.compile(model_of(), target), 0)
                    found = measured(candidates, feeds, arguments.rounds, whole=bool(arguments.models))
                    row = {"what": name, "pattern": pattern, "sparsity": sparsity, "isa": isa, **found}
                    path = protocol.merge("blocks", row, ("what", "pattern", "sparsity", "isa"))
                    lines.append(row_of(name, pattern, sparsity, found))
                    print(text.table(COLUMNS, lines[-1:]), flush=True)
    print(text.table(COLUMNS, lines))
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
