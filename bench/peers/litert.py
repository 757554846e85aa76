"""LiteRT (TensorFlow Lite) with its XNNPACK delegate; int8 by its own quantiser, static, weights per channel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.row import FLOAT32, INT8, Array, Feed, Loaded, Row

ENVIRONMENT = "litert"
REQUIREMENTS = ("ai-edge-litert", "ai-edge-quantizer", "onnx", "numpy")
FLOAT, QUANTISED = "litert.float.tflite", "litert.int8.tflite"
ROWS = (Row("litert float32", FLOAT32, FLOAT), Row("litert int8", INT8, QUANTISED))
OPERATOR_ROWS = ROWS


def convert(kit: Path, row: Row) -> None:
    """The float file by our writer, the int8 one from it by ai-edge-quantizer, on the kit's calibration feeds."""
    from bench.peers import tflite_writer

    if not (kit / FLOAT).exists():
        tflite_writer.convert(kit / "float.onnx", kit / FLOAT)
    if row.file == QUANTISED:
        _quantise(kit)


def _quantise(kit: Path) -> None:
    from ai_edge_quantizer import quantizer, recipe

    calibration = np.load(kit / "calibration.npz")
    names = {key.rpartition(":")[0] for key in calibration.files}
    feeds = [
        {name: _channels_last(calibration[f"{name}:{i}"]) for name in names} for i in range(len(calibration.files) // len(names))
    ]
    tool = quantizer.Quantizer(str(kit / FLOAT), recipe.static_wi8_ai8())
    found = tool.calibrate({None: feeds})
    tool.quantize(found).export_model(str(kit / QUANTISED), overwrite=True)


def load(path: Path, threads: int, feed: Feed, options: Mapping[str, str]) -> Loaded:
    """An interpreter with its input set once, as int8 where the model takes int8: no copy is timed."""
    from importlib import metadata

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    details = {item["name"]: item for item in interpreter.get_input_details()}
    for name, array in feed.items():
        item = details.get(name) or next(iter(details.values()))
        interpreter.set_tensor(item["index"], _as_input(_channels_last(array), item))

    def outputs() -> list[Array]:
        interpreter.invoke()
        return [_as_output(interpreter.get_tensor(item["index"]), item) for item in interpreter.get_output_details()]

    return Loaded(interpreter.invoke, outputs, metadata.version("ai-edge-litert"))


def _channels_last(array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if array.ndim == 4 else array


def _as_input(array: Array, item: Mapping[str, Any]) -> Array:
    if item["dtype"] != np.int8:
        return array
    scale, zero_point = item["quantization"]
    stored: Array = np.clip(np.rint(array / scale) + zero_point, -128, 127).astype(np.int8)
    return stored


def _as_output(array: Array, item: Mapping[str, Any]) -> Array:
    if array.dtype == np.int8:
        scale, zero_point = item["quantization"]
        array = (array.astype(np.float32) - zero_point) * np.float32(scale)
    return np.moveaxis(array, -1, 1) if array.ndim == 4 else array
