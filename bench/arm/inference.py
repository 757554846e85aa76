"""One program on one device profile: instructions of its load and of a steady inference, and where the cycles go."""

from __future__ import annotations

from collections import Counter, defaultdict
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
    load_instructions: Mapping[str, int]

    def as_dict(self, top: int) -> dict[str, Any]:
        """For the JSON: totals, and the ``top`` functions of each."""
        return {
            "instructions": {"load": self.load, "first": self.first, "steady": self.steady},
            "load_by_function": _dearest(self.load_instructions, top),
            "instructions_by_function": _dearest(self.instructions, top),
            "cycles": {core: round(sum(by.values())) for core, by in self.cycles.items()},
            "cycles_by_function": {core: _dearest(by, top) for core, by in self.cycles.items()},
        }


def _dearest(by: Mapping[str, float], top: int) -> dict[str, int]:
    return {name: round(by[name]) for name in sorted(by, key=by.__getitem__, reverse=True)[:top]}


def examine(runner: Path, program: Path, cpu: str, cores: tuple[str, ...]) -> Inference:
    """Counts ``runner`` (with symbols) on ``program`` under qemu's ``cpu`` and prices a steady run for each of ``cores``."""
    phases = count.count(runner, ["bench", str(program), *COMMAND], cpu, MARKS)
    load = next(phase for phase in phases if phase.function == LOAD)
    first, steady, _ = (phase for phase in phases if phase.function == RUN)
    names = count.symbols(runner)
    functions = {block: names.holding(block.address) for phase in (load, steady) for block in phase.runs}
    least = PRICED_SHARE * steady.instructions
    common = [block for block, runs in steady.runs.items() if runs * len(block.words) > least]
    cycles: dict[str, dict[str, float]] = {}
    for core in cores:
        prices, spent = price.cycles(common, core), defaultdict[str, float](float)
        for block in common:
            spent[functions[block]] += prices[block] * steady.runs[block]
        cycles[core] = spent
    counted = (_instructions(phase, functions) for phase in (steady, load))
    return Inference(load.instructions, first.instructions, steady.instructions, cycles, *counted)


def _instructions(phase: count.Phase, functions: Mapping[count.Block, str]) -> Counter[str]:
    """Executed instructions of each function."""
    spent: Counter[str] = Counter()
    for block, runs in phase.runs.items():
        spent[functions[block]] += runs * len(block.words)
    return spent
