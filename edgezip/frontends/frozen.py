"""Inputs that are fixed to a value at compile time: they become constants of the model, and shapes may depend on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.errors import ShapeError, UsageError

if TYPE_CHECKING:
    import onnx


def freeze(proto: onnx.ModelProto, constants: Mapping[str, np.ndarray[Any, Any]], where: str) -> None:
    """Turns the named inputs into initializers. Raises UsageError (no such input) and ShapeError (another dtype or shape)."""
    from onnx import helper, numpy_helper

    inputs = {info.name: info for info in proto.graph.input}
    unknown = sorted(set(constants) - set(inputs))
    if unknown:
        raise UsageError(
            f"no input is called {', '.join(unknown)}", where=where, expected=", ".join(inputs), got=", ".join(unknown)
        )
    if constants:
        proto.ir_version = max(proto.ir_version, 4)  # before, initializers had to stand among the inputs
    for name, array in constants.items():
        declared = inputs[name].type.tensor_type
        kind = helper.tensor_dtype_to_np_dtype(declared.elem_type)
        if array.dtype != kind or not _fits(declared, array.shape):
            raise ShapeError(
                f"input '{name}' cannot be fixed to this value",
                where=where,
                expected=f"{kind} of shape {[dim.dim_param or dim.dim_value for dim in declared.shape.dim]}",
                got=f"{array.dtype} of shape {list(array.shape)}",
            )
        proto.graph.input.remove(inputs[name])
        proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))


def _fits(declared: onnx.TypeProto.Tensor, shape: tuple[int, ...]) -> bool:
    if not declared.HasField("shape"):
        return True
    dims = declared.shape.dim
    return len(dims) == len(shape) and all(
        not dim.HasField("dim_value") or dim.dim_value < 1 or dim.dim_value == size for dim, size in zip(dims, shape, strict=True)
    )
