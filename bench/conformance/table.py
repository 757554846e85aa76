"""The committed table: one line a case (CSV), and a page for readers made of it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "results"
CSV, PAGE = FOLDER / "conformance.csv", FOLDER / "conformance.md"
COLUMNS = ("data_set", "case", "operator", "outside", "verdict", "reason")
VERDICTS = ("passed", "refused", "wrong", "crashed")


@dataclass(frozen=True, slots=True)
class Row:
    """One case: ``outside`` says why it is not in scope (empty: it is), ``reason`` why it did not pass."""

    data_set: str
    case: str
    operator: str
    outside: str
    verdict: str
    reason: str


def write(rows: Sequence[Row]) -> None:
    """Replaces table and page."""
    with CSV.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(astuple(row) for row in rows)
    PAGE.write_text(page(rows))


def read() -> list[Row]:
    """The committed table."""
    with CSV.open(newline="") as file:
        return [Row(**row) for row in csv.DictReader(file)]


def _counts(rows: Sequence[Row]) -> list[int]:
    found = Counter(row.verdict for row in rows)
    return [found[verdict] for verdict in VERDICTS]


def _lines(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in [columns, ["---"] * len(columns), *rows]]


def summary(rows: Sequence[Row]) -> str:
    """Totals by data set, in scope and outside."""
    inside = [row for row in rows if not row.outside]
    lines = []
    for data_set in [*dict.fromkeys(row.data_set for row in rows), ""]:
        own = [row for row in inside if not data_set or row.data_set == data_set]
        others = sum(bool(row.outside) and (not data_set or row.data_set == data_set) for row in rows)
        counts = _counts(own)
        share = f"{100 * counts[0] / len(own):.1f} %" if own else "-"
        lines.append((data_set or "all", len(own), *counts, share, others))
    return "\n".join(_lines(("data set", "in scope", *VERDICTS, "share", "outside"), lines))


def page(rows: Sequence[Row]) -> str:
    """The table by operator, and why cases were refused or lie outside."""
    inside = [row for row in rows if not row.outside]
    operators = []
    for operator in sorted({row.operator for row in inside}, key=str.lower):
        own = [row for row in inside if row.operator == operator]
        reasons = Counter(row.reason for row in own if row.verdict != "passed")
        operators.append((operator, len(own), *_counts(own), "; ".join(f"{text} ({n})" for text, n in reasons.most_common(3))))
    outside = Counter(row.outside for row in rows if row.outside)
    crashed = sum(row.verdict == "crashed" for row in rows)
    return "\n".join(
        [
            "# Conformance: public operator cases through our runtime",
            "",
            "Written by `python -m bench.conformance --write`; every case is a line of `conformance.csv`. Stored outputs must be",
            "met within the tolerance of ONNX's own suite (1e-3 relative, 1e-7 absolute) or one float32 unit of the largest",
            "number. What every exporter writes into the file (weights, scales, shapes, axes) is given at compile time, the data",
            "at run time.",
            "",
            summary(rows),
            "",
            f"Cases outside the scope run too; of all {len(rows)} cases {crashed} crashed or hung.",
            "",
            "## Outside the scope",
            "",
            *_lines(("why", "cases"), outside.most_common()),
            "",
            "## By operator, in scope",
            "",
            *_lines(("operator", "cases", *VERDICTS, "why not"), operators),
            "",
        ]
    )
