"""``edgezip bench``: latency here or on a device, beside ONNX Runtime on request, with a gate on request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgezip.errors import GateError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgezip.cli.programs import Opened
    from edgezip.measure.protocol import Protocol

PEERS = ("onnxruntime",)
METER = "meter:"
LAYER_COLUMNS = ("layer", "op", "kernel", "threads", "us", "predicted", "share %", "MACs", "GMAC/s", "bytes")


def command(
    model: Annotated[Path, typer.Argument(help="Program (.ez), or ONNX model (compiled for --target on the way).")],
    runs: Annotated[int, typer.Option(help="At least this many measured runs.", min=1)] = 50,
    warmup: Annotated[int, typer.Option(help="Runs before, not measured.", min=0)] = 5,
    min_time: Annotated[float, typer.Option(help="Measure at least so many seconds.", min=0)] = 0.5,
    threads: Annotated[str, typer.Option(help="Thread counts, such as 1,2.")] = "1",
    affinity: Annotated[str | None, typer.Option(help="CPUs to run on: none, big, all, or a list such as 4-7.")] = None,
    percentiles: Annotated[str, typer.Option(help="Percentiles of the latency.")] = "50,90,99",
    per_layer: Annotated[bool, typer.Option("--per-layer", help="Also the time of each layer.")] = False,
    compare: Annotated[str | None, typer.Option(help="Run a peer in turns with it: onnxruntime.")] = None,
    against: Annotated[Path | None, typer.Option(help="The peer's model; default: MODEL when it is ONNX.")] = None,
    inputs: Annotated[Path | None, typer.Option(help="Input sample (NPZ, NPY); default: a bundled vector, or noise.")] = None,
    power: Annotated[
        str, typer.Option(help="Energy sensor: auto, none, rapl, hwmon, ina3221, pmic, battery, or meter:FILE.csv with marks.")
    ] = "none",
    baseline: Annotated[Path | None, typer.Option(help="JSON of an earlier bench to hold this one against.")] = None,
    fail_if: Annotated[str | None, typer.Option(help='Exit code 3 if so, such as "p50>+5%" or "p99>30ms".')] = None,
    shape: Annotated[list[str] | None, typer.Option(help="Fix an input of an ONNX model: NAME=1x3x224x224; repeatable.")] = None,
    target: Annotated[str | None, typer.Option(help="Kind of device; default: this machine, or what the program says.")] = None,
    host: Annotated[str | None, typer.Option(help="Measure on user@address.")] = None,
    emulate: Annotated[
        bool, typer.Option("--emulate", help="Run under an emulator here: answers are checked, no times.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure the latency; exit code 3 when the limit of --fail-if is exceeded."""
    from edgezip import __version__
    from edgezip.cli import context, programs
    from edgezip.measure import verdict
    from edgezip.measure.protocol import Protocol
    from edgezip.report import schema

    limit = verdict.parse_limit(fail_if) if fail_if else None
    before = schema.load(baseline) if baseline else None
    counts = [int(value) for value in _numbers("--threads", threads, 1, 64)]
    shown = _numbers("--percentiles", percentiles, 0, 100)
    opened = programs.open_program(model, target, host=host, emulate=emulate, shapes=shape or ())
    plan = Protocol(warmup_runs=warmup, warmup_s=0.2 if warmup else 0.0, runs=runs, min_time_s=min_time)
    sensor_name = "none" if power.startswith(METER) else power
    if host or emulate:
        if compare:
            raise UsageError("a peer runs on this machine only", where="--compare", hint="leave out --host and --emulate")
        results = _on_device(opened, counts, plan, host, per_layer, affinity, sensor_name)
    else:
        rivals = _peer(compare, against or model, shape or ())
        results = _here(opened, inputs, counts, plan, shown, rivals, sensor_name, per_layer, affinity)
    if power.startswith(METER):
        results[0] |= _metered(Path(power.removeprefix(METER)), results[0])
    body = {"target": opened.target, **results[0], **_predict(opened, results), "by_threads": results}
    if limit is not None:
        answer = verdict.judge(limit, body, before)
        body |= {"verdict": answer.answer, "verdict_reason": answer.reason}
    if json:
        context.print_json(schema.dumps(schema.document(__version__, "bench", model, body)))
    else:
        print(_text(body))
    if body.get("verdict") == verdict.FAIL:
        raise GateError("slower than the limit", where="--fail-if", got=body["verdict_reason"])


def _predict(opened: Opened, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Predicted times, of one thread, into the layers of ``results``; their sum and where the coefficients are from."""
    if opened.target is None or not results[0]["layers"]:
        return {}
    from edgezip.cli import prediction
    from edgezip.target import load_target

    target = load_target(opened.target)
    times = prediction.step_times(opened.program, target)
    for result in results:
        for layer, us in zip(result["layers"], times, strict=True):
            layer["predicted_us"] = us
    return {"predicted_us": round(sum(times), 3), "predicted_source": target.cost.source}


def _metered(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Energy from a meter's file, whose run stretch is this very measurement's: so many inferences as were timed."""
    from edgezip.measure import energy

    if result["latency_us"] is None:
        raise UsageError("an emulated device draws no power of its own", where="--power", hint="leave out --emulate")
    return energy.facts(energy.from_meter(path, None, result["latency_us"]["n"]))


def _numbers(flag: str, text: str, low: float, high: float) -> list[float]:
    try:
        values = [float(item) for item in text.split(",")]
    except ValueError:
        values = []
    whole = all(value.is_integer() for value in values) or flag != "--threads"
    if not values or not whole or not all(low <= value <= high for value in values):
        raise UsageError("not a list of numbers in range", where=flag, expected=f"{low:g} to {high:g}, with commas", got=text)
    return values


def _peer(name: str | None, path: Path, shapes: Sequence[str]) -> Callable[[int], dict[str, Any]]:
    """From a thread count to the rivals to run beside; none when no peer was asked for."""
    if name is None:
        return lambda threads: {}
    if name not in PEERS:
        raise UsageError("no such peer", where="--compare", expected=", ".join(PEERS), got=name)
    if path.suffix == ".ez":
        raise UsageError("which model shall the peer run?", where="--compare", hint="give --against MODEL.onnx")

    def load(threads: int) -> dict[str, Any]:
        from edgezip.cli import programs
        from edgezip.measure.onnx_reference import OnnxSession

        with programs.as_onnx(path, shapes) as file:
            session = OnnxSession(file, threads)
        return {f"onnxruntime {session.version}, {path.name}": session.run}

    return load


def _here(
    opened: Opened,
    inputs: Path | None,
    counts: Sequence[int],
    plan: Protocol,
    percentiles: Sequence[float],
    rivals: Callable[[int], dict[str, Any]],
    power: str,
    per_layer: bool,
    affinity: str | None,
) -> list[dict[str, Any]]:
    import hashlib

    from edgezip.cli import programs
    from edgezip.measure import bench_here, environment, sensors
    from edgezip.measure.sensors.access import LocalAccess

    sensor = sensors.load(power, LocalAccess())
    feed = programs.sample_feeds(opened.program, inputs, 1)[0]
    surroundings = {**environment.describe(), "program_sha256": hashlib.sha256(opened.data).hexdigest()}
    return [
        {
            "place": "this machine",
            **bench_here.bench(
                opened.program,
                feed,
                len(opened.data),
                threads=threads,
                affinity=affinity,
                plan=plan,
                percentiles=percentiles,
                rivals=rivals(threads),
                sensor=sensor,
                per_layer=per_layer,
            ),
            "environment": surroundings,
        }
        for threads in counts
    ]


def _on_device(
    opened: Opened,
    counts: Sequence[int],
    plan: Protocol,
    host: str | None,
    per_layer: bool,
    affinity: str | None,
    power: str,
) -> list[dict[str, Any]]:
    from edgezip.cli import programs

    with programs.open_device(opened, host) as device:
        return [device.bench(threads, plan, per_layer, affinity, power) for threads in counts]


def _text(body: dict[str, Any]) -> str:
    from edgezip.report import text

    blocks = [f"{body['place']}, target {body['target']}, {body['isa']}; program {text.size(body['file_bytes'])}"]
    if body["latency_us"] is None:
        blocks.append(body["note"])
        return "\n".join(blocks)
    blocks[0] += f", memory {text.size(body['peak_memory_bytes'])}, {_energy(body)}"
    blocks.append(text.table(*_latencies(body["by_threads"])))
    first = body["latency_us"]
    facts = body["environment"]
    circumstances = {"n": first["n"], "warm-up": body["warmup"], "throttled": body["throttled"]}
    circumstances |= {key: facts.get(key) for key in ("cpu", "clock_mhz", "governor", "load_1min")}
    blocks.append(", ".join(f"{key} {text.cell(value)}" for key, value in circumstances.items()))
    if body["layers"]:
        blocks.append(text.table(LAYER_COLUMNS, _layer_rows(body["layers"])))
        if "predicted_us" in body:
            blocks.append(f"predicted: {body['predicted_us']:.1f} us on one thread; coefficients: {body['predicted_source']}")
    if "verdict" in body:
        blocks.append(f"{body['verdict']}: {body['verdict_reason']}")
    return "\n\n".join(blocks)


def _energy(body: dict[str, Any]) -> str:
    drawn = body.get("energy")
    if drawn is None:
        return f"energy: {body['power_source']}"
    return (
        f"energy {drawn['gross_mj']:.3g} mJ an inference, {drawn['net_mj']:.3g} mJ above idle "
        f"({drawn['source']}: {drawn['run_w']:.2f} W, spread {drawn['spread_w']:.2f}, {drawn['samples']} samples)"
    )


def _latencies(results: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Heading and rows: ours and every peer at every thread count; ratio is peer over ours."""
    names = [name for name in results[0]["latency_us"] if not name.endswith("_interval") and name != "n"]
    rows: list[list[Any]] = []
    for result in results:
        rows.append(["edgezip", result["threads"], *(result["latency_us"].get(name) for name in names), 1.0])
        rows += [
            [peer["peer"], result["threads"], *(peer["latency_us"].get(name) for name in names), peer["ratio_p50"]]
            for peer in result.get("comparisons", [])
        ]
    return ["us", "threads", *names, "ratio"], rows


def _layer_rows(layers: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    total = sum(layer["us"] for layer in layers) or 1.0
    return [
        (
            layer["name"], layer["op"], layer["kernel"], layer["threads"], layer["us"], layer.get("predicted_us"),
            round(100 * layer["us"] / total, 1), layer["macs"],
            layer["macs"] / layer["us"] / 1000 if layer["us"] and layer["macs"] else None, layer["bytes"],
        )
        for layer in layers
    ]  # fmt: skip
