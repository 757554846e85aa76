"""A counter on stderr, drawn on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgezip.cli import context


@contextmanager
def counter(title: str) -> Iterator[Callable[[str, int], None]]:
    """Yields ``advance(stage, done)``; shows nothing with -q, --json, --no-progress or without a terminal."""
    if not context.current.show_progress:
        yield lambda stage, done: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:.0f} samples"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title)
        yield lambda stage, done: bar.update(task, description=stage, completed=done or bar.tasks[0].completed)
