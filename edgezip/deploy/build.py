"""The on-device runner ``ez_run``, cross-compiled to one static binary with whatever compiler is at hand.

ziglang (a Python package) cross-compiles with no toolchain to install; a system cross gcc serves too. Everything is compiled
for the target's baseline CPU, and only the files of an ISA folder get that folder's flags: so a binary for a Cortex-A72 never
holds an instruction that an A72 lacks. Builds are kept by a hash of sources, flags and compiler.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edgezip.errors import ToolError
from edgezip.target import Target

FLAGS = (
    "-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-ffunction-sections", "-fdata-sections",
    "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-D_GNU_SOURCE",
)  # fmt: skip
# Debian's name of a compiler
PACKAGES = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf",
    "riscv64-linux-gnu-gcc": "gcc-riscv64-linux-gnu",
    "x86_64-linux-gnu-gcc": "gcc-x86-64-linux-gnu",
}
MACHINES = {"armv7l": "arm", "AMD64": "x86_64", "arm64": "aarch64"}  # what kernels call an architecture otherwise
# zig builds its C library once for every CPU name (a minute each): all targets of an architecture link with its baseline.
BASELINE = {"aarch64": "generic", "x86_64": "x86_64", "arm": "generic+v7a+neon", "riscv64": "baseline_rv64"}
LINK = ("-static", "-Wl,--gc-sections", "-pthread", "-lm")
STRIP = "-s"


@dataclass(frozen=True, slots=True)
class Compiler:
    """``command`` compiles C, ``link`` links it; ``dialect`` names the line of ``flags.txt`` that it understands."""

    command: tuple[str, ...]
    link: tuple[str, ...]
    dialect: str
    version: str


def source_folder() -> Path:
    """``csrc``: beside the package in a checkout, inside it when installed."""
    for folder in (Path(__file__).parents[2] / "csrc", Path(__file__).parents[1] / "csrc"):
        if (folder / "tools" / "ez_run.c").is_file():
            return folder
    raise ToolError(
        "the C sources of the runner are missing from this installation", hint="install EdgeZip again: pip install edgezip"
    )


def find_compiler(target: Target, prefer: str | None = None) -> Compiler:
    """The compiler for ``target``: ``prefer``, else EDGEZIP_COMPILER (``zig`` or ``gcc``), else the best there is.

    Raises ToolError when there is none.
    """
    prefer = prefer or os.environ.get("EDGEZIP_COMPILER")
    native = MACHINES.get(platform.machine(), platform.machine()) == target.arch
    makers = {"gcc": _system_gcc, "zig": _zig}
    order = [prefer] if prefer else ["gcc", "zig"] if native else ["zig", "gcc"]
    for name in order:
        if name not in makers:
            raise ToolError("unknown compiler", where=f"EDGEZIP_COMPILER={name}", expected="zig or gcc")
        found = makers[name](target, native)
        if found:
            return found
    raise ToolError(
        f"no compiler for {target.name} ({target.arch})",
        expected=" or ".join(order),
        got="none installed",
        hint=f"pip install 'edgezip[cross]' (ziglang), or apt install {PACKAGES.get(target.gcc, target.gcc)}",
    )


def _zig(target: Target, _native: bool) -> Compiler | None:
    if importlib.util.find_spec("ziglang") is None:
        return None
    from importlib.metadata import version

    base = (sys.executable, "-m", "ziglang", "cc", "-target", target.triple)
    link = (*base, f"-mcpu={BASELINE[target.arch]}")
    return Compiler((*base, f"-mcpu={target.zig_cpu}"), link, "zig", f"zig {version('ziglang')}")


def _system_gcc(target: Target, native: bool) -> Compiler | None:
    candidates = [target.gcc, "gcc", "cc"] if native else [target.gcc]
    found = next((path for name in candidates if (path := shutil.which(name))), None)
    if found is None:
        return None
    text = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()
    command = (found, *target.gcc_flags)
    return Compiler(command, command, "gcc", text[0] if text else found)


def isa_flags(folder: Path, dialect: str) -> tuple[str, ...]:
    """Flags of an ISA folder for ``gcc`` or ``zig``, from its ``flags.txt``."""
    for line in (folder / "flags.txt").read_text().splitlines():
        key, _, value = line.partition("=")
        if key == dialect:
            return tuple(value.split())
    return ()


Group = tuple[str, list[Path], tuple[str, ...]]


def groups(target: Target, compiler: Compiler) -> list[Group]:
    """(name, sources, extra flags) of each folder; only the target's ISA folders are among them.

    Which folders there are is told to dispatch.c alone: targets that differ in nothing else share zig's cache of all the rest.
    """
    root = source_folder()
    dispatch = root / "core" / "dispatch.c"
    have = tuple(f"-DEZ_HAVE_{isa.upper()}=1" for isa in target.isa)
    found: list[Group] = [
        (name, [path for path in sorted((root / name).glob("*.c")) if path != dispatch], ()) for name in ("core", "ops", "tools")
    ]
    found.append(("dispatch", [dispatch], have))
    for isa in target.isa:
        folder = root / "isa" / isa
        found.append((f"isa-{isa}", sorted(folder.glob("*.c")), isa_flags(folder, compiler.dialect)))
    return found


def _digest(target: Target, compiler: Compiler, link: tuple[str, ...]) -> str:
    root = source_folder()
    state = hashlib.sha256(repr((FLAGS, link, compiler.command[1:], compiler.link[1:], compiler.version, target.isa)).encode())
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".c", ".h", ".inc", ".txt")):
        state.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return state.hexdigest()[:24]


def build_runner(target: Target, *, cache_dir: Path, compiler: Compiler | None = None, symbols: bool = False) -> Path:
    """Path of the static ``ez_run`` for ``target``, built now or taken from ``cache_dir``; ``symbols``: not stripped.

    Raises ToolError (no compiler, or it failed: its first lines are in the message).
    """
    compiler = compiler or find_compiler(target)
    cache_dir = cache_dir.resolve()  # the compiler runs in another folder
    link = LINK if symbols else (*LINK, STRIP)
    final = cache_dir / "runner" / f"{target.arch}-{_digest(target, compiler, link)}" / "ez_run"
    if final.is_file():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with (final.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second waits, and finds the work done
        if not final.is_file():
            with tempfile.TemporaryDirectory(dir=final.parent, prefix=".build-") as scratch:
                _build(target, compiler, link, Path(scratch), cache_dir).replace(final)
    return final


def _build(target: Target, compiler: Compiler, link: tuple[str, ...], scratch: Path, cache_dir: Path) -> Path:
    """One object a source file, one link."""
    made = compile_all(compiler, groups(target, compiler), scratch, cache_dir)
    binary = scratch / "ez_run"
    call(compiler.link, [*map(str, made), *link, "-o", str(binary)], scratch, cache_dir)
    return binary


def compile_all(
    compiler: Compiler, sources: Sequence[Group], scratch: Path, cache_dir: Path, flags: tuple[str, ...] = ()
) -> list[Path]:
    """Objects in ``scratch`` of all sources, compiled with ``flags`` too; as many compilers at once as there are cores."""
    root = source_folder()
    include = (f"-I{root}", f"-I{root / 'include'}")
    calls = {
        scratch / f"{name}-{source.stem}.o": [*FLAGS, *flags, *extra, *include, "-c", str(source)]
        for name, paths, extra in sources
        for source in paths
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(call, compiler.command, [*arguments, "-o", str(made)], scratch, cache_dir)
            for made, arguments in calls.items()
        ]
        try:
            for job in jobs:
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return list(calls)


def call(command: tuple[str, ...], arguments: list[str], folder: Path, cache_dir: Path) -> None:
    """Run a compiler in ``folder``; raises ToolError with its first lines."""
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache_dir / "zig"), "ZIG_LOCAL_CACHE_DIR": str(cache_dir / "zig")}
    done = subprocess.run([*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        first = "\n".join(done.stderr.strip().splitlines()[:12])
        raise ToolError(f"the compiler failed:\n{first}", where=" ".join(command), hint="run `edgezip doctor`")
