"""How fast is one kernel? Fused int8 products, depthwise and float32 products: GOPS, percent of a peak measured in the same run,
and peers interleaved.

    python -m bench.kernels [--isa avx2,avxvnni] [--peers onnxruntime,litert] [gemm|gemv|depthwise|conv|NAME ...]

Ours is the time of the operator's step by the runtime's own clock; a peer is timed call by call with its arrays bound, one
operator as its whole network. Processor time, one thread. The rest is as in ``bench.models``. Writes
bench/results/<date>-<host>-kernels.json.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import edgezip
from bench import models, one_op, peak, protocol, quiet, ratios
from bench.one_op import Convolution, Operator, Product
from bench.peers import candidates, client
from edgezip.errors import UsageError
from edgezip.report import text
from edgezip.runtime.session import isas

# The layers of MobileNets, ResNets and encoders, as peers.md has them.
GEMM = [
    *(Product(3136, 64, 64), Product(784, 128, 128), Product(196, 256, 256), Product(49, 512, 512), Product(3136, 24, 144)),
    *(Product(784, 192, 32), Product(196, 96, 576), Product(128, 384, 384), Product(128, 1536, 384), Product(128, 384, 1536)),
    Product(1024, 1024, 1024),
]
GEMV = [Product(1, 4096, 4096), Product(1, 1000, 1280)]
DEPTHWISE = [
    *(
        Convolution(112, 64, 3),
        Convolution(56, 128, 3),
        Convolution(28, 256, 3),
        Convolution(14, 512, 3),
        Convolution(7, 1024, 3),
    ),
    *(Convolution(112, 96, 3, 2), Convolution(56, 144, 5, 2), Convolution(28, 240, 5), Convolution(14, 672, 5)),
]
CONV = [
    *(Convolution(224, 3, 3, 2, 32), Convolution(224, 3, 7, 2, 64), Convolution(56, 64, 3, 1, 64)),
    *(Convolution(28, 128, 3, 1, 128), Convolution(14, 256, 3, 1, 256), Convolution(7, 512, 3, 1, 512)),
]
GROUPS: dict[str, Sequence[Operator]] = {"gemm": GEMM, "gemv": GEMV, "depthwise": DEPTHWISE, "conv": CONV}
COLUMNS = ("operator", "candidate", "median us", "least us", "GOPS", "% of peak", "error", "peer/ours")


def chosen(names: Iterable[str]) -> list[Operator]:
    """Operators of the named groups, or of that name; raises UsageError."""
    every = {operator.name: operator for group in GROUPS.values() for operator in group}
    found: list[Operator] = []
    for name in names:
        if name not in GROUPS and name not in every:
            raise UsageError("no such operator", where=name, expected=", ".join((*GROUPS, *every)))
        found += GROUPS.get(name, ()) or [every[name]]
    return found


def pack_ours(kit: Path) -> None:
    """Packs both of our programs anew."""
    for source, program in (("ours.onnx", "int8.ez"), ("float.onnx", "float.ez")):
        edgezip.compile(str(kit / source), "host", vectors=0).save(kit / program)


def measure(operator: Operator, kit: Path, found: Sequence[client.Candidate], arguments: argparse.Namespace) -> dict[str, Any]:
    """One operator: a figure or a reason for every candidate, with the peaks seen in the same rounds."""
    program, settings = peak.build(arguments.kits), quiet.from_arguments(arguments)
    peaks: list[dict[str, float]] = []
    workers = client.measure(
        found, kit, 1, arguments.rounds, arguments.seconds, settings, lambda: peaks.append(peak.measure(program, settings))
    )
    rows = {worker.candidate.name: row_of(worker, operator, peaks) for worker in workers}
    seen = {name: round(statistics.median(each[name] for each in peaks), 1) for name in peaks[0]}
    return {"task": operator.name, "threads": 1, "peak_gops": seen, "candidates": rows, "ratios": ratios.of(rows)}


def row_of(worker: client.Worker, operator: Operator, peaks: Sequence[dict[str, float]]) -> dict[str, Any]:
    """The figures of ``bench.models`` with GOPS of the median, and for ours the percent of its ISA's peak.

    The percent is the median over rounds of the round's best call against the round's peak: the clock of a shared machine
    drifts from round to round by more than a good kernel is short of its peak.
    """
    row = models.row_of(worker, 1)
    if "median_us" not in row:
        return row
    row["gops"] = round(operator.operations / row["median_us"] / 1e3, 1)
    if row["peer"] == "edgezip":
        family = peak.FAMILIES[(row["version"].split()[-1], row["precision"])]
        best = [operator.operations / us / 1e3 for us in worker.round_least_us]
        shares = [100 * gops / peaks_of_round[family] for gops, peaks_of_round in zip(best, peaks, strict=True)]
        row |= {"peak": family, "percent_of_peak": round(statistics.median(shares), 1)}
    return row


def table(result: dict[str, Any]) -> str:
    """One line a candidate, and the ratios."""
    lines = []
    ours = {precision: result["candidates"].get(f"edgezip {precision}", {}) for precision in ("int8", "float32")}
    for name, row in result["candidates"].items():
        if "median_us" not in row:
            lines.append((result["task"], name, row["failure"][:60], "", "", "", "", ""))
            continue
        against = ours[row["precision"]].get("median_us")
        note = "wrong answer" if "failure" in row else f"{row['norm_error']:.3f}"
        figures = (f"{row['median_us']:.2f}", f"{row['least_us']:.2f}", row["gops"], row.get("percent_of_peak", ""), note)
        lines.append((result["task"], name, *figures, f"{row['median_us'] / against:.2f}" if against else ""))
    return text.table(COLUMNS, lines) + "\n" + ratios.table([result])


def summary(results: Iterable[dict[str, Any]]) -> str:
    """Geometric means by group of operators, and the median percent of peak."""
    lines = []
    for group, operators in GROUPS.items():
        names = {operator.name for operator in operators}
        mine = [result for result in results if result["task"] in names]
        for row in ratios.geomeans(mine):
            percents = [r["candidates"][row["ours"]]["percent_of_peak"] for r in mine if row["ours"] in r["candidates"]]
            figures = (row["tasks"], row["median"], row["least"], f"{row['worst']} {row['worst_task']}")
            lines.append((group, row["ours"], row["against"], *figures, f"{statistics.median(percents):.0f}"))
    columns = ("group", "ours", "against", "operators", "geomean", "of least times", "smallest", "median % of peak")
    return text.table(columns, lines)


def of_operator(operator: Operator, found: Iterable[client.Candidate]) -> list[client.Candidate]:
    """Convolutions are measured in int8 only: a float32 one has no layout that all peers share; MatMulInteger is a product."""
    if isinstance(operator, Product):
        return list(found)
    return [c for c in found if c.row.precision == "int8" and c.row.file != "matmulinteger.onnx"]


def main() -> int:
    """Measures the named operators (default: all)."""
    parser = models.parser()
    parser.description = __doc__
    parser.set_defaults(rounds=7, seconds=0.04)
    arguments = parser.parse_args()
    names, levels = [n for n in arguments.peers.split(",") if n], [i for i in arguments.isa.split(",") if i]
    found = candidates.ours(levels, True) + candidates.peers(names, True)
    found += candidates.held(names, levels, arguments.kits, True)
    if (wide := next(name for name, is_here in isas() if is_here)) not in {isa for isa, _ in peak.FAMILIES}:
        raise UsageError("no peak is known for this processor", where=wide, hint="add its family to bench/peak.c")
    for operator in chosen(arguments.tasks or GROUPS):
        kit = one_op.make(operator, arguments.kits)
        pack_ours(kit)
        result = measure(operator, kit, of_operator(operator, found), arguments)
        print(table(result), flush=True)
        path = protocol.merge("kernels", result, ("task", "threads"), arguments.results)
    print(f"\n{summary(protocol.load(path)['results'])}\nwrote {path}")
    return 0


if __name__ == "__main__":
    protocol.run_command(main)
