"""Networks with random weights: for latency only, their answers mean nothing and no agreement is measured on them.

The weights are He-initialised from a fixed seed (He et al. 2015). After each convolution stands a batch norm whose statistics are
settled on random images and then folded, so that activations keep a sane range through the whole network: a quantiser sees
ordinary distributions, and no layer is all zero. Before an activation each channel is shifted by one deviation: centred on zero,
half of the signal would be cut off at every layer while rounding noise passes, and a deep network's int8 answer would be noise.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.zoo.onnx_writer import GraphWriter, same_pads
from bench.zoo.task import Array, Feed, Run, Score
from edgezip.errors import UsageError
from edgezip.measure.onnx_reference import OnnxSession

SEED = 20261124
EPSILON = 1e-3
SHIFT = 1.0
SETTLING_IMAGES = 4
CALIBRATION_IMAGES = 8
INPUT = "image"
Statistics = dict[str, Array]


class RandomWriter(GraphWriter):
    """Convolutions with settled batch norms. Without ``statistics`` it writes the graph that measures them instead."""

    def __init__(self, name: str, statistics: Statistics | None = None) -> None:
        super().__init__(name)
        self.statistics = statistics
        self.measured: dict[str, Sequence[int | str]] = {}  # outputs of the measuring graph and their shapes

    def weights(self, name: str, shape: Sequence[int]) -> Array:
        """He-normal float32 of ``shape`` [out, in / group, ...]; they depend on the layer's name and on nothing else."""
        random = np.random.default_rng((SEED, zlib.crc32(f"{self.name}/{name}".encode())))
        he = float(np.sqrt(2 / np.prod(shape[1:])))
        return random.standard_normal(shape, np.float32) * np.float32(he)

    def unit(
        self,
        name: str,
        x: str,
        channels: tuple[int, int],
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        *,
        pads: Sequence[int] | None = None,
        is_depthwise: bool = False,
        activation: str = "",
    ) -> str:
        """Convolution ``channels`` = (in, out), batch norm, then ``activation``: "", Relu, Clip (0..6) or SiLU."""
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        pads = (kernel[0] // 2, kernel[1] // 2) * 2 if pads is None else pads
        weight = self.weights(name, (channels[1], 1 if is_depthwise else channels[0], *kernel))
        group = channels[0] if is_depthwise else 1
        shift = SHIFT if activation else 0.0
        return self._activate(name, self._settled(name, x, weight, shift, stride, pads, group), activation)

    def same_unit(self, name: str, x: str, channels: tuple[int, int], kernel: int, stride: int, size: int, **rest: Any) -> str:
        """``unit`` with TensorFlow's SAME padding over an input of ``size`` pixels."""
        return self.unit(name, x, channels, kernel, stride, pads=same_pads(size, kernel, stride), **rest)

    def classifier(self, x: str, channels: int, classes: int) -> str:
        """Global average and a fully connected layer to "logits"."""
        x = self.op("Flatten", "flatten", [self.op("GlobalAveragePool", "pool", [x])], axis=1)
        weight = self.weights("classifier", (classes, channels))
        return self.gemm("classifier", x, weight, np.zeros(classes, np.float32), "logits")

    def _settled(self, name: str, x: str, weight: Array, shift: float, stride: int, pads: Sequence[int], group: int) -> str:
        no_bias = np.zeros(len(weight), np.float32)
        if self.statistics is None:
            return self._measured(name, self.conv(name, x, weight, no_bias, stride, pads, group), len(weight), shift)
        mean, variance = self.statistics[f"{name}.mean"].ravel(), self.statistics[f"{name}.variance"].ravel()
        scale = 1 / np.sqrt(variance + EPSILON)
        return self.conv(name, x, weight * scale[:, None, None, None], shift - mean * scale, stride, pads, group)

    def _measured(self, name: str, y: str, channels: int, shift: float) -> str:
        """The batch norm written out, its mean and variance over the images and pixels as outputs of the graph."""
        mean = self.op("ReduceMean", f"{name}.mean", [y], f"{name}.mean", axes=[0, 2, 3], keepdims=1)
        centered = self.op("Sub", f"{name}.centered", [y, mean])
        square = self.op("Mul", f"{name}.square", [centered, centered])
        variance = self.op("ReduceMean", f"{name}.variance", [square], f"{name}.variance", axes=[0, 2, 3], keepdims=1)
        self.measured |= {mean: (1, channels, 1, 1), variance: (1, channels, 1, 1)}
        above_zero = self.op("Add", f"{name}.above_zero", [variance, self.constant("epsilon", np.array(EPSILON, np.float32))])
        normed = self.op("Div", f"{name}.normed", [centered, self.op("Sqrt", f"{name}.deviation", [above_zero])])
        return self.op("Add", f"{name}.shifted", [normed, self.constant(f"shift{shift}", np.array(shift, np.float32))])

    def _activate(self, name: str, x: str, activation: str) -> str:
        if activation == "Clip":
            return self.relu6(f"{name}.relu6", x)
        if activation == "SiLU":
            return self.op("Mul", f"{name}.silu", [x, self.op("Sigmoid", f"{name}.sigmoid", [x])])
        return self.op(activation, f"{name}.{activation.lower()}", [x]) if activation else x


Build = Callable[[RandomWriter, str], dict[str, Sequence[int]]]  # appends the network to input; outputs and their shapes


class RandomNet:
    """A latency-only task: one random image, eight for calibration, no score."""

    def __init__(self, name: str, shape: tuple[int, ...], build: Build) -> None:
        self.name = name
        self.shape = shape
        self._build = build

    def model(self, work: Path) -> Path:
        """Writes the float32 ONNX file; two makings on one machine give the same bytes."""
        path = work / f"{self.name}.onnx"
        if not path.exists():
            writer = RandomWriter(self.name, self._settle())
            writer.save(path, {INPUT: self.shape}, dict(self._build(writer, INPUT)))
        return path

    def feeds(self, work: Path) -> Iterator[tuple[Feed, None]]:
        """One image without a label."""
        for feed in self._images(0, 1):
            yield feed, None

    def calibration(self, work: Path) -> Iterator[Feed]:
        """Eight other images."""
        return self._images(1, CALIBRATION_IMAGES)

    def score(self, work: Path, run: Run) -> Score:
        """Raises UsageError: there is nothing to score."""
        raise UsageError("random weights have no right answers", where=self.name, hint="a latency-only task: use bench.models")

    def _images(self, stream: int, count: int) -> Iterator[Feed]:
        random = np.random.default_rng((SEED, stream))
        for _ in range(count):
            yield {INPUT: random.standard_normal(self.shape).astype(np.float32)}

    def _settle(self) -> Statistics:
        writer = RandomWriter(self.name)
        self._build(writer, INPUT)
        images = np.concatenate([feed[INPUT] for feed in self._images(2, SETTLING_IMAGES)])
        with tempfile.TemporaryDirectory() as folder:
            path = writer.save(Path(folder) / "settle.onnx", {INPUT: images.shape}, writer.measured)
            return OnnxSession(path).run({INPUT: images})
