"""MobileNetV2 1.0/224 (3.5 M parameters, 300 M multiplications; Sandler et al. 2018) with random weights: latency only."""

from __future__ import annotations

from collections.abc import Sequence

from bench.zoo.random_net import RandomNet, RandomWriter

#         expansion, out channels, blocks, stride of the first
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM, HEAD, CLASSES = 32, 1280, 1000


def _build(g: RandomWriter, x: str) -> dict[str, Sequence[int]]:
    channels, number = STEM, 0
    x = g.unit("stem", x, (3, STEM), 3, 2, activation="Clip")
    for expansion, out, blocks, first_stride in STAGES:
        for position in range(blocks):
            x = _block(g, f"block{number}", x, (channels, channels * expansion, out), first_stride if position == 0 else 1)
            channels, number = out, number + 1
    x = g.unit("head", x, (channels, HEAD), activation="Clip")
    g.classifier(x, HEAD, CLASSES)
    return {"logits": (1, CLASSES)}


def _block(g: RandomWriter, name: str, x: str, channels: tuple[int, int, int], stride: int) -> str:
    """Inverted residual, ``channels`` = (in, hidden, out); the skip where shapes allow."""
    narrow, hidden, out = channels
    y = g.unit(f"{name}.expand", x, (narrow, hidden), activation="Clip") if hidden != narrow else x
    y = g.unit(f"{name}.depthwise", y, (hidden, hidden), 3, stride, is_depthwise=True, activation="Clip")
    y = g.unit(f"{name}.project", y, (hidden, out))
    return g.op("Add", f"{name}.add", [x, y]) if stride == 1 and narrow == out else y


TASK = RandomNet("mobilenet_v2", (1, 3, 224, 224), _build)
