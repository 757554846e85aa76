"""Constant folding: whatever depends on constants and known shapes alone is computed once, by ONNX Runtime, within a limit.

Only nodes whose output sizes are known beforehand are computed, so that ConstantOfShape, Range, Tile and Expand cannot be used as
a bomb. DequantizeLinear is never folded: it is how a quantised weight is written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.errors import InvalidModelError

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

LIMIT_BYTES = 64 << 20
NEVER = {
    "Bernoulli",
    "Compress",
    "DequantizeLinear",
    "Dropout",
    "DynamicQuantizeLinear",
    "If",
    "Loop",
    "Multinomial",
    "NonMaxSuppression",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Scan",
    "StringNormalizer",
    "TfIdfVectorizer",
    "Unique",
}


@dataclass(slots=True)
class Budget:
    """What folding may still make: bytes for one tensor, bytes for all."""

    tensor_bytes: int
    total_bytes: int


def run(model: Model, budget: Budget, where: str) -> bool:
    """Folds what can be folded now and returns whether anything was. Raises InvalidModelError (division by zero)."""
    _size_ranges(model)
    shapes_known = _fold_shapes(model)
    chosen = _choose(model, budget, where)
    if not chosen:
        return shapes_known
    made = {id(value): value for node in chosen for value in node.outputs if value.name}
    inside = {id(node) for node in chosen}
    wanted = [
        value
        for value in made.values()
        if any(id(node) not in inside for node, _ in graph.consumers(value)) or not value.uses() or value.is_graph_output()
    ]
    arrays = _compute(model, chosen, wanted)
    if arrays is None:
        return shapes_known
    _replace(model, chosen, dict(zip((id(value) for value in wanted), arrays, strict=True)), wanted)
    return True


def _size_ranges(model: Model) -> None:
    """The length of a Range of constants, which inference leaves open when they were computed."""
    for node in graph.nodes(model):
        if node.op_type != "Range" or node.domain or len(node.inputs) != 3 or graph.has_static_shape(node.outputs[0]):
            continue
        start, limit, delta = (graph.constant(value) for value in node.inputs)
        if start is None or limit is None or delta is None or not float(delta.reshape(())):
            continue
        count = math.ceil((float(limit.reshape(())) - float(start.reshape(()))) / float(delta.reshape(())))
        graph.set_type(node.outputs[0], start.dtype, (max(count, 0),))


def _fold_shapes(model: Model) -> bool:
    """Shape and Size of a value with known dimensions."""
    found = [node for node in graph.nodes(model) if node.op_type in {"Shape", "Size"} and _can_fold_shape(node)]
    for node in found:
        source = node.inputs[0]
        assert source is not None
        dims = graph.shape(source)
        first, last = graph.attribute(node, "start", 0), graph.attribute(node, "end", len(dims))
        array = np.asarray(dims[slice(first, last)] if node.op_type == "Shape" else math.prod(dims), np.int64)
        _replace(model, [node], {id(node.outputs[0]): array}, [node.outputs[0]])
    return bool(found)


def _can_fold_shape(node: Node) -> bool:
    source = node.inputs[0]
    return source is not None and graph.has_static_shape(source)


def _choose(model: Model, budget: Budget, where: str) -> list[Node]:
    constant: set[int] = set()
    chosen = []
    for node in graph.nodes(model):
        if (
            (node.op_type == "Identity" and node.outputs[0].is_graph_output())
            or node.op_type in NEVER
            or not _inputs_are_constant(node, constant)
            or not _fits(node, budget)
        ):
            continue
        if node.op_type in {"Div", "Mod"} and not _divides_safely(node, where):
            continue
        chosen.append(node)
        constant.update(id(value) for value in node.outputs)
    return chosen


def _inputs_are_constant(node: Node, constant: set[int]) -> bool:
    return all(value is None or id(value) in constant or value.is_initializer() for value in node.inputs)


def _fits(node: Node, budget: Budget) -> bool:
    """Whether every output has a known size within the budget, which is then spent."""
    sizes = []
    for value in node.outputs:
        if not value.name:
            continue
        if value.dtype is None or not graph.has_static_shape(value):
            return False
        if value.dtype.name == "STRING":
            return False
        sizes.append(math.ceil(math.prod(graph.shape(value)) * value.dtype.itemsize))
    if any(size > budget.tensor_bytes for size in sizes) or sum(sizes) > budget.total_bytes:
        return False
    budget.total_bytes -= sum(sizes)
    return bool(sizes)


def _divides_safely(node: Node, where: str) -> bool:
    """Integer division by 0, or of the lowest number by -1, raises a signal in ONNX Runtime: the divisor is looked at first."""
    divisor = node.inputs[1]
    array = graph.constant(divisor)
    if array is None:
        return False  # made in this very round; known in the next
    if not np.issubdtype(array.dtype, np.integer):
        return True
    if (array == 0).any():
        raise InvalidModelError(
            "integer division by zero",
            where=f"{where}: node '{node.name}' ({node.op_type})",
            expected="a divisor other than 0",
            got=f"'{divisor.name if divisor else ''}' with a zero",
        )
    return not (np.issubdtype(array.dtype, np.signedinteger) and (array == -1).any())


def _compute(model: Model, chosen: list[Node], wanted: list[Value]) -> list[graph.Array] | None:
    """The wanted values, computed in one ONNX Runtime session; None when it has no kernel for one of the nodes."""
    import onnx

    inputs = {id(value): value for node in chosen for value in node.inputs if value is not None and value.is_initializer()}
    body = onnx.GraphProto(name="constants")
    for value in inputs.values():
        body.initializer.append(_tensor_proto(value))
    for node in chosen:
        body.node.append(_node_proto(node))
    for value in wanted:
        body.output.append(_info(value))
    proto = onnx.ModelProto(
        ir_version=10, graph=body, opset_import=[onnx.OperatorSetIdProto(domain="", version=graph.opset(model))]
    )
    return graph.run_proto(proto, [str(value.name) for value in wanted])


def _tensor_proto(value: Value) -> object:
    import onnx_ir

    assert value.const_value is not None
    return onnx_ir.serde.serialize_tensor(value.const_value)


def _node_proto(node: Node) -> object:
    import onnx_ir

    return onnx_ir.serde.serialize_node(node)


def _info(value: Value) -> object:
    import onnx_ir

    return onnx_ir.serde.serialize_value(value)


def _replace(model: Model, chosen: list[Node], arrays: dict[int, graph.Array], wanted: list[Value]) -> None:
    """Takes the nodes out and puts initializers of the same names in the place of their outputs."""
    import onnx_ir

    fresh = []
    for value in wanted:
        if not value.uses() and not value.is_graph_output():
            continue
        array = np.ascontiguousarray(arrays[id(value)]).reshape(np.shape(arrays[id(value)]))
        tensor = onnx_ir.tensor(array, name=value.name)
        new = onnx_ir.Value(
            name=value.name, type=onnx_ir.TensorType(tensor.dtype), shape=onnx_ir.Shape(array.shape), const_value=tensor
        )
        if value.is_graph_output():  # a node of its own hands the constant out
            new.name = f"{value.name}.constant"
            handed = graph.new_node(model, "Identity", [new], f"{value.name}.out", like=value)
            graph.set_type(handed, array.dtype, array.shape)
            graph.replace_uses(value, handed, outputs=True)
        else:
            graph.replace_uses(value, new)
        fresh.append(new)
    for node in reversed(chosen):
        model.graph.remove(node, safe=True)
    for value in fresh:
        model.graph.register_initializer(value)
