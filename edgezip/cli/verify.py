"""``edgezip verify``: are the answers right? Against a float model, and to the bit against the NumPy reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgezip.errors import GateError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgezip.cli.programs import Opened
    from edgezip.measure.places import Place

METRICS = {"cos": "cosine", "top1": "top1_agreement", "sqnr": "sqnr_db"}
NO_AGREEMENT = {"top1_agreement": None, "cosine": None, "sqnr_db": None, "max_abs_error": None}


def command(
    model: Annotated[Path, typer.Argument(help="Program (.ez), or ONNX model (compiled for --target on the way).")],
    against: Annotated[
        Path | None, typer.Option(help="Float ONNX model to compare with; default: MODEL when it is ONNX.")
    ] = None,
    inputs: Annotated[Path | None, typer.Option(help="NPZ, NPY or a folder of them; default: bundled vectors, or noise.")] = None,
    num_samples: Annotated[int, typer.Option(help="Take this many samples; 0: all.", min=0)] = 0,
    metric: Annotated[str, typer.Option(help="Figure that --min is about: cos, top1 or sqnr.")] = "cos",
    minimum: Annotated[float | None, typer.Option("--min", help="Fail (exit code 3) when the figure is below this.")] = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="Also the agreement of every layer, worst first.")] = False,
    bitexact: Annotated[bool, typer.Option("--bitexact", help="Every code path, byte for byte; fail on any difference.")] = False,
    shape: Annotated[list[str] | None, typer.Option(help="Fix an input of an ONNX model: NAME=1x3x224x224; repeatable.")] = None,
    target: Annotated[str | None, typer.Option(help="Kind of device; default: this machine, or what the program says.")] = None,
    host: Annotated[str | None, typer.Option(help="Verify on user@address.")] = None,
    emulate: Annotated[bool, typer.Option("--emulate", help="Also the target's code, under an emulator here.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare the answers with a reference; exit code 3 when a gate fails."""
    from edgezip import __version__
    from edgezip.cli import context, programs
    from edgezip.report import schema

    if metric not in METRICS:
        raise UsageError("no such metric", where="--metric", expected=", ".join(METRICS), got=metric)
    opened = programs.open_program(model, target, host=host, emulate=emulate, shapes=shape or ())
    samples = programs.sample_feeds(opened.program, inputs, num_samples)
    reference = against or (model if model.suffix != ".ez" else None)
    body: dict[str, Any] = {"target": opened.target, "samples": len(samples), "bitexact": None, **NO_AGREEMENT, "layers": []}
    with programs.open_place(opened, host=host, emulate=emulate) as place:
        body |= {"place": place.name, "isa": place.isa}
        if bitexact or emulate or host:
            body |= _check_bits(opened, samples, place, everywhere=bitexact)
        if reference is not None:
            body |= _compare(opened, samples, place, reference, per_layer, shape or ())
    if reference is None and body["bitexact"] is None:
        raise UsageError("nothing to compare with", where=str(model), hint="give --against MODEL.onnx, or --bitexact, or both")
    if json:
        context.print_json(schema.dumps(schema.document(__version__, "verify", model, body)))
    else:
        print(_text(body))
    _gate(body, metric, minimum)


def _check_bits(opened: Opened, samples: list[Any], place: Place, everywhere: bool) -> dict[str, Any]:
    """Paths of this machine (with --bitexact) and of the place, against the NumPy reference."""
    from dataclasses import asdict

    from edgezip.measure import bit_exact

    checks = bit_exact.check_paths(opened.program, samples) if everywhere else []
    if not place.is_here:
        checks += place.check_bits(opened.program, samples)
    exact = all(check.is_exact for check in checks)
    return {"bitexact": exact, "paths": [{**asdict(check), "is_exact": check.is_exact} for check in checks]}


def _compare(
    opened: Opened, samples: list[Any], place: Place, reference: Path, per_layer: bool, shapes: Sequence[str]
) -> dict[str, Any]:
    from edgezip.cli import programs

    with programs.as_onnx(reference, shapes) as file:
        return {"against": str(reference), **_compared(opened, samples, place, file, per_layer)}


def _compared(opened: Opened, samples: list[Any], place: Place, reference: Path, per_layer: bool) -> dict[str, Any]:
    from edgezip.measure import counted_rows, layers
    from edgezip.measure.agreement import Agreement
    from edgezip.measure.onnx_reference import OnnxSession

    session = OnnxSession(reference, exact=True)
    agreement = Agreement()
    for feed in samples:
        expected, got = counted_rows.aligned(session.run(feed), place.run(feed))
        missing = [name for name in got if name not in expected]
        if missing:
            raise UsageError("outputs have other names", where=str(reference), expected=", ".join(got), got=", ".join(expected))
        for name, array in got.items():
            agreement.add(expected[name], array)
    found: dict[str, Any] = agreement.as_dict()
    if per_layer:
        found["layers"] = layers.compare_layers(opened.program, reference, samples)
    return found


def _text(body: dict[str, Any]) -> str:
    from edgezip.report import text

    blocks = []
    if body["cosine"] is not None:
        figures = [(key, body[key]) for key in ("samples", "cosine", "sqnr_db", "top1_agreement", "max_abs_error")]
        blocks.append(f"against {body['against']} ({body['place']})\n{text.table(('figure', 'value'), figures)}")
    if body.get("paths"):
        blocks.append(text.table(("path", "kernels", "samples", "steps", "byte for byte"), [_path_row(p) for p in body["paths"]]))
    if body["layers"]:
        blocks.append(text.table(("layer", "op", "SQNR dB", "cosine"), [tuple(layer.values()) for layer in body["layers"]]))
    return "\n\n".join(blocks)


def _path_row(path: dict[str, Any]) -> tuple[Any, ...]:
    result = "equal" if path["is_exact"] else path["first_difference"]
    return path["isa"], " ".join(path["kernels"]) or "-", path["samples"], path["steps"], result


def _gate(body: dict[str, Any], metric: str, minimum: float | None) -> None:
    if body["bitexact"] is False:
        wrong = next(path for path in body["paths"] if not path["is_exact"])
        raise GateError("bits differ from the reference", where=wrong["isa"], got=wrong["first_difference"])
    if minimum is None:
        return
    value = body[METRICS[metric]]
    if value is None:
        raise UsageError(f"--min {minimum} is about {metric}, and nothing was compared", hint="give --against MODEL.onnx")
    if value < minimum:
        raise GateError(f"{METRICS[metric]} is too low", where="verify", expected=f"at least {minimum:g}", got=f"{value:.6g}")
