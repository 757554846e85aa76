"""ncnn, float32 only: its wheel carries no int8 quantiser."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.row import FLOAT32, Array, Feed, Loaded, Row

ENVIRONMENT = "ncnn"
REQUIREMENTS = ("ncnn", "pnnx", "numpy")
ROWS = (Row("ncnn float32", FLOAT32, "ncnn.param"),)
OPERATOR_ROWS: tuple[Row, ...] = ()


def convert(kit: Path, row: Row) -> None:
    """pnnx reads the ONNX file; half precision is turned off."""
    import pnnx

    folder = kit / "pnnx"
    folder.mkdir(exist_ok=True)
    shutil.copy(kit / "float.onnx", folder / "net.onnx")
    subprocess.run([str(pnnx.EXEC_PATH), "net.onnx", "fp16=0"], cwd=folder, check=True)
    (folder / "net.ncnn.bin").rename(kit / "ncnn.bin")
    (folder / "net.ncnn.param").rename(kit / "ncnn.param")


def load(path: Path, threads: int, feed: Feed, options: Mapping[str, str]) -> Loaded:
    """A net and its input; an extractor is made for each run, as ncnn wants it."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, False)
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise RuntimeError("ncnn cannot load the model")
    inputs = dict(zip(net.input_names(), (_mat(array) for array in feed.values()), strict=True))
    names = net.output_names()

    def run() -> list[object]:
        with net.create_extractor() as extractor:
            for name, x in inputs.items():
                extractor.input(name, x)
            return [extractor.extract(name)[1] for name in names]

    def outputs() -> list[Array]:
        return [np.array(value) for value in run()]

    return Loaded(run, outputs, str(ncnn.__version__))


def _mat(array: Array) -> Any:
    """Without the batch, which ncnn does not know; it has integers of 32 bits."""
    import ncnn

    plain = array[0] if array.ndim > 2 else array
    return ncnn.Mat(np.ascontiguousarray(plain, np.int32 if plain.dtype.kind == "i" else np.float32)).clone()
