"""``edgezip deploy --inventory``: one model onto many devices, a line for each, one table at the end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgezip.cli import context
from edgezip.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgezip.cli.deploy import Prepared
    from edgezip.deploy.deploy import BenchOptions
    from edgezip.deploy.fleet import Host, Outcome, Strategy
    from edgezip.deploy.transports import Transport
    from edgezip.target import Target

COLUMNS = ("host", "target", "state", "version", "sent", "bit exact", "p50 ms", "why")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done, and to whom."""

    model: Path
    name: str
    hosts: list[Host]
    strategy: Strategy
    parallel: int
    keep: int
    bench: BenchOptions
    results: Path | None


def run(order: Order, prepare: Callable[[Target], Prepared], as_json: bool, dry_run: bool) -> int:
    """Serve the fleet; exit code 1 when a device failed or was not reached."""
    from edgezip.deploy.fleet import serve
    from edgezip.report import text
    from edgezip.target import load_target

    targets = {host.target: load_target(host.target) for host in order.hosts}
    if dry_run:
        _list(order, as_json)
        return 0
    prepared = {name: prepare(target) for name, target in targets.items()}
    outcomes = []
    for outcome in serve(order.hosts, order.strategy, order.parallel, lambda host: _serve(order, host, targets, prepared)):
        outcomes.append(outcome)
        _keep(order.results, _document(order, outcome))
    if as_json:
        context.print_json(json.dumps({"verb": "deploy", "hosts": [_document(order, outcome) for outcome in outcomes]}))
    else:
        print(text.table(COLUMNS, [_row(outcome) for outcome in outcomes]))
        counts = {state: sum(outcome.state == state for outcome in outcomes) for state in ("ok", "failed", "skipped")}
        print("\n" + ", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return int(any(outcome.state != "ok" for outcome in outcomes))


def _list(order: Order, as_json: bool) -> None:
    """Who would be served, and how."""
    from edgezip.report import text

    if as_json:
        hosts = [host.model_dump(mode="json", exclude_none=True) for host in order.hosts]
        context.print_json(json.dumps({"verb": "deploy", "dry_run": True, "strategy": order.strategy, "hosts": hosts}))
        return
    rows = [(host.name, host.host, host.target, " ".join(host.groups), " ".join(host.tags)) for host in order.hosts]
    print(text.table(("host", "address", "target", "groups", "tags"), rows))
    print(f"\ndry run: {len(rows)} hosts, {order.strategy}, {order.parallel} at once; nothing was sent")


def _serve(order: Order, host: Host, targets: dict[str, Target], prepared: dict[str, Prepared]) -> dict[str, Any]:
    """One deployment, as ``edgezip deploy --json`` would say it."""
    from edgezip.cli import deploy as single
    from edgezip.deploy.deploy import deploy
    from edgezip.deploy.install import check_dest

    target, ready = targets[host.target], prepared[host.target]
    transport = _transport(host)
    try:
        done = deploy(
            ready.program,
            order.name,
            target,
            transport,
            dest=check_dest(host.dest or target.deploy.dest),
            cache_dir=context.current.cache_dir,
            keep=order.keep,
            bench=order.bench,
            on_stage=lambda stage, seconds, result: single.stage_line(stage, seconds, f"{host.name}: {result}"),
        )
    except OSError as error:  # of this machine, while one of many devices was served
        raise DeviceError(str(error), where=host.name) from error
    finally:
        transport.close()
    return single.describe(order.model, target, transport.name, ready, done)


def _transport(host: Host) -> Transport:
    from edgezip.deploy.transports.local import LocalTransport
    from edgezip.deploy.transports.reach import reach

    return LocalTransport() if host.host == "local" else reach(host.host, port=host.port)


def _document(order: Order, outcome: Outcome) -> dict[str, Any]:
    facts = {"host": outcome.host.name, "address": outcome.host.host, "state": outcome.state}
    return facts | (
        outcome.result or {"error": str(outcome.error) if outcome.error else None, "model": {"path": str(order.model)}}
    )


def _keep(path: Path | None, document: dict[str, Any]) -> None:
    """One line more of a file that ``report`` reads, in one write."""
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(document) + "\n")


def _row(outcome: Outcome) -> tuple[Any, ...]:
    result = outcome.result or {}
    latency = (result.get("latency_us") or {}).get("p50")
    return (
        outcome.host.name, outcome.host.target, outcome.state, result.get("version"), result.get("sent"), result.get("bitexact"),
        None if latency is None else latency / 1e3, "" if outcome.error is None else str(outcome.error),
    )  # fmt: skip
