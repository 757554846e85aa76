"""Cycles that llvm-mca predicts for blocks of machine code, in steady state.

A lower bound: caches, bandwidth and branch misses are free. Nothing overlaps across the borders of a block. Good for ratios
between programs priced alike, never to be quoted as a time. LLVM 19 gives Cortex-A76 the schedule of an A57, so neoverse-n1
stands in for it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence

from bench.arm.count import Block
from edgezip.errors import ToolError

LLVM = "19"
ITERATIONS = 64
FEATURES = "+dotprod,+i8mm,+fullfp16,+lse,+rdm,+bf16,+crc"
# What a model has no schedule for, and what hardly ever runs: system registers, barriers, hints, exclusives, prefetches.
UNPRICED = re.compile(r"(svc|brk|hint|dmb|dsb|isb|mrs|msr|prfm|dc|ld\w*xr|st\w*xr|clrex|bti|paci?a|autia|cas|swp|ldadd)\w*\b")
BRANCH = re.compile(r"^(b(?:\.\w+)?|cbn?z|tbn?z|bl)(\s+(?:.*,\s*)?)#-?\d+$")


def cycles(blocks: Sequence[Block], core: str) -> dict[Block, float]:
    """Cycles of one run of each block on ``core``; a block without a schedule counts one cycle an instruction."""
    regions = []
    for number, lines in enumerate(disassemble(blocks)):
        priced = [line for line in lines if not UNPRICED.match(line)] or ["nop"]
        regions += [f"# LLVM-MCA-BEGIN b{number}", *priced, f"# LLVM-MCA-END b{number}"]
    call = ["-mtriple=aarch64", f"-mcpu={core}", f"-mattr={FEATURES}", f"-iterations={ITERATIONS}", "-json"]
    text = _llvm("llvm-mca", [*call, "-skip-unsupported-instructions=any"], regions)
    prices = {region["Name"]: region["SummaryView"]["TotalCycles"] / ITERATIONS for region in json.loads(text)["CodeRegions"]}
    return {block: prices.get(f"b{number}", float(len(block.words))) for number, block in enumerate(blocks)}


def disassemble(blocks: Sequence[Block]) -> list[list[str]]:
    """Lines of assembly of each block; branches lead to the block itself."""
    words = [f"0x{w & 255:x} 0x{w >> 8 & 255:x} 0x{w >> 16 & 255:x} 0x{w >> 24:x}" for block in blocks for w in block.words]
    text = _llvm("llvm-mc", ["--disassemble", "-triple=aarch64", "-mattr=+all"], words)
    lines = iter(line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("."))
    return [[BRANCH.sub(r"\1\2.", next(lines)) for _ in block.words] for block in blocks]


def _llvm(tool: str, arguments: Sequence[str], lines: Sequence[str]) -> str:
    found = shutil.which(f"{tool}-{LLVM}")
    if found is None:
        raise ToolError(f"{tool}-{LLVM} is not installed", hint=f"apt install llvm-{LLVM}")
    return subprocess.run([found, *arguments], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True).stdout
