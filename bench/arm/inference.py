"""One program on one device profile: instructions of its load and of a steady inference, and where the cycles go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.arm import count, price

LOAD, RUN = "ez_program_open_file", "ez_session_run"
MARKS = (LOAD, RUN)
COMMAND = ("--warmup", "1", "--runs", "2")  # three entries of RUN: the first, a steady one, and the end of it
PRICED_SHARE = 1e-6  # of the instructions: rarer blocks are left out


@dataclass(frozen=True, slots=True)
class Inference:
    """Executed instructions, and by core the predicted cycles of each function in a steady run."""

    load: int
    first: int
    steady: int
    cycles: Mapping[str, Mapping[str, float]]  # core -> function -> cycles
    instructions: Mapping[str, int]  # function -> instructions

    def as_dict(self, top: int) -> dict[str, Any]:
        """For the JSON: totals, and the ``top`` functions of each core."""
        totals = {core: round(sum(by.values())) for core, by in self.cycles.items()}
        dear = {
            core: {name: round(by[name]) for name in sorted(by, key=by.__getitem__)[: -top - 1 : -1]}
            for core, by in self.cycles.items()
        }
        counts = {"load": self.load, "first": self.first, "steady": self.steady}
        return {"instructions": counts, "cycles": totals, "cycles_by_function": dear}


def examine(runner: Path, program: Path, cpu: str, cores: tuple[str, ...]) -> Inference:
    """Counts ``runner`` (with symbols) on ``program`` under qemu's ``cpu`` and prices a steady run for each of ``cores``."""
    phases = count.count(runner, ["bench", str(program), *COMMAND], cpu, MARKS)
    load = next(phase for phase in phases if phase.function == LOAD)
    first, steady, _ = (phase for phase in phases if phase.function == RUN)
    names = count.symbols(runner)
    functions = {block: names.holding(block.address) for block in steady.runs}
    instructions: Counter[str] = Counter()
    for block, runs in steady.runs.items():
        instructions[functions[block]] += runs * len(block.words)
    least = PRICED_SHARE * steady.instructions
    common = [block for block, runs in steady.runs.items() if runs * len(block.words) > least]
    cycles: dict[str, Counter[str]] = {}
    for core in cores:
        prices, by_function = price.cycles(common, core), Counter[str]()
        for block in common:
            by_function[functions[block]] += prices[block] * steady.runs[block]  # type: ignore[assignment]
        cycles[core] = by_function
    return Inference(load.instructions, first.instructions, steady.instructions, cycles, instructions)
