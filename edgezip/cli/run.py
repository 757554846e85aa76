"""``edgezip run``: one inference, here, emulated or on a device."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgezip.samples import Array

COLUMNS = ("output", "dtype", "shape", "min", "max", "argmax", "file")


def command(
    model: Annotated[Path, typer.Argument(help="Program (.ez), or ONNX model (compiled for --target on the way).")],
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="NAME=FILE (.npy, .npz, raw .bin); once for each input.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the outputs, one .npy each.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="Fix an input of an ONNX model: NAME=1x3x224x224; repeatable.")] = None,
    target: Annotated[str | None, typer.Option(help="Kind of device; default: this machine, or what the program says.")] = None,
    threads: Annotated[int, typer.Option(help="Threads.", min=1, max=64)] = 1,
    host: Annotated[str | None, typer.Option(help="Run on user@address.")] = None,
    emulate: Annotated[bool, typer.Option("--emulate", help="Run the target's code under an emulator here.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """One inference: inputs from files, outputs to a folder."""
    from edgezip import __version__
    from edgezip.cli import context, feeds, programs
    from edgezip.report import schema, text

    opened = programs.open_program(model, target, host=host, emulate=emulate, shapes=shape or ())
    feed = feeds.read_named(inputs or (), feeds.wanted_by(opened.program))
    with programs.open_place(opened, host=host, emulate=emulate, threads=threads) as place:
        results = place.run(feed)
        paths = _paths(results, output)
        rows = [_row(name, array, paths[name]) for name, array in results.items()]
        body = {"place": place.name, "isa": place.isa, "outputs": rows}
    if json:
        context.print_json(schema.dumps(schema.document(__version__, "run", model, body)))
    else:
        print(text.table(COLUMNS, [tuple(row.values()) for row in rows]))


def _row(name: str, array: Array, path: Path | None) -> dict[str, Any]:
    """What is printed of one output; writes it when there is a path."""
    if path is not None:
        _save(array, path)
    argmax = int(array.argmax()) if array.size else None
    low, high = (float(array.min()), float(array.max())) if array.size else (None, None)
    facts = {"name": name, "dtype": str(array.dtype), "shape": list(array.shape), "min": low, "max": high}
    return {**facts, "argmax": argmax, "file": None if path is None else str(path)}


def _paths(names: Iterable[str], folder: Path | None) -> dict[str, Path | None]:
    """A file for each output; names that differ only in letters that no file name has get a number."""
    import re

    found: dict[str, Path | None] = {}
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".") or "output"
        path, number = None if folder is None else folder / f"{stem}.npy", 1
        while path is not None and path in found.values():
            number += 1
            path = path.with_name(f"{stem}_{number}.npy")
        found[name] = path
    return found


def _save(array: Array, path: Path) -> None:
    import io

    import numpy as np

    from edgezip.program import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    np.save(data, array)
    write_atomically(path, data.getvalue())
