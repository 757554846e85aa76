"""Cross-layer equalisation: channels of one layer get ranges like each other, and the layers behind take the rest.

With r1 the largest weight that makes a channel and r2 the largest that reads it, dividing by ``s = sqrt(r1 / r2)`` gives both the
range ``sqrt(r1 r2)``; sweeps over all links go on until nothing moves. Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019, section 4.1. It pays where weights have one scale for the tensor; the function of the
network stays: ReLU6 on the way becomes ReLU and a cap for each channel. (Left out, as the paper does, the caps cost
EfficientNet-Lite0 31 of 88 points in int8 per tensor; 2026-11-24.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.passes.channel_links import apply_scale, find_links, reach_made, reach_read
from edgezip.passes.layer_change import LayerChange

if TYPE_CHECKING:
    from edgezip.graph import Model

Array = np.ndarray[Any, Any]
SWEEPS = 20
SETTLED = 1e-3  # the largest change of a factor in a sweep that ends the search


def equalize_channels(model: Model, *, through_relu6: bool = True) -> tuple[Model, list[LayerChange]]:
    """``model`` with equalised channels, and a row for each layer whose weights changed; the original is not touched."""
    equal = graph.clone(model)
    touched: dict[str, Array] = {}
    for _ in range(SWEEPS):
        moved = 0.0
        for link in [made for made in find_links(equal, through_caps=through_relu6) if made.producer is not None]:
            made, read = reach_made(link), reach_read(link)
            alive = (made > 0) & (read > 0)
            scale = np.where(alive, np.sqrt(made / np.where(alive, read, 1.0)), 1.0)
            moved = max(moved, float(np.abs(scale - 1).max()))
            apply_scale(equal, link, scale)
            touched[link.name] = touched.get(link.name, 1.0) * scale
        if moved < SETTLED:
            break
    return equal, [_row(equal, name, scale) for name, scale in touched.items()]


def _row(model: Model, name: str, scale: Array) -> LayerChange:
    node = graph.find_node(model, name)
    held = graph.constant(node.inputs[1])
    assert held is not None
    form = f"float32, channels divided by {scale.min():.3g} to {scale.max():.3g}"
    return LayerChange(name, node.op_type, form, 32, float((held == 0).mean()), held.nbytes, held.nbytes)
