"""Profiles as files: ``targets/*.toml`` of the package, the user's own, what ``calibrate`` measured, and inheritance.

``base = "rpi4"`` takes every key that the file does not set from that profile. A table or list is taken or replaced whole: half
of another device's coefficients would be nobody's. Name, aliases and published latencies belong to one device and are not
inherited; sources are, because inherited facts rest on them.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from edgezip.errors import TargetError
from edgezip.target.profile import Measured, Strict, Target

FOLDER = Path(__file__).parents[1] / "targets"
OWN = frozenset({"name", "aliases", "reference"})  # never inherited
MOST_FAULTS = 8  # named in one message
Record = TypeVar("Record", bound=Strict)


def user_folder() -> Path:
    """Where a user's profiles and measurements lie."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "edgezip"


def measured_path(name: str) -> Path:
    """Where the measured coefficients of target ``name`` lie."""
    return user_folder() / "targets" / f"{name}.toml"


def profile_path(name: str) -> Path:
    """Where a user's own profile ``name`` lies."""
    return user_folder() / "profiles" / f"{name}.toml"


@cache
def shipped() -> dict[str, Target]:
    """The package's profiles by name."""
    return _load_all(FOLDER, {})


def profiles() -> dict[str, Target]:
    """The package's profiles and the user's, by name; raises TargetError when a user's file takes a name that is in use."""
    known = shipped()
    own = _load_all(profile_path("any").parent, known)
    taken = {name for target in known.values() for name in (target.name, *target.aliases)} | {"host"}
    for target in own.values():
        if both := sorted(taken & {target.name, *target.aliases}):
            raise TargetError(
                "the name is taken", where=str(profile_path(target.name)), got=both[0], hint="rename your profile or its aliases"
            )
    return known | own


def _load_all(folder: Path, known: dict[str, Target]) -> dict[str, Target]:
    raw = {path.stem: (path, _parse(path)) for path in sorted(folder.glob("*.toml"))}
    return {stem: _build(path, _inherited(path, facts, raw, known)) for stem, (path, facts) in raw.items()}


def read_profile(path: Path) -> Target:
    """The profile in ``path``, which may build on any known one. Raises TargetError: file, key, value, way out."""
    return _build(path, _inherited(path, _parse(path), {}, profiles()))


def _inherited(
    path: Path, facts: dict[str, Any], files: dict[str, tuple[Path, dict[str, Any]]], known: dict[str, Target]
) -> dict[str, Any]:
    """``facts`` with what it does not set taken from its base, and the base's base, and so on."""
    merged, seen = dict(facts), [path.stem]
    while (base := facts.get("base")) is not None:
        if base in seen:
            raise TargetError("a circle of bases", where=str(path), got=" -> ".join([*seen, str(base)]), hint="drop one `base`")
        seen.append(base)
        if isinstance(base, str) and base in files:
            facts = files[base][1]
        elif isinstance(base, str) and base in known:
            facts = {key: value for key, value in known[base].model_dump(exclude_none=True).items() if key != "base"}
        else:
            names = sorted({*files, *known} - set(seen))
            near = get_close_matches(str(base), names, 3, 0.4)
            raise TargetError(
                "no such base", where=f"{path}: base", got=repr(base), hint=f"did you mean {' or '.join(near or names[:5])}?"
            )
        sources = [*merged.get("sources", ()), *facts.get("sources", ())]
        merged = {key: value for key, value in facts.items() if key not in OWN} | merged
        merged["sources"] = list(dict.fromkeys(map(str, sources)))
    return merged


def _build(path: Path, facts: dict[str, Any]) -> Target:
    target = validated(path, Target, facts, "see the profiles in targets/, and `edgezip targets show NAME`")
    if target.name != path.stem:
        raise TargetError("the file's name is not the profile's", where=f"{path}: name", expected=path.stem, got=target.name)
    return target


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        hint = "compare it with a file of targets/"
        raise TargetError(f"profile is invalid, not a TOML file: {error}", where=str(path), hint=hint) from error


def validated(path: Path, kind: type[Record], facts: dict[str, Any], hint: str) -> Record:
    """``facts`` as a record; raises TargetError that names the file, and each wrong key with its value."""
    try:
        return kind.model_validate(facts)
    except ValidationError as error:
        faults = list(_faults(error, kind))
        more = len(faults) - MOST_FAULTS
        listed = "; ".join(faults[:MOST_FAULTS]) + (f"; and {more} more" if more > 0 else "")
        raise TargetError(f"profile is invalid: {listed}", where=str(path), hint=hint) from error


def _faults(error: ValidationError, kind: type[Strict]) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=False):
        key = ".".join(map(str, fault["loc"]))
        if fault["type"] == "missing":
            yield f"{key} is missing"
        elif fault["type"] == "extra_forbidden":
            near = get_close_matches(str(fault["loc"][-1]), kind.model_fields, 1, 0.6) if len(fault["loc"]) == 1 else []
            yield f"{key} is no key of a profile" + (f", did you mean {near[0]}?" if near else "")
        elif key:
            yield f"{key} = {json.dumps(fault['input'], default=str)[:60]}: {fault['msg']}"
        else:
            yield str(fault["msg"]).removeprefix("Value error, ")


def read_measured(name: str) -> Measured | None:
    """What ``targets calibrate`` measured for ``name``; None when it was not run."""
    path = measured_path(name)
    if not path.is_file():
        return None
    measured = validated(path, Measured, _parse(path), "run `edgezip targets calibrate` again, or delete the file")
    if measured.target != name:
        raise TargetError("measured for another target", where=str(path), expected=name, got=measured.target)
    return measured


def write_measured(measured: Measured, path: Path) -> None:
    """A file that ``load_target`` reads; folders are made."""
    facts = measured.model_dump(exclude_none=True)
    write_whole(path, toml(facts))


def read_facts(path: Path) -> dict[str, Any]:
    """What a profile's file itself says, after checking the whole; raises TargetError."""
    read_profile(path)
    return _parse(path)


def add_profile(facts: dict[str, Any], *, replace: bool = False) -> Path:
    """Keep a profile in the user's folder; raises TargetError when it is invalid, or its name or an alias is in use."""
    path = profile_path(str(facts.get("name", "")))
    target = _build(path, _inherited(path, facts, {}, profiles()))
    mine = path.is_file()
    if mine and not replace:
        raise TargetError("you have a profile of that name", where=str(path), hint="say --replace, or choose another name")
    others = [other for name, other in profiles().items() if not (mine and name == target.name)]
    taken = {name for other in others for name in (other.name, *other.aliases)} | {"host"}
    if both := sorted(taken & {target.name, *target.aliases}):
        raise TargetError("the name is taken", where=str(path), got=both[0], hint="choose another name, or drop the alias")
    write_whole(path, toml(facts))
    return path


def write_profile(facts: dict[str, Any], path: Path) -> Target:
    """Write a profile after checking it; returns it as it will be loaded. Raises TargetError before anything is written."""
    target = _build(path, _inherited(path, facts, {}, profiles()))
    write_whole(path, toml(facts))
    return target


def write_whole(path: Path, text: str) -> None:
    """``text`` in ``path``: the old file or the new one, never half; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def toml(facts: dict[str, Any]) -> str:
    """Plain facts as TOML: scalars and lists first, then tables, then lists of tables, each in the order given."""
    tables = {key: value for key, value in facts.items() if isinstance(value, dict)}
    arrays = {key: value for key, value in facts.items() if _is_array_of_tables(value)}
    lines = _pairs({key: value for key, value in facts.items() if key not in tables and key not in arrays})
    for key, value in tables.items():
        lines += ["", f"[{key}]", *_pairs(value)]
    for key, value in arrays.items():
        for record in value:
            lines += ["", f"[[{key}]]", *_pairs(record)]
    return "\n".join([*lines, ""])


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(item, dict) for item in value)


def _pairs(facts: dict[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in facts.items()]


def _value(value: object) -> str:
    """JSON's strings, numbers and booleans are TOML's too; a dictionary becomes an inline table."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
