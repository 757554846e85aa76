"""Lowering rules, one file an operator family. Importing this package registers them all."""

from edgezip.pack.lower import (
    arithmetic,
    convolution,
    elementwise,
    layer_norm,
    linear,
    movement,
    normalization,
    padding,
    pooling,
    recurrent,
    resize,
    selection,
    softmax,
)
from edgezip.pack.lower.registry import FLOAT, INT8

__all__ = [
    "FLOAT",
    "INT8",
    "arithmetic",
    "convolution",
    "elementwise",
    "layer_norm",
    "linear",
    "movement",
    "normalization",
    "padding",
    "pooling",
    "recurrent",
    "resize",
    "selection",
    "softmax",
]
