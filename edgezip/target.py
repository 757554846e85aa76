"""Device profiles: what a target is, read from ``targets/*.toml``; one file a device.

What ``edgezip targets calibrate`` measured lies in the user's configuration folder and replaces a profile's ``[cost]``.

A leaf module. Facts carry their sources in the file; figures that nobody measured say so in ``cost.source``.
"""

from __future__ import annotations

import json
import os
import platform
import tomllib
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgezip.errors import TargetError

FOLDER = Path(__file__).parent / "targets"
CPUINFO = Path("/proc/cpuinfo")


Rate = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Microseconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Record = TypeVar("Record", bound=_Strict)


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
    """Single-thread effective rates, for predictions and choices: 10^9 MACs or bytes a second, microseconds.

    What is None was not measured: depthwise layers then count as other products, elementwise steps as memory traffic, and the
    runtime has its own threshold ``solo_us`` below which a step is not worth a second thread. ``targets calibrate`` fills all.
    """

    s8_gmacs: Rate
    f32_gmacs: Rate
    depthwise_s8_gmacs: Rate | None = None
    depthwise_f32_gmacs: Rate | None = None
    elementwise_gbs: Rate | None = None  # from the second-level cache
    stream_gbs: Rate  # weights from memory
    overhead_us: Microseconds
    two_threads: Annotated[float, Field(ge=0.1, le=2.5)] | None = None  # speed-up of long steps
    solo_us: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    source: Annotated[str, Field(min_length=1)]


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
    sparse_patterns: tuple[str, ...] = ()  # of zeros that a kernel for this target skips, as `--prune` calls them
    sensor: str = "none"
    spin_us: Annotated[int, Field(ge=0, le=1_000_000)] | None = None  # idle workers look for work so long; 0 on batteries
    deploy: Deploy = Deploy()
    emulator: Emulator | None = None
    cost: Cost


class Measured(_Strict):
    """A user's file: the coefficients of one device, instead of those of its profile."""

    target: str
    cost: Cost


@cache
def _all() -> dict[str, Target]:
    paths = sorted(FOLDER.glob("*.toml"))
    return {
        target.name: target for target in (_read(path, Target, "compare it with another file of that folder") for path in paths)
    }


def _read(path: Path, kind: type[Record], hint: str) -> Record:
    try:
        return kind.model_validate(tomllib.loads(path.read_text()))
    except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"profile is invalid: {error}", where=str(path), hint=hint) from error


def measured_path(name: str) -> Path:
    """Where the measured coefficients of target ``name`` lie."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "edgezip" / "targets" / f"{name}.toml"


def _as_measured(target: Target) -> Target:
    path = measured_path(target.name)
    if not path.is_file():
        return target
    measured = _read(path, Measured, "run `edgezip targets calibrate` again, or delete the file")
    if measured.target != target.name:
        raise TargetError("measured for another target", where=str(path), expected=target.name, got=measured.target)
    return target.model_copy(update={"cost": measured.cost})


def write_measured(measured: Measured, path: Path) -> None:
    """A file that ``load_target`` reads; folders are made."""
    facts = measured.cost.model_dump(exclude_none=True)
    lines = [f"{key} = {json.dumps(value)}" for key, value in facts.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([f"target = {json.dumps(measured.target)}", "", "[cost]", *lines, ""]))


def list_targets() -> list[Target]:
    """All profiles, by name."""
    return [_as_measured(_all()[name]) for name in sorted(_all())]


def load_target(name: str) -> Target:
    """The profile called ``name`` or with that alias; ``host`` is this machine. Raises TargetError with the nearest names."""
    if name == "host":
        return detect_host()
    for target in _all().values():
        if name == target.name or name in target.aliases:
            return _as_measured(target)
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
    return _as_measured(_all()[base].model_copy(update={"name": "host", "deploy": Deploy(transport="local")}))


def _arm_features() -> set[str]:
    """What Linux says of the first core; empty elsewhere. All cores of a machine take the same instructions."""
    try:
        text = CPUINFO.read_text(errors="replace")
    except OSError:
        return set()
    lines = (line.partition(":") for line in text.splitlines())
    return next((set(value.split()) for key, _, value in lines if key.strip() == "Features"), set())
