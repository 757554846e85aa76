"""The float reference and first peer: an ONNX file in ONNX Runtime on this machine's processor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgezip.errors import InvalidModelError, MissingFileError

Array = np.ndarray[Any, Any]


class OnnxSession:
    """An ONNX model with ``threads`` threads inside an operator; same ``run`` as ``edgezip.runtime.session.Session``.

    Inner values named in ``expose`` become outputs too (names that the graph does not have are passed over). ``exact`` keeps
    its int8 kernels from saturating sums of pairs on x86 without VNNI (as a user gets them, EfficientNet-Lite0 is noise there).
    """

    def __init__(self, path: str | Path, threads: int = 1, expose: Collection[str] = (), *, exact: bool = False) -> None:
        import onnxruntime

        if not Path(path).is_file():
            raise MissingFileError("no such model", where=str(path))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            model = _with_outputs(Path(path), expose) if expose else str(path)
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base of their own
            raise InvalidModelError("ONNX Runtime cannot load the model", where=str(path), got=str(error)[:200]) from error
        self._where = str(path)
        self.version = str(onnxruntime.__version__)
        self.input_names = [item.name for item in self._session.get_inputs()]
        self.output_names = [item.name for item in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name. Raises InvalidModelError when ONNX Runtime cannot compute them."""
        try:
            made = self._session.run(None, dict(feeds))
        except Exception as error:  # its exceptions share no base of their own
            hint = "give inputs that the model takes (--inputs)"
            raise InvalidModelError(
                "ONNX Runtime cannot run the model", where=self._where, got=str(error)[:200], hint=hint
            ) from error
        return dict(zip(self.output_names, made, strict=True))


def _with_outputs(path: Path, names: Collection[str]) -> bytes:
    import onnx

    model = onnx.load(str(path))
    there = {item.name for item in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted((made & set(names)) - there))
    data: bytes = model.SerializeToString()
    return data
