"""What a peer offers: rows to be measured, and a model that is loaded and bound to its input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Feed = Mapping[str, Array]
INT8, FLOAT32 = "int8", "float32"


@dataclass(frozen=True)
class Row:
    """One way to run one peer. ``file`` is made by the peer's ``convert`` unless the kit holds it already.

    ``takes_stored``: made from the kit's int8 ONNX file, so its inputs are stored integers where that file's are.
    """

    label: str
    precision: str
    file: str
    takes_stored: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """``run`` is what is timed; ``outputs`` gives float32 or integer arrays in the layout of the ONNX model, untimed.

    ``kernel_ns``, if given, tells how long the operator itself took in the last run, and is what counts instead of the call.
    ``keep`` holds what a runtime points into without owning it: the input arrays.
    """

    run: Callable[[], object]
    outputs: Callable[[], list[Array]]
    version: str
    kernel_ns: Callable[[], int] | None = None
    keep: object = None
