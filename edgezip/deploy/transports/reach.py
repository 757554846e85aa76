"""From what the user calls a device to the way there: ``user@address`` by ssh, ``adb:SERIAL`` by adb."""

from __future__ import annotations

from pathlib import Path

from edgezip.deploy.transports import Transport
from edgezip.deploy.transports.adb import AdbTransport
from edgezip.deploy.transports.ssh import SshTransport
from edgezip.errors import UsageError

ADB = "adb:"


def reach(host: str, *, port: int | None = None, accept_new: bool = False, config: Path | None = None) -> Transport:
    """The transport to ``host``; the options are ssh's. Raises UsageError, ToolError."""
    if not host.startswith(ADB):
        return SshTransport(host, port=port, accept_new=accept_new, config=config)
    if port is not None or accept_new or config is not None:
        raise UsageError("ports, keys and configurations are ssh's", where=host, hint="leave them out")
    return AdbTransport(host.removeprefix(ADB))
