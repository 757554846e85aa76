"""The conformance table.

    python -m bench.conformance [--work .work/conformance] [--jobs 2] [--only WORD] [--write] [--verbose]

Runs every case of Debian's libonnx-testdata and of the installed onnx through our runtime and prints how they went. ``--write``
replaces the committed table (bench/results/conformance.csv and .md). ``--only`` picks cases whose name, set or operator holds the
word, and lists each.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from bench import protocol
from bench.conformance import guard, scope, table
from bench.conformance.cases import Case, data_sets, default_work
from bench.conformance.trial import Result, fixed_inputs, try_case


def run_cases(cases: list[Case], jobs: int) -> list[Result]:
    """One result a case, in order."""
    fixed = fixed_names(cases)

    def trial(number: int) -> Result:
        return try_case(cases[number], fixed[number])

    return guard.run_all(len(cases), trial, jobs)


def fixed_names(cases: list[Case]) -> list[set[str]]:
    """What each case is given at compile time; one whose operator was written out as its function body gets the same."""
    by_name = {(case.data_set, case.name): fixed_inputs(case.model) for case in cases}
    return [
        by_name.get((case.data_set, case.name.partition("_expanded")[0]), set()) | by_name[case.data_set, case.name]
        for case in cases
    ]


def rows_of(cases: list[Case], results: list[Result]) -> list[table.Row]:
    """The table of these results."""
    return [
        table.Row(case.data_set, case.name, case.operator, scope.outside(case), result.verdict.value, result.reason)
        for case, result in zip(cases, results, strict=True)
    ]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=default_work())
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="list every case in scope that did not pass")
    options = parser.parse_args()
    start = time.monotonic()
    cases = [case for cases in data_sets(options.work).values() for case in cases]
    if options.only:
        cases = [case for case in cases if options.only in (case.operator, case.name, case.data_set) or options.only in case.name]
    rows = rows_of(cases, run_cases(cases, options.jobs))
    for row in rows:
        if options.only or (options.verbose and not row.outside and row.verdict != "passed"):
            print(f"{row.data_set:24} {row.case:60} {row.verdict:8} {row.outside or row.reason}")
    print(table.summary(rows))
    print(f"{time.monotonic() - start:.0f} s")
    if options.write:
        table.write(rows)
    return 0


if __name__ == "__main__":
    protocol.run_command(main)
