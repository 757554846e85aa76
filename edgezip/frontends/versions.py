"""Operator sets below 11, as files of 2017 to 2019 have them, brought to 11 by ONNX's own converter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgezip.errors import UnsupportedModelError
from edgezip.frontends.structure import DEFAULT_DOMAINS

if TYPE_CHECKING:
    import onnx

LEAST = 11
IR_VERSION = 4  # the first in which an initializer need not be an input as well; the converter adds such


def raise_old(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """``proto``, checked, at operator set 11 at least. Raises UnsupportedModelError (a node has no newer form)."""
    import onnx

    version = next(entry.version for entry in proto.opset_import if entry.domain in DEFAULT_DOMAINS)
    if version >= LEAST:
        return proto
    try:
        raised = onnx.version_converter.convert_version(proto, LEAST)
    except Exception as error:  # RuntimeError and ConvertError of its C++ part
        text = " ".join(str(error).split())
        raise UnsupportedModelError(
            f"opset {version} cannot be brought to {LEAST}: {text[:200]}",
            where=where,
            hint="export the model again with opset 17",
        ) from error
    raised.ir_version = max(raised.ir_version, IR_VERSION)
    return raised
