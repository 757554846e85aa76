"""``edgezip compile``: packs a model for a target into a program (.ez) that proves itself, or into a binary or C sources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgezip.errors import MissingFileError, UsageError

if TYPE_CHECKING:
    from edgezip.deploy.embed import Artifact
    from edgezip.program import Program

MOST_REASONS = 10


def command(
    model: Annotated[Path, typer.Argument(help="Model (.onnx, .tflite, .pt2), float or quantised.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="What to write: NAME.ez, a binary, or a folder (lib, c).")],
    target: Annotated[str, typer.Option(help="Kind of device; see: edgezip targets list")] = "host",
    shape: Annotated[list[str] | None, typer.Option(help="Fix an input: NAME=1x3x224x224; repeatable.")] = None,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="Real samples for the bundled test vectors (.npy, .npz, folder).")
    ] = None,
    vectors: Annotated[int, typer.Option(help="Bundled test vectors; the device proves itself with them.", min=0, max=64)] = 2,
    state: Annotated[
        list[str] | None, typer.Option(help="Inputs that the session keeps from run to run: INPUT=OUTPUT,...; repeatable.")
    ] = None,
    dim: Annotated[
        list[str] | None,
        typer.Option(help="Bounds of a dynamic dimension, by name or input.axis: s=1..128, x.3=32..1280:32; at most two."),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="With --dim: the file that MODEL was compressed from (compression fixes the shapes).")
    ] = None,
    coded: Annotated[
        bool, typer.Option("--coded", help="Entropy-code the file: smaller to keep and send; decoded once when it is loaded.")
    ] = False,
    emit: Annotated[
        Literal["ez", "exe", "lib", "c"],
        typer.Option(
            help="A program; one binary with the program inside; lib*.a with a header; C sources without heap and files."
        ),
    ] = "ez",
    libc: Annotated[str | None, typer.Option(help="With --emit exe: musl (static) or gnu.2.28 (dynamic, with zig).")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Pack MODEL for a target: fused steps, packed weights, a planned arena, and test vectors."""
    from edgezip.cli import context

    if not model.exists():
        raise MissingFileError("no such model", where=str(model), hint="check the path")
    if (output.suffix == ".ez") != (emit == "ez"):
        raise UsageError("a program's name ends with .ez, others do not", where="-o, --emit", got=f"{output}, {emit}")
    if libc is not None and emit != "exe":
        raise UsageError("a C library is linked with a binary only", where="--libc", hint="add --emit exe")
    if not output.parent.is_dir():
        raise MissingFileError("folder does not exist", where=str(output.parent), hint="create it, or choose another -o")
    program = _compiled(model, target, shape or [], inputs, vectors, state or [], dim or [], source)
    program.coded = coded
    if emit == "ez":
        program.save(output)
        facts = describe(program, output, output.stat().st_size)
    else:
        artifact = _emit(program, emit, output, libc)
        facts = describe(program, artifact.path, artifact.bytes) | {"code_bytes": artifact.code_bytes}
    if json:
        from edgezip import __version__
        from edgezip.report import schema

        context.print_json(schema.dumps(schema.document(__version__, "compile", model, {"form": emit, **facts})))
    elif not context.current.quiet:
        _show(facts, emit)


def _emit(program: Program, emit: str, output: Path, libc: str | None) -> Artifact:
    """The program as part of a binary or of sources."""
    from edgezip.cli import context
    from edgezip.deploy import embed
    from edgezip.deploy.build import find_compiler
    from edgezip.target import load_target

    target = load_target(program.metadata["target"])
    if emit == "c":
        return embed.write_sources(program, target, output, embed.c_name(output.name))
    compiler, cache_dir = find_compiler(target), context.current.cache_dir
    if emit == "lib":
        return embed.build_lib(program, target, output, embed.c_name(output.name), compiler=compiler, cache_dir=cache_dir)
    return embed.build_exe(program, target, output, compiler=compiler, cache_dir=cache_dir, libc=libc)


def _compiled(
    model: Path,
    target: str,
    shapes: list[str],
    inputs: Path | None,
    vectors: int,
    states: list[str],
    dims: list[str],
    source: Path | None,
) -> Program:
    """Compile, with real samples as test vectors when there are some."""
    from edgezip import compilation
    from edgezip.cli import feeds
    from edgezip.cli.shapes import parse_dims, parse_shape, parse_states

    fixed, state, bounds = dict(map(parse_shape, shapes)), parse_states(states), parse_dims(dims)
    if inputs is None:
        return compilation.compile(str(model), target, shapes=fixed, vectors=vectors, state=state, dims=bounds, source=source)
    program = compilation.compile(str(model), target, shapes=fixed, vectors=0, state=state, dims=bounds, source=source)
    samples = feeds.read_samples(inputs, feeds.wanted_by(program), vectors)
    program.vectors = compilation.make_vectors(program, samples, vectors)
    return program


def describe(program: Program, path: Path, size: int) -> dict[str, Any]:
    """The facts of a program written to ``path`` as plain data; sizes in bytes."""
    steps = program.metadata["steps"]
    floats = [step for step in steps if step.get("form") == "float32"]
    macs = sum(step.get("macs", 0) for step in steps)
    return {
        "target": program.metadata["target"],
        "program": {"path": str(path), "bytes": size},
        "layout": program.layout.name.lower(),
        "coded": program.coded,
        "steps": len(steps),
        "memory": {**program.metadata["memory"], "scratch_bytes_per_thread": program.scratch_bytes},
        "macs": macs,
        "int8_share_of_macs": sum(step.get("macs", 0) for step in steps if _in_int8(step)) / macs if macs else None,
        "vectors": len(program.vectors),
        "dims": program.metadata.get("dims", {}),
        "states": [program.tensors[state.input].name for state in program.states],
        "fallbacks": [{key: step.get(key) for key in ("name", "op", "reason")} for step in floats if "reason" in step],
        "notes": program.metadata["notes"],
        "layers": steps,
    }


def _show(facts: dict[str, Any], emit: str) -> None:
    from edgezip.cli import screen
    from edgezip.report import text
    from edgezip.target import load_target

    memory, share = facts["memory"], facts["int8_share_of_macs"]
    over = memory["arena_bytes"] / memory["arena_lower_bound"] - 1 if memory["arena_lower_bound"] else 0
    rows = [
        (
            "program",
            f"{facts['program']['path']}, {facts['program']['bytes']:,} bytes{', entropy-coded' if facts['coded'] else ''}, "
            f"for {facts['target']} ({facts['layout']})",
        ),
        ("steps", f"{facts['steps']}, {facts['macs']:,} MACs, " + (f"{share:.1%} of them int8" if share else "float32")),
        ("weights", f"{memory['weights_bytes']:,} bytes"),
        ("arena", f"{memory['arena_bytes']:,} bytes, {over:.1%} above the lower bound"),
        ("vectors", f"{facts['vectors']} bundled"),
        *([("code", f"{facts['code_bytes']:,} bytes beside the program")] if facts.get("code_bytes") else []),
        *([("dims", ", ".join(f"{name}={bounds}" for name, bounds in facts["dims"].items()))] if facts["dims"] else []),
        *([("states", ", ".join(facts["states"]) + ", kept from run to run")] if facts["states"] else []),
    ]
    print("\n".join(f"{name:8}  {value}" for name, value in rows))
    for note in facts["notes"][:MOST_REASONS]:
        print(f"note      {note}")
    if len(facts["notes"]) > MOST_REASONS:
        print(f"note      and {len(facts['notes']) - MOST_REASONS} more; see --json")
    if facts["fallbacks"]:
        print("\nin float32 within an int8 model:")
        print(text.table(("step", "op", "reason"), [tuple(row.values()) for row in facts["fallbacks"]]))
    emulated = " --emulate" if load_target(facts["target"]).emulator else ""
    print(f"\nnext: {_next(emit, screen.quoted(facts['program']['path']), emulated)}")


def _next(emit: str, path: str, emulated: str) -> str:
    """What to do with what was written."""
    if emit == "exe":
        return f"on the device: {path} verify, run IN.bin --output DIR, bench"
    if emit == "c":
        return f"make -C {path}, include its header, link with -lm -Wl,--gc-sections"
    if emit == "lib":
        return f"include the header beside {path}, link with -lm -Wl,--gc-sections"
    return f"edgezip verify {path} --bitexact{emulated}"


def _in_int8(step: dict[str, Any]) -> bool:
    """Whether its products are whole numbers: int8 weights, or codes of fewer bits."""
    return str(step.get("form")).startswith(("int", "codebook"))
