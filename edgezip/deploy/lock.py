"""One deployment at a time into a folder of a device.

The lock is a symbolic link named ``.lock`` whose target is its owner: made in one atomic step together with the owner's name,
needs no room on a full disk, and works in every shell. A link left by a process of this machine that is dead, or one older than
any deployment can be, is taken over; so a run after a kill needs no hand.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edgezip.deploy.transports import Reply
from edgezip.errors import DeviceError

STALE_S = 7200  # longer than the time limits of all steps under the lock together
HELD = 9

_TAKE = """
mkdir -p "$1" || exit 3
ln -s "$2" "$1/.lock" 2>/dev/null && exit 0
held=$(readlink "$1/.lock") || exec ln -s "$2" "$1/.lock"
now=$(date +%s)
echo "$held $((now - $(stat -c %Y "$1/.lock" 2>/dev/null || echo "$now")))"
exit 9
"""
# Many may see the same dead owner: a folder, made in one atomic step, lets one at a time look again and replace the link. Whoever
# dies inside leaves it behind; after a minute the next one removes it.
_TAKE_OVER = """
mkdir "$1/.takeover" 2>/dev/null || { find "$1/.takeover" -maxdepth 0 -mmin +1 -exec rmdir {} ';' 2>/dev/null; exit 9; }
code=9
if [ "$(readlink "$1/.lock")" = "$3" ]; then rm -f "$1/.lock"; ln -s "$2" "$1/.lock" 2>/dev/null && code=0; fi
rmdir "$1/.takeover"
exit $code
"""

Shell = Callable[..., Reply]  # (script, *arguments) -> Reply


class Lock:
    """Held from ``take`` to ``release``. ``sh`` runs a script on the device, ``where`` names the folder in messages."""

    def __init__(self, sh: Shell, root: str, where: str) -> None:
        self._sh, self._root, self._where = sh, root, where
        self.owner = f"{_word(getpass.getuser())}@{_word(platform.node())},{_machine()},{os.getpid()},{secrets.token_hex(4)}"

    def take(self) -> None:
        """Raises DeviceError when another deployment holds it (it says who, and since when) or the folder cannot be written."""
        reply = self._sh(_TAKE, self._root, self.owner)
        if reply.code == HELD:
            words = reply.stdout.split()
            holder, age_s = (words[-2], words[-1]) if len(words) >= 2 else ("", "0")
            if not _is_dead(holder, age_s) or self._sh(_TAKE_OVER, self._root, self.owner, holder).code:
                raise DeviceError(
                    "another deployment is running", where=self._where, got=f"{holder.split(',')[0]}, since {age_s} s",
                    hint=f"wait for it; a dead one is taken over after {STALE_S} s, or remove .lock there",
                )  # fmt: skip
        elif reply.code:
            last = reply.stderr.strip().splitlines() or [f"exit code {reply.code}"]
            raise DeviceError(f"cannot write there: {last[-1]}", where=self._where, hint="free space, or choose another --dest")

    def release(self) -> None:
        """Remove the link if it is still ours."""
        self._sh('[ "$(readlink "$1/.lock")" = "$2" ] && rm -f "$1/.lock"', self._root, self.owner)


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", text)[:64] or "unknown"


def _machine() -> str:
    """One boot of one machine, and the process numbers' name space: where a process number means something."""
    state = platform.node()
    with suppress(OSError):
        state += Path("/proc/sys/kernel/random/boot_id").read_text() + str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(state.encode()).hexdigest()[:12]


def _is_dead(owner: str, age_s: str) -> bool:
    if age_s.isdigit() and int(age_s) > STALE_S:
        return True
    _, machine, pid, *_ = (*owner.split(","), "", "", "")
    if machine != _machine() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False
