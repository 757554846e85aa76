"""A tiny builder: appends nodes and writes a checked ONNX file. Names given here are the names a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


class GraphWriter:
    """Collects nodes of one graph; every method returns the name of the value it appended."""

    def __init__(self, name: str, opset: int = 17) -> None:
        self.name = name
        self.opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: Array) -> str:
        """Stores ``value`` once under ``name``."""
        self._constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind: str, name: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Appends one node called ``name``; its value is ``output`` or ``name``_out."""
        value = output or f"{name}_out"
        self._nodes.append(helper.make_node(kind, list(inputs), [value], name=name, **attributes))
        return value

    def conv(
        self,
        name: str,
        x: str,
        weight: Array,
        bias: Array,
        stride: int = 1,
        pads: Sequence[int] = (0, 0, 0, 0),
        group: int = 1,
        output: str = "",
    ) -> str:
        """Convolution; weight [out, in / group, kh, kw], bias [out], pads (top, left, bottom, right)."""
        inputs = [
            x,
            self.constant(f"{name}.weight", weight.astype(np.float32)),
            self.constant(f"{name}.bias", bias.astype(np.float32)),
        ]
        shape = {"kernel_shape": list(weight.shape[2:]), "strides": [stride, stride], "pads": list(pads), "group": group}
        return self.op("Conv", name, inputs, output, **shape)

    def relu6(self, name: str, x: str) -> str:
        """Clip to 0..6."""
        return self.op(
            "Clip", name, [x, self.constant("zero", np.array(0, np.float32)), self.constant("six", np.array(6, np.float32))]
        )

    def gemm(self, name: str, x: str, weight: Array, bias: Array, output: str = "") -> str:
        """x @ weight.T + bias; weight [out, in]."""
        inputs = [
            x,
            self.constant(f"{name}.weight", weight.astype(np.float32)),
            self.constant(f"{name}.bias", bias.astype(np.float32)),
        ]
        return self.op("Gemm", name, inputs, output, transB=1)

    def save(
        self,
        path: Path,
        inputs: dict[str, Sequence[int | str]],
        outputs: dict[str, Sequence[int | str]],
        integers: Sequence[str] = (),
    ) -> Path:
        """Infers shapes, checks and writes the model; a shape entry that is a string is a dynamic axis.

        Inputs are float32, those in ``integers`` int64.
        """
        graph = helper.make_graph(
            self._nodes, self.name, _infos(inputs, integers), _infos(outputs), list(self._constants.values())
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8, producer_name="edgezip-zoo"
        )
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        onnx.save(model, str(partial))
        partial.rename(path)
        return path


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int, int, int]:
    """TensorFlow's SAME padding: the odd pixel goes to the bottom and the right."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return (total // 2, total // 2, total - total // 2, total - total // 2)


def _infos(shapes: dict[str, Sequence[int | str]], integers: Sequence[str] = ()) -> list[onnx.ValueInfoProto]:
    kinds = {name: TensorProto.INT64 if name in integers else TensorProto.FLOAT for name in shapes}
    return [helper.make_tensor_value_info(name, kinds[name], list(shape)) for name, shape in shapes.items()]
