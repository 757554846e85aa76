"""ExecuTorch with its XNNPACK backend; int8 by XNNPACK's quantiser, weights per channel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.row import FLOAT32, INT8, Array, Feed, Loaded, Row

ENVIRONMENT = "executorch"
REQUIREMENTS = ("torch==2.13.0", "executorch", "torchao", "onnx", "numpy")
ROWS = (Row("executorch float32", FLOAT32, "executorch.float.pte"), Row("executorch int8", INT8, "executorch.int8.pte"))
OPERATOR_ROWS: tuple[Row, ...] = ()


def convert(kit: Path, row: Row) -> None:
    """Exports the ONNX graph through torch and lowers it to XNNPACK."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from bench.peers.onnx_module import OnnxModule

    module: Any = OnnxModule(kit / "float.onnx").eval()
    calibration = np.load(kit / "calibration.npz")
    names, count = module.inputs, len(calibration.files) // len(module.inputs)
    feeds = [tuple(torch.from_numpy(calibration[f"{name}:{number}"]) for name in names) for number in range(count)]
    exported = torch.export.export(module, feeds[0])
    if row.precision == INT8:
        exported = torch.export.export(_quantised(exported.module(), feeds), feeds[0])
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    (kit / row.file).write_bytes(lowered.to_executorch().buffer)


def _quantised(module: Any, feeds: list[tuple[Any, ...]]) -> Any:
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    settings = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    prepared = prepare_pt2e(module, xnnpack.XNNPACKQuantizer().set_global(settings))
    for feed in feeds:
        prepared(*feed)
    return convert_pt2e(prepared)


def load(path: Path, threads: int, feed: Feed, options: Mapping[str, str]) -> Loaded:
    """A program and its input tensors. Its thread pool takes the cores that the process may use: pin it for one thread."""
    from importlib import metadata

    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(str(path)).load_method("forward")
    inputs = [torch.from_numpy(array) for array in feed.values()]

    def outputs() -> list[Array]:
        return [value.numpy() for value in method.execute(inputs)]

    return Loaded(lambda: method.execute(inputs), outputs, metadata.version("executorch"), keep=feed)
