"""DS-CNN keyword spotter over 49 frames of 10 coefficients (the size of MLPerf Tiny) with random weights: latency only."""

from __future__ import annotations

from collections.abc import Sequence

from bench.zoo.random_net import RandomNet, RandomWriter

CHANNELS, BLOCKS, CLASSES = 64, 4, 12


def _build(g: RandomWriter, x: str) -> dict[str, Sequence[int]]:
    x = g.unit("stem", x, (1, CHANNELS), (10, 4), 2, pads=(5, 1, 5, 1), activation="Relu")
    for number in range(BLOCKS):
        x = g.unit(f"block{number}.dw", x, (CHANNELS, CHANNELS), 3, is_depthwise=True, activation="Relu")
        x = g.unit(f"block{number}.pw", x, (CHANNELS, CHANNELS), activation="Relu")
    g.classifier(x, CHANNELS, CLASSES)
    return {"logits": (1, CLASSES)}


TASK = RandomNet("ds_cnn", (1, 1, 49, 10), _build)
