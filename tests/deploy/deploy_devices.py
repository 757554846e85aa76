"""Devices for the tests: a folder here, a real OpenSSH server on the loopback, and bundles to install."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgezip.deploy.bundle import Bundle, make_bundle
from edgezip.deploy.transports import Reply
from edgezip.deploy.transports.local import LocalTransport
from edgezip.deploy.transports.ssh import SshTransport

BUILD_CACHE = Path(os.environ.get("EDGEZIP_CACHE") or Path.home() / ".cache") / "edgezip"


class SshDevice:
    """sshd with throw-away keys; this machine's user is the device's user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("host_key", "other_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/user_key.pub\n"
            f"SetEnv HOME={folder}\n"  # a home of its own: the start-up files of this machine's user are not the device's
            "PidFile none\nPasswordAuthentication no\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\n"
        )
        self.server: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"{subprocess.run(['id', '-un'], capture_output=True, text=True, check=True).stdout.strip()}@127.0.0.1"

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd separates its privileges
        self.server = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(self.folder / "sshd.log").open("ab"),
        )  # fmt: skip
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "sshd.log").read_text())

    def sessions(self) -> list[int]:
        """Process numbers of the server's logins."""
        assert self.server
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        found = {self.server.pid}
        while True:
            more = {pid for pid, parent in parents.items() if parent in found} - found
            if not more:
                return sorted(found - {self.server.pid})
            found |= more

    def stop(self) -> None:
        """The power goes: every login ends at once."""
        if self.server is None:
            return
        for pid in [self.server.pid, *self.sessions()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.wait()
        self.server = None

    def config(self, known: str | None = "host_key") -> Path:
        """An ssh configuration that knows the device by ``known`` (its key, the other one, or not at all)."""
        held = self.folder / f"known-{known}"
        if known:
            key = (self.folder / f"{known}.pub").read_text().rsplit(" ", 1)[0]
            held.write_text(f"[127.0.0.1]:{self.port} {key}\n")
        else:
            held.write_text("")
        path = self.folder / f"config-{known}"
        path.write_text(
            f"Host *\n IdentityFile {self.folder}/user_key\n IdentitiesOnly yes\n UserKnownHostsFile {held}\n"
            " GlobalKnownHostsFile /dev/null\n"
        )
        return path

    def transport(self, *, known: str | None = "host_key", accept_new: bool = False) -> SshTransport:
        return SshTransport(self.host, port=self.port, accept_new=accept_new, config=self.config(known))


class Cut(BaseException):
    """The deploying process ends here, without any clean-up of ours."""


class CountingTransport:
    """A local device that counts commands, and lets a test act before or after any of them."""

    is_emulated = False
    name = "device"

    def __init__(self, root: Path) -> None:
        self._inner = LocalTransport(root)
        self.commands = 0
        self.before = self.after = lambda number: None

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120.0) -> Reply:
        number = self.commands
        self.commands += 1
        self.before(number)
        reply = self._inner.run(argv, stdin=stdin, timeout_s=timeout_s)
        self.after(number)
        return reply

    def close(self) -> None:
        pass


def bundle_of(tag: str, size: int = 4096) -> Bundle:
    """A bundle whose every file says ``tag``."""
    return make_bundle("model", f"#!/bin/sh\necho {tag}\n".encode(), tag.encode() * (size // len(tag)), {"tag": tag})


def in_service(root: Path) -> str | None:
    """The tag of the version in service under ``root``, after checking that it is complete; None when there is none."""
    current = root / "model" / "current"
    if not current.is_symlink():
        return None
    said = subprocess.run([current / "ez_run"], capture_output=True, text=True, check=True).stdout.strip()
    want = bundle_of(said, max(4096, (current / "model.ez").stat().st_size))
    assert {f.name: f.read_bytes() for f in current.iterdir()} == want.files
    assert current.readlink().name == want.digest[:12]
    return said
