"""``edgezip sensitivity``: which layers the answer hangs on most."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgezip import __version__
from edgezip.cli import context
from edgezip.errors import MissingFileError

if TYPE_CHECKING:
    from edgezip.search.sensitivity import Sensitivity

SHOWN = 20


def command(
    model: Annotated[Path, typer.Argument(help="float model (.onnx, .tflite, .pt2)")],
    calib: Annotated[Path, typer.Option(help="folder or .npz with typical inputs")],
    bits: Annotated[int, typer.Option(help="of the weights of the layer that is tried", min=2, max=8)] = 4,
    per: Annotated[str, typer.Option(help="what shares a scale: tensor, channel, 32, 64 or 128")] = "channel",
    num_samples: Annotated[int, typer.Option(help="samples to use", min=2)] = 32,
    shape: Annotated[list[str] | None, typer.Option(help="fix an input: NAME=1x3x224x224; repeatable")] = None,
    mean: Annotated[float, typer.Option(help="pictures: (pixel - mean) / std")] = 0.0,
    std: Annotated[float, typer.Option(help="pictures: (pixel - mean) / std")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Rank layers by what the outputs lose when only that layer is compressed, and say whether two halves of the data agree."""
    if not model.exists():
        raise MissingFileError("no such model", where=str(model))
    from edgezip import frontends
    from edgezip.cli.progress import counter
    from edgezip.cli.shapes import parse_shape
    from edgezip.compression import sample_set
    from edgezip.passes.weight_grid import Form
    from edgezip.report import schema
    from edgezip.search.sensitivity import measure_sensitivity

    loaded = frontends.load(model, shapes=dict(map(parse_shape, shape or [])))
    samples = list(islice(sample_set(loaded, calib, mean, std)(), num_samples))
    form = Form(bits, int(per) if per.isdigit() else per)
    with counter("layers") as advance:
        found = measure_sensitivity(loaded, samples, form, lambda done, total: advance(f"layer {done} of {total}", done))
    if as_json:
        context.print_json(schema.dumps(schema.document(__version__, "sensitivity", model, describe(found, form.text))))
    elif not context.current.quiet:
        show(found, form.text)


def describe(found: Sensitivity, form: str) -> dict[str, Any]:
    """Plain data for JSON."""
    return {
        "form": form,
        "samples": found.samples,
        "rank_agreement": found.agreement,
        "stable": found.is_stable,
        "layers": [asdict(layer) for layer in found.layers],
    }


def show(found: Sensitivity, form: str) -> None:
    """The most sensitive layers, and whether the order can be trusted."""
    from rich.markup import escape
    from rich.table import Table

    from edgezip.cli.screen import console, printable

    table = Table(title=f"one layer at a time in {form}: {min(SHOWN, len(found.layers))} of {len(found.layers)}")
    for column in ("layer", "operator", "weights", "divergence", "SQNR dB", "halves"):
        table.add_column(column, justify="left" if column in ("layer", "operator") else "right")
    for row in found.layers[:SHOWN]:
        halves = " / ".join(f"{half:.2e}" for half in row.halves)
        name = escape(printable(row.name))
        table.add_row(name, row.op, f"{row.parameters:,}", f"{row.divergence:.2e}", f"{row.sqnr_db:.1f}", halves)
    screen = console()
    screen.print(table)
    verdict = "the order can be trusted" if found.is_stable else "the order depends on the samples: give more"
    screen.print(f"rank correlation of two halves of {found.samples} samples: {found.agreement:.2f}; {verdict}", markup=False)
