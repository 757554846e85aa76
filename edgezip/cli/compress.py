"""``edgezip compress``: passes, by flags or by recipe; writes a valid ONNX model and a per-layer report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgezip.cli import context
from edgezip.errors import MissingFileError, UsageError

if TYPE_CHECKING:
    from edgezip.compression import Compressed
    from edgezip.recipe import Recipe

WORST = 10


def command(
    model: Annotated[Path, typer.Argument(help="model (.onnx, .tflite, .pt2)")],
    output: Annotated[Path, typer.Option("-o", "--output", help="where the compressed ONNX model goes")],
    calib: Annotated[Path | None, typer.Option(help="folder or .npz with typical inputs")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="post-training int8 (the default)")] = False,
    method: Annotated[
        str, typer.Option(help="how ranges are found: auto (best output SQNR), minmax, percentile, mse, entropy")
    ] = "auto",
    activations: Annotated[
        str, typer.Option(help="static: ranges from --calib; dynamic: rows of Gemm and MatMul get theirs at run time")
    ] = "static",
    num_samples: Annotated[int, typer.Option(help="calibration samples to use; 0: all", min=0)] = 0,
    keep: Annotated[list[str] | None, typer.Option(help="node, operator or pattern that stays in float; repeatable")] = None,
    prune: Annotated[
        str | None, typer.Option(help="PATTERN:SHARE of the weights removed, such as 4x16:0.5, 2:4 or 1x1:0.8", metavar="PATTERN")
    ] = None,
    prune_channels: Annotated[
        float | None, typer.Option(help="share of the multiplications removed, by whole channels and heads", metavar="SHARE")
    ] = None,
    factorize: Annotated[
        float | None, typer.Option(help="layers as chains that keep this share of the energy", metavar="SHARE")
    ] = None,
    codebook: Annotated[int | None, typer.Option(help="weights share so many values, 2 to 256", metavar="COUNT")] = None,
    int4: Annotated[bool, typer.Option("--int4", help="weights of 4 bits in blocks of 32")] = False,
    target: Annotated[str | None, typer.Option(help="what pays is asked of this target")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="prune also in a pattern that no kernel of --target skips (a smaller file, no faster)")
    ] = False,
    recipe: Annotated[Path | None, typer.Option(help="recipe file (YAML) instead of flags")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="fix an input: NAME=1x3x224x224; repeatable")] = None,
    mean: Annotated[float, typer.Option(help="pictures: (pixel - mean) / std")] = 0.0,
    std: Annotated[float, typer.Option(help="pictures: (pixel - mean) / std")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Compress MODEL; writes OUT.onnx and OUT.report.json."""
    if not model.exists():
        raise MissingFileError("no such model", where=str(model))
    flags = steps_of(prune_channels, prune, factorize, codebook, int4, tuple(keep or ()), data_free=calib is None)
    if recipe is not None and (flags or int8 or force or keep or num_samples or method != "auto" or activations != "static"):
        raise UsageError(
            "a recipe says it all",
            where="--recipe",
            hint="leave out the flags of passes, --force, --method, --activations, --num-samples, --keep",
        )
    check_output(output, model)
    from edgezip.program import write_atomically
    from edgezip.recipe import Recipe

    chosen = (
        Recipe.load(recipe)
        if recipe
        else Recipe.of(
            flags,
            Recipe.int8(method, keep=tuple(keep or ()), num_samples=num_samples, activations=activations)
            if int8 or not flags or activations != "static"
            else None,
            force=force,
        )
    )
    if calib is None and chosen.quantize is not None and chosen.quantize.activations == "static":
        raise UsageError(
            "int8 needs calibration data", where="--calib", hint="name a folder or .npz with some tens of typical inputs"
        )
    small = compress_file(model, chosen, calib, shape or [], mean, std, target)
    small.save(output)
    facts = describe(model, output, small, chosen)
    write_atomically(output.with_suffix(".report.json"), (json.dumps(facts, indent=1) + "\n").encode())
    if as_json:
        context.print_json(json.dumps(facts))
    elif not context.current.quiet:
        show(output, small, target)


def check_output(output: Path, model: Path) -> None:
    """Refuse, before minutes of work, a place where the result cannot go."""
    if output.suffix != ".onnx":
        raise UsageError("the result is an ONNX model: its name ends with .onnx", where="-o", got=str(output))
    if not output.parent.is_dir():
        raise MissingFileError("folder does not exist", where=str(output.parent), hint="create it, or choose another -o")
    if output.is_dir() or (output.exists() and output.samefile(model)):
        raise UsageError("the result needs a file of its own", where="-o", got=str(output))


def steps_of(
    channels: float | None,
    prune: str | None,
    factorize: float | None,
    codebook: int | None,
    int4: bool,
    keep: tuple[str, ...],
    *,
    data_free: bool,
) -> list[dict[str, Any]]:
    """The passes that the flags ask for, in the order in which they make sense: thin, remove, share or round."""
    steps: list[dict[str, Any]] = []
    if channels is not None:
        steps.append({"prune_channels": {"macs": channels, "keep": keep} | ({"method": "l2"} if data_free else {})})
    if factorize is not None:
        steps.append({"factorize": {"rank": factorize, "keep": keep}})
    if prune is not None:
        steps.append({"prune": {**_pattern_of(prune), "keep": keep} | ({"method": "magnitude"} if data_free else {})})
    if codebook is not None:
        steps.append({"cluster": {"count": codebook, "keep": keep}})
    if int4:
        steps.append({"quantize_weights": {"keep": keep} | ({"method": "nearest"} if data_free else {})})
    return steps


def _pattern_of(text: str) -> dict[str, Any]:
    """``4x16:0.5`` -> pattern and share; ``2:4`` says its share itself."""
    pattern, _, share = text.rpartition(":")
    try:
        if pattern.isdigit() and share.isdigit():
            return {"pattern": text, "sparsity": 1 - int(pattern) / int(share)}
        return {"pattern": pattern, "sparsity": float(share)}
    except (ValueError, ZeroDivisionError):
        raise UsageError("not a pattern and a share", where="--prune", expected="4x16:0.5, 2:4, 1x1:0.8", got=text) from None


def compress_file(
    model: Path,
    recipe: Recipe,
    calib: Path | None,
    shapes: list[str],
    mean: float = 0.0,
    std: float = 1.0,
    target: str | None = None,
) -> Compressed:
    """Compress with a progress bar on stderr (on a terminal only)."""
    from edgezip.cli.progress import counter
    from edgezip.cli.shapes import parse_shape
    from edgezip.compression import compress

    with counter("calibrating") as advance:
        return compress(
            model,
            recipe,
            calibration=calib,
            shapes=dict(map(parse_shape, shapes)),
            mean=mean,
            std=std,
            target=target,
            cache_dir=context.current.cache_dir,
            progress=lambda stage, done: advance(stage, done),
        )


def describe(model: Path, output: Path, small: Compressed, recipe: Recipe) -> dict[str, Any]:
    """The JSON of this verb."""
    from hashlib import sha256

    from edgezip import __version__

    digest = sha256(model.read_bytes()).hexdigest()
    return {
        "edgezip": __version__,
        "verb": "compress",
        "model": {"path": str(model), "sha256": digest},
        "output": {"path": str(output), "sha256": sha256(output.read_bytes()).hexdigest()},
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        **small.report.to_dict(),
    }


def show(output: Path, small: Compressed, target: str | None) -> None:
    """The layers that lose most, and the totals."""
    from rich.markup import escape
    from rich.table import Table

    from edgezip.cli.screen import console, printable, quoted

    report = small.report
    measured = sorted((r for r in report.layers if r.sqnr_db is not None and r.form != "float32"), key=lambda r: r.sqnr_db or 0.0)
    table = Table(title=f"layers with most noise, {min(WORST, len(measured))} of {len(report.layers)}")
    for column in ("layer", "operator", "form", "SQNR dB"):
        table.add_column(column, justify="right" if column == "SQNR dB" else "left")
    for row in measured[:WORST]:
        table.add_row(escape(printable(row.name)), escape(printable(row.op)), row.form, f"{row.sqnr_db:.1f}")
    screen = console()
    screen.print(table)
    for kept in (r for r in report.layers if r.reason):
        screen.print(printable(f"float: {kept.name} ({kept.op}): {kept.reason}"), markup=False)
    outputs = ", ".join(f"{printable(name)} {value:.1f} dB" for name, value in report.output_sqnr_db.items())
    sizes = f"weights {report.bytes_before:,} -> {report.bytes_after:,} bytes"
    screen.print(f"{sizes}; outputs on calibration samples: {outputs}; {report.method}, {report.samples} samples", markup=False)
    following = f"edgezip compile {quoted(output)} -o {quoted(output.with_suffix('.ez'))} --target {target or 'rpi4'}"
    screen.print(f"wrote {printable(str(output))}; next: {following}", markup=False)
