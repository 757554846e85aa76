"""The activation that an operator may carry."""

from __future__ import annotations

import numpy as np

from edgezip.errors import UnsupportedModelError
from edgezip.frontends.tflite.emitter import Emitter
from edgezip.frontends.tflite.schema import Operator

CLIPS = {1: (0.0, None), 2: (-1.0, 1.0), 3: (0.0, 6.0)}  # ActivationFunctionType: RELU, RELU_N1_TO_1, RELU6
TANH = 4


def clipped(e: Emitter, name: str, kind: int) -> str:
    """RELU, RELU_N1_TO_1 or RELU6 of a value."""
    low, high = CLIPS[kind]
    if high is None:
        return str(e.node("Relu", [name]))
    return str(e.node("Clip", [name, e.initializer(np.float32(low), "low"), e.initializer(np.float32(high), "high")]))


def fused(e: Emitter, op: Operator, name: str, kind: int) -> str:
    """``name`` behind the fused activation ``kind``."""
    if kind == 0:
        return name
    if kind in CLIPS:
        return clipped(e, name, kind)
    if kind == TANH:
        return str(e.node("Tanh", [name]))
    raise UnsupportedModelError(
        f"fused activation {kind} is not supported", where=e.place(op), expected="NONE, RELU, RELU6, TANH"
    )
