"""Device profiles: what a target is, read from ``targets/*.toml``; one file a device.

A leaf module. Facts carry their sources in the file; figures that nobody measured say so in ``cost.source``.
"""

from __future__ import annotations

import platform
import tomllib
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edgezip.errors import TargetError

FOLDER = Path(__file__).parent / "targets"
CPUINFO = Path("/proc/cpuinfo")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cluster(_Strict):
    """Cores of one kind. ``mac_per_cycle``: peak multiply-accumulates a cycle and core, by type."""

    uarch: str
    count: int
    max_mhz: int
    l1d_kb: int
    l2_kb: int
    role: Literal["big", "little"] = "big"
    mac_per_cycle: dict[str, float] = {}


class Deploy(_Strict):
    """How to reach the device when the command line does not say."""

    transport: Literal["local", "ssh"] = "ssh"
    user: str = ""
    port: int = 22
    dest: str = ".edgezip"


class Emulator(_Strict):
    """The emulated CPU that has exactly the target's instructions."""

    qemu: str
    cpu: str


class Cost(_Strict):
    """Single-thread effective rates for predictions: 10^9 MACs or bytes a second, microseconds a step."""

    s8_gmacs: float
    f32_gmacs: float
    stream_gbs: float
    overhead_us: float
    source: str


class Target(_Strict):
    """One device profile.

    ``layout`` and ``act_sign`` say how programs are packed; ``isa`` lists the runtime's ISA folders for this CPU, best first;
    ``absent`` the features that a binary for it must not use. ``zig_cpu`` and ``gcc_flags`` are the baseline that everything
    outside of the ISA folders is compiled for.
    """

    name: str
    aliases: tuple[str, ...] = ()
    summary: str
    sources: tuple[str, ...]
    arch: Literal["x86_64", "aarch64"]
    triple: str
    zig_cpu: str
    gcc: str
    gcc_flags: tuple[str, ...] = ()
    isa: tuple[str, ...]
    absent: tuple[str, ...] = ()
    layout: Literal["k4n16", "k8n16"]
    act_sign: Literal[0, 128]
    clusters: tuple[Cluster, ...] = ()
    ram_mb: tuple[int, ...] = ()
    default_threads: int = 1
    sensor: str = "none"
    deploy: Deploy = Deploy()
    emulator: Emulator | None = None
    cost: Cost


@cache
def _all() -> dict[str, Target]:
    return {target.name: target for target in (_read(path) for path in sorted(FOLDER.glob("*.toml")))}


def _read(path: Path) -> Target:
    try:
        return Target(**tomllib.loads(path.read_text()))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise TargetError(
            f"profile is invalid: {error}", where=str(path), hint="compare it with another file of that folder"
        ) from error


def list_targets() -> list[Target]:
    """All profiles, by name."""
    return [_all()[name] for name in sorted(_all())]


def load_target(name: str) -> Target:
    """The profile called ``name`` or with that alias; ``host`` is this machine. Raises TargetError with the nearest names."""
    if name == "host":
        return detect_host()
    for target in _all().values():
        if name == target.name or name in target.aliases:
            return target
    known = [*_all(), "host"]
    near = get_close_matches(name, known, 3, 0.4)
    raise TargetError(
        "no such target",
        where=name,
        hint=f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(known))}",
    )


def detect_host() -> Target:
    """The profile of this machine under the name ``host``. Raises TargetError on an architecture without kernels."""
    machine = platform.machine()
    base = {"x86_64": "x86-64", "AMD64": "x86-64", "aarch64": "arm64", "arm64": "arm64"}.get(machine)
    if base is None:
        raise TargetError("no profile for this machine", where=machine, hint="name a target with --target")
    if base == "arm64":
        features = _arm_features()
        base = "arm64-i8mm" if "i8mm" in features else "arm64-dotprod" if "asimddp" in features else base
    return _all()[base].model_copy(update={"name": "host", "deploy": Deploy(transport="local")})


def _arm_features() -> set[str]:
    """What Linux says of the first core; empty elsewhere. All cores of a machine take the same instructions."""
    try:
        text = CPUINFO.read_text(errors="replace")
    except OSError:
        return set()
    lines = (line.partition(":") for line in text.splitlines())
    return next((set(value.split()) for key, _, value in lines if key.strip() == "Features"), set())
