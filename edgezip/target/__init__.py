"""Device profiles: what a target is, read from ``targets/*.toml``; one file a device.

What ``edgezip targets calibrate`` measured lies in the user's configuration folder and replaces a profile's ``[cost]``; a user's
own profiles lie there too. A room of leaves. Facts carry their sources in the file; figures that nobody measured say so in
``cost.source``.
"""

from __future__ import annotations

from difflib import get_close_matches

from edgezip.errors import TargetError
from edgezip.target import host
from edgezip.target.files import FOLDER, measured_path, profile_path, profiles, read_measured, write_measured
from edgezip.target.profile import BreakEven, Cluster, Cost, Deploy, Emulator, Measured, Memory, Reference, Target

__all__ = [
    "FOLDER", "BreakEven", "Cluster", "Cost", "Deploy", "Emulator", "Measured", "Memory", "Reference", "Target",
    "detect_host", "list_targets", "load_target", "measured_path", "profile_path", "write_measured",
]  # fmt: skip


def _as_measured(target: Target) -> Target:
    measured = read_measured(target.name)
    if measured is None:
        return target
    sparse = target.sparse if measured.sparse is None else dict.fromkeys(target.isa, measured.sparse)
    return target.model_copy(update={"cost": measured.cost, "sparse": sparse})


def list_targets() -> list[Target]:
    """All profiles, by name."""
    return [_as_measured(target) for _, target in sorted(profiles().items())]


def load_target(name: str) -> Target:
    """The profile called ``name`` or with that alias; ``host`` is this machine. Raises TargetError with the nearest names."""
    if name == "host":
        return detect_host()
    known = profiles()
    for target in known.values():
        if name == target.name or name in target.aliases:
            return _as_measured(target)
    names = [*known, *(alias for target in known.values() for alias in target.aliases), "host"]
    near = get_close_matches(name, names, 3, 0.4)
    raise TargetError(
        "no such target",
        where=name,
        hint=f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(names))}",
    )


def detect_host() -> Target:
    """The profile of this machine under the name ``host``. Raises TargetError on an architecture without kernels."""
    machine = host.machine()
    base = host.profile_for(machine, host.features())
    if base is None:
        raise TargetError("no profile for this machine", where=machine, hint="name a target with --target")
    found = profiles()[base].model_copy(update={"name": "host", "aliases": (), "deploy": Deploy(transport="local")})
    return _as_measured(found)
