"""The terminal: one console for stdout and one for stderr, which do as ``--color`` and NO_COLOR say and never cut a line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from edgezip.cli import context

if TYPE_CHECKING:
    from rich.console import Console

FILE_WIDTH = 160  # columns of a table when the output is not a terminal


def console(*, stderr: bool = False) -> Console:
    """A console whose lines end where their text ends; print text of others with ``markup=False`` and ``printable``."""
    from rich.console import Console

    color = context.current.color
    made = Console(
        stderr=stderr, highlight=False, soft_wrap=True, no_color=True if color == "never" else None,
        force_terminal={"always": True, "never": False}.get(color),
    )  # fmt: skip
    if not made.is_terminal:
        made.width = FILE_WIDTH
    return made


def printable(text: str) -> str:
    """Names come from files and devices: no control character of theirs reaches the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def quoted(path: Path | str) -> str:
    """A path as it can be pasted into a shell."""
    return shlex.quote(printable(str(path)))
