"""Random ONNX graphs with a dynamic batch and width (or sequence), as bytes, and the shapes of their inputs at any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
CHANNELS, HEIGHT = 5, 8


class _Net:
    """A chain of nodes on an image (n, c, HEIGHT, w) or a sequence (n, s, c); random, but always valid."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.last, self.channels, self.height = "x", CHANNELS, HEIGHT

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weights(self, *dims: int) -> str:
        return self.constant(self.rng.uniform(-0.5, 0.5, dims).astype(np.float32))

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.last = name
        return name

    # --- images ---------------------------------------------------------------------------------------------------------

    def conv(self) -> None:
        stride, kernel, out = int(self.rng.integers(1, 3)), int(self.rng.choice([1, 3, 5])), int(self.rng.integers(2, 9))
        w = self.weights(out, self.channels, kernel, kernel)
        self.node("Conv", [self.last, w], strides=[1, stride], pads=[kernel // 2] * 4)
        self.channels = out

    def depthwise(self) -> None:
        stride = int(self.rng.integers(1, 3))
        w = self.weights(self.channels, 1, 3, 3)
        self.node("Conv", [self.last, w], strides=[1, stride], pads=[1] * 4, group=self.channels)

    def pool(self) -> None:
        kind = str(self.rng.choice(["MaxPool", "AveragePool"]))
        self.node(kind, [self.last], kernel_shape=[1, 2], strides=[1, 2], ceil_mode=int(self.rng.integers(0, 2)))

    def residual(self) -> None:
        before = self.last
        self.node("Conv", [before, self.weights(self.channels, self.channels, 3, 3)], pads=[1] * 4)
        self.node("Add", [self.last, before])

    def branch(self) -> None:
        before = self.last
        one = self.node("Conv", [before, self.weights(3, self.channels, 1, 1)])
        two = self.node(str(self.rng.choice(["Relu", "Sigmoid", "HardSwish"])), [before])
        self.node("Concat", [one, two], axis=1)
        self.channels += 3

    def squeeze(self) -> None:
        before = self.last
        self.node("GlobalAveragePool", [before])
        self.node("Conv", [self.last, self.weights(self.channels, self.channels, 1, 1)])
        self.node("Mul", [before, self.node("Sigmoid", [self.last])])

    def pad(self) -> None:
        self.node("Pad", [self.last, self.constant(np.array([0, 0, 0, 1, 0, 0, 0, 2]))])

    def slice(self) -> None:
        ends = [self.constant(np.array([value])) for value in (1, 2**31 - 1, 3)]
        self.node("Slice", [self.last, *ends])

    def image(self, steps: int) -> None:
        moves = [self.conv, self.depthwise, self.pool, self.residual, self.branch, self.squeeze, self.pad, self.slice]
        for move in self.rng.choice(moves, steps):  # type: ignore[arg-type]
            move()
        if self.rng.integers(0, 2):  # as text recognisers end
            self.node("Transpose", [self.last], perm=[0, 3, 1, 2])
            shape = self.constant(np.array([0, -1, self.channels * self.height]))
            self.node("Reshape", [self.last, shape])
            self.node("MatMul", [self.last, self.weights(self.channels * self.height, 7)])
            self.node("Softmax", [self.last], axis=-1)

    # --- sequences ------------------------------------------------------------------------------------------------------

    def linear(self) -> None:
        out = int(self.rng.integers(4, 12))
        self.node("MatMul", [self.last, self.weights(self.channels, out)])
        self.node("Add", [self.last, self.weights(out)])
        self.channels = out

    def attention(self) -> None:
        before, c = self.last, self.channels
        q, k, v = (self.node("MatMul", [before, self.weights(c, c)]) for _ in range(3))
        scores = self.node("MatMul", [q, self.node("Transpose", [k], perm=[0, 2, 1])])
        self.node("MatMul", [self.node("Softmax", [scores], axis=-1), v])
        self.node("Add", [self.last, before])

    def conv1d(self) -> None:
        self.node("Transpose", [self.last], perm=[0, 2, 1])
        out, kernel = int(self.rng.integers(3, 8)), int(self.rng.choice([1, 3]))
        stride = int(self.rng.integers(1, 3))
        self.node("Conv", [self.last, self.weights(out, self.channels, kernel)], strides=[stride], pads=[kernel // 2] * 2)
        self.node("Transpose", [self.last], perm=[0, 2, 1])
        self.channels = out

    def flip(self) -> None:
        ends = [self.constant(np.array([value])) for value in (-1, -(2**31), 1, -1)]
        self.node("Slice", [self.last, *ends])

    def positions(self) -> None:
        """A table of which the first s rows are used, as encoders add positions."""
        length = self.node("Shape", [self.last], start=1, end=2)
        rows = self.node(
            "Slice", [self.weights(64, self.channels), self.constant(np.array([0])), length, self.constant(np.array([0]))]
        )
        self.node("Add", [self._sequence, rows])

    def sequence(self, steps: int) -> None:
        moves = [self.linear, self.attention, self.conv1d, self.flip, self.positions]
        for move in self.rng.choice(moves, steps):  # type: ignore[arg-type]
            self._sequence = self.last
            move()


def dynamic_graph(kind: str, seed: int, steps: int = 4) -> bytes:
    """``image``: input x (n, 5, 8, w); ``sequence``: x (n, s, 5)."""
    net = _Net(seed)
    (net.image if kind == "image" else net.sequence)(steps)
    dims: list[int | str] = ["n", CHANNELS, HEIGHT, "w"] if kind == "image" else ["n", "s", CHANNELS]
    net.nodes.append(helper.make_node("Identity", [net.last], ["y"], name="out"))
    made = helper.make_graph(
        net.nodes, f"{kind}{seed}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        net.constants,
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=8).SerializeToString()


def shape_at(kind: str, n: int, size: int) -> tuple[int, ...]:
    """Of x."""
    return (n, CHANNELS, HEIGHT, size) if kind == "image" else (n, size, CHANNELS)
