"""Kits of a single operator, stored integers in and out: one fused int8 product, as a layer of a network is.

| file | what |
|---|---|
| u8s8.onnx | uint8 in, DequantizeLinear, MatMul or Conv with int8 weights per channel, QuantizeLinear, uint8 out |
| matmulinteger.onnx | uint8 in, int32 out, nothing fused (products only) |
| float.onnx | the float32 operator |
| ours.onnx | u8s8.onnx for our compiler: a picture comes channels first, the operator's step alone is timed |

For peers pictures come and go channels last, as they keep them inside: the Conv stands between two Transposes that cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.zoo.task import Array

SEED = 20261124
CALIBRATION_SAMPLES = 4
IN_SCALE, IN_ZERO = np.float32(2 / 128), np.uint8(128)


@dataclass(frozen=True)
class Product:
    """x [m, k] times w [k, n]."""

    m: int
    n: int
    k: int

    @property
    def name(self) -> str:
        """As peers.md and the tables write it: M x N x K."""
        return f"gemm_{self.m}x{self.n}x{self.k}"

    @property
    def operations(self) -> int:
        """2 for each multiply-accumulate."""
        return 2 * self.m * self.n * self.k

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of the operator's own layout."""
        return (self.m, self.k)


@dataclass(frozen=True)
class Convolution:
    """A square picture of ``size``, SAME-like padding; ``outputs`` 0: depthwise."""

    size: int
    channels: int
    kernel: int
    stride: int = 1
    outputs: int = 0

    @property
    def name(self) -> str:
        """Kind, picture, channels, kernel, stride."""
        kind, wide = ("conv", f"x{self.outputs}") if self.outputs else ("dw", "")
        return f"{kind}_{self.size}x{self.size}x{self.channels}{wide}_k{self.kernel}s{self.stride}"

    @property
    def out_size(self) -> int:
        """Rows of the output."""
        return (self.size + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1

    @property
    def operations(self) -> int:
        """2 for each multiply-accumulate."""
        a_pixel = self.kernel**2 * (self.channels * self.outputs if self.outputs else self.channels)
        return 2 * self.out_size**2 * a_pixel

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels first, as the operator sees it."""
        return (1, self.channels, self.size, self.size)


Operator = Product | Convolution


def make(operator: Operator, root: Path) -> Path:
    """The operator's kit below ``root``."""
    kit = root / operator.name
    if (kit / "complete").exists():
        return kit
    kit.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(SEED)
    stored, scales, real = _weights(operator, random)
    inputs = [random.integers(0, 256, operator.input_shape, np.uint8) for _ in range(CALIBRATION_SAMPLES)]
    feeds = [((x.astype(np.float32) - np.float32(IN_ZERO)) * IN_SCALE).astype(np.float32) for x in inputs]
    answer = _save_float(operator, real, feeds, kit)
    out_scale = np.float32(np.abs(answer).max() / 127)
    _save_int8(operator, stored, scales, out_scale, inputs[0], kit)
    (kit / "complete").touch()
    return kit


def _weights(operator: Operator, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """(int8, scale of each output, float32): [k, n] or [out, in / group, kh, kw]."""
    if isinstance(operator, Product):
        shape, axis = (operator.k, operator.n), 1
    else:
        per_group = operator.channels if operator.outputs else 1
        shape, axis = (operator.outputs or operator.channels, per_group, operator.kernel, operator.kernel), 0  # type: ignore[assignment]
    stored = np.clip(np.rint(random.standard_normal(shape) * 32), -127, 127).astype(np.int8)
    scales = (random.uniform(0.5, 1.5, shape[axis]) / 256).astype(np.float32)
    along = [-1 if i == axis else 1 for i in range(len(shape))]
    return stored, scales, stored.astype(np.float32) * scales.reshape(along)


def _node_of(operator: Operator, x: str, w: str, y: str) -> onnx.NodeProto:
    if isinstance(operator, Product):
        return helper.make_node("MatMul", [x, w], [y], name="op")
    pad, group = operator.kernel // 2, 1 if operator.outputs else operator.channels
    kernel, stride = [operator.kernel] * 2, [operator.stride] * 2
    return helper.make_node("Conv", [x, w], [y], name="op", kernel_shape=kernel, strides=stride, pads=[pad] * 4, group=group)


def _output_shape(operator: Operator) -> list[int]:
    if isinstance(operator, Product):
        return [operator.m, operator.n]
    return [1, operator.outputs or operator.channels, operator.out_size, operator.out_size]


def _save_float(operator: Operator, real: Array, feeds: list[Array], kit: Path) -> Array:
    """float.onnx with its feed, reference and calibration; returns the answer."""
    from edgezip.measure.onnx_reference import OnnxSession

    nodes = [_node_of(operator, "x", "w", "y")]
    ends = ("x", TensorProto.FLOAT, operator.input_shape), ("y", TensorProto.FLOAT, _output_shape(operator))
    _save(nodes, {"w": real}, *ends, kit / "float.onnx")
    answer = OnnxSession(kit / "float.onnx").run({"x": feeds[0]})["y"]
    _arrays(kit / "feed.npz", {"x": feeds[0]})
    _arrays(kit / "reference.npz", {"y": answer})
    _arrays(kit / "calibration.npz", {f"x:{i}": feed for i, feed in enumerate(feeds)})
    return answer


def _save_int8(operator: Operator, stored: Array, scales: Array, out_scale: np.float32, x: Array, kit: Path) -> None:
    """u8s8.onnx, for products matmulinteger.onnx too, with the feeds and answers of both."""
    from edgezip.measure.onnx_reference import OnnxSession

    constants: dict[str, Any] = {"w": stored, "ws": scales, "wz": np.zeros(len(scales), np.int8)}
    constants |= {"xs": IN_SCALE, "xz": IN_ZERO, "ys": out_scale, "yz": np.uint8(128)}
    is_product = isinstance(operator, Product)
    product = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=1 if is_product else 0),
        _node_of(operator, "xf", "wf", "yf"),
        helper.make_node("QuantizeLinear", ["yf", "ys", "yz"], ["y"]),
    ]
    shape, out_shape = list(operator.input_shape), _output_shape(operator)
    ends = ("x", TensorProto.UINT8, shape), ("y", TensorProto.UINT8, out_shape)
    _save(product, constants, *ends, kit / "ours.onnx")
    _arrays(kit / "int8.feed.npz", {"x": x})
    _arrays(kit / "int8.reference.npz", OnnxSession(kit / "ours.onnx", exact=True).run({"x": x}))
    if not is_product:
        product = _channels_last(product)
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        shape, out_shape = list(x.shape), [out_shape[i] for i in (0, 2, 3, 1)]
    ends = ("x", TensorProto.UINT8, shape), ("y", TensorProto.UINT8, out_shape)
    _save(product, constants, *ends, kit / "u8s8.onnx")
    _arrays(kit / "stored.feed.npz", {"x": x})
    _arrays(kit / "stored.reference.npz", OnnxSession(kit / "u8s8.onnx", exact=True).run({"x": x}))
    if is_product:
        node = helper.make_node("MatMulInteger", ["x", "w", "xz"], ["y"])
        ends = ("x", TensorProto.UINT8, shape), ("y", TensorProto.INT32, out_shape)
        _save([node], {"w": stored, "xz": IN_ZERO}, *ends, kit / "matmulinteger.onnx")
        sums = (x.astype(np.int64) - int(IN_ZERO)) @ stored.astype(np.int64)
        _arrays(kit / "matmulinteger.reference.npz", {"y": sums})


def _channels_last(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The same nodes between two transposes."""
    for node in nodes:
        node.input[:] = ["x1" if name == "x" else name for name in node.input]
        node.output[:] = ["y1" if name == "y" else name for name in node.output]
    before = helper.make_node("Transpose", ["x"], ["x1"], perm=[0, 3, 1, 2])
    return [before, *nodes, helper.make_node("Transpose", ["y1"], ["y"], perm=[0, 2, 3, 1])]


def _save(nodes: list[Any], constants: dict[str, Any], x: tuple[str, int, Any], y: tuple[str, int, Any], path: Path) -> None:
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    inputs, outputs = [helper.make_tensor_value_info(*x)], [helper.make_tensor_value_info(*y)]
    graph = helper.make_graph(nodes, "one_op", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="edgezip-bench")
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _arrays(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)
