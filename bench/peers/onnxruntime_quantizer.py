"""ONNX Runtime's own static quantiser: QDQ, per channel, uint8 activations, with each of its calibration methods."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx.version_converter

from bench.zoo.task import Feed

METHODS = ("minmax", "percentile", "entropy")
PER_CHANNEL_OPSET = 13  # DequantizeLinear has an axis since then


def quantize(model: Path, calibration: Iterable[Feed], method: str, output: Path, activations: str = "uint8") -> Path:
    """Writes the quantised model; ``calibration`` feeds are used once each. ``activations``: uint8, or int8 around zero."""
    from onnxruntime import quantization as q

    logging.disable(logging.WARNING)  # it warns of every operator that it leaves in float
    try:
        # it also prints its progress
        with contextlib.redirect_stdout(io.StringIO()):
            q.quantize_static(
                str(_prepared(model, output)),
                str(output),
                _reader(q.CalibrationDataReader, calibration),
                quant_format=q.QuantFormat.QDQ,
                per_channel=True,
                activation_type=q.QuantType.QUInt8 if activations == "uint8" else q.QuantType.QInt8,
                extra_options={"ActivationSymmetric": activations == "int8"},
                weight_type=q.QuantType.QInt8,
                calibrate_method=getattr(q.CalibrationMethod, {"minmax": "MinMax"}.get(method, method.capitalize())),
            )
    finally:
        logging.disable(logging.NOTSET)
    return output


def _prepared(model: Path, output: Path) -> Path:
    """Its recommended preparation: opset 13 or later, shapes inferred, graph optimised."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    loaded = onnx.load(str(model))
    if next(item.version for item in loaded.opset_import if item.domain in ("", "ai.onnx")) < PER_CHANNEL_OPSET:
        model = output.with_suffix(".converted.onnx")
        onnx.save(onnx.version_converter.convert_version(loaded, PER_CHANNEL_OPSET), str(model))
    path = output.with_suffix(".prepared.onnx")
    quant_pre_process(str(model), str(path), skip_symbolic_shape=True)
    return path


def _reader(base: type[Any], calibration: Iterable[Feed]) -> Any:
    class Reader(base):  # type: ignore[misc]  # onnxruntime has no types
        """Hands out the feeds one after another."""

        def __init__(self) -> None:
            self._feeds: Iterator[Feed] = iter(calibration)

        def get_next(self) -> Feed | None:
            """The next feed, None at the end."""
            return next(self._feeds, None)

    return Reader()
