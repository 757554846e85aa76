"""Trains LeNet-300-100 or LeNet-5 on Fashion-MNIST in plain NumPy and writes ONNX. Activations are [n, h, w, c] here.

python -m bench.zoo.train_lenet lenet5 --work .work/zoo -o .work/zoo/lenet5_fashion.onnx
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bench.zoo import fashion
from bench.zoo.onnx_writer import GraphWriter

Floats = NDArray[Any]
EPOCHS = {"lenet300": 12, "lenet5": 6}
BATCH = 128
PEAK_RATE = 2e-3


class Layer:
    """One layer: ``forward`` and, for the batch that went forward last, ``backward``."""

    def __init__(self, weights: tuple[Floats, ...] = ()) -> None:
        self.weights = weights
        self.gradients: tuple[Floats, ...] = ()

    def forward(self, x: Floats) -> Floats:
        """The layer's output."""
        raise NotImplementedError

    def backward(self, dy: Floats) -> Floats:
        """From the gradient of the output to that of the input; leaves the weights' in ``gradients``."""
        raise NotImplementedError


def normal(random: np.random.Generator, deviation: float, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Weights drawn from a normal distribution, and a bias of zeros."""
    return random.normal(0, deviation, shape).astype(np.float32), np.zeros(shape[1], np.float32)


class Dense(Layer):
    """x @ weight + bias; a picture is flattened first."""

    def __init__(self, inputs: int, outputs: int, random: np.random.Generator) -> None:
        super().__init__(normal(random, (2 / inputs) ** 0.5, (inputs, outputs)))

    def forward(self, x: Floats) -> Floats:
        """[n, ...] -> [n, outputs]."""
        self._shape = x.shape
        self._x = x.reshape(len(x), -1)
        y: Floats = self._x @ self.weights[0] + self.weights[1]
        return y

    def backward(self, dy: Floats) -> Floats:
        """[n, outputs] -> [n, ...]."""
        self.gradients = (self._x.T @ dy, dy.sum(0))
        dx: Floats = (dy @ self.weights[0].T).reshape(self._shape)
        return dx


class Relu(Layer):
    """max(x, 0)."""

    def forward(self, x: Floats) -> Floats:
        """Any shape."""
        self._positive = x > 0
        return x * self._positive

    def backward(self, dy: Floats) -> Floats:
        """Nothing passes where x was not positive."""
        return dy * self._positive


class Conv5x5(Layer):
    """5x5 convolution without padding as one matrix product; weight [c * 25, out] with (c, kh, kw) rows."""

    def __init__(self, inputs: int, outputs: int, random: np.random.Generator) -> None:
        super().__init__(normal(random, (1 / (25 * inputs)) ** 0.5, (25 * inputs, outputs)))

    def forward(self, x: Floats) -> Floats:
        """[n, h, w, c] -> [n, h - 4, w - 4, out]."""
        self._shape = x.shape
        windows = sliding_window_view(x, (5, 5), (1, 2))  # [n, oh, ow, c, 5, 5]
        self._grid = windows.shape[:3]
        self._columns = windows.reshape(-1, self.weights[0].shape[0])
        y: Floats = self._columns @ self.weights[0] + self.weights[1]
        return y.reshape(*self._grid, -1)

    def backward(self, dy: Floats) -> Floats:
        """The first layer returns dy: nobody asks for the gradient of the picture."""
        flat = dy.reshape(-1, dy.shape[-1])
        self.gradients = (self._columns.T @ flat, flat.sum(0))
        if self._shape[3] == 1:
            return dy
        columns = (flat @ self.weights[0].T).reshape(*self._grid, self._shape[3], 5, 5)
        dx = np.zeros(self._shape, np.float32)
        _, height, width = self._grid
        for i in range(5):
            for j in range(5):
                dx[:, i : i + height, j : j + width] += columns[..., i, j]
        return dx


class MaxPool2x2(Layer):
    """Greatest of four; of equal ones, all get the gradient's share."""

    def forward(self, x: Floats) -> Floats:
        """[n, h, w, c] -> [n, h / 2, w / 2, c]."""
        n, h, w, c = x.shape
        cells = x.reshape(n, h // 2, 2, w // 2, 2, c)
        y: Floats = cells.max((2, 4))
        self._won = (cells == y[:, :, None, :, None]).astype(np.float32)
        return y

    def backward(self, dy: Floats) -> Floats:
        """[n, h / 2, w / 2, c] -> [n, h, w, c]."""
        spread: Floats = self._won * (dy / self._won.sum((2, 4)))[:, :, None, :, None]
        n, h, _, w, _, c = spread.shape
        return spread.reshape(n, 2 * h, 2 * w, c)


def make_layers(net: str, random: np.random.Generator) -> list[Layer]:
    """The layers of "lenet300" or "lenet5" (Han et al. 2016 use these two)."""
    if net == "lenet300":
        return [Dense(784, 300, random), Relu(), Dense(300, 100, random), Relu(), Dense(100, 10, random)]
    features: list[Layer] = [Conv5x5(1, 20, random), MaxPool2x2(), Conv5x5(20, 50, random), MaxPool2x2()]
    return [*features, Dense(800, 500, random), Relu(), Dense(500, 10, random)]


class Adam:
    """Kingma and Ba 2015, algorithm 1."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = [layer for layer in layers if layer.weights]
        self.moments = [[(np.zeros_like(w), np.zeros_like(w)) for w in layer.weights] for layer in self.layers]
        self.step_count = 0

    def step(self, rate: float) -> None:
        """Moves every weight by its gradient."""
        self.step_count += 1
        corrected = rate * np.sqrt(1 - 0.999**self.step_count) / (1 - 0.9**self.step_count)
        for layer, moments in zip(self.layers, self.moments, strict=True):
            for weight, gradient, (mean, square) in zip(layer.weights, layer.gradients, moments, strict=True):
                mean += 0.1 * (gradient - mean)
                square += 0.001 * (gradient * gradient - square)
                weight -= np.float32(corrected) * mean / (np.sqrt(square) + np.float32(1e-8))


def forward(layers: list[Layer], x: Floats) -> Floats:
    """Logits."""
    for layer in layers:
        x = layer.forward(x)
    return x


def batches(images: Floats, labels: NDArray[np.int64], random: np.random.Generator) -> Iterator[tuple[Floats, NDArray[np.int64]]]:
    """One epoch in random order."""
    order = random.permutation(len(images))
    for start in range(0, len(order), BATCH):
        index = order[start : start + BATCH]
        yield images[index], labels[index]


def fit(layers: list[Layer], images: Floats, labels: NDArray[np.int64], epochs: int, random: np.random.Generator) -> None:
    """Cross-entropy, Adam, rate rising for a tenth of the steps and then falling to nothing."""
    optimizer = Adam(layers)
    steps = epochs * -(-len(images) // BATCH)
    for _ in range(epochs):
        for x, y in batches(images, labels, random):
            logits = forward(layers, x)
            exponentials = np.exp(logits - logits.max(1, keepdims=True))
            gradient = exponentials / exponentials.sum(1, keepdims=True)
            gradient[np.arange(len(y)), y] -= 1
            gradient /= len(y)
            for layer in reversed(layers):
                gradient = layer.backward(gradient)
            progress = optimizer.step_count / steps
            optimizer.step(PEAK_RATE * min(10 * progress + 0.02, (1 - progress) / 0.9))


def write_onnx(net: str, layers: list[Layer], path: Path) -> None:
    """x [n, 1, 28, 28] -> logits [n, 10], in ONNX's own orders."""
    g = GraphWriter(net)
    dense = [layer for layer in layers if isinstance(layer, Dense)]
    x = "x"
    for number, conv in enumerate((layer for layer in layers if isinstance(layer, Conv5x5)), 1):
        kernel = conv.weights[0].T.reshape(-1, conv.weights[0].shape[0] // 25, 5, 5)
        x = g.conv(f"conv{number}", x, kernel, conv.weights[1])
        x = g.op("MaxPool", f"pool{number}", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = g.op("Flatten", "flatten", [x], axis=1)
    for number, layer in enumerate(dense, 1):
        weight: Floats = layer.weights[0]
        if number == 1 and net == "lenet5":  # rows are (h, w, c) here and (c, h, w) in ONNX
            weight = weight.reshape(4, 4, 50, -1).transpose(2, 0, 1, 3).reshape(800, -1)
        last = number == len(dense)
        x = g.gemm(f"dense{number}", x, weight.T, layer.weights[1], "logits" if last else "")
        x = x if last else g.op("Relu", f"relu{number}", [x])
    g.save(path, {"x": ("n", 1, 28, 28)}, {"logits": ("n", 10)})


def train_to_file(net: str, work: Path, path: Path, seed: int = 0) -> None:
    """Trains and writes ``path``."""
    images, labels = fashion.load("train", work)
    random = np.random.default_rng(seed)
    layers = make_layers(net, random)
    fit(layers, images[..., None].astype(np.float32) / np.float32(255), labels, EPOCHS[net], random)
    write_onnx(net, layers, path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", choices=sorted(EPOCHS))
    parser.add_argument("--work", type=Path, default=Path(".work/zoo"))
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    started = time.perf_counter()
    train_to_file(arguments.net, arguments.work, arguments.output)
    print(f"{arguments.output}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
