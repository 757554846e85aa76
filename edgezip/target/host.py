"""This machine as a target: the shipped profile whose kernels its processor has."""

from __future__ import annotations

import platform
from collections.abc import Set as AbstractSet
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def machine() -> str:
    """The kernel's name of the architecture: x86_64, aarch64, armv7l, riscv64."""
    return platform.machine()


def features() -> frozenset[str]:
    """What Linux says of the first core; empty elsewhere. All cores of a machine take the same instructions."""
    try:
        return features_in(CPUINFO.read_text(errors="replace"))
    except OSError:
        return frozenset()


def features_in(cpuinfo: str) -> frozenset[str]:
    """Extensions named in the text of /proc/cpuinfo, in the kernel's spelling."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def profile_for(machine: str, has: AbstractSet[str]) -> str | None:
    """The name of the shipped profile for an architecture with these extensions; None when there are no kernels for it."""
    if machine in {"x86_64", "AMD64"}:
        return "x86-sse41" if has and "avx2" not in has and "sse4_1" in has else "x86-64"
    if machine in {"aarch64", "arm64"}:
        return "arm64-i8mm" if "i8mm" in has else "arm64-dotprod" if "asimddp" in has else "arm64"
    if machine.startswith("armv7"):
        return "armv7"
    return "riscv64-generic" if machine == "riscv64" else None
