"""``edgezip sensitivity``: which layers the answer hangs on most."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgezip import __version__
from edgezip.cli import context
from edgezip.errors import MissingFileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from edgezip.graph import Model
    from edgezip.search.sensitivity import Sensitivity

    Feed = Mapping[str, np.ndarray[Any, Any]]

SHOWN = 20


def command(
    model: Annotated[Path, typer.Argument(help="float model (.onnx, .tflite, .pt2)")],
    calib: Annotated[Path, typer.Option(help="folder or .npz with typical inputs")],
    bits: Annotated[int | None, typer.Option(help="of the weights of the layer that is tried (default 4)", min=2, max=8)] = None,
    per: Annotated[str | None, typer.Option(help="what shares a scale: tensor, channel, 32, 64 or 128 (default channel)")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="recipe file: each layer in turn as its passes, and its int8, leave it (without recovery)")
    ] = None,
    target: Annotated[str | None, typer.Option(help="what pays is asked of this target (with --recipe)")] = None,
    num_samples: Annotated[int, typer.Option(help="samples to use", min=2)] = 32,
    shape: Annotated[list[str] | None, typer.Option(help="fix an input: NAME=1x3x224x224; repeatable")] = None,
    mean: Annotated[float, typer.Option(help="pictures: (pixel - mean) / std")] = 0.0,
    std: Annotated[float, typer.Option(help="pictures: (pixel - mean) / std")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Rank layers by what the outputs lose when only that layer is compressed, and say whether two halves of the data agree.

    A layer gets weights of --bits bits, or becomes what a --recipe makes of it: pruned, factorised, on a codebook, int8.
    """
    if not model.exists():
        raise MissingFileError("no such model", where=str(model))
    from edgezip import frontends
    from edgezip.cli.progress import counter
    from edgezip.cli.shapes import parse_shape
    from edgezip.compression import sample_set
    from edgezip.report import schema

    if recipe is not None and (bits is not None or per is not None):
        raise UsageError("a recipe says it all", where="--recipe", hint="leave out --bits and --per")
    if recipe is None and target is not None:
        raise UsageError("nothing asks what pays there", where="--target", hint="give a --recipe, or leave it out")
    loaded = frontends.load(model, shapes=dict(map(parse_shape, shape or [])))
    samples = list(islice(sample_set(loaded, calib, mean, std)(), num_samples))
    with counter("layers") as advance:

        def tell(done: int, total: int) -> None:
            advance(f"layer {done} of {total}", done)

        if recipe is None:
            found, form = _by_bits(loaded, samples, bits or 4, per or "channel", tell)
        else:
            found, form = _by_recipe(loaded, samples, recipe, target, tell)
    if as_json:
        context.print_json(schema.dumps(schema.document(__version__, "sensitivity", model, describe(found, form))))
    elif not context.current.quiet:
        show(found, form)


def _by_bits(model: Model, samples: list[Feed], bits: int, per: str, tell: Callable[[int, int], None]) -> tuple[Sensitivity, str]:
    from edgezip.passes.weight_grid import Form
    from edgezip.search.sensitivity import measure_sensitivity

    form = Form(bits, int(per) if per.isdigit() else per)
    return measure_sensitivity(model, samples, form, tell), form.text


def _by_recipe(
    model: Model, samples: list[Feed], path: Path, target: str | None, tell: Callable[[int, int], None]
) -> tuple[Sensitivity, str]:
    """Layers with weights, each as the whole recipe leaves it; those that it leaves alone are not tried."""
    from edgezip.compression import compress
    from edgezip.passes.products import find_products
    from edgezip.recipe import Recipe
    from edgezip.search.sensitivity import rank_layers

    recipe = Recipe.load(path).model_copy(update={"recover": "none"})  # which answers for the other layers' errors too
    small = compress(model, recipe, calibration=samples, target=target)
    changed = {row.name for row in small.report.layers if not row.reason and row.form not in ("float32", "none")}
    changed |= {row.name for report in small.report.passes for row in report.layers if not row.reason}
    names = [product.name for product in find_products(model) if product.name in changed]
    if not names:
        raise UsageError("the recipe changes no layer with weights", where=str(path))
    parts = [step.name for step in recipe.passes] + ["int8"] * (recipe.quantize is not None)
    return rank_layers(model, small.model, names, samples, tell), " + ".join(parts)


def describe(found: Sensitivity, form: str) -> dict[str, Any]:
    """Plain data for JSON."""
    return {
        "form": form,
        "samples": found.samples,
        "rank_agreement": found.agreement,
        "stable": found.is_stable,
        "layers": [asdict(layer) for layer in found.layers],
        "left_out": list(found.left_out),
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
    if found.left_out:
        names = ", ".join(map(printable, found.left_out))
        screen.print(f"not tried alone, their inputs or results have other shapes: {names}", markup=False)
    verdict = "the order can be trusted" if found.is_stable else "the order depends on the samples: give more"
    screen.print(f"rank correlation of two halves of {found.samples} samples: {found.agreement:.2f}; {verdict}", markup=False)
