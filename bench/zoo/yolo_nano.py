"""A detector of YOLOv5-nano proportions (1.9 M parameters, 560 M multiplications at 320x320) with random weights: latency only.

SiLU everywhere, cross-stage-partial blocks (concat), a pyramid of maximum pools, a neck that goes up (resize nearest) and down
again, and three raw maps of 3 anchors x 85 as outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.zoo.random_net import RandomNet, RandomWriter

WIDTH = 16
HEAD = 3 * 85
SIZE = 320


class _Detector:
    """Blocks of the network; ``g`` collects the nodes."""

    def __init__(self, g: RandomWriter) -> None:
        self.g = g

    def unit(self, name: str, x: str, channels: tuple[int, int], kernel: int = 1, stride: int = 1) -> str:
        return self.g.unit(name, x, channels, kernel, stride, activation="SiLU")

    def concat(self, name: str, *parts: str) -> str:
        return self.g.op("Concat", name, list(parts), axis=1)

    def twice(self, name: str, x: str) -> str:
        scales = self.g.constant("twice", np.array([1, 1, 2, 2], np.float32))
        return self.g.op(
            "Resize", name, [x, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def partial_stage(self, name: str, x: str, channels: tuple[int, int], blocks: int = 1, has_skip: bool = True) -> str:
        """Half of the channels through ``blocks`` bottlenecks, the other half past them."""
        half = channels[1] // 2
        y = self.unit(f"{name}.a", x, (channels[0], half))
        for number in range(blocks):
            z = self.unit(f"{name}.m{number}.narrow", y, (half, half))
            z = self.unit(f"{name}.m{number}.wide", z, (half, half), 3)
            y = self.g.op("Add", f"{name}.m{number}.add", [y, z]) if has_skip else z
        past = self.unit(f"{name}.b", x, (channels[0], half))
        return self.unit(f"{name}.out", self.concat(f"{name}.concat", y, past), (2 * half, channels[1]))

    def pyramid(self, name: str, x: str, channels: int) -> str:
        """Three 5x5 maximum pools behind each other, all four stages side by side."""
        stages = [self.unit(f"{name}.in", x, (channels, channels // 2))]
        for number in range(3):
            pool = self.g.op("MaxPool", f"{name}.pool{number}", stages[-1:], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4)
            stages.append(pool)
        return self.unit(f"{name}.out", self.concat(f"{name}.concat", *stages), (2 * channels, channels))

    def backbone(self, x: str) -> tuple[str, str, str]:
        """Maps at 1/8, 1/16 and 1/32 of the picture."""
        c = WIDTH
        x = self.g.unit("p1", x, (3, c), 6, 2, pads=(2, 2, 2, 2), activation="SiLU")
        x = self.partial_stage("p2", self.unit("p2.down", x, (c, 2 * c), 3, 2), (2 * c, 2 * c))
        eighth = self.partial_stage("p3", self.unit("p3.down", x, (2 * c, 4 * c), 3, 2), (4 * c, 4 * c), 2)
        sixteenth = self.partial_stage("p4", self.unit("p4.down", eighth, (4 * c, 8 * c), 3, 2), (8 * c, 8 * c), 3)
        x = self.partial_stage("p5", self.unit("p5.down", sixteenth, (8 * c, 16 * c), 3, 2), (16 * c, 16 * c))
        return eighth, sixteenth, self.pyramid("spp", x, 16 * c)

    def neck(self, eighth: str, sixteenth: str, deepest: str) -> tuple[str, str, str]:
        """The same three sizes, each having seen the others."""
        c = WIDTH
        deep = self.unit("up5.narrow", deepest, (16 * c, 8 * c))
        x = self.concat("up5.join", self.twice("up5.resize", deep), sixteenth)
        middle = self.unit("up4.narrow", self.partial_stage("up5", x, (16 * c, 8 * c), has_skip=False), (8 * c, 4 * c))
        x = self.concat("up4.join", self.twice("up4.resize", middle), eighth)
        small = self.partial_stage("up4", x, (8 * c, 4 * c), has_skip=False)
        x = self.concat("down3.join", self.unit("down3", small, (4 * c, 4 * c), 3, 2), middle)
        medium = self.partial_stage("down3.stage", x, (8 * c, 8 * c), has_skip=False)
        x = self.concat("down4.join", self.unit("down4", medium, (8 * c, 8 * c), 3, 2), deep)
        return small, medium, self.partial_stage("down4.stage", x, (16 * c, 16 * c), has_skip=False)


def _build(g: RandomWriter, x: str) -> dict[str, Sequence[int]]:
    detector = _Detector(g)
    outputs: dict[str, Sequence[int]] = {}
    for step, source in zip((8, 16, 32), detector.neck(*detector.backbone(x)), strict=True):
        channels, name = step // 2 * WIDTH, f"map{step}"
        weight = g.weights(name, (HEAD, channels, 1, 1))
        g.conv(name, source, weight, np.zeros(HEAD, np.float32), output=name)
        outputs[name] = (1, HEAD, SIZE // step, SIZE // step)
    return outputs


TASK = RandomNet("yolo_nano", (1, 3, SIZE, SIZE), _build)
