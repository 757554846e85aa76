"""MNN: float32, and 8-bit weights with activations quantised at run time (its offline quantiser aborts in 3.6)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.peers.row import FLOAT32, INT8, Array, Feed, Loaded, Row

ENVIRONMENT = "mnn"
REQUIREMENTS = ("MNN", "numpy")
ROWS = (
    Row("mnn float32", FLOAT32, "float.mnn", options={"precision": "high", "memory": "normal"}),
    Row("mnn int8 dynamic", INT8, "w8.mnn", options={"precision": "high", "memory": "low"}),
)
OPERATOR_ROWS: tuple[Row, ...] = ()


def convert(kit: Path, row: Row) -> None:
    """Its converter's native module; the console script would install a usage logger."""
    import _tools

    weights = ["--weightQuantBits", "8"] if row.precision == INT8 else []
    source = ["mnnconvert", "-f", "ONNX", "--modelFile", str(kit / "float.onnx"), "--bizCode", "bench"]
    _tools.mnnconvert([*source, "--MNNModel", str(kit / row.file), *weights])


def load(path: Path, threads: int, feed: Feed, options: Mapping[str, str]) -> Loaded:
    """A session with its input copied in once."""
    import MNN

    interpreter = MNN.Interpreter(str(path))
    session = interpreter.createSession({"numThread": threads, "backend": "CPU", **options})
    for name, array in feed.items():
        is_whole = array.dtype.kind == "i"
        held = np.ascontiguousarray(array, np.int32 if is_whole else np.float32)  # it has integers of 32 bits
        kind = MNN.Halide_Type_Int if is_whole else MNN.Halide_Type_Float
        host = MNN.Tensor(array.shape, kind, held, MNN.Tensor_DimensionType_Caffe)
        interpreter.getSessionInput(session, name).copyFrom(host)

    def outputs() -> list[Array]:
        interpreter.runSession(session)
        found = []
        for tensor in interpreter.getSessionOutputAll(session).values():
            shape = tensor.getShape()
            empty = np.zeros(shape, np.float32)
            host = MNN.Tensor(shape, MNN.Halide_Type_Float, empty, MNN.Tensor_DimensionType_Caffe)
            tensor.copyToHostTensor(host)
            found.append(np.array(host.getNumpyData()).reshape(shape))
        return found

    return Loaded(lambda: interpreter.runSession(session), outputs, str(MNN.version()), keep=(interpreter, feed))
