"""PyTorch's quantised operators, one at a time, on both of its x86 engines. Whole networks are left to the other peers: inductor
compiles each for minutes and led none of the convolutional ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.row import INT8, Array, Feed, Loaded, Row

ENVIRONMENT = "torch"
REQUIREMENTS = ("torch==2.13.0", "onnx", "numpy")
ROWS: tuple[Row, ...] = ()
OPERATOR_ROWS = (
    Row("torch int8 (oneDNN)", INT8, "u8s8.onnx", options={"engine": "onednn"}, takes_stored=True),
    Row("torch int8 (FBGEMM)", INT8, "u8s8.onnx", options={"engine": "fbgemm"}, takes_stored=True),
)


def convert(kit: Path, row: Row) -> None:
    """The kit holds the file whose weights and scales are taken."""


def load(path: Path, threads: int, feed: Feed, options: Mapping[str, str]) -> Loaded:
    """``quantized::linear`` or ``conv2d`` with packed weights, on a stored tensor."""
    import onnx
    import torch
    from onnx import helper, numpy_helper

    torch.set_num_threads(threads)
    torch.backends.quantized.engine = options["engine"]
    graph = onnx.load(str(path)).graph
    held = {item.name: torch.from_numpy(np.array(numpy_helper.to_array(item))) for item in graph.initializer}
    node = next(node for node in graph.node if node.name == "op")
    attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    x = torch._make_per_tensor_quantized_tensor(torch.from_numpy(feed["x"]), float(held["xs"]), int(held["xz"]))
    run: Any
    if node.op_type == "MatMul":
        packed = torch.ops.quantized.linear_prepack(_weights(held["w"].t().contiguous(), held["ws"]), None)
        run = torch.inference_mode()(lambda: torch.ops.quantized.linear(x, packed, float(held["ys"]), int(held["yz"])))
    else:
        x = x.permute(0, 3, 1, 2)  # channels last in memory: no copy
        shape = (attributes["strides"], attributes["pads"][:2], [1, 1], attributes["group"])
        packed = torch.ops.quantized.conv2d_prepack(_weights(held["w"], held["ws"]), None, *shape)
        run = torch.inference_mode()(lambda: torch.ops.quantized.conv2d(x, packed, float(held["ys"]), int(held["yz"])))

    def outputs() -> list[Array]:
        y = run().int_repr()
        found: Array = (y.permute(0, 2, 3, 1) if y.ndim == 4 else y).contiguous().numpy()
        return [found]

    return Loaded(run, outputs, str(torch.__version__), keep=feed)


def _weights(stored: Any, scales: Any) -> Any:
    """int8 [out, ...] with a scale for each output."""
    import torch

    zeros = torch.zeros(len(scales), dtype=torch.long)
    return torch._make_per_channel_quantized_tensor(stored.contiguous(), scales.double(), zeros, 0)
