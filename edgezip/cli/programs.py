"""Opens the MODEL argument of a verb: a program as it is, a model compiled on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from edgezip import compilation, frontends
from edgezip.cli import context, feeds
from edgezip.cli.shapes import parse_shape
from edgezip.dynamic import sizes_of
from edgezip.errors import MissingFileError, ShapeError, UsageError
from edgezip.frontends import foreign
from edgezip.program import Program, read
from edgezip.samples import Array

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


def open_program(
    path: Path, target: str | None, *, host: str | None = None, emulate: bool = False, shapes: Sequence[str] = ()
) -> Opened:
    """Reads a .ez file, or compiles a model for ``target`` (default: this machine).

    A program says its target itself; another ``target`` is taken when it reads the same packing. With ``host`` or ``emulate`` it
    runs elsewhere, so a model needs a target. Raises MissingFileError, UsageError, compile errors.
    """
    if host and emulate:
        raise UsageError("a device is either real or emulated", where="--host, --emulate", hint="leave one out")
    if path.suffix == ".ez":
        if not path.is_file():
            raise MissingFileError("no such program", where=str(path), hint="check the path")
        opened = _opened(path, read(path), target)
        return _at_size(opened, dict(map(parse_shape, shapes))) if shapes else opened
    if path.suffix.lower() not in frontends.SUFFIXES:
        raise foreign.refusal(path)
    if not path.exists():
        raise MissingFileError("no such model", where=str(path), hint="check the path")
    if target is None and (host or emulate):
        raise UsageError(
            "which kind of device?", where="--target", hint="name it, for example --target rpi4; see: edgezip targets list"
        )
    fixed = dict(map(parse_shape, shapes))
    program = compilation.compile(str(path), target or "host", shapes=fixed)
    return Opened(path, program, program.to_bytes(), target or "host")


def _at_size(opened: Opened, shapes: dict[str, tuple[int, ...]]) -> Opened:
    """The program of one size of its dynamic dimensions, with the bundled vectors of that size."""
    program = opened.program
    if program.shapes is None:
        raise UsageError("a program's shapes are fixed", where="--shape", hint="compile the model again, with --dim")
    sized = program.at(sizes_of(program.axes(), shapes))
    known = {sized.tensors[index].name: sized.tensors[index].dims for index in sized.inputs}
    for name, shape in shapes.items():
        if known.get(name) != shape:
            expected = str(known.get(name, ", ".join(known)))
            raise ShapeError("the program cannot have this shape", where=f"--shape {name}", expected=expected, got=str(shape))
    dims = list(known.values())
    sized.vectors = [v for v in program.vectors if [array.shape for array in v[: len(dims)]] == dims]
    return Opened(opened.path, sized, sized.to_bytes(), opened.target)


@contextmanager
def as_onnx(path: Path, shapes: Sequence[str] = ()) -> Iterator[Path]:
    """The model as a file for ONNX Runtime: itself, or for a while what the front end makes of another format."""
    if path.suffix.lower() == ".onnx" or path.suffix.lower() not in frontends.SUFFIXES:
        yield path
        return
    from edgezip import graph

    with TemporaryDirectory() as folder:
        converted = Path(folder) / f"{path.stem}.onnx"
        graph.save(frontends.load(path, shapes=dict(map(parse_shape, shapes))), converted)
        yield converted


def _opened(path: Path, program: Program, target: str | None) -> Opened:
    stated = program.metadata.get("target")
    stated = stated if isinstance(stated, str) else None
    if target is not None:
        check_packing(path, program, target)
    return Opened(path, program, path.read_bytes(), target or stated)


def check_packing(path: Path, program: Program, target: str) -> None:
    """Raises UsageError when only portable C would read the program on ``target``: nobody wants that unasked."""
    from edgezip.target import load_target

    wanted = load_target(target)
    packing, theirs = (program.layout.name.lower(), program.act_sign), (wanted.layout, wanted.act_sign)
    if packing != theirs:
        raise UsageError(
            f"the program is packed for {program.metadata.get('target', 'another target')}: only slow portable C would run it",
            where=str(path),
            expected=f"{theirs[0]}, the packing of {target}",
            got=packing[0],
            hint=f"compile the model with --target {target}",
        )


def sample_feeds(program: Program, inputs: Path | None, limit: int = 0) -> list[dict[str, Array]]:
    """Samples of ``inputs``; without it the bundled test vectors' inputs, else two feeds of seeded noise."""
    if inputs is not None:
        return feeds.read_samples(inputs, feeds.wanted_by(program), limit)
    names = [program.tensors[index].name for index in program.inputs]
    bundled = [dict(zip(names, vector, strict=False)) for vector in program.vectors]
    seed = context.current.seed
    return bundled or [compilation.noise(program, seed), compilation.noise(program, seed + 1)]


def open_place(opened: Opened, *, host: str | None, emulate: bool, threads: int = 1) -> Place:
    """Where the program runs: on user@address, under an emulator, or in this process."""
    from edgezip.measure import places

    if not host and not emulate:
        return places.Here(opened.program, threads)
    return open_device(opened, host)


def open_device(opened: Opened, host: str | None) -> Device:
    """The program on user@address, or under the emulator of its target when ``host`` is None.

    Raises UsageError, ToolError (no compiler, no emulator), DeviceUnreachableError, DeviceError.
    """
    from edgezip.deploy.build import build_runner
    from edgezip.deploy.transports.qemu import QemuTransport
    from edgezip.deploy.transports.reach import reach
    from edgezip.measure.device import Device
    from edgezip.target import load_target

    if opened.target is None:
        raise UsageError("the program does not say its target", where=str(opened.path), hint="compile it again")
    target = load_target(opened.target)
    transport = reach(host) if host else QemuTransport(target, Path.cwd())
    return Device(transport, build_runner(target, cache_dir=context.current.cache_dir).read_bytes(), opened.program)
