"""A device over the system's own ssh: the user's configuration, keys, jump hosts and known hosts all apply.

Host keys are checked as ssh is configured; a first contact is refused in batch mode unless ``accept_new`` is asked for. A
changed key is always refused.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgezip.deploy.transports import Reply
from edgezip.deploy.transports.bounded import run_bounded
from edgezip.errors import DeviceUnreachableError, ToolError, UsageError

HOST = re.compile(r"(?:[A-Za-z0-9._][A-Za-z0-9._-]{0,63}@)?[A-Za-z0-9:][A-Za-z0-9._:%-]{0,254}")
CONNECT_TIMEOUT_S = 10
ALIVE_S = 5  # a link that stays silent for three of these is dead (ssh's own default waits for ever)
SSH_FAILED = 255  # ssh's own exit code for everything before the command runs


class SshTransport:
    """``host`` is ``user@address``; ``config`` an ssh configuration file other than the user's own."""

    is_emulated = False

    def __init__(self, host: str, *, port: int | None = None, accept_new: bool = False, config: Path | None = None) -> None:
        if not HOST.fullmatch(host):
            raise UsageError("not a host name", where="--host", expected="user@address", got=host)
        if shutil.which("ssh") is None:
            raise ToolError("ssh is not installed", hint="apt install openssh-client")
        self.name = host
        # A socket's path has room for about 100 characters and the hash takes 57 of them: TMPDIR may be too long.
        self._control = tempfile.TemporaryDirectory(prefix="ez-ssh-", dir="/tmp")
        options = {
            "BatchMode": "yes", "ConnectTimeout": str(CONNECT_TIMEOUT_S), "ControlMaster": "auto", "ControlPersist": "60",
            "ControlPath": f"{self._control.name}/%C", "ServerAliveInterval": str(ALIVE_S), "ServerAliveCountMax": "3",
        }  # fmt: skip
        if accept_new:
            options["StrictHostKeyChecking"] = "accept-new"
        self._ssh = ["ssh", *(["-F", str(config)] if config else []), *(["-p", str(port)] if port else [])]
        for key, value in options.items():
            self._ssh += ["-o", f"{key}={value}"]

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120.0) -> Reply:
        """Run ``argv`` on the device, each word quoted for its shell.

        A shell of our own waits for the command there: ssh answers 255 for a command that died of a signal, as it does for a
        broken link, and an illegal instruction must not look like one.
        """
        remote = shlex.join(["sh", "-c", '"$@"; exit $?', "sh", *argv])
        reply = run_bounded([*self._ssh, "--", self.name, remote], where=self.name, stdin=stdin, timeout_s=timeout_s)
        if reply.code == SSH_FAILED:
            raise DeviceUnreachableError(_reason(reply.stderr), where=self.name, hint=_hint(reply.stderr, self.name))
        return reply

    def close(self) -> None:
        """End the shared connection."""
        with suppress(subprocess.TimeoutExpired):
            subprocess.run([*self._ssh, "-O", "exit", "--", self.name], capture_output=True, check=False, timeout=5)
        self._control.cleanup()


def _reason(stderr: str) -> str:
    lines = [line.strip(" @\r") for line in stderr.splitlines() if line.strip(" @\r")]
    return lines[-1] if lines else "the connection broke"


def _hint(stderr: str, host: str) -> str:
    if "IDENTIFICATION HAS CHANGED" in stderr:
        return "the host key changed: if the device was reinstalled, remove the old key with ssh-keygen -R, else do not connect"
    if "Host key verification failed" in stderr:
        return f"unknown host key: connect once with `ssh {host}`, or use --accept-new-host-key"
    if "Permission denied" in stderr:
        return f"no login: copy your key with `ssh-copy-id {host}`"
    return f"is the device on, and reachable? try `ssh {host}`"
