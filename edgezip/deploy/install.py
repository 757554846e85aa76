"""A bundle installed on a device so that nothing is ever half there.

``<dest>/<model>/<digest>/`` holds one version, ``current`` and ``previous`` are links. A version is uploaded under a partial
name, its SHA-256 sums are checked on the device, it is renamed, proved to compute the right bits, and only then the link is
switched, each in one atomic step. A failure at any point leaves the old version in service; doing it again is harmless, and
sweeps up what the failed run left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from edgezip.deploy.bundle import NAME, SUMS, Bundle
from edgezip.deploy.lock import Lock
from edgezip.deploy.transports import Reply, Transport
from edgezip.errors import DeviceError, EdgeZipError, UsageError

SPACE_MARGIN_KB = 1024
FULL_KB = 64  # tar on a full disk says many things; with less than this left it was the disk
UPLOAD_S = 1800
DEST = re.compile(r"[A-Za-z0-9._/][A-Za-z0-9._/-]{0,199}")
CAUSES = re.compile(r"No space left|quota|Read-only|not permitted|denied|not found|Input/output error")
STEPS = (
    "lock", "sweep", "space", "partial", "upload", "sums", "sync", "rename",
    "prove", "link", "previous", "switch", "prune", "unlock",
)  # fmt: skip
SYNC = 'sync -f "$1" 2>/dev/null || sync'  # the one file system, where sync can do that
# The sums file is checked first, against the digest that only the sender knows, then the files against it.
_CHECK = f"""
cd "$1" 2>/dev/null || exit 1
echo "$2  {SUMS}" | sha256sum -c - >/dev/null 2>&1 && sha256sum -c {SUMS} >/dev/null 2>&1
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the version is, whether it was sent now, and what was in service before."""

    folder: str
    version: str
    sent: bool
    previous: str | None


def check_dest(dest: str) -> str:
    """``dest`` when it can be a folder on a device; raises UsageError."""
    if not DEST.fullmatch(dest) or ".." in dest.split("/"):
        raise UsageError("not a usable folder", where="--dest", expected="letters, digits, . _ - /", got=dest)
    return dest


def deployed(transport: Transport, dest: str) -> list[str]:
    """Names of the models in service under ``dest``."""
    script = 'for link in "$1"/*/current; do [ -L "$link" ] && basename "$(dirname "$link")"; done'
    lines = transport.run(["sh", "-c", script, "sh", check_dest(dest)]).stdout.splitlines()
    return sorted(name for name in lines if NAME.fullmatch(name))


class Installer:
    """Versions of one model under ``dest`` of a device. ``on_step`` is called before each of STEPS (tests stop it there)."""

    def __init__(self, transport: Transport, dest: str, model: str, on_step: Callable[[str], None] | None = None) -> None:
        self.transport = transport
        self.root = f"{check_dest(dest)}/{model}"
        self._where = f"{transport.name}:{self.root}"
        self._step = on_step or (lambda _: None)

    def install(self, bundle: Bundle, *, keep: int = 2, prove: Callable[[str], None] | None = None) -> Installed:
        """Install ``bundle`` and switch to it; ``keep`` versions stay.

        ``prove`` gets the folder of the new version before it is put in service and raises if it must not be. Raises
        DeviceError, DeviceUnreachableError, and what ``prove`` raises.
        """
        version = bundle.digest[:12]
        with self._locked():
            self._step("sweep")
            self._sh('rm -rf "$1"/.partial-* "$1"/.old-* "$1/.new" "$1/.before"', self.root)
            sent = not self._is_complete(version, bundle.digest)
            if sent:
                self._upload(bundle, version)
            previous = self._link("current")
            if prove:
                self._prove(version, prove, is_new=sent and previous != version)
            if previous != version:
                self._switch(version, previous)
            self._step("prune")
            self._prune(version, previous, keep)
        return Installed(f"{self.root}/{version}", version, sent, previous)

    def rollback(self) -> Installed:
        """Switch back to the version that was in service before. Raises DeviceError when there is none."""
        with self._locked():
            current, before = self._link("current"), self._link("previous")
            if not before or before == current or not self._is_complete(before):
                raise DeviceError("there is no earlier version to go back to", where=self._where, hint="deploy the one you want")
            self._switch(before, current)
        return Installed(f"{self.root}/{before}", before, False, current)

    def versions(self) -> list[str]:
        """Versions on the device, oldest first."""
        reply = self._sh('cd "$1" && ls -1tr', self.root)
        return [name for name in reply.stdout.split() if re.fullmatch(r"[0-9a-f]{12}", name)]

    # --- steps ----------------------------------------------------------------------------------------------------------

    def _sh(self, script: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 120.0) -> Reply:
        return self.transport.run(["sh", "-c", script, "sh", *arguments], stdin=stdin, timeout_s=timeout_s)

    def _must(self, what: str, script: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 120.0) -> Reply:
        reply = self._sh(script, *arguments, stdin=stdin, timeout_s=timeout_s)
        if reply.code:
            raise DeviceError(f"{what}: {_cause(reply)}", where=self._where, hint="the old version stays in service")
        return reply

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._step("lock")
        lock = Lock(self._sh, self.root, self._where)
        lock.take()
        try:
            yield
        finally:
            self._step("unlock")
            with suppress(EdgeZipError):  # the link broke: the next run takes the lock over
                lock.release()

    def _is_complete(self, version: str, digest: str | None = None) -> bool:
        if digest is None:  # an old version: all that is known of its digest is its name
            reply = self._sh(f'cd "$1/$2" 2>/dev/null && sha256sum {SUMS}', self.root, version)
            digest = (reply.stdout.split() or [""])[0]
            if not digest.startswith(version):
                return False
        return self._sh(_CHECK, f"{self.root}/{version}", digest, timeout_s=600).code == 0

    def _upload(self, bundle: Bundle, version: str) -> None:
        self._check_space(bundle)
        partial = f"{self.root}/.partial-{version}"
        try:
            self._step("partial")
            self._must("cannot create the folder", 'mkdir "$1"', partial)
            self._step("upload")
            self._send(bundle, partial)
            self._step("sums")
            self._must("the files arrived damaged, or sha256sum is missing there", _CHECK, partial, bundle.digest, timeout_s=600)
            self._step("sync")
            self._must("cannot sync", SYNC, partial, timeout_s=600)
            self._step("rename")
            move_aside = 'if [ -e "$1/$2" ]; then mv -T "$1/$2" "$1/.old-$2" || exit 1; fi'
            self._must("cannot rename", f'{move_aside}; mv -T "$3" "$1/$2" && rm -rf "$1/.old-$2"', self.root, version, partial)
        except BaseException:
            with suppress(EdgeZipError):  # the first error is the one to tell; the next run sweeps
                self._sh('rm -rf "$1"', partial)
            raise

    def _send(self, bundle: Bundle, partial: str) -> None:
        reply = self._sh('tar -C "$1" -xf -', partial, stdin=bundle.tar(), timeout_s=UPLOAD_S)
        if not reply.code:
            return
        free = self._free_kb()
        cause = "No space left on the device" if free is not None and free < FULL_KB else _cause(reply)
        raise DeviceError(f"the transfer failed: {cause}", where=self._where, hint="the old version stays in service")

    def _prove(self, version: str, prove: Callable[[str], None], *, is_new: bool) -> None:
        self._step("prove")
        try:
            prove(f"{self.root}/{version}")
        except EdgeZipError:
            if is_new:
                with suppress(EdgeZipError):
                    self._discard(version)
            raise

    def _check_space(self, bundle: Bundle) -> None:
        self._step("space")
        free, needed = self._free_kb(), bundle.total_bytes // 1024 + SPACE_MARGIN_KB
        if free is not None and free < needed:
            raise DeviceError(
                "not enough space on the device", where=self._where, expected=f"{needed} kB free", got=f"{free} kB",
                hint="free some, lower --keep, or choose another --dest; the old version stays in service",
            )  # fmt: skip

    def _free_kb(self) -> int | None:
        words = self._must("cannot ask for free space", 'df -Pk "$1" | tail -n 1', self.root).stdout.split()
        return int(words[3]) if len(words) >= 4 and words[3].isdigit() else None

    def _link(self, name: str) -> str | None:
        lines = self._sh('readlink "$1/$2"', self.root, name).stdout.strip().splitlines()
        return lines[-1] if lines and re.fullmatch(r"[0-9a-f]{12}", lines[-1]) else None

    def _switch(self, version: str, previous: str | None) -> None:
        """Links are made aside and moved into place: rename over an existing link is atomic."""
        self._step("link")
        self._must("cannot make the link", 'rm -f "$1/.new" && ln -s "$2" "$1/.new"', self.root, version)
        self._step("previous")
        if previous:
            script = 'rm -f "$1/.before" && ln -s "$2" "$1/.before" && mv -T "$1/.before" "$1/previous"'
            self._must("cannot remember the old version", script, self.root, previous)
        self._step("switch")
        self._must("cannot switch", f'mv -T "$1/.new" "$1/current" && {{ {SYNC}; }}', self.root, timeout_s=600)

    def _prune(self, version: str, previous: str | None, keep: int) -> None:
        """Old versions go, oldest first; the one in service and the one before it always stay."""
        stay = {version, previous or version, self._link("previous") or version}
        removable = [old for old in self.versions() if old not in stay]
        for old in removable[: max(0, len(removable) + len(stay) - max(keep, 1))]:
            self._discard(old)

    def _discard(self, version: str) -> None:
        """Out of sight in one step, then deleted: no half version under a version's name."""
        self._sh('mv -T "$1/$2" "$1/.old-$2" && rm -rf "$1/.old-$2"', self.root, version)


def _cause(reply: Reply) -> str:
    """The line that says why: the one with the system's word for it, else the last."""
    lines = reply.stderr.strip().splitlines() or [f"exit code {reply.code}"]
    return next((line for line in lines if CAUSES.search(line)), lines[-1])
