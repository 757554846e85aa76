"""``--shape NAME=1x3x224x224``."""

from __future__ import annotations

from edgezip.errors import UsageError


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``x=1x3x224x224`` as a name and dimensions. Raises UsageError."""
    name, equals, dims = text.rpartition("=")
    parts = dims.lower().replace(",", "x").split("x")
    if not (equals and name and all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts)):
        raise UsageError("cannot read --shape", expected="NAME=1x3x224x224", got=text)
    return name, tuple(int(part) for part in parts)
