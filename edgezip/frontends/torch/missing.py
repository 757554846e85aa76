"""Operators of torch that its exporter has no ONNX form of."""

from __future__ import annotations

from typing import Any

from onnxscript import opset20 as op


def masked_select(self: Any, mask: Any) -> Any:
    """Elements where the mask holds, in order; both are broadcast."""
    shape: Any = op.Shape(op.Where(mask, self, self))
    flat: Any = op.Constant(value_ints=[-1])
    return op.Compress(op.Reshape(op.Expand(self, shape), flat), op.Reshape(op.Expand(mask, shape), flat), axis=0)
