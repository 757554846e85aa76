"""Operators that the standard itself writes out as functions of others: expanded where the runtime has no kernel of their own.

``KEPT`` are those that stay: lowering has a rule for them, or a rewrite. Whoever adds a kernel for an operator with a standard
function body adds its name here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgezip import graph
from edgezip.errors import InvalidModelError
from edgezip.frontends import precision
from edgezip.frontends.structure import MAX_NODES

if TYPE_CHECKING:
    import onnx

    from edgezip.graph import Model, Node, Value

KEPT = {
    "Clip",
    "DepthToSpace",
    "Elu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LayerNormalization",
    "LeakyRelu",
    "PRelu",
    "RMSNormalization",
    "Range",
    "Relu",
    "Softmax",
    "Softplus",
    "SpaceToDepth",
    "Swish",
}
NO_WAY = {"Bernoulli", "SequenceMap"}  # bodies that draw random numbers, or loop over a sequence
PRIVATE = "edgezip.standard"  # domain of the body while it is being inlined


def written_out() -> set[str]:
    """Operators of the newest operator set that run as their standard bodies alone."""
    import onnx

    found: list[Any] = list(onnx.defs.get_all_schemas())
    bodies = {s.name for s in found if not s.domain and (s.has_function or s.has_context_dependent_function)}
    return bodies - KEPT - NO_WAY


def expand(model: Model, where: str) -> bool:
    """Replaces every operator that has a standard body and is not kept; types are known. Returns whether any was."""
    version = graph.opset(model)
    found = []
    for node in graph.nodes(model):
        body = None if node.domain or _is_kept(node) else _body(node, version)
        if body is not None:
            found.append((node, body))
    if sum(len(body.node) for _, body in found) + len(graph.nodes(model)) > MAX_NODES:
        raise InvalidModelError("functions expand to too many nodes", where=where, expected=f"at most {MAX_NODES}")
    for node, body in found:
        graph.count_note(model, f"{node.op_type}: written out as the standard has it")
        _splice(model, node, body, version)
    return bool(found)


def _is_kept(node: Node) -> bool:
    """The kernels of normalisations give one result; where mean or deviation is read too, the body has to do."""
    return node.op_type in KEPT and not any(value.uses() or graph.is_graph_output(value) for value in node.outputs[1:])


def _schema(node: Node, version: int) -> Any:
    import onnx

    try:
        return onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return None


def _body(node: Node, version: int) -> onnx.FunctionProto | None:
    """The function of a node, for the types of its inputs; None when it has none, or one with subgraphs."""
    import onnx

    schema = _schema(node, version)
    if schema is None or any(value is not None and value.dtype is None for value in node.inputs):
        return None  # types of inputs are known after a later round of inference
    data = b""
    if schema.has_function:
        newest = max((v for v in schema.function_opset_versions if v <= version), default=0)
        data = schema.get_function_with_opset_version(newest) if newest else b""
    elif schema.has_context_dependent_function:
        newest = max((v for v in schema.context_dependent_function_opset_versions if v <= version), default=0)
        written, types = _written(node, schema).SerializeToString(), [_type_of(value) for value in node.inputs]
        data = schema.get_context_dependent_function_with_opset_version(newest, written, types) if newest else b""
    body = onnx.FunctionProto.FromString(data)
    subgraphs = any(attr.HasField("g") for inner in body.node for attr in inner.attribute)
    return None if subgraphs or not body.node else body


def _written(node: Node, schema: Any) -> onnx.NodeProto:
    """The node with the defaults of its attributes written out."""
    import onnx_ir

    proto = onnx_ir.serde.serialize_node(node)
    given = {attr.name for attr in proto.attribute}
    proto.attribute.extend(
        held.default_value for name, held in schema.attributes.items() if name not in given and held.default_value.name
    )
    return proto


def _type_of(value: Value | None) -> bytes:
    import onnx
    import onnx_ir

    held = onnx.TypeProto() if value is None else onnx_ir.serde.serialize_value(value).type
    return bytes(held.SerializeToString())


def _splice(model: Model, node: Node, body: onnx.FunctionProto, version: int) -> None:
    """Puts the body's nodes in the place of ``node``."""
    import onnx
    import onnx.inliner

    call = _written(node, _schema(node, version))
    call.domain = body.domain = PRIVATE
    body.name, body.overload = call.op_type, ""
    imports = [onnx.helper.make_opsetid("", version)]  # the newest body that is not newer holds for this version too
    del body.opset_import[:]
    body.opset_import.extend(imports)
    shell = onnx.ModelProto(ir_version=10, functions=[body])
    shell.opset_import.extend([*imports, onnx.helper.make_opsetid(PRIVATE, 1)])
    precision.to_float32(shell, node.name or node.op_type)
    shell.graph.name = "body"
    shell.graph.node.append(call)
    for value in dict.fromkeys(value for value in node.inputs if value is not None):
        shell.graph.input.append(onnx.ValueInfoProto(name=value.name, type=onnx.TypeProto.FromString(_type_of(value))))
    for value in node.outputs:
        if value.name:
            shell.graph.output.append(onnx.ValueInfoProto(name=value.name))
    graph.splice(model, node, onnx.inliner.inline_local_functions(shell))
