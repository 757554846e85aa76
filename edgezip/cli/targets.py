"""``edgezip targets list|show|add|detect|calibrate``: the device profiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgezip.cli import context, screen

if TYPE_CHECKING:
    from edgezip.target import Target

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help="Device profiles.")


@app.command("list")
def list_() -> None:
    """Every profile, one a line."""
    from edgezip.target import list_targets

    targets = list_targets()
    if context.current.json:
        _print_json("list", targets=[target.model_dump() for target in targets])
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("target", "kernels", "emulated as", "device"):
        table.add_column(title, no_wrap=title != "device")
    for target in targets:
        emulated = target.emulator.cpu if target.emulator else "-"
        table.add_row(target.name, " ".join(target.isa), emulated, target.summary)
    screen.console().print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="name or alias; `host` is this machine")]) -> None:
    """One profile, with the sources of its facts."""
    from edgezip.target import load_target

    _show("show", load_target(name))


@app.command()
def detect(
    host: Annotated[str | None, typer.Option(help="Ask user@address instead of this machine.")] = None,
    base: Annotated[str | None, typer.Option("--from", help="Profile to build on; default: the generic one of its kind.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the profile: NAME.toml.")] = None,
) -> None:
    """The profile of this machine, or of a device: cores, caches, memory and sensors as its kernel tells them."""
    from edgezip.errors import UsageError
    from edgezip.target import detect_host, files

    if output is not None and output.suffix != ".toml":
        raise UsageError("a profile's name ends with .toml", where="-o", got=str(output))
    if host is None and base is None and output is None:
        _show("detect", detect_host())
        return
    facts = _detected(output.stem if output is not None else "detected", host, base)
    if output is not None:
        files.write_profile(facts, output)
    if context.current.json:
        _print_json("detect", path=str(output) if output else None, target=facts)
    else:
        typer.echo(f"written to {output}; next: edgezip targets add {output}" if output else files.toml(facts))


@app.command()
def add(
    profile: Annotated[str, typer.Argument(help="A profile to take (FILE.toml), or the name of a new one.")],
    base: Annotated[str | None, typer.Option("--from", help="A new profile builds on this one.")] = None,
    host: Annotated[str | None, typer.Option(help="A new profile says what user@address tells of itself.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Instead of your profile of that name.")] = False,
) -> None:
    """Check a profile and keep it in your folder; afterwards --target knows it."""
    from edgezip.errors import UsageError
    from edgezip.target import files

    if profile.endswith(".toml"):
        if base or host:
            raise UsageError("a file says everything itself", where="--from, --host", hint="leave them out")
        facts = files.read_facts(Path(profile))
    elif host is None and base is None:
        raise UsageError("a profile of what?", where=profile, hint="give FILE.toml, or --from NAME, or --host user@address")
    else:
        facts = _detected(profile, host, base) if host else _variant(profile, base or "")
    path = files.add_profile(facts, replace=replace)
    if context.current.json:
        _print_json("add", path=str(path), target=facts)
    else:
        typer.echo(f"{path.stem} added: {path}; edit it there, or `edgezip targets calibrate --target {path.stem}`")


def _variant(name: str, base: str) -> dict[str, object]:
    from edgezip.target import load_target

    known = load_target(base)
    return {"name": name, "base": known.name, "summary": f"{known.summary} (own profile)", "sources": ["the user"]}


def _detected(name: str, host: str | None, base: str | None) -> dict[str, object]:
    from edgezip.deploy.detect import detect as ask
    from edgezip.deploy.transports.local import LocalTransport
    from edgezip.deploy.transports.reach import reach

    transport = reach(host) if host else LocalTransport()
    try:
        return ask(transport, name, base)
    finally:
        transport.close()


@app.command()
def calibrate(
    target: Annotated[str, typer.Option(help="Profile whose coefficients are measured.")] = "host",
    host: Annotated[str | None, typer.Option(help="Measure on user@address.")] = None,
    emulate: Annotated[bool, typer.Option("--emulate", help="Try the way under an emulator; its figures mean nothing.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="File to write; default: the user's folder, which load_target reads.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure the cost coefficients of a device, for predictions and for choices at compile time."""
    from edgezip.cli import calibration
    from edgezip.errors import UsageError
    from edgezip.target import Measured, load_target, measured_path, write_measured

    if host and emulate:
        raise UsageError("a device is either real or emulated", where="--host, --emulate", hint="leave one out")
    if target == "host" and (host or emulate):
        raise UsageError("which kind of device?", where="--target", hint="name it, for example --target rpi4")
    profile = load_target(target)
    if profile.name != "host" and not (host or emulate):
        raise UsageError("where is that device?", where="--target", hint="give --host user@address, or --emulate to try the way")
    tuning = calibration.tune(profile, host, emulate)
    path = output or (None if emulate else measured_path(profile.name))
    if path is not None:
        write_measured(Measured(target=profile.name, cost=tuning.after, sparse=tuning.sparse), path)
    before, after = tuning.before.model_dump(), tuning.after.model_dump()
    sparse = tuning.sparse.model_dump()
    if json or context.current.json:
        written = str(path) if path else None
        _print_json("calibrate", target=profile.name, path=written, before=before, after=after, sparse=sparse, steps=tuning.steps)
        return
    from edgezip.report import text

    rows = [(key, before[key], value) for key, value in after.items() if key != "source"]
    typer.echo(text.table(("coefficient", "before", "measured"), rows))
    told = ", ".join(f"{key} {value:.0%}" for key, value in sparse.items())
    typer.echo(f"\nblocks are skipped up to these shares of those left: {told}")
    typer.echo(f"\n{tuning.after.source}\n{'written to ' + str(path) if path else 'not written: give --output FILE'}")


def _show(verb: str, target: Target) -> None:
    facts = target.model_dump()
    if context.current.json:
        _print_json(verb, target=facts)
        return
    for key, value in facts.items():
        for line in _lines(value):
            typer.echo(f"{key:16} {line}")


def _lines(value: object) -> list[str]:
    """A value as lines: a list of texts or records has one for each."""
    if value in (None, (), ""):
        return ["-"]
    if isinstance(value, dict):
        return [", ".join(f"{key} {_lines(inner)[0]}" for key, inner in value.items())]
    if isinstance(value, tuple) and any(isinstance(item, dict) or " " in str(item) for item in value):
        return [line for item in value for line in _lines(item)]
    return [" ".join(map(str, value)) if isinstance(value, tuple) else str(value)]


def _print_json(verb: str, **facts: object) -> None:
    from edgezip import __version__

    typer.echo(json.dumps({"edgezip": __version__, "verb": f"targets {verb}", **facts}))
