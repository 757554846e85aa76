"""Real pretrained models with real labelled inputs, fetched from public packages, and networks with random weights that are
only timed: ``python -m bench.zoo --help``.
"""

from __future__ import annotations

from importlib import import_module

from bench.zoo.task import Task

# One module each; it exports TASK. Loaded on demand: some need Pillow.
TASKS = ("demo", "efflite0", "squeezenet", "ocr_det", "ocr_rec", "vad", "minilm", "magika", "lenet300_fashion", "lenet5_fashion")
# Only timed: random weights, without metric or download, and one frame of vad.
LATENCY_TASKS = ("mobilenet_v1", "mobilenet_v1_025", "mobilenet_v2", "resnet18", "yolo_nano", "ds_cnn", "vad_frame")


def load_task(name: str) -> Task:
    """The task called ``name``; raises UsageError with the known names."""
    from edgezip.errors import UsageError

    known = (*TASKS, *LATENCY_TASKS)
    if name not in known:
        raise UsageError("no such task", where="zoo", expected=", ".join(known), got=name)
    task: Task = import_module(f"bench.zoo.{name}").TASK
    return task
