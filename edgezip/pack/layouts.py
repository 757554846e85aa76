"""How weights lie in memory: the packed forms of ``ez_format.h``. ``kernels/reference.py`` has the inverses."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgezip.program import Layout

Array = np.ndarray[Any, Any]
PANEL = 16


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def k_step(layout: Layout) -> int:
    """Consecutive k of a layout: 4 or 8."""
    return 4 if layout is Layout.K4N16 else 8


def pad_outputs(values: Array, groups: int = 1) -> Array:
    """Per-output values (outputs,) -> each group padded with zeros to a multiple of 16."""
    split = values.reshape(groups, -1)
    out = np.zeros((groups, _round_up(split.shape[1], PANEL)), values.dtype)
    out[:, : split.shape[1]] = split
    return out.reshape(-1)


def merge_groups(weights: Array, groups: int) -> tuple[Array, int]:
    """Neighbouring groups as one, their weights on the diagonal of int8 (outputs, taps, C of the new group); and the new number.

    A panel computes 16 outputs whatever a group has, so groups that fill one together cost what a single one did, and zeros add
    nothing to an integer sum (a float sum could meet infinity times zero).
    """
    outputs, taps, channels = weights.shape
    per_group = outputs // groups
    together = max((d for d in range(1, groups + 1) if groups % d == 0 and d * per_group <= PANEL), default=1)
    merged = np.zeros((outputs, taps, together, channels), weights.dtype)
    output = np.arange(outputs)
    merged[output, :, output // per_group % together] = weights
    return merged.reshape(outputs, taps, together * channels), groups // together


def pack_gemm_s8(weights: Array, layout: Layout, groups: int = 1) -> Array:
    """int8 (outputs, spans, K of a span) -> uint8 bytes (groups, N/16, spans*K'/step, 16, step), K' padded to the step."""
    step = k_step(layout)
    outputs, spans, elements = weights.shape
    per_group = outputs // groups
    padded = np.zeros((groups, _round_up(per_group, PANEL), spans, _round_up(elements, step)), np.int8)
    padded[:, :per_group, :, :elements] = weights.reshape(groups, per_group, spans, elements)
    panels = padded.reshape(groups, -1, PANEL, spans * padded.shape[3] // step, step)
    return np.ascontiguousarray(panels.transpose(0, 1, 3, 2, 4)).view(np.uint8).reshape(-1)


def pack_gemm_f32(weights: Array, groups: int = 1) -> Array:
    """float32 (outputs, taps, C of a group) -> (groups, N/16, taps*C, 16)."""
    outputs, taps, channels = weights.shape
    per_group = outputs // groups
    padded = np.zeros((groups, _round_up(per_group, PANEL), taps * channels), np.float32)
    padded[:, :per_group] = without_denormals(weights).reshape(groups, per_group, taps * channels)
    return np.ascontiguousarray(padded.reshape(groups, -1, PANEL, taps * channels).transpose(0, 1, 3, 2)).reshape(-1)


def without_denormals(weights: Array) -> Array:
    """float32 weights with 0 for those below the smallest normal number, 1.2e-38.

    Training leaves them in layers that it shut off; each costs a multiplication some 150 cycles on x86 (a squeeze-excite layer of
    a text recogniser, 57,600 weights of which 12,970 are denormal: 180 -> 12 us; Sapphire Rapids VM, 2026-11-24).
    """
    return np.where(np.abs(weights) < np.finfo(np.float32).tiny, np.float32(0), weights)


def pack_depthwise_s8(weights: Array, layout: Layout, kernel: tuple[int, int]) -> Array:
    """int8 (C, taps) of a (height, width) kernel -> uint8 bytes.

    K4N16: (C/16, ceil(height/4), width, 16, 4), four vertical taps of a column together; a kernel of height 1 as
    (C/16, ceil(width/4), 16, 4). K8N16: (C/16, taps, 16).
    """
    if layout is not Layout.K4N16:
        return np.ascontiguousarray(_by_tap(weights)).view(np.uint8).reshape(-1)
    height, width = kernel if kernel[0] > 1 else (kernel[1], 1)
    padded = np.zeros((_round_up(len(weights), PANEL), _round_up(height, 4), width), np.int8)
    padded[: len(weights), :height] = weights.reshape(-1, height, width)
    quads = padded.reshape(-1, PANEL, padded.shape[1] // 4, 4, width)
    return np.ascontiguousarray(quads.transpose(0, 2, 4, 1, 3)).view(np.uint8).reshape(-1)


def pack_depthwise_f32(weights: Array) -> Array:
    """float32 (C, taps) -> (C/16, taps, 16)."""
    return np.ascontiguousarray(_by_tap(without_denormals(weights))).reshape(-1)


def _by_tap(weights: Array) -> Array:
    channels, taps = weights.shape
    padded = np.zeros((_round_up(channels, PANEL), taps), weights.dtype)
    padded[:channels] = weights
    return padded.reshape(-1, PANEL, taps).transpose(0, 2, 1)
