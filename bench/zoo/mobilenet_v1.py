"""MobileNet-v1 1.0/224 (4.2 M parameters, 569 M multiplications; Howard et al. 2017) with random weights: latency only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.zoo.random_net import RandomNet, RandomWriter

#        out channels at width 1, stride
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
CLASSES = 1000


def build(g: RandomWriter, x: str, width: float, size: int) -> dict[str, Sequence[int]]:
    """A convolution, 13 depthwise-separable blocks, a classifier; ReLU6 and SAME padding as published."""
    channels = int(32 * width)
    x, size = g.same_unit("stem", x, (3, channels), 3, 2, size, activation="Clip"), size // 2
    for number, (wide, stride) in enumerate(BLOCKS):
        out = int(wide * width)
        depthwise = (channels, channels)
        x = g.same_unit(f"block{number}.dw", x, depthwise, 3, stride, size, is_depthwise=True, activation="Clip")
        x = g.unit(f"block{number}.pw", x, (channels, out), activation="Clip")
        channels, size = out, -(-size // stride)
    g.classifier(x, channels, CLASSES)
    return {"logits": (1, CLASSES)}


TASK = RandomNet("mobilenet_v1", (1, 3, 224, 224), partial(build, width=1.0, size=224))
