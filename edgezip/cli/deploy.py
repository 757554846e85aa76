"""``edgezip deploy``: compress if it is float, compile, build, send, verify, bench; one table at the end."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgezip.cli import context, fleet
from edgezip.errors import MissingFileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgezip.deploy.deploy import BenchOptions, Deployment
    from edgezip.deploy.fleet import Strategy
    from edgezip.deploy.transports import Transport
    from edgezip.program import Program
    from edgezip.target import Target


LOCAL = "this machine"


@dataclass(slots=True)
class Prepared:
    """A program ready to go, and what was learned on the way."""

    program: Program
    agreement: dict[str, Any] = field(default_factory=dict)


def command(
    model: Annotated[Path | None, typer.Argument(help="ONNX model, float or QDQ, or a program (.ez)")] = None,
    target: Annotated[
        str | None,
        typer.Option(help="kind of device, see: edgezip targets list; default: this machine, or what the program says"),
    ] = None,
    calib: Annotated[Path | None, typer.Option(help="folder or .npz with typical inputs; needed when the model is float")] = None,
    host: Annotated[str | None, typer.Option(help="which device: user@address, or adb:SERIAL")] = None,
    emulate: Annotated[bool, typer.Option("--emulate", help="run under the target's emulated CPU instead of a device")] = False,
    port: Annotated[int | None, typer.Option("-p", "--port", help="ssh port, if not that of your ssh configuration")] = None,
    accept_new_host_key: Annotated[
        bool, typer.Option("--accept-new-host-key", help="trust a device seen for the first time")
    ] = False,
    ssh_config: Annotated[Path | None, typer.Option(help="ssh configuration file, if not your own")] = None,
    dest: Annotated[str | None, typer.Option(help="folder on the device")] = None,
    name: Annotated[str | None, typer.Option(help="name on the device; default: the model file's")] = None,
    keep: Annotated[int, typer.Option(help="versions that stay on the device", min=1)] = 2,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="put the version before back in service; needs no MODEL when one is deployed")
    ] = False,
    keep_float: Annotated[bool, typer.Option("--float", help="do not compress: run in float32")] = False,
    method: Annotated[str, typer.Option(help="calibration: auto, minmax, percentile, mse, entropy")] = "auto",
    shape: Annotated[list[str] | None, typer.Option(help="fix an input: NAME=1x3x224x224; repeatable")] = None,
    dim: Annotated[
        list[str] | None, typer.Option(help="bounds of a dynamic dimension: NAME=LOW..HIGH:STEP; calibrated at the largest")
    ] = None,
    state: Annotated[list[str] | None, typer.Option(help="inputs kept from run to run: INPUT=OUTPUT,...; repeatable")] = None,
    mean: Annotated[float, typer.Option(help="pictures: (pixel - mean) / std")] = 0.0,
    std: Annotated[float, typer.Option(help="pictures: (pixel - mean) / std")] = 1.0,
    threads: Annotated[int, typer.Option(min=1, max=64)] = 1,
    warmup: Annotated[int, typer.Option(min=0)] = 3,
    runs: Annotated[int, typer.Option(min=1)] = 20,
    min_time: Annotated[float, typer.Option(min=0, help="seconds to measure at least")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="prepare and build, send nothing")] = False,
    inventory: Annotated[
        Path | None, typer.Option(help="many devices: YAML with hosts: by name, each with host and target")
    ] = None,
    limit: Annotated[
        str | None, typer.Option(help="with --inventory: names, groups, tags, with commas; !WORD leaves out")
    ] = None,
    strategy: Annotated[
        Literal["all", "rolling", "canary"], typer.Option(help="at once; one after another; the first one, then the rest")
    ] = "all",
    parallel: Annotated[int, typer.Option(help="with --inventory: so many devices at once", min=1, max=64)] = 4,
    results: Annotated[Path | None, typer.Option(help="with --inventory: a line of JSON a host is added to this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> int:
    """Put MODEL on a device, prove that it computes the same there, and measure it."""
    from edgezip.deploy.deploy import BenchOptions, deploy
    from edgezip.deploy.install import check_dest
    from edgezip.target import load_target

    if model is None and not rollback:
        raise UsageError("Missing argument 'MODEL'.", hint="see: edgezip deploy --help")
    if inventory is not None:
        single = {
            "--host": host,
            "--emulate": emulate,
            "--target": target,
            "--rollback": rollback,
            "--port": port,
            "--dest": dest,
        }
        if said := [flag for flag, value in single.items() if value]:
            raise UsageError(
                "an inventory says that itself", where=", ".join(said), hint="leave it out, or write it into the file"
            )
        if model is None or not model.exists():
            raise MissingFileError("no such model", where=str(model))
        order = _order(
            inventory, limit, model, name, strategy, parallel, keep, BenchOptions(threads, warmup, runs, min_time), results
        )
        return fleet.run(
            order,
            lambda to: prepare(model, to, calib, keep_float, method, shape or [], mean, std, state or [], dim or []),
            as_json,
            dry_run,
        )
    chosen = load_target(_target_name(None if rollback else model, target, host))
    if model is not None and not rollback and not model.exists():
        raise MissingFileError("no such model", where=str(model))
    folder = check_dest(dest or chosen.deploy.dest)
    called = name or (model.stem if model is not None else None)
    transport = _transport(chosen, host, emulate, port, accept_new_host_key, ssh_config)
    try:
        if rollback:
            _rollback(transport, folder, called, as_json)
            return 0
        assert model is not None
        prepared = prepare(model, chosen, calib, keep_float, method, shape or [], mean, std, state or [], dim or [])
        if dry_run:
            _dry(model, prepared, chosen, as_json)
            return 0
        options = BenchOptions(threads, warmup, runs, min_time)
        done = deploy(
            prepared.program,
            _device_name(called or ""),
            chosen,
            transport,
            dest=folder,
            cache_dir=context.current.cache_dir,
            keep=keep,
            bench=options,
            on_stage=stage_line,
        )
    finally:
        transport.close()
    facts = describe(model, chosen, transport.name, prepared, done)
    if as_json:
        context.print_json(json.dumps(facts))
    else:
        show(facts, emulate)
    return 0


def _order(
    inventory: Path,
    limit: str | None,
    model: Path,
    name: str | None,
    strategy: Strategy,
    parallel: int,
    keep: int,
    bench: BenchOptions,
    results: Path | None,
) -> fleet.Order:
    from edgezip.deploy.fleet import limited, read_inventory

    hosts = limited(read_inventory(inventory), limit)
    return fleet.Order(model, _device_name(name or model.stem), hosts, strategy, parallel, keep, bench, results)


def _target_name(model: Path | None, target: str | None, host: str | None) -> str:
    """What the user said, else what a program says of itself, else this machine; raises UsageError when it cannot be known."""
    if target is not None:
        return target
    if model is not None and model.suffix == ".ez" and model.is_file():
        from edgezip.program import read

        return str(read(model).metadata.get("target", "host"))
    if host and model is not None:
        raise UsageError(
            "which kind of device?", where="--target", hint="name it, for example --target rpi4; see: edgezip targets list"
        )
    return "host"


def stage_line(stage: str, seconds: float, result: str) -> None:
    """One line a stage, on stderr: results alone go to stdout."""
    if not context.current.quiet and not context.current.json:
        from rich.markup import escape

        from edgezip.cli.screen import console, printable

        console(stderr=True).print(f"[green]✓[/green] {stage:9} {seconds:6.1f} s  {escape(printable(result))}")


def _device_name(text: str) -> str:
    from edgezip.deploy.bundle import safe_name

    return safe_name(text)


def _transport(
    target: Target, host: str | None, emulate: bool, port: int | None, accept_new: bool, config: Path | None
) -> Transport:
    if host and emulate:
        raise UsageError("a device is either real or emulated", where="--host, --emulate", hint="leave one out")
    if host:
        from edgezip.deploy.transports.reach import reach

        return reach(host, port=port, accept_new=accept_new, config=config)
    if emulate:
        from edgezip.deploy.transports.qemu import QemuTransport

        root = context.current.cache_dir / "emulated"
        root.mkdir(parents=True, exist_ok=True)
        return QemuTransport(target, root)
    if target.deploy.transport == "local":
        from edgezip.deploy.transports.local import LocalTransport

        return LocalTransport()
    raise UsageError(
        f"which {target.name}?",
        where="--host",
        hint=f"add --host {_address(target)}, or --emulate to try without a device",
    )


def _address(target: Target) -> str:
    return "adb:SERIAL" if target.deploy.transport == "adb" else f"{target.deploy.user or 'user'}@address"


def prepare(
    model: Path,
    target: Target,
    calib: Path | None,
    keep_float: bool,
    method: str,
    shapes: list[str],
    mean: float,
    std: float,
    states: list[str],
    dims: list[str],
) -> Prepared:
    """Load, compress when the model is float, compile with test vectors; one line a stage."""
    from edgezip import compilation, frontends
    from edgezip.cli.programs import check_packing
    from edgezip.cli.shapes import parse_shape, parse_states
    from edgezip.program import read

    if model.suffix == ".ez":
        program = read(model)
        check_packing(model, program, target.name)
        return Prepared(program)
    if dims:
        compressed = None if keep_float else lambda loaded: _compress(loaded, calib, method, mean, std)
        return _prepare_dynamic(model, target, compressed, shapes, states, dims)
    start = time.monotonic()
    loaded = frontends.load(model, shapes=dict(map(parse_shape, shapes)))
    stage_line("load", time.monotonic() - start, str(model))
    agreement: dict[str, Any] = {}
    if not keep_float and not _is_quantised(loaded):
        loaded, agreement = _compress(loaded, calib, method, mean, std)
    start = time.monotonic()
    program = compilation.compile(loaded, target, state=parse_states(states))
    memory = program.metadata["memory"]
    stage_line("compile", time.monotonic() - start, f"{len(program.steps)} steps, arena {memory['arena_bytes']:,} bytes")
    return Prepared(program, agreement)


def _prepare_dynamic(
    model: Path,
    target: Target,
    compressed: Callable[[Any], tuple[Any, dict[str, Any]]] | None,
    shapes: list[str],
    states: list[str],
    dims: list[str],
) -> Prepared:
    """The program of every size; a float model is compressed at the largest, where the calibration samples are."""
    from edgezip import compilation
    from edgezip.cli.shapes import parse_dims, parse_shape, parse_states
    from edgezip.frontends.resizable import Resizable

    bounds, fixed, state = parse_dims(dims), dict(map(parse_shape, shapes)), parse_states(states)
    start = time.monotonic()
    sizes = Resizable(model, bounds, fixed)
    loaded = sizes.at([symbol.high for symbol in sizes.symbols])
    stage_line("load", time.monotonic() - start, str(model))
    agreement: dict[str, Any] = {}
    if compressed is not None and not _is_quantised(loaded):
        loaded, agreement = compressed(loaded)
        program = compilation.compile(loaded, target, shapes=fixed, state=state, dims=bounds, source=str(model))
    else:
        program = compilation.compile(str(model), target, shapes=fixed, state=state, dims=bounds)
    memory = program.metadata["memory"]
    stage_line("compile", time.monotonic() - start, f"{len(program.steps)} steps, arena {memory['arena_bytes']:,} bytes")
    return Prepared(program, agreement)


def _is_quantised(model: Any) -> bool:
    from edgezip import graph

    return any(node.op_type == "QuantizeLinear" for node in graph.nodes(model))


def _compress(model: Any, calib: Path | None, method: str, mean: float, std: float) -> tuple[Any, dict[str, Any]]:
    from edgezip.cli.progress import counter
    from edgezip.compression import compress
    from edgezip.recipe import Recipe

    if calib is None:
        raise UsageError(
            "the model is float: int8 needs calibration data", where="--calib", hint="name a folder or .npz, or use --float"
        )
    start = time.monotonic()
    with counter("calibrate") as advance:
        small = compress(
            model, Recipe.int8(method), calibration=calib, mean=mean, std=std, progress=lambda stage, done: advance(stage, done)
        )
    report = small.report
    sqnr = ", ".join(f"{name} {db:.1f} dB" for name, db in report.output_sqnr_db.items())
    stage_line("compress", time.monotonic() - start, f"int8, {report.method}, {report.samples} samples, outputs {sqnr}")
    return small.model, {
        "output_sqnr_db": report.output_sqnr_db,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
    }


def _dry(model: Path, prepared: Prepared, target: Target, as_json: bool) -> None:
    from edgezip import __version__
    from edgezip.deploy.build import build_runner

    start = time.monotonic()
    runner = build_runner(target, cache_dir=context.current.cache_dir)
    size = runner.stat().st_size
    stage_line("build", time.monotonic() - start, f"{runner} {size:,} bytes")
    if not as_json:
        print(f"dry run: {model.stem} for {target.name} is ready; nothing was sent")
        return
    from edgezip.report import schema

    memory = prepared.program.metadata["memory"]
    facts = {"target": target.name, "dry_run": True, "runner_bytes": size, "memory": memory, **prepared.agreement}
    context.print_json(schema.dumps(schema.document(__version__, "deploy", model, facts)))


def _rollback(transport: Transport, folder: str, name: str | None, as_json: bool) -> None:
    """The version before of ``name``; of the only model on the device when none is named."""
    from edgezip import __version__
    from edgezip.deploy.install import Installer, deployed

    if name is None:
        names = deployed(transport, folder)
        if len(names) != 1:
            found = ", ".join(names) or "none"
            raise UsageError(
                "which model?", where=f"{transport.name}:{folder}", got=found, hint="name it: edgezip deploy NAME --rollback"
            )
        name = names[0]
    back = Installer(transport, folder, _device_name(name)).rollback()
    facts = {"rollback": True, "name": name, "version": back.version, "replaced": back.previous, "device": transport.name}
    if as_json:
        context.print_json(json.dumps({"edgezip": __version__, "verb": "deploy", **facts}))
    else:
        print(f"{transport.name}: {name}: version {back.version} is back in service, in place of {back.previous}")


def describe(model: Path, target: Target, where: str, prepared: Prepared, done: Deployment) -> dict[str, Any]:
    """The JSON of this verb."""
    from hashlib import sha256

    from edgezip import __version__

    program = prepared.program.to_bytes()
    latency = done.bench.latency_us.model_dump() if done.bench else None
    return {
        "edgezip": __version__,
        "verb": "deploy",
        "model": {"path": str(model), "sha256": sha256(model.read_bytes()).hexdigest()},
        "target": target.name,
        "device": where,
        "version": done.installed.version,
        "folder": done.installed.folder,
        "sent": done.installed.sent,
        "previous": done.installed.previous,
        "file_bytes": len(program),
        "program_sha256": sha256(program).hexdigest(),
        "runner_bytes": done.runner_bytes,
        "arena_bytes": done.verify.arena_bytes,
        "isa": done.verify.isa,
        "bitexact": done.verify.passed == done.verify.vectors,
        "vectors": done.verify.vectors,
        "threads": done.bench.threads if done.bench else None,
        "latency_us": latency,
        "peak_memory_bytes": done.bench.peak_memory_bytes if done.bench else None,
        "energy_mj": None,
        "power_w": None,
        "power_source": "no sensor",
        "warmup": done.bench.warmup if done.bench else None,
        "throttled": done.throttled,
        "environment": done.environment,
        **prepared.agreement,
    }


def _conditions(facts: dict[str, Any]) -> str:
    """Clock, governor, temperature, throttling: what the device told of them."""
    said, seen = facts["environment"] or {}, facts["throttled"]
    parts = [f"{said['clock_mhz']:.0f} MHz" if said.get("clock_mhz") else "", said.get("governor") or ""]
    parts.append(f"{said['temperature_c']:.0f} degrees C" if said.get("temperature_c") else "")
    parts.append(
        {True: "THROTTLED: do not trust the times", False: "not throttled", None: "cannot tell whether it throttled"}[seen]
    )
    return ", ".join(part for part in parts if part)


def show(facts: dict[str, Any], emulated: bool) -> None:
    """One table, and the next command to try."""
    from rich.markup import escape
    from rich.table import Table

    from edgezip.cli.screen import console, printable

    table = Table(
        title=f"{escape(printable(Path(facts['model']['path']).name))} on {facts['device']} ({facts['target']})",
        show_header=False,
    )
    rows = [
        ("program", f"{facts['file_bytes']:,} bytes, runner {facts['runner_bytes']:,} bytes"),
        (
            "memory",
            f"arena {facts['arena_bytes']:,} bytes"
            + (f", peak {facts['peak_memory_bytes']:,}" if facts["peak_memory_bytes"] else ""),
        ),
        ("kernels", str(facts["isa"])),
        ("answers", f"{facts['vectors']} test vectors equal the reference byte for byte"),
    ]
    if facts.get("output_sqnr_db"):
        rows.append(("int8 against float", ", ".join(f"{name} {db:.1f} dB SQNR" for name, db in facts["output_sqnr_db"].items())))
    if facts["latency_us"]:
        ms = {key: value / 1e3 for key, value in facts["latency_us"].items()}
        spread = f"p50 {ms['p50']:.2f}  p90 {ms['p90']:.2f}  p99 {ms['p99']:.2f} ms"
        rows.append(
            ("latency", f"{spread}, n {facts['latency_us']['n']}, warm-up {facts['warmup']}, {facts['threads']} thread(s)")
        )
        rows.append(("conditions", _conditions(facts)))
    else:
        rows.append(("latency", "not measured: an emulated CPU tells nothing about time"))
    rows.append(("energy", "no sensor"))
    for label, value in rows:
        table.add_row(label, escape(printable(value)))
    screen = console()
    screen.print(table)
    where = "user@address" if emulated else facts["device"]
    back = "" if emulated or facts["device"] == LOCAL else f" --host {where}"
    following = "deploy MODEL --target {} --host user@address" if emulated else "deploy {} --rollback" + back
    subject = facts["target"] if emulated else Path(facts["folder"]).parent.name
    screen.print(f"next: edgezip {following.format(subject)}", markup=False)
