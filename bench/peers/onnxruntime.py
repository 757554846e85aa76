"""ONNX Runtime, processor provider. Its int8 files come from its own static quantiser, in both signs of activations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.peers.row import FLOAT32, INT8, Array, Feed, Loaded, Row

ENVIRONMENT = ""
REQUIREMENTS: tuple[str, ...] = ()
ROWS = (
    Row("onnxruntime float32", FLOAT32, "float.onnx"),
    Row("onnxruntime int8 u8s8", INT8, "u8s8.onnx", takes_stored=True),
    Row("onnxruntime int8 s8s8", INT8, "s8s8.onnx", takes_stored=True),
)
OPERATOR_ROWS = (
    ROWS[0],
    Row("onnxruntime int8 fused", INT8, "u8s8.onnx", takes_stored=True),  # QLinearMatMul, QLinearConv
    Row("onnxruntime MatMulInteger", INT8, "matmulinteger.onnx", takes_stored=True),
)


def convert(kit: Path, row: Row) -> None:
    """The kit holds all its files."""


def load(path: Path, threads: int, feed: Feed, options: Mapping[str, str]) -> Loaded:
    """A session with inputs and outputs bound: no copy is timed."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, array)
    for item in session.get_outputs():
        binding.bind_output(item.name)

    def outputs() -> list[Array]:
        session.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())

    return Loaded(lambda: session.run_with_iobinding(binding), outputs, str(onnxruntime.__version__), keep=feed)
