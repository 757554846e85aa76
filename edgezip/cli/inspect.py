"""``edgezip inspect``: what a model is made of, and what it will cost on a target."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgezip import __version__
from edgezip.cli.shapes import parse_shape
from edgezip.errors import UsageError

if TYPE_CHECKING:
    from edgezip.cost import LayerCost
    from edgezip.graph import Model

Table = list[list[str]]

SLOWEST = 5  # layers named in a prediction


def command(
    model: Annotated[Path | None, typer.Argument(help="model (.onnx, .tflite, .pt2) or program (.ez)", metavar="MODEL")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="fix an input's dimensions, NAME=1x3x224x224; repeatable")] = None,
    target: Annotated[str | None, typer.Option(help="predict time on this kind of device")] = None,
    ops: Annotated[bool, typer.Option("--ops", help="operators instead of layers; without MODEL, all that EdgeZip runs")] = False,
    form: Annotated[
        Literal["onnx", "tflite"], typer.Option("--format", help="with --ops and no MODEL: whose operators")
    ] = "onnx",
    weights: Annotated[bool, typer.Option("--weights", help="weight tensors instead of layers")] = False,
    sparsity: Annotated[bool, typer.Option("--sparsity", help="share of zeros in every weight")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Operators, shapes, parameters, MACs and bytes of a model; predicted time and memory with --target."""
    from edgezip.cli import context, operators
    from edgezip.report import schema

    if model is None:
        if not ops:
            raise UsageError("Missing argument 'MODEL'.", hint="see: edgezip inspect --help; or give --ops alone")
        rows = operators.supported() if form == "onnx" else operators.supported_tflite()
        if json:
            context.print_json(schema.dumps({"edgezip": __version__, "verb": "inspect", "operators": rows}))
        else:
            operators.show(rows) if form == "onnx" else operators.show_tflite(rows)
    elif model.suffix == ".ez":
        _inspect_program(model, json)
    else:
        _inspect_model(model, dict(map(parse_shape, shape or [])), target, ops, weights or sparsity, json)


def _inspect_program(path: Path, json: bool) -> None:
    from edgezip.cli import context, inspect_program
    from edgezip.report import schema

    facts = inspect_program.describe(path)
    if json:
        context.print_json(schema.dumps(schema.document(__version__, "inspect", path, facts)))
    else:
        inspect_program.show(path, facts)


def _inspect_model(
    path: Path, shapes: dict[str, tuple[int, ...]], target: str | None, ops: bool, weights: bool, json: bool
) -> None:
    from edgezip import frontends
    from edgezip.cli import context
    from edgezip.report import schema

    loaded = frontends.load(path, shapes=shapes)
    facts = describe(loaded, _profile(target))
    if weights:
        facts["weights"] = describe_weights(loaded)
    if json:
        context.print_json(schema.dumps(schema.document(__version__, "inspect", path, {"target": target, **facts})))
    else:
        _print(path, facts, "weights" if weights else "ops" if ops else "layers")


def _profile(name: str | None) -> Any:
    if name is None:
        return None
    from edgezip.target import load_target

    return load_target(name)


def describe(model: Model, profile: Any = None) -> dict[str, Any]:
    """The facts of a model as plain data: inputs, outputs, operators, layers, totals. Times are predictions, in microseconds."""
    from edgezip import cost, graph

    costs = cost.layer_costs(model)
    layers = [
        {**asdict(layer), "predicted_us": cost.predict_us(layer, profile) if profile is not None else None} for layer in costs
    ]
    return {
        "opset": graph.opset(model),
        "inputs": [_tensor(value) for value in graph.input_values(model)],
        "outputs": [_tensor(value) for value in graph.output_values(model)],
        "operators": dict(Counter(node.op_type for node in graph.nodes(model)).most_common()),
        "layers": layers,
        "totals": {
            "nodes": len(graph.nodes(model)),
            "params": sum(layer.params for layer in costs),
            "macs": sum(layer.macs for layer in costs),
            "weight_bytes": sum(layer.weight_bytes for layer in costs),
            "peak_activation_bytes": cost.peak_activation_bytes(model),
            "predicted_latency_us": _predicted_total(costs, profile, 1),
        },
        "prediction": None if profile is None else _prediction(costs, profile),
        "imported": graph.notes(model),
    }


def _predicted_total(costs: list[LayerCost], profile: Any, threads: int) -> float | None:
    from edgezip import cost

    return None if profile is None else sum(cost.predict_us(layer, profile, threads) for layer in costs)


def _prediction(costs: list[LayerCost], profile: Any) -> dict[str, Any]:
    """What the cost model says of the whole: microseconds by thread count, how far off nine in ten predictions of that target
    were (a share, null when nobody tried), the slowest layers with their share of the time, the device's memory."""
    from edgezip import cost

    times = {layer.name: cost.predict_us(layer, profile) for layer in costs}
    total = sum(times.values()) or 1.0
    slowest = sorted(times, key=lambda name: times[name], reverse=True)[:SLOWEST]
    return {
        "target": profile.name,
        "latency_us": {str(n): _predicted_total(costs, profile, n) for n in sorted({1, profile.default_threads})},
        "error": profile.cost.error,
        "source": profile.cost.source,
        "slowest": [{"name": name, "share": times[name] / total} for name in slowest],
        "ram_mb": list(profile.ram_mb),
    }


def _tensor(value: Any) -> dict[str, Any]:
    from edgezip import graph

    return {"name": value.name, "dtype": graph.dtype(value).name, "shape": list(graph.shape(value))}


def describe_weights(model: Model) -> list[dict[str, Any]]:
    """Every constant tensor: name, dtype, shape, bytes, share of zeros, smallest and largest value (null when empty or text)."""
    import numpy as np

    from edgezip import cost, graph

    rows = []
    for value in graph.initializers(model):
        array = np.asarray(graph.constant(value))
        numeric = array.size > 0 and array.dtype != object
        low, high = (float(array.min()), float(array.max())) if numeric else (None, None)
        zeros = float(np.count_nonzero(array == 0)) / array.size if numeric else None
        rows.append({**_tensor(value), "bytes": cost.stored_bytes(value), "sparsity": zeros, "min": low, "max": high})
    return rows


def _print(path: Path, facts: dict[str, Any], what: str) -> None:
    from rich.markup import escape
    from rich.table import Table as RichTable

    from edgezip.cli.screen import console, printable

    screen = console()
    header, rows = {"weights": _weight_rows, "ops": _operator_rows, "layers": _layer_rows}[what](facts)
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for title in header:
        left = title in {"name", "operator", "form", "dtype", "output", "shape"}
        table.add_column(title, justify="left" if left else "right", overflow="fold", no_wrap=title != "name")
    for row in rows:
        table.add_row(*[escape(printable(cell)) for cell in row])
    screen.print(table)
    for line in _summary(path, facts):
        screen.print(printable(line), markup=False)


def _layer_rows(facts: dict[str, Any]) -> tuple[list[str], Table]:
    predicted = facts["totals"]["predicted_latency_us"] is not None
    header = [
        "name",
        "operator",
        "form",
        "output",
        "params",
        "MACs",
        "weights",
        "traffic",
        *(["predicted us"] if predicted else []),
    ]
    rows = [
        [
            layer["name"],
            layer["op"],
            layer["form"],
            _dims(layer["output_shape"]),
            _count(layer["params"]),
            _count(layer["macs"]),
            _size(layer["weight_bytes"]),
            _size(layer["activation_bytes"]),
            *([f"{layer['predicted_us']:.1f}"] if predicted else []),
        ]
        for layer in facts["layers"]
    ]
    return header, rows


def _operator_rows(facts: dict[str, Any]) -> tuple[list[str], Table]:
    macs, params = Counter[str](), Counter[str]()
    for layer in facts["layers"]:
        macs[layer["op"]] += layer["macs"]
        params[layer["op"]] += layer["params"]
    rows = [[op, str(count), _count(params[op]), _count(macs[op])] for op, count in facts["operators"].items()]
    return ["operator", "nodes", "params", "MACs"], rows


def _weight_rows(facts: dict[str, Any]) -> tuple[list[str], Table]:
    rows = [
        [
            row["name"],
            row["dtype"],
            _dims(row["shape"]),
            _size(row["bytes"]),
            "" if row["sparsity"] is None else f"{100 * row['sparsity']:.1f} %",
            "" if row["min"] is None else f"{row['min']:.4g}",
            "" if row["max"] is None else f"{row['max']:.4g}",
        ]
        for row in facts["weights"]
    ]
    return ["name", "dtype", "shape", "bytes", "zeros", "min", "max"], rows


def _summary(path: Path, facts: dict[str, Any]) -> list[str]:
    totals = facts["totals"]
    size = f"{totals['nodes']} nodes, {_count(totals['params'])} parameters, {_count(totals['macs'])} MACs"
    memory = f"weights {_size(totals['weight_bytes'])}, activations at least {_size(totals['peak_activation_bytes'])} at the peak"
    lines = ["", f"{path}: opset {facts['opset']}, {size}, {memory}"]
    for kind in ("inputs", "outputs"):
        lines.append(f"{kind}: " + ", ".join(f"{t['name']} {t['dtype']} {_dims(t['shape'])}" for t in facts[kind]))
    if facts["prediction"] is not None:
        lines += _prediction_lines(facts["prediction"], totals)
    lines += [f"on import: {note} ({count})" for note, count in facts["imported"].items()]
    return lines


def _prediction_lines(said: dict[str, Any], totals: dict[str, Any]) -> list[str]:
    error = said["error"]
    bar = f"nine in ten within {100 * error:.0f} %" if error else "error not known"
    times = [
        f"{us / 1e3:.2f} ms"
        + (f" ({us / (1 + error) / 1e3:.2f} .. {us * (1 + error) / 1e3:.2f})" if error else "")
        + f" on {n} thread(s)"
        for n, us in said["latency_us"].items()
    ]
    slow = ", ".join(f"{layer['name']} {100 * layer['share']:.0f} %" for layer in said["slowest"])
    needs = totals["weight_bytes"] + totals["peak_activation_bytes"]
    lines = [
        f"predicted for {said['target']}: {', '.join(times)}; roofline model, not measured, {bar}",
        f"slowest: {slow}",
        f"coefficients: {said['source']}",
    ]
    if said["ram_mb"]:
        share = 100 * needs / (min(said["ram_mb"]) * 2**20)
        lines.append(
            f"memory: at least {_size(needs)}, {share:.1f} % of the {min(said['ram_mb'])} MB of the smallest {said['target']}"
        )
    return lines


def _dims(dims: Any) -> str:
    return "x".join(map(str, dims)) or "scalar"


def _count(number: int) -> str:
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= limit:
            return f"{number / limit:.2f} {unit}"
    return str(number)


def _size(count: int) -> str:
    for limit, unit in ((10**6, "MB"), (10**3, "kB")):
        if count >= limit:
            return f"{count / limit:.2f} {unit}"
    return f"{count} B"
