"""Plain text for the terminal: aligned tables and human units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

UNKNOWN = "-"


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns two spaces apart; a column whose every cell is a number or unknown stands to the right."""
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(headings, *cells, strict=True)]
    right = [bool(rows) and all(_is_figure(value) for value in column) for column in zip(*rows, strict=True)] or [False] * len(
        widths
    )
    lines = [list(headings), *cells]
    return "\n".join(
        "  ".join(text.rjust(w) if r else text.ljust(w) for text, w, r in zip(line, widths, right, strict=True)).rstrip()
        for line in lines
    )


def cell(value: Any) -> str:
    """One value: floats with four significant digits, None as a dash."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return figure(value) if isinstance(value, float) else str(value)


def figure(value: float) -> str:
    """Four significant digits, never an exponent between 0.001 and 10^15."""
    if value != value:
        return UNKNOWN
    magnitude = abs(value)
    if magnitude in (0.0, float("inf")):
        return f"{value:g}"
    if magnitude >= 1000:
        return f"{value:.0f}"
    digits = 1 if magnitude >= 100 else 2 if magnitude >= 10 else 3
    return f"{value:.{digits}f}" if magnitude >= 0.001 else f"{value:.3g}"


def size(count: int | None) -> str:
    """Bytes in kB or MB (powers of ten)."""
    if count is None:
        return UNKNOWN
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1_000_000 else f"{count / 1e6:.2f} MB"


def duration(microseconds: float | None) -> str:
    """Microseconds in the unit that reads best."""
    if microseconds is None:
        return UNKNOWN
    if microseconds < 1000:
        return f"{microseconds:.1f} us"
    return f"{microseconds / 1e3:.2f} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.2f} s"


def _is_figure(value: Any) -> bool:
    if isinstance(value, str):
        return value == UNKNOWN or value[:1].isdigit()
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
