"""ResNet-18 (11.7 M parameters, 1.8 G multiplications; He et al. 2016) with random weights: latency only."""

from __future__ import annotations

from collections.abc import Sequence

from bench.zoo.random_net import RandomNet, RandomWriter

#         out channels, stride
BLOCKS = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
CLASSES = 1000


def _build(g: RandomWriter, x: str) -> dict[str, Sequence[int]]:
    channels = 64
    x = g.unit("stem", x, (3, channels), 7, 2, activation="Relu")
    x = g.op("MaxPool", "maxpool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for number, (out, stride) in enumerate(BLOCKS):
        name = f"block{number}"
        skip = x if (stride, channels) == (1, out) else g.unit(f"{name}.skip", x, (channels, out), 1, stride)
        y = g.unit(f"{name}.a", x, (channels, out), 3, stride, activation="Relu")
        y = g.unit(f"{name}.b", y, (out, out), 3)
        x, channels = g.op("Relu", f"{name}.relu", [g.op("Add", f"{name}.add", [y, skip])]), out
    g.classifier(x, channels, CLASSES)
    return {"logits": (1, CLASSES)}


TASK = RandomNet("resnet18", (1, 3, 224, 224), _build)
