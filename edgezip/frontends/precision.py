"""Models in float16, bfloat16 and double computed in float32: the runtime has one float type.

Every declared type, stored tensor and ``to`` of a Cast changes; inputs and outputs of the program are float32 then, which
``edgezip inspect`` shows. Results are as exact as float32, which is more than a half has and less than a double.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.errors import UnsupportedModelError
from edgezip.frontends import structure

if TYPE_CHECKING:
    import onnx

TYPE_ATTRIBUTES = {
    "dtype",
    "output_datatype",
    "output_dtype",
    "precision",
    "qk_matmul_output_mode_type",
    "stash_type",
    "softmax_precision",
    "to",
}


def to_float32(proto: onnx.ModelProto, where: str) -> None:
    """Rewrites ``proto`` in place; nothing happens to a model that has no other float type.

    Raises UnsupportedModelError: a BitCast of such a float, whose bits are no longer there.
    """
    from onnx import TensorProto

    others = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    for body in structure.graphs(proto):
        _check_bits(body, others, where)
        for info in [*getattr(body, "input", ()), *getattr(body, "output", ()), *body.value_info]:
            if not isinstance(info, str) and info.type.tensor_type.elem_type in others:
                info.type.tensor_type.elem_type = TensorProto.FLOAT
        for tensor in getattr(body, "initializer", ()):
            _convert(tensor, others)
        for node in body.node:
            for attr in node.attribute:
                if attr.name in TYPE_ATTRIBUTES and attr.i in others:
                    attr.i = TensorProto.FLOAT
                for tensor in _tensors(attr):
                    _convert(tensor, others)


def _check_bits(body: Any, others: set[Any], where: str) -> None:
    from onnx import TensorProto

    declared = [*getattr(body, "input", ()), *getattr(body, "output", ()), *body.value_info]
    types = {info.name: info.type.tensor_type.elem_type for info in declared if not isinstance(info, str)}
    types |= {tensor.name: tensor.data_type for tensor in getattr(body, "initializer", ())}
    for node in body.node:
        if node.op_type != "BitCast" or node.domain:
            continue
        to = next((attr.i for attr in node.attribute if attr.name == "to"), 0)
        for kind in (types.get(node.input[0] if node.input else "", 0), to):
            if kind in others:
                raise UnsupportedModelError(
                    f"BitCast of the bits of a {TensorProto.DataType.Name(kind).lower()}: it is computed in float32 here",
                    where=f"{where}: node '{node.name}'",
                    hint="export the model in float32, or use Cast where the number is meant",
                )  # fmt: skip


def _tensors(attr: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attr.HasField("t"):
        yield attr.t
    yield from attr.tensors


def _convert(tensor: onnx.TensorProto, others: set[Any]) -> None:
    """The stored numbers as float32; a finite double beyond its range becomes the largest float32, as masks of -1e300 need."""
    from onnx import numpy_helper

    if tensor.data_type not in others:
        return
    held = np.asarray(numpy_helper.to_array(tensor)).astype(np.float64)
    top = float(np.finfo(np.float32).max)
    narrow = np.where(np.isfinite(held), np.clip(held, -top, top), held).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))
