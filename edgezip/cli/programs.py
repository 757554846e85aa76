"""Opens the MODEL argument of a verb: a program as it is, an ONNX model compiled on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgezip import compilation
from edgezip.cli import context, feeds
from edgezip.errors import MissingFileError, UsageError
from edgezip.program import Program, read

if TYPE_CHECKING:
    from edgezip.measure.device import Device
    from edgezip.measure.places import Place


@dataclass(frozen=True)
class Opened:
    """A program, its bytes and where it came from; ``target`` is None when the file does not say."""

    path: Path
    program: Program
    data: bytes
    target: str | None


def open_program(path: Path, target: str = "host") -> Opened:
    """Reads a .ez file, or compiles a .onnx file for ``target``; raises MissingFileError, UsageError, compile errors."""
    if not path.is_file():
        raise MissingFileError("no such model", where=str(path), expected="a .ez or .onnx file")
    if path.suffix == ".ez":
        program = read(path)
        stated = program.metadata.get("target")
        return Opened(path, program, path.read_bytes(), stated if isinstance(stated, str) else None)
    if path.suffix != ".onnx":
        raise UsageError("the model is neither a program nor ONNX", where=str(path), expected=".ez or .onnx")
    program = compilation.compile(str(path), target)
    return Opened(path, program, program.to_bytes(), target)


def sample_feeds(program: Program, inputs: Path | None, limit: int = 0) -> list[dict[str, feeds.Array]]:
    """Samples of ``inputs``; without it the bundled test vectors' inputs, else two feeds of seeded noise."""
    if inputs is not None:
        return feeds.read_samples(inputs, feeds.wanted_by(program), limit)
    names = [program.tensors[index].name for index in program.inputs]
    bundled = [dict(zip(names, vector, strict=False)) for vector in program.vectors]
    seed = context.current.seed
    return bundled or [compilation.noise(program, seed), compilation.noise(program, seed + 1)]


def target_for(target: str | None, host: str | None, emulate: bool) -> str:
    """The kind of device an ONNX model is compiled for; raises UsageError when only the user can know it."""
    if target is not None:
        return target
    if host or emulate:
        raise UsageError(
            "which kind of device?", where="--target", hint="name it, for example --target rpi4; see: edgezip targets list"
        )
    return "host"


def open_place(opened: Opened, *, host: str | None, emulate: bool, threads: int = 1) -> Place:
    """Where the program runs: on user@address, under an emulator, or in this process; raises UsageError for both at once."""
    from edgezip.measure import places

    if host and emulate:
        raise UsageError("a device is either real or emulated", where="--host, --emulate", hint="leave one out")
    if not host and not emulate:
        return places.Here(opened.program, threads)
    return open_device(opened, host)


def open_device(opened: Opened, host: str | None) -> Device:
    """The program on user@address, or under the emulator of its target when ``host`` is None.

    Raises UsageError, ToolError (no compiler, no emulator), DeviceUnreachableError, DeviceError.
    """
    from edgezip.deploy.build import build_runner
    from edgezip.deploy.transports.qemu import QemuTransport
    from edgezip.deploy.transports.ssh import SshTransport
    from edgezip.measure.device import Device
    from edgezip.target import load_target

    if opened.target is None:
        raise UsageError("the program does not say its target", where=str(opened.path), hint="compile it again")
    target = load_target(opened.target)
    transport = SshTransport(host) if host else QemuTransport(target, Path.cwd())
    return Device(transport, build_runner(target, cache_dir=context.current.cache_dir).read_bytes(), opened.program)
