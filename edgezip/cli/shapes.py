"""``--shape NAME=1x3x224x224``, ``--dim NAME=LOW..HIGH:STEP`` and ``--state INPUT=OUTPUT,...``."""

from __future__ import annotations

from collections.abc import Iterable

from edgezip.errors import UsageError


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``x=1x3x224x224`` as a name and dimensions. Raises UsageError."""
    name, equals, dims = text.rpartition("=")
    parts = dims.lower().replace(",", "x").split("x")
    if not (equals and name and all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts)):
        raise UsageError("cannot read --shape", expected="NAME=1x3x224x224", got=text)
    return name, tuple(int(part) for part in parts)


def parse_dims(texts: Iterable[str]) -> dict[str, str]:
    """``s=1..128`` or ``x.3=32..1280:32`` as name and bounds; the bounds are read where they are used. Raises UsageError."""
    dims: dict[str, str] = {}
    for text in texts:
        name, equals, bounds = text.rpartition("=")
        if not (equals and name and bounds) or name in dims:
            raise UsageError("cannot read --dim", expected="NAME=LOW..HIGH or NAME=LOW..HIGH:STEP, each name once", got=text)
        dims[name] = bounds
    return dims


def parse_states(texts: Iterable[str]) -> dict[str, str]:
    """``h=hn,c=cn`` as ``{"h": "hn", "c": "cn"}``: graph inputs, each with the output that follows it. Raises UsageError."""
    pairs: dict[str, str] = {}
    for pair in (pair for text in texts for pair in text.split(",")):
        name, equals, result = pair.partition("=")
        if not (equals and name and result) or name in pairs:
            raise UsageError("cannot read --state", expected="INPUT=OUTPUT, with commas between", got=pair)
        pairs[name] = result
    return pairs
