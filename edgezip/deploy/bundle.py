"""What is sent: the runner, the program, a manifest, and the SHA-256 of each file."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass
from typing import Any

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files by name (with SUMS among them), and the digest that names this version on the device."""

    name: str
    files: dict[str, bytes]
    digest: str

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(map(len, self.files.values()))

    def tar(self) -> bytes:
        """The files as a tar archive, reproducible; the runner is executable."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, data in sorted(self.files.items()):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), 0o755 if name == "ez_run" else 0o644
                archive.addfile(info, io.BytesIO(data))
        return out.getvalue()


def safe_name(text: str) -> str:
    """``text`` as a folder name on any device; a text without a letter or digit of ASCII becomes ``model-`` and its digest."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64]
    return name if NAME.fullmatch(name) else f"model-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def make_bundle(name: str, runner: bytes, program: bytes, facts: dict[str, Any]) -> Bundle:
    """The bundle of a program for a device; ``facts`` (target, compiler, versions) go into the manifest."""
    files = {"ez_run": runner, "model.ez": program}
    sums = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    manifest = {"format": 1, "name": name, "files": {f: {"sha256": s, "bytes": len(files[f])} for f, s in sums.items()}, **facts}
    files["manifest.json"] = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    sums["manifest.json"] = hashlib.sha256(files["manifest.json"]).hexdigest()
    files[SUMS] = "".join(f"{digest}  {file}\n" for file, digest in sorted(sums.items())).encode()
    return Bundle(safe_name(name), files, hashlib.sha256(files[SUMS]).hexdigest())
