"""Where the peers' Pythons are, and how they are made."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.peers import PEERS
from edgezip.errors import ToolError, UsageError

ROOT = Path(os.environ.get("EDGEZIP_PEERS", ".work/peers"))


def peer(name: str) -> Any:
    """The module of one peer; raises UsageError with the known names."""
    if name not in PEERS and name != "edgezip":
        raise UsageError("no such peer", where="bench.peers", expected=", ".join(PEERS), got=name)
    return import_module(f"bench.peers.{name}")


def python(name: str) -> Path | None:
    """The Python of a peer's environment; None when it was not made."""
    environment = peer(name).ENVIRONMENT
    if not environment:
        return Path(sys.executable)
    path = (ROOT / environment / "bin" / "python").absolute()  # not resolved: a link's target does not know its venv
    return path if path.exists() and (ROOT / environment / "ready").exists() else None


def setup(name: str) -> None:
    """Makes the environment and installs the peer there; raises ToolError with pip's last words."""
    module = peer(name)
    if not module.ENVIRONMENT:
        return
    folder = ROOT / module.ENVIRONMENT
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *module.REQUIREMENTS]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError("pip failed", where=name, got=done.stderr.strip()[-400:])
    (folder / "ready").write_text("\n".join(module.REQUIREMENTS) + "\n")


def states() -> Iterator[tuple[str, str]]:
    """Each peer and "installed" or "not installed"."""
    for name in PEERS:
        yield name, "installed" if python(name) else "not installed"
