"""Executed blocks of an AArch64 program, by phase: qemu-user with the plugin beside this file."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgezip.errors import ToolError

SOURCE = Path(__file__).parent / "count_blocks.c"
PLUGIN_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden")
READERS = ("aarch64-linux-gnu-nm", "llvm-nm-19", "llvm-nm", "nm")  # of symbols; each reads ELF of any machine, or says so


@dataclass(frozen=True, slots=True)
class Block:
    """A run of instructions: its first address, and the instructions as 32-bit words."""

    address: int
    words: tuple[int, ...]


@dataclass(slots=True)
class Phase:
    """What ran from one entry of ``function`` until the next marked entry."""

    function: str
    runs: Counter[Block] = field(default_factory=Counter)

    @property
    def instructions(self) -> int:
        """Executed instructions."""
        return sum(n * len(block.words) for block, n in self.runs.items())


@dataclass(frozen=True, slots=True)
class Symbols:
    """Functions of a static program that kept its symbols: (address, name), ascending."""

    starts: tuple[tuple[int, str], ...]

    def address(self, name: str) -> int:
        """Where the function ``name`` begins."""
        return next(address for address, found in self.starts if found == name)

    def holding(self, address: int) -> str:
        """The function that ``address`` lies in."""
        at = bisect_right(self.starts, (address, "\x7f"))
        return self.starts[at - 1][1] if at else "?"


def symbols(program: Path) -> Symbols:
    """The functions of ``program``. Raises ToolError where no nm is installed."""
    reader = next((found for name in READERS if (found := shutil.which(name))), None)
    if reader is None:
        raise ToolError("no tool lists the symbols of a program", expected=" or ".join(READERS), hint="apt install binutils")
    text = subprocess.run([reader, str(program)], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines()]
    functions = {(int(row[0], 16), row[2]) for row in rows if len(row) == 3 and row[1] in "tTwW" and row[2][0] != "$"}
    return Symbols(tuple(sorted(functions)))


def build_plugin(folder: Path) -> Path:
    """Compiles the plugin into ``folder``."""
    made = folder / "count_blocks.so"
    subprocess.run(["cc", *PLUGIN_FLAGS, "-o", str(made), str(SOURCE)], check=True)
    return made


def count(program: Path, arguments: Sequence[str], cpu: str, functions: Sequence[str]) -> list[Phase]:
    """Phases of ``program`` under ``-cpu cpu``; each entry of one of ``functions`` begins one. The first is "start"."""
    if shutil.which("qemu-aarch64") is None:
        raise ToolError("qemu-aarch64 is not installed", hint="apt install qemu-user (7.2: plugins of interface 1)")
    names = symbols(program)
    at = {names.address(name): name for name in functions}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "blocks"
        plugin = f"{build_plugin(Path(folder))},out={out}" + "".join(f",mark={address:x}" for address in at)
        call = ["qemu-aarch64", "-cpu", cpu, "-plugin", plugin, str(program), *arguments]
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
        return parse(out.read_text().splitlines(), at)


def parse(lines: Sequence[str], functions: Mapping[int, str]) -> list[Phase]:
    """Phases of the plugin's text; ``functions`` names the marked addresses."""
    counts: list[tuple[str, list[tuple[int, int]]]] = []
    blocks: dict[int, Block] = {}
    for line in lines:
        kind, *rest = line.split()
        if kind == "phase":
            counts.append((functions.get(int(rest[0], 16), "start"), []))
        elif kind == "block":
            number, address, code = rest
            blocks[int(number)] = Block(int(address, 16), tuple(int(code[i : i + 8], 16) for i in range(0, len(code), 8)))
        else:
            counts[-1][1].append((int(kind), int(rest[0])))
    phases = [Phase(function) for function, _ in counts]
    for phase, (_, rows) in zip(phases, counts, strict=True):
        for index, runs in rows:
            phase.runs[blocks[index]] += runs
    return phases
