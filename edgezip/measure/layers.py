"""How near each layer's answer is to the float model's value of the same name: which layer loses the accuracy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgezip.measure.agreement import Agreement
from edgezip.measure.onnx_reference import OnnxSession
from edgezip.program import DType, Program, Tensor
from edgezip.runtime.reference import ReferenceSession

Array = np.ndarray[Any, Any]
# A quantised value bears the name of the float value and one of these: ours, or that of ONNX Runtime's quantiser.
QUANTIZED_SUFFIX = re.compile(r"_(quantized|QuantizeLinear_Output)$")


def compare_layers(program: Program, reference: Path, samples: Sequence[Mapping[str, Array]]) -> list[dict[str, Any]]:
    """Layers of ``program`` whose output the float model also has, worst SQNR first: name, op, sqnr_db, cosine."""
    session = OnnxSession(reference, expose={_float_name(tensor) for tensor in program.tensors}, exact=True)
    agreements: dict[int, Agreement] = {}
    for feed in samples:
        expected = session.run(feed)
        for index, _, outputs in ReferenceSession(program).steps(feed):
            for number, stored in outputs.items():
                tensor = program.tensors[number]
                if _float_name(tensor) in expected:
                    got = _as_float(stored, tensor, program.act_sign)
                    agreements.setdefault(index, Agreement()).add(_in_layout_of(expected[_float_name(tensor)], tensor), got)
    found = [
        {"name": program.steps[k].name, "op": program.steps[k].op.name.lower(), "sqnr_db": a.sqnr_db, "cosine": a.cosine}
        for k, a in agreements.items()
    ]
    return sorted(found, key=lambda layer: layer["sqnr_db"])


def _float_name(tensor: Tensor) -> str:
    return QUANTIZED_SUFFIX.sub("", tensor.name)


def _as_float(stored: Array, tensor: Tensor, act_sign: int) -> Array:
    """Stored elements as the real numbers that they mean, in the tensor's dims."""
    if tensor.dtype is not DType.S8:
        return stored.reshape(tensor.dims)
    logical = (stored.view(np.uint8) ^ np.uint8(act_sign)).view(np.int8)
    return ((logical.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)).reshape(tensor.dims)


def _in_layout_of(expected: Array, tensor: Tensor) -> Array:
    """The float model's NCHW value in the program's NHWC order, where the program has it so."""
    if expected.shape != tensor.dims and expected.ndim > 2:
        moved = np.moveaxis(expected, 1, -1)
        return moved if moved.shape == tensor.dims else expected.reshape(tensor.dims)
    return expected.reshape(tensor.dims) if expected.size == np.prod(tensor.dims) else expected
