"""A bundle installed on a device so that nothing is ever half there.

``<dest>/<model>/<digest>/`` holds one version, ``current`` and ``previous`` are links. A version is uploaded under a partial
name, its SHA-256 sums are checked on the device, then it is renamed and the link is switched, each in one atomic step. A failure
at any point leaves the old version in service; doing it again is harmless.
"""

from __future__ import annotations

import getpass
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgezip.deploy.bundle import SUMS, Bundle
from edgezip.deploy.transports import Reply, Transport
from edgezip.errors import DeviceError, UsageError

SPACE_MARGIN_KB = 1024
STALE_LOCK_S = 3600
DEST = re.compile(r"[A-Za-z0-9._/-]{1,200}")
STEPS = ("lock", "space", "partial", "upload", "sums", "sync", "rename", "link", "previous", "switch", "prune", "unlock")


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the version is, whether it was sent now, and what was in service before."""

    folder: str
    version: str
    sent: bool
    previous: str | None


class Installer:
    """Versions of one model under ``dest`` of a device. ``on_step`` is called before each of STEPS (tests stop it there)."""

    def __init__(self, transport: Transport, dest: str, model: str, on_step: Callable[[str], None] | None = None) -> None:
        if not DEST.fullmatch(dest) or ".." in dest.split("/"):
            raise UsageError("not a usable folder", where="--dest", expected="letters, digits, . _ - /", got=dest)
        self.transport = transport
        self.root = f"{dest}/{model}"
        self._step = on_step or (lambda _: None)

    def install(self, bundle: Bundle, *, keep: int = 2) -> Installed:
        """Install ``bundle`` and switch to it; ``keep`` versions stay. Raises DeviceError, DeviceUnreachableError."""
        version = bundle.digest[:12]
        self._lock()
        try:
            sent = not self._is_complete(version)
            if sent:
                self._upload(bundle, version)
            previous = self._current()
            if previous != version:
                self._switch(version, previous)
            self._step("prune")
            self._prune(version, previous, keep)
        finally:
            self._step("unlock")
            self._sh('rm -rf "$1/.lock"', self.root)
        return Installed(f"{self.root}/{version}", version, sent, previous)

    def rollback(self) -> Installed:
        """Switch back to the version that was in service before. Raises DeviceError when there is none."""
        self._lock()
        try:
            current, before = self._current(), self._link("previous")
            if not before or not self._is_complete(before):
                raise DeviceError("there is no earlier version to go back to", where=f"{self.transport.name}:{self.root}")
            self._switch(before, current)
        finally:
            self._sh('rm -rf "$1/.lock"', self.root)
        return Installed(f"{self.root}/{before}", before, False, current)

    def versions(self) -> list[str]:
        """Complete versions on the device, oldest first."""
        reply = self._sh('cd "$1" && ls -1tr', self.root)
        return [name for name in reply.stdout.split() if re.fullmatch(r"[0-9a-f]{12}", name)]

    # --- steps ----------------------------------------------------------------------------------------------------------

    def _sh(self, script: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 120.0) -> Reply:
        return self.transport.run(["sh", "-c", script, "sh", *arguments], stdin=stdin, timeout_s=timeout_s)

    def _must(
        self, what: str, script: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 120.0, hint: str = ""
    ) -> Reply:
        reply = self._sh(script, *arguments, stdin=stdin, timeout_s=timeout_s)
        if reply.code:
            last = reply.stderr.strip().splitlines() or reply.stdout.strip().splitlines() or [f"exit code {reply.code}"]
            raise DeviceError(
                f"{what}: {last[-1]}", where=f"{self.transport.name}:{self.root}", hint=hint or "the old version stays in service"
            )
        return reply

    def _lock(self) -> None:
        self._step("lock")
        owner = f"{getpass.getuser()}@{platform.node()} {int(time.time())}"
        script = 'mkdir -p "$1" || exit 3; mkdir "$1/.lock" 2>/dev/null || { cat "$1/.lock/owner" 2>/dev/null; exit 9; }; echo "$2" > "$1/.lock/owner"'
        reply = self._sh(script, self.root, owner)
        if reply.code == 9:
            raise DeviceError(
                "another deployment is running", where=f"{self.transport.name}:{self.root}", got=_describe_lock(reply.stdout),
                hint="wait for it; if it died, remove the folder .lock there",
            )  # fmt: skip
        if reply.code:
            last = reply.stderr.strip().splitlines() or [f"exit code {reply.code}"]
            raise DeviceError(
                f"cannot write there: {last[-1]}", where=f"{self.transport.name}:{self.root}", hint="choose another --dest"
            )

    def _is_complete(self, version: str) -> bool:
        return self._sh('cd "$1/$2" 2>/dev/null && sha256sum -c "$3" >/dev/null 2>&1', self.root, version, SUMS).code == 0

    def _upload(self, bundle: Bundle, version: str) -> None:
        self._check_space(bundle)
        partial = f"{self.root}/.partial-{version}"
        try:
            self._step("partial")
            self._must("cannot create the folder", 'rm -rf "$1" && mkdir -p "$1"', partial)
            self._step("upload")
            self._must("the transfer failed", 'tar -C "$1" -xf -', partial, stdin=bundle.tar(), timeout_s=1800)
            self._step("sums")
            self._must("the files arrived damaged", 'cd "$1" && sha256sum -c "$2" >/dev/null', partial, SUMS)
            self._step("sync")
            self._must("cannot sync", "sync")
            self._step("rename")
            self._must("cannot rename", 'rm -rf "$1/$2" && mv "$3" "$1/$2"', self.root, version, partial)
        except DeviceError:
            self._sh('rm -rf "$1"', partial)
            raise

    def _check_space(self, bundle: Bundle) -> None:
        self._step("space")
        reply = self._must("cannot ask for free space", 'df -Pk "$1" | tail -n 1', self.root)
        words = reply.stdout.split()
        needed = bundle.total_bytes // 1024 + SPACE_MARGIN_KB
        if len(words) >= 4 and words[3].isdigit() and int(words[3]) < needed:
            raise DeviceError(
                "not enough space on the device", where=f"{self.transport.name}:{self.root}", expected=f"{needed} kB free", got=f"{words[3]} kB",
                hint="free some, lower --keep, or choose another --dest; the old version stays in service",
            )  # fmt: skip

    def _link(self, name: str) -> str | None:
        target = self._sh('readlink "$1/$2"', self.root, name).stdout.strip()
        return target if re.fullmatch(r"[0-9a-f]{12}", target) else None

    def _current(self) -> str | None:
        return self._link("current")

    def _switch(self, version: str, previous: str | None) -> None:
        """Links are made aside and moved into place: rename over an existing link is atomic."""
        self._step("link")
        self._must("cannot make the link", 'rm -f "$1/.new" && ln -s "$2" "$1/.new"', self.root, version)
        self._step("previous")
        if previous:
            self._must(
                "cannot remember the old version",
                'rm -f "$1/.old" && ln -s "$2" "$1/.old" && mv -T "$1/.old" "$1/previous"',
                self.root,
                previous,
            )
        self._step("switch")
        self._must("cannot switch", 'mv -T "$1/.new" "$1/current" && sync', self.root)

    def _prune(self, version: str, previous: str | None, keep: int) -> None:
        stay = {version, previous or version}
        removable = [v for v in self.versions() if v not in stay]
        for old in removable[: max(0, len(removable) + len(stay) - max(keep, 1))]:
            self._sh('rm -rf "$1/$2"', self.root, old)


def _describe_lock(text: str) -> str:
    words = text.split()
    if len(words) == 2 and words[1].isdigit():
        age = max(0, int(time.time()) - int(words[1]))
        return f"{words[0]}, since {age} s" + (", probably dead" if age > STALE_LOCK_S else "")
    return "an unknown owner"
