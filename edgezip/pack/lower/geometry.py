"""Kernel, stride, dilation and padding of a node with a window, as plain numbers for two spatial axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgezip import graph
from edgezip.pack.builder import Ref
from edgezip.pack.context import Context, Unsupported

if TYPE_CHECKING:
    from edgezip.graph import Node


@dataclass(frozen=True, slots=True)
class Window:
    """A two-dimensional window; one-dimensional nodes have height 1."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int]  # top, left
    pad_end: tuple[int, int]  # bottom, right: what the output size implies


def two(values: tuple[int, ...], fill: int) -> tuple[int, int]:
    """One or two spatial numbers as two."""
    if len(values) > 2:
        raise Unsupported(f"has {len(values)} spatial axes; 1 and 2 are supported")
    return (fill, values[0]) if len(values) == 1 else (values[0], values[1])


def window_of(node: Node, kernel: tuple[int, ...], spatial: tuple[int, ...], out: tuple[int, ...]) -> Window:
    """The window of a Conv or pooling node over input ``spatial`` that gives ``out``."""
    axes = len(spatial)
    stride = tuple(graph.attribute(node, "strides", (1,) * axes))
    dilation = tuple(graph.attribute(node, "dilations", (1,) * axes))
    total = [
        max((o - 1) * s + (k - 1) * d + 1 - i, 0) for o, s, k, d, i in zip(out, stride, kernel, dilation, spatial, strict=True)
    ]
    auto = graph.attribute(node, "auto_pad", "NOTSET")
    begin = tuple(graph.attribute(node, "pads", (0,) * 2 * axes))[:axes]
    if auto == "SAME_UPPER":
        begin = tuple(t // 2 for t in total)
    elif auto == "SAME_LOWER":
        begin = tuple(t - t // 2 for t in total)
    elif auto == "VALID":
        begin = (0,) * axes
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(out, stride, kernel, dilation, strict=True)]
    end = tuple(max(r - i - b, 0) for r, i, b in zip(reach, spatial, begin, strict=True))
    return Window(two(kernel, 1), two(stride, 1), two(dilation, 1), two(begin, 0), two(end, 0))


def image(context: Context, ref: Ref) -> Ref:
    """A value of rank 3 or 4 as (N, C, H, W), channels-last in memory; rank 3 gets H = 1."""
    ref = context.last(ref)
    if len(ref.shape) == 3:
        n, c, width = ref.shape
        return context.relabelled(ref, (n, c, 1, width), (0, 2, 3, 1))
    if len(ref.shape) != 4:
        raise Unsupported(f"has rank {len(ref.shape)}; images have rank 3 or 4")
    return ref


def like_output(context: Context, made: Ref, shape: tuple[int, ...]) -> Ref:
    """The (N, C, H, W) result under the node's own shape (rank 3 loses H)."""
    if len(shape) == 3:
        return context.relabelled(made, shape, (0, 2, 1))
    return made


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(N, C, L) or (N, C, H, W) as the latter."""
    return (shape[0], shape[1], 1, shape[2]) if len(shape) == 3 else (shape[0], shape[1], shape[2], shape[3])
