"""OpenVINO on the processor, arithmetic held to float32 where it is not int8 (its default may be bfloat16)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.peers.row import FLOAT32, INT8, Array, Feed, Loaded, Row

ENVIRONMENT = "openvino"
REQUIREMENTS = ("openvino", "nncf", "onnx", "onnxruntime", "numpy")  # the last but one: NNCF runs ONNX files with it
NNCF = "openvino.nncf.xml"
ROWS = (
    Row("openvino float32", FLOAT32, "float.onnx"),
    Row("openvino int8 (QDQ)", INT8, "u8s8.onnx", takes_stored=True),
    Row("openvino int8 (NNCF)", INT8, NNCF),
)
OPERATOR_ROWS = ROWS[:2]


def convert(kit: Path, row: Row) -> None:
    """NNCF's quantiser, on the kit's calibration feeds."""
    if row.file != NNCF:
        return
    import nncf
    import openvino

    calibration = np.load(kit / "calibration.npz")
    names = {key.rpartition(":")[0] for key in calibration.files}
    feeds = [{name: calibration[f"{name}:{i}"] for name in names} for i in range(len(calibration.files) // len(names))]
    model = openvino.Core().read_model(str(kit / "float.onnx"))
    is_transformer = sum(op.get_type_name() == "Softmax" for op in model.get_ops()) > 1
    kind = nncf.ModelType.TRANSFORMER if is_transformer else None  # as its documentation asks for
    small = nncf.quantize(model, nncf.Dataset(feeds), subset_size=len(feeds), model_type=kind)
    openvino.save_model(small, str(kit / NNCF), compress_to_fp16=False)


def load(path: Path, threads: int, feed: Feed, options: Mapping[str, str]) -> Loaded:
    """A compiled model with its input tensors set once: no copy is timed."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = openvino.Core().compile_model(str(path), "CPU", settings)
    request = model.create_infer_request()
    for name, array in feed.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def outputs() -> list[Array]:
        request.infer()
        return [np.array(request.get_output_tensor(i).data) for i in range(len(model.outputs))]

    return Loaded(request.infer, outputs, str(openvino.__version__), keep=feed)
