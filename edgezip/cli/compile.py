"""``edgezip compile``: packs a model for a target into a program (.ez) that proves itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgezip.errors import MissingFileError, UsageError

if TYPE_CHECKING:
    from edgezip.program import Program

MOST_REASONS = 10


def command(
    model: Annotated[Path, typer.Argument(help="Model (.onnx, .tflite, .pt2), float or quantised.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Program to write (.ez).")],
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
    emit: Annotated[Literal["ez"], typer.Option(help="What to write: ez.")] = "ez",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Pack MODEL for a target: fused steps, packed weights, a planned arena, and test vectors."""
    from edgezip.cli import context

    if not model.exists():
        raise MissingFileError("no such model", where=str(model), hint="check the path")
    if output.suffix != ".ez":
        raise UsageError("a program's name ends with .ez", where="-o", got=str(output))
    if not output.parent.is_dir():
        raise MissingFileError("folder does not exist", where=str(output.parent), hint="create it, or choose another -o")
    program = _compiled(model, target, shape or [], inputs, vectors, state or [], dim or [], source)
    program.coded = coded
    program.save(output)
    facts = describe(program, output)
    if json:
        from edgezip import __version__
        from edgezip.report import schema

        context.print_json(schema.dumps(schema.document(__version__, "compile", model, {"form": emit, **facts})))
    elif not context.current.quiet:
        _show(facts)


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


def describe(program: Program, path: Path) -> dict[str, Any]:
    """The facts of a written program as plain data; sizes in bytes."""
    steps = program.metadata["steps"]
    floats = [step for step in steps if step.get("form") == "float32"]
    macs = sum(step.get("macs", 0) for step in steps)
    return {
        "target": program.metadata["target"],
        "program": {"path": str(path), "bytes": path.stat().st_size},
        "layout": program.layout.name.lower(),
        "coded": program.coded,
        "steps": len(steps),
        "memory": {**program.metadata["memory"], "scratch_bytes_per_thread": program.scratch_bytes},
        "macs": macs,
        "int8_share_of_macs": sum(step.get("macs", 0) for step in steps if step.get("form") == "int8") / macs if macs else None,
        "vectors": len(program.vectors),
        "dims": program.metadata.get("dims", {}),
        "states": [program.tensors[state.input].name for state in program.states],
        "fallbacks": [{key: step.get(key) for key in ("name", "op", "reason")} for step in floats if "reason" in step],
        "notes": program.metadata["notes"],
        "layers": steps,
    }


def _show(facts: dict[str, Any]) -> None:
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
    print(f"\nnext: edgezip verify {screen.quoted(facts['program']['path'])} --bitexact{emulated}")
