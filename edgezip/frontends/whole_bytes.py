"""int8 tensors that are numbers and not quantised values: computed as int32 and wrapped to eight bits, as ONNX has it.

The runtime's int8 is always quantised. Where int8 numbers are only moved they stay bytes (of scale 1); whatever computes with
them reads them through a Cast to int32, and an int8 result gets a Cast back. Q/DQ around an operator is untouched: there the
numbers are float.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

BORDERS = {"Cast", "DequantizeLinear", "QuantizeLinear"}  # they go between int8 and other types by themselves
MOVING = {
    "Compress",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unique",
    "Unsqueeze",
}
IN_FLOAT = {"MaxPool"}  # exact there, and without a kernel for int32


def widen(model: Model) -> None:
    """Puts the Casts around every node that computes with int8 numbers, in place; types and shapes are known."""
    taken = graph.names(model)
    wide: dict[tuple[str, str], Value] = {}
    for node in graph.nodes(model):
        if node.domain or node.op_type in BORDERS | MOVING:
            continue
        if not any(value is not None and value.name and _is_int8(value) for value in [*node.inputs, *node.outputs]):
            continue
        graph.count_note(model, f"{node.op_type} of int8 numbers: computed as int32")
        kind = np.dtype(np.float32 if node.op_type in IN_FLOAT else np.int32)
        for place, value in enumerate(node.inputs):
            if value is not None and _is_int8(value):
                key = (str(value.name), kind.name)
                wide[key] = wide.get(key) or _cast(model, node, value, kind, taken)
                node.replace_input_with(place, wide[key])
        for value in node.outputs:
            if value.name and _is_int8(value):
                graph.set_type(value, kind, graph.shape(value))
                made = graph.insert_after(model, value, "Cast", attrs={"to": _number(np.int8)}, name=f"{value.name}.int8")
                graph.set_type(made, np.int8, graph.shape(value))


def _is_int8(value: Value) -> bool:
    return graph.dtype(value) == np.int8


def _cast(model: Model, node: Node, value: Value, kind: np.dtype[np.generic], taken: set[str]) -> Value:
    held = graph.constant(value)
    if held is not None:
        return graph.add_initializer(model, f"{value.name}.{kind.name}", held.astype(kind), taken)
    made = graph.new_node(
        model, "Cast", [value], f"{value.name}.{kind.name}", attrs={"to": _number(kind)}, before=node, taken=taken
    )
    graph.set_type(made, kind, graph.shape(value))
    return made


def _number(kind: type[np.generic] | np.dtype[np.generic]) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
