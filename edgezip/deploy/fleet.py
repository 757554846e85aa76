"""Many devices: an inventory, who of them is meant, and in what order they are served.

The inventory is YAML: ``hosts`` by name, each with ``host`` (user@address, adb:SERIAL, or ``local``), ``target``, and if wanted
``port``, ``dest``, ``groups`` and ``tags``; ``defaults`` for all of them. No agent and no server: ssh and adb from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgezip.errors import EdgeZipError, MissingFileError, UsageError
from edgezip.yaml_keys import single_keys

MOST_HOSTS = 10_000
MOST_BYTES = 4 << 20
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Strategy = Literal["all", "rolling", "canary"]


class Host(BaseModel):
    """One device of an inventory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    host: Annotated[str, Field(min_length=1, max_length=320)]
    target: Name
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    dest: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    groups: tuple[Name, ...] = ()
    tags: tuple[Name, ...] = ()

    def is_called(self, word: str) -> bool:
        """Whether ``word`` is its name, or one of its groups or tags."""
        return word in {self.name, *self.groups, *self.tags}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one device: ``result``, or ``error`` (what was raised), or neither when it was not tried."""

    host: Host
    result: dict[str, Any] | None = None
    error: EdgeZipError | None = None

    @property
    def state(self) -> str:
        """ok, failed or skipped."""
        return "ok" if self.result is not None else "failed" if self.error is not None else "skipped"


def read_inventory(path: Path) -> list[Host]:
    """The hosts of a file, in its order. Raises MissingFileError, UsageError (host, key and value)."""
    if not path.is_file():
        raise MissingFileError("no such inventory", where=str(path))
    if path.stat().st_size > MOST_BYTES:
        raise UsageError("an inventory is smaller", where=str(path), expected=f"{MOST_BYTES} bytes at most")
    try:
        said = yaml.load(path.read_text(), single_keys())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"not a YAML file: {str(error).strip().splitlines()[0]}", where=str(path)) from error
    known = {"hosts", "defaults"}
    if not isinstance(said, dict) or not isinstance(said.get("hosts"), dict) or set(said) - known:
        raise UsageError("not an inventory", where=str(path), expected="hosts: by name, and defaults:", got=str(said)[:60])
    defaults, hosts = said.get("defaults") or {}, said["hosts"]
    if not isinstance(defaults, dict) or not hosts or len(hosts) > MOST_HOSTS:
        raise UsageError("not an inventory", where=str(path), expected=f"1 .. {MOST_HOSTS} hosts, defaults by key")
    return [_host(path, name, facts, defaults) for name, facts in hosts.items()]


def _host(path: Path, name: object, facts: object, defaults: dict[str, Any]) -> Host:
    where = f"{path}, host {str(name)[:64]!r}"
    if not isinstance(facts, dict):
        raise UsageError("a host is a table", where=where, expected="host: user@address", got=str(facts)[:60])
    try:
        return Host.model_validate({**defaults, **facts, "name": name})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"]))
        got = "" if fault["type"] == "extra_forbidden" else repr(fault["input"])[:60]  # an unknown key may hold a secret
        raise UsageError(f"{key}: {fault['msg']}", where=where, got=got) from error


def limited(hosts: Sequence[Host], limit: str | None) -> list[Host]:
    """Those that ``limit`` (names, groups, tags with commas; ``!word`` leaves out) means. Raises UsageError: it means none."""
    words = [word.strip() for word in (limit or "").split(",") if word.strip()]
    unknown = [word for word in words if not any(host.is_called(word.lstrip("!")) for host in hosts)]
    if unknown:
        names = sorted({word for host in hosts for word in (host.name, *host.groups, *host.tags)})
        near = get_close_matches(unknown[0].lstrip("!"), names, 3, 0.4)
        raise UsageError(
            "nobody is called so", where="--limit", got=unknown[0], hint=f"did you mean {', '.join(near or names[:5])}?"
        )
    wanted, unwanted = [w for w in words if w[0] != "!"], [w[1:] for w in words if w[0] == "!"]
    chosen = [
        host for host in hosts if (not wanted or any(map(host.is_called, wanted))) and not any(map(host.is_called, unwanted))
    ]
    if not chosen:
        raise UsageError("no host is left", where="--limit", got=limit or "")
    return chosen


def serve(hosts: Sequence[Host], strategy: Strategy, parallel: int, work: Callable[[Host], dict[str, Any]]) -> Iterator[Outcome]:
    """``work`` for every host, at most ``parallel`` at once; outcomes in the order of ``hosts``.

    ``all`` goes on whatever happens; ``rolling`` takes one after another and stops at the first failure; ``canary`` serves the
    first one alone, and the others only if that went well. Who was not tried is ``skipped``.
    """
    alone = {"all": 0, "rolling": len(hosts), "canary": 1}[strategy]
    for position in range(alone):
        outcome = _try(hosts[position], work)
        yield outcome
        if outcome.error is not None:
            yield from (Outcome(host) for host in hosts[position + 1 :])
            return
    with ThreadPoolExecutor(max(1, parallel)) as pool:
        yield from pool.map(lambda host: _try(host, work), hosts[alone:])


def _try(host: Host, work: Callable[[Host], dict[str, Any]]) -> Outcome:
    try:
        return Outcome(host, result=work(host))
    except EdgeZipError as error:
        return Outcome(host, error=error)
