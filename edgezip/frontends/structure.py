"""The structural check of our own: limits, names, order, tensors. It runs before any library looks at the graph.

``onnx.checker`` alone does not suffice: it accepts wild dimensions and cycles give it no name (reliability.md 1.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgezip.errors import InvalidModelError, UnsupportedModelError

if TYPE_CHECKING:
    import onnx

    from edgezip.graph import Model

MIN_OPSET, MAX_OPSET = 1, 28
MAX_RANK = 8
MAX_DIM = (1 << 31) - 1
MAX_ELEMENTS = 1 << 40
MAX_NODES = 100_000
MAX_NESTING = 32
DEFAULT_DOMAINS = {"", "ai.onnx"}

_VALUE_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_FIELD_OF = {
    1: "float_data",
    14: "float_data",
    7: "int64_data",
    11: "double_data",
    15: "double_data",
    12: "uint64_data",
    13: "uint64_data",
    8: "string_data",
}  # TensorProto.data_type -> field; all others use int32_data
_COMPLEX = {14, 15}


def check(proto: onnx.ModelProto, where: str) -> None:
    """Raises InvalidModelError or UnsupportedModelError unless the model's structure and sizes are sound.

    Nodes that are acyclic and out of order are brought into order.
    """
    _check_versions(proto, where)
    _check_size(proto, where)
    _check_text(proto, where)
    _check_graph(proto.graph, set(), where)
    for function in proto.functions:
        for node in function.node:
            _check_node_tensors(node, where)


def graphs(proto: onnx.ModelProto) -> Iterator[Any]:
    """The main graph, the functions and every subgraph below them."""
    stack: list[Any] = [proto.graph, *proto.functions]
    while stack:
        body = stack.pop()
        yield body
        for node in body.node:
            for attr in node.attribute:
                if attr.HasField("g"):
                    stack.append(attr.g)
                stack.extend(attr.graphs)


def _check_versions(proto: onnx.ModelProto, where: str) -> None:
    domains = [entry.domain for entry in proto.opset_import]
    if len(domains) != len(set(domains)):
        raise InvalidModelError("an operator set is imported twice", where=where, got=", ".join(d or "ai.onnx" for d in domains))
    versions = [entry.version for entry in proto.opset_import if entry.domain in DEFAULT_DOMAINS]
    if len(versions) != 1:
        raise InvalidModelError("the default operator set must be imported once", where=where, got=str(versions))
    if not MIN_OPSET <= versions[0] <= MAX_OPSET:
        raise UnsupportedModelError(
            f"opset {versions[0]} is not read",
            where=where,
            expected=f"opset {MIN_OPSET} to {MAX_OPSET}",
            got=str(versions[0]),
            hint="export the model again with opset 17",
        )
    if not 3 <= proto.ir_version <= 14:
        raise InvalidModelError(
            "unknown file format version", where=where, expected="ir_version 3 to 14", got=str(proto.ir_version)
        )


def _check_size(proto: onnx.ModelProto, where: str) -> None:
    """Counts nodes and nesting level by level, without recursion."""
    level: list[Any] = [proto.graph, *proto.functions]
    count = depth = 0
    while level:
        depth += 1
        if depth > MAX_NESTING:
            raise InvalidModelError(
                "subgraphs nest too deep", where=where, expected=f"at most {MAX_NESTING}", got=f"{depth} or more"
            )
        count += sum(len(body.node) for body in level)
        if count > MAX_NODES:
            raise InvalidModelError("too many nodes", where=where, expected=f"at most {MAX_NODES}", got=f"{count} or more")
        attrs = [attr for body in level for node in body.node for attr in node.attribute]
        level = [attr.g for attr in attrs if attr.HasField("g")] + [body for attr in attrs for body in attr.graphs]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_text(proto: onnx.ModelProto, where: str) -> None:
    """Protobuf hands text that is not UTF-8 out as bytes; no library behind this check expects that."""
    for body in graphs(proto):
        texts = [entry.name for entry in [*body.node, *getattr(body, "initializer", ())]]
        texts += [text for node in body.node for text in (node.op_type, node.domain, *node.input, *node.output)]
        texts += [attr.name for node in body.node for attr in node.attribute]
        wrong: list[str | bytes] = [text for text in texts if not isinstance(text, str)]
        held = [text for node in body.node for attr in node.attribute for text in (attr.s, *attr.strings)]
        wrong += [data for data in held if not _is_utf8(data)]
        if wrong:
            raise InvalidModelError(
                "a name or a text attribute is not UTF-8",
                where=where,
                got=repr(wrong[0])[:80],
                hint="copy or export the file again",
            )


def node_label(node: Any, index: int) -> str:
    """How messages name a node: its name, or its operator and place."""
    return f"node '{node.name}' ({node.op_type})" if node.name else f"node {node.op_type}_{index}"


def _check_graph(graph: onnx.GraphProto, outer: set[str], where: str) -> None:
    if graph.sparse_initializer:
        raise UnsupportedModelError(
            "sparse initializers are not read", where=f"{where}: graph '{graph.name}'", hint="store them dense"
        )
    if not graph.output:
        raise InvalidModelError("the graph has no output", where=where)
    inputs = [info.name for info in graph.input]
    constants = [tensor.name for tensor in graph.initializer]
    for kind, names in (("input", inputs), ("initializer", constants), ("output", [info.name for info in graph.output])):
        _check_unique(kind, names, where)
    for info in graph.input if not outer else ():  # inputs of a subgraph may leave their type to the node
        _check_type(info, where)
    for tensor in graph.initializer:
        check_tensor(tensor, where)
    for node in graph.node:
        _check_node_tensors(node, where)
    made = _check_single_assignment(graph, set(inputs) | set(constants), where)
    _check_order(graph, set(inputs) | set(constants) | outer, made, where)
    for info in graph.output:
        if info.name not in made and info.name not in inputs and info.name not in constants and info.name not in outer:
            raise InvalidModelError(f"output '{info.name}' is made by no node", where=where)
    for node in graph.node:
        for attr in node.attribute:
            for body in [*([attr.g] if attr.HasField("g") else []), *attr.graphs]:
                _check_graph(body, outer | set(inputs) | set(constants) | made, where)


def _check_unique(kind: str, names: list[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if not name or name in seen:
            raise InvalidModelError(f"{kind} '{name}' is declared twice" if name else f"an {kind} has no name", where=where)
        seen.add(name)


def _check_single_assignment(graph: onnx.GraphProto, defined: set[str], where: str) -> set[str]:
    made: set[str] = set()
    for index, node in enumerate(graph.node):
        for name in node.output:
            if name and (name in made or name in defined):
                raise InvalidModelError(f"output '{name}' is assigned twice", where=f"{where}: {node_label(node, index)}")
            made.add(name)
        if not any(node.output):
            raise InvalidModelError("the node has no output", where=f"{where}: {node_label(node, index)}")
    made.discard("")
    return made


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those of its subgraphs included."""
    names: set[str] = set()
    stack = [node]
    while stack:
        current = stack.pop()
        names.update(name for name in current.input if name)
        for attr in current.attribute:
            for body in [*([attr.g] if attr.HasField("g") else []), *attr.graphs]:
                stack.extend(body.node)
                names.update(info.name for info in body.output)
    return names


def _check_order(graph: onnx.GraphProto, defined: set[str], made: set[str], where: str) -> None:
    """Refuses missing inputs and cycles; sorts nodes that stand out of order."""
    for index, node in enumerate(graph.node):
        for name in node.input:
            if name and name not in defined and name not in made:
                raise InvalidModelError(
                    f"input '{name}' is made by no node",
                    where=f"{where}: {node_label(node, index)}",
                    expected="a graph input, an initializer or a node's output",
                    got=f"'{name}'",
                )
    needs = [_reads(node) & made for node in graph.node]
    order = _topological(graph, needs)
    if len(order) < len(graph.node):
        stuck = [node_label(graph.node[i], i) for i in sorted(set(range(len(graph.node))) - set(order))]
        raise InvalidModelError(
            "the graph has a cycle",
            where=f"{where}: {stuck[0]}",
            got=f"{len(stuck)} nodes wait for each other: {', '.join(stuck[:4])}",
        )
    if order != list(range(len(order))):
        nodes = [type(graph.node[i]).FromString(graph.node[i].SerializeToString()) for i in order]
        del graph.node[:]
        graph.node.extend(nodes)


def _topological(graph: onnx.GraphProto, needs: list[set[str]]) -> list[int]:
    """Indices in dependency order, the given order kept where possible; shorter than the graph when there is a cycle."""
    import heapq

    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    missing = [len({maker[name] for name in names}) for names in needs]
    readers: dict[int, list[int]] = {}
    for index, names in enumerate(needs):
        for source in {maker[name] for name in names}:
            readers.setdefault(source, []).append(index)
    ready = [index for index, count in enumerate(missing) if count == 0]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers.get(index, ()):
            missing[reader] -= 1
            if missing[reader] == 0:
                heapq.heappush(ready, reader)
    return order


def _check_type(info: onnx.ValueInfoProto, where: str) -> None:
    from onnx import TensorProto

    if info.type.WhichOneof("value") not in (None, "tensor_type"):
        raise UnsupportedModelError(
            f"input '{info.name}' is a {info.type.WhichOneof('value')}",
            where=where,
            expected="a tensor",
            hint="export the model with tensor inputs",
        )
    kind = info.type.tensor_type.elem_type
    if kind not in TensorProto.DataType.values() or kind == TensorProto.UNDEFINED:
        raise InvalidModelError(f"input '{info.name}' has no known element type", where=where, got=f"elem_type {kind}")
    shape = info.type.tensor_type.shape
    if len(shape.dim) > MAX_RANK:
        raise InvalidModelError(
            f"input '{info.name}' has too many dimensions", where=where, expected=f"at most {MAX_RANK}", got=str(len(shape.dim))
        )
    for dim in shape.dim:
        if dim.HasField("dim_value") and not -1 <= dim.dim_value <= MAX_DIM:
            raise InvalidModelError(
                f"input '{info.name}': dimension out of range", where=where, expected=f"1 to {MAX_DIM}", got=str(dim.dim_value)
            )


def check_dims(dims: list[int], what: str, where: str) -> int:
    """The number of elements; raises InvalidModelError beyond the limits on rank, dimension and elements."""
    if len(dims) > MAX_RANK:
        raise InvalidModelError(
            f"{what} has too many dimensions", where=where, expected=f"at most {MAX_RANK}", got=str(len(dims))
        )
    count = 1
    for dim in dims:
        if not 0 <= dim <= MAX_DIM:
            raise InvalidModelError(f"{what}: dimension out of range", where=where, expected=f"0 to {MAX_DIM}", got=str(dim))
        count *= dim
    if count > MAX_ELEMENTS:
        raise InvalidModelError(f"{what} has too many elements", where=where, expected=f"at most {MAX_ELEMENTS}", got=str(count))
    return count


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of the tensor's raw data by its dims and type (4-bit and 2-bit types are packed)."""
    import math

    import onnx_ir

    itemsize: float = onnx_ir.DataType(tensor.data_type).itemsize
    elements: int = math.prod(tensor.dims)
    return math.ceil(elements * itemsize)


def _check_node_tensors(node: onnx.NodeProto, where: str) -> None:
    names = [attr.name for attr in node.attribute]
    if len(names) != len(set(names)):
        raise InvalidModelError("an attribute is given twice", where=f"{where}: {node_label(node, 0)}", got=", ".join(names))
    for attr in node.attribute:
        for tensor in [*([attr.t] if attr.HasField("t") else []), *attr.tensors]:
            check_tensor(tensor, f"{where}: {node_label(node, 0)}, attribute '{attr.name}'")
        if attr.HasField("sparse_tensor") or attr.sparse_tensors:
            raise UnsupportedModelError(
                "sparse tensors are not read", where=f"{where}: {node_label(node, 0)}", hint="store them dense"
            )


def check_tensor(tensor: onnx.TensorProto, where: str) -> None:
    """Raises InvalidModelError unless type, dims and exactly one value field agree."""
    import onnx

    label = f"tensor '{tensor.name[:80]}'"
    count = check_dims(list(tensor.dims), label, where)
    if tensor.data_type not in onnx.TensorProto.DataType.values() or tensor.data_type == onnx.TensorProto.UNDEFINED:
        raise InvalidModelError(f"{label} has an unknown data_type", where=where, got=str(tensor.data_type))
    if tensor.HasField("segment"):
        raise InvalidModelError(
            f"{label} is stored in segments", where=where, hint="save the model again with a current exporter"
        )
    fields = [name for name in _VALUE_FIELDS if len(getattr(tensor, name))]
    fields += ["raw_data"] * tensor.HasField("raw_data") * (count == 0 or len(tensor.raw_data) > 0)
    fields += ["external_data"] * (tensor.data_location == onnx.TensorProto.EXTERNAL)
    if len(fields) > 1:
        raise InvalidModelError(f"{label} has two value fields", where=where, expected="one", got=" and ".join(fields))
    if fields != ["external_data"]:
        _check_length(tensor, fields[0] if fields else "", count, label, where)


def _check_length(tensor: onnx.TensorProto, field: str, count: int, label: str, where: str) -> None:
    kind = tensor.data_type
    if field == "raw_data":
        if kind == 8:
            raise InvalidModelError(f"{label}: strings cannot stand in raw_data", where=where)
        expected, got, unit = tensor_bytes(tensor), len(tensor.raw_data), "bytes"
    else:
        right = _FIELD_OF.get(kind, "int32_data")
        if field and field != right:
            raise InvalidModelError(f"{label}: wrong value field for its data_type", where=where, expected=right, got=field)
        got, unit = len(getattr(tensor, right)), "values"
        expected = count * 2 if kind in _COMPLEX else count
        if right == "int32_data" and tensor_bytes(tensor) < count:  # packed types: one value holds one byte of them
            expected = tensor_bytes(tensor)
    if got != expected:
        raise InvalidModelError(
            f"{label}: dims {list(tensor.dims)} and data disagree",
            where=where,
            expected=f"{expected} {unit}",
            got=f"{got} {unit}",
        )


def check_operators(proto: onnx.ModelProto, where: str) -> None:
    """Raises UnsupportedModelError that lists every node whose operator nobody defines."""
    local = {(function.domain, function.name) for function in proto.functions}
    version = next(entry.version for entry in proto.opset_import if entry.domain in DEFAULT_DOMAINS)
    unknown = [
        f"{node_label(node, index)}{f' of {node.domain}' if node.domain else ''}"
        for body in graphs(proto)
        for index, node in enumerate(body.node)
        if (node.domain, node.op_type) not in local and not _is_known(node, version)
    ]
    _refuse_unknown(unknown, where)


def _is_known(node: onnx.NodeProto, version: int) -> bool:
    import onnx

    if node.domain not in DEFAULT_DOMAINS:
        return False
    try:
        onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return False
    return True


def check_domains(model: Model, where: str) -> None:
    """The same after functions were inlined."""
    unknown = [
        f"node '{node.name}' ({node.op_type}) of {node.domain}"
        for node in model.graph.all_nodes()
        if node.domain not in DEFAULT_DOMAINS
    ]
    _refuse_unknown(unknown, where)


def _refuse_unknown(unknown: list[str], where: str) -> None:
    if unknown:
        raise UnsupportedModelError(
            f"{len(unknown)} nodes use operators outside ONNX: {'; '.join(unknown)}",
            where=where,
            hint="export the model with standard operators only",
        )
