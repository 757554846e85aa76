"""What an inference costs on ARM cores that are not here.

    python -m bench.arm [--work .work/zoo] [--profile rpi5 ...] [--compiler gcc|zig] [--top 6] MODEL ...

MODEL is a task of the zoo (``python -m bench.zoo list``) or an ONNX file, int8 with Q/DQ or float. For each profile it is
compiled, ``ez_run`` is built with its symbols, and one inference runs under qemu-user: executed instructions are exact (one
thread), cycles are llvm-mca's prediction for the blocks that ran. Needs Debian's qemu-user (7.2) and llvm-19.
Writes bench/results/<date>-<host>-arm.json and prints tables. Peers on the same network: bench/arm/README.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import edgezip
from bench import ours, protocol
from bench.arm.inference import Inference, examine
from bench.zoo import LATENCY_TASKS, TASKS, load_task
from edgezip.cli import context
from edgezip.deploy.build import build_runner, find_compiler
from edgezip.errors import EdgeZipError
from edgezip.report import text
from edgezip.target import load_target

# target -> cores whose schedule prices it; the first is the one that the target means
PROFILES = {
    "rpi3": ("cortex-a53",),
    "rpi4": ("cortex-a72",),
    "rpi5": ("neoverse-n1", "cortex-a55"),
    "arm64-i8mm": ("neoverse-n2", "cortex-a510"),
}
COLUMNS = ("model", "target", "load M instr", "run M instr", "core", "M cycles", "dearest functions, M cycles")


def int8_model(name: str, work: Path) -> Path:
    """The ONNX file to compile: ``name`` itself, or the zoo's task quantised with our quantiser."""
    if name in (*TASKS, *LATENCY_TASKS):
        made = work / f"{name}.edgezip.onnx"
        return made if made.is_file() else ours.quantize(load_task(name), work)
    return Path(name)


def measure(model: Path, profile: str, compiler: str | None) -> Inference:
    """Compiles ``model`` for ``profile`` and examines one inference."""
    target = load_target(profile)
    assert target.emulator is not None
    runner = build_runner(target, cache_dir=context.current.cache_dir, compiler=find_compiler(target, compiler), symbols=True)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "model.ez"
        edgezip.compile(str(model), target, vectors=1).save(program)
        return examine(runner, program, target.emulator.cpu, PROFILES[profile])


def lines(model: str, profile: str, found: Inference, top: int) -> list[tuple[Any, ...]]:
    """Rows of the table, one a core."""
    rows = []
    for core, total in found.as_dict(top)["cycles"].items():
        dear = found.as_dict(top)["cycles_by_function"][core]
        words = ", ".join(f"{name.removeprefix('ez_')} {cycles / 1e6:.2f}" for name, cycles in dear.items())
        rows.append((model, profile, f"{found.load / 1e6:.2f}", f"{found.steady / 1e6:.2f}", core, f"{total / 1e6:.2f}", words))
    return rows


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.arm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["mobilenet_v1", "mobilenet_v1_025"], metavar="MODEL")
    parser.add_argument("--work", type=Path, default=Path(".work/zoo"))
    parser.add_argument("--profile", action="append", choices=tuple(PROFILES))
    parser.add_argument("--compiler", choices=("gcc", "zig"))
    parser.add_argument("--top", type=int, default=4)
    arguments = parser.parse_args()
    table, results = [], []
    try:
        for name in arguments.models:
            model = int8_model(name, arguments.work)
            for profile in arguments.profile or PROFILES:
                found = measure(model, profile, arguments.compiler)
                table += lines(model.name.split(".")[0], profile, found, arguments.top)
                results.append({"model": model.name, "target": profile, **found.as_dict(arguments.top)})
    except EdgeZipError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(text.table(COLUMNS, table))
    print(f"wrote {protocol.save('arm', {'compiler': arguments.compiler, 'rows': results})}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
