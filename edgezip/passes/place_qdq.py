"""Where int8 begins and ends: which values get a QuantizeLinear and DequantizeLinear, and which share their parameters.

In step with what the packer fuses: nothing stands between a product and the Relu or Clip behind it, nothing inside a chain of
elementwise nodes on one tensor (it becomes a table), and nothing behind operators that only move data.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.passes.float_islands import float_islands, multiplies_activations
from edgezip.passes.power_spectra import nodes_under_roots
from edgezip.passes.stored_weights import stored_weights

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Use, Value

PRODUCTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}  # operator -> input that holds the weights
ARITHMETIC = {
    "Add",
    "Sub",
    "Mul",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "Resize",
    "Upsample",
    "PRelu",
    "Softmax",
    "Concat",
}
SAME_SCALE = {"MaxPool", "GlobalMaxPool", "Pad"}  # the result takes the parameters of the input
MOVEMENT = {
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Split",
    "Gather",
    "Expand",
    "Tile",
    "DepthToSpace",
    "SpaceToDepth",
    "Identity",
}
ELEMENTWISE = {
    "Relu",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "Sigmoid",
    "Tanh",
    "HardSigmoid",
    "HardSwish",
    "Softplus",
    "Softsign",
    "Mish",
    "Swish",
    "Gelu",
    "Erf",
    "Exp",
    "Log",
    "Sqrt",
    "Abs",
    "Neg",
    "Reciprocal",
    "Clip",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Min",
    "Max",
}
BINARY = {"Add", "Sub", "Mul", "Div", "Min", "Max"}  # have an int8 kernel for two tensors; others of ELEMENTWISE only as tables
CLIPS = {"Relu", "Clip"}
RECURRENT = {"RNN", "GRU", "LSTM"}
LOWEST = 1e30  # exporters write minus infinity as the lowest float
UNIT_RANGE = {"Softmax", "Sigmoid", "HardSigmoid"}


@dataclass(slots=True)
class Placement:
    """``points``: values that are quantised, with the uses that read them (None: all). ``same_as``: value -> value whose
    parameters it takes. ``fillers``: value and number that a Pad puts beside it, which its range must hold. ``products``: nodes
    whose weights become int8. ``recurrent``: nodes whose weights do too, their activations at
    run time. ``symmetric``: points whose zero point is 0. ``by_row``: products whose rows are
    quantised at run time. ``kept``: node -> why it stays in float."""

    points: dict[str, list[Use] | None] = field(default_factory=dict)
    same_as: dict[str, str] = field(default_factory=dict)
    fillers: list[tuple[str, float]] = field(default_factory=list)
    products: list[Node] = field(default_factory=list)
    recurrent: list[Node] = field(default_factory=list)
    symmetric: set[str] = field(default_factory=set)
    by_row: list[Node] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


def matches(node: Node, patterns: Sequence[str]) -> bool:
    """Whether a ``keep`` pattern names the node or its operator."""
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns for text in (node.name or "", node.op_type))


def place(model: Model, keep: tuple[str, ...] = (), *, dynamic: bool = False) -> Placement:
    """Decide for every value of ``model``; with ``dynamic`` no Gemm or MatMul has int8 activations in the file."""
    found = Placement()
    quantisable = {n.name or "": _is_quantisable(n, keep, found, dynamic) for n in graph.nodes(model)}
    if dynamic:
        _leave_rows_to_run_time(model, quantisable, found)
    islands = float_islands(model, quantisable, ELEMENTWISE | {"Softmax"})
    islands |= dict.fromkeys(nodes_under_roots(model), "a power spectrum on its way to its root: runs in float")
    for name, reason in islands.items():
        quantisable[name] = False
        found.kept[name] = reason
    roots = _chain_roots(model, quantisable)
    for node in graph.nodes(model):
        several = len(_data_inputs(node)) > 1 and (node.outputs[0].name or "") not in roots
        if quantisable[node.name or ""] and several and not _int8_without_table(node):
            quantisable[node.name or ""] = False
            found.kept[node.name or ""] = f"{node.op_type} of two tensors has no int8 kernel: runs in float"
    for value in graph.input_values(model):
        if _is_float(value) and any(_reaches_int8(node, quantisable) for node, _ in graph.consumers(value)):
            found.points[value.name or ""] = None
    for node in graph.nodes(model):
        if node.op_type in PRODUCTS and quantisable[node.name or ""]:
            if multiplies_activations(node):
                _note_symmetric(node, found)
            else:
                found.products.append(node)
        for value in node.outputs:
            _decide(node, value, quantisable, roots, found)
    _share(model, found)
    return found


def _is_float(value: Value) -> bool:
    return value.dtype is not None and graph.dtype(value) == np.float32


def _data_inputs(node: Node) -> list[Value]:
    return [v for v in node.inputs if v is not None and graph.constant(v) is None and _is_float(v) and not _is_stored(v)]


def _is_stored(value: Value) -> bool:
    """Whether the value is a weight that a pass before stored as integers."""
    maker = graph.producer(value)
    return maker is not None and maker.op_type == "DequantizeLinear"


def _is_quantisable(node: Node, keep: tuple[str, ...], found: Placement, dynamic: bool) -> bool:
    name = node.name or ""
    if matches(node, keep):
        found.kept[name] = "kept in float by request"
        return False
    if node.domain or not node.outputs or not _is_float(node.outputs[0]) or not _data_inputs(node):
        return False
    if node.op_type in RECURRENT and has_constant_weights(node):
        found.recurrent.append(node)
        return False
    if node.op_type in PRODUCTS:
        if multiplies_activations(node):
            return len(_data_inputs(node)) == 2
        reason = "" if dynamic and _has_blocks(node) else _weights_that_do_not_fit(node)
        if reason:
            found.kept[name] = reason
        return not reason
    if node.op_type in ("Resize", "Upsample"):
        reason = _resize_in_float(node)
        if reason:
            found.kept[name] = f"{node.op_type} of {reason} has no int8 kernel: runs in float"
        return not reason
    if node.op_type == "AveragePool" and max(graph.attribute(node, "dilations", (1,))) > 1:
        found.kept[name] = "ONNX Runtime refuses AveragePool with dilations in int8: runs in float"
        return False
    known = node.op_type in ARITHMETIC | SAME_SCALE | MOVEMENT | ELEMENTWISE
    if not known:
        found.kept[name] = f"{node.op_type} has no int8 kernel: runs in float"
    return known


def _resize_in_float(node: Node) -> str:
    """What of a Resize the int8 kernels do not have, or nothing."""
    mode = graph.attribute(node, "mode", "nearest")
    if mode not in ("nearest", "linear"):
        return f"mode {mode}"
    if graph.attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return "a crop"
    return "antialias" if mode == "linear" and graph.attribute(node, "antialias", 0) else ""


def has_constant_weights(node: Node) -> bool:
    """Whether the weights of a recurrent node, of its input and of its state, are float constants."""
    held = [graph.constant(value) for value in node.inputs[1:3]]
    return all(array is not None and array.dtype == np.float32 for array in held)


def _weights_that_do_not_fit(node: Node) -> str:
    """Why a product cannot run in int8, or nothing."""
    value = node.inputs[1] if len(node.inputs) > 1 else None
    weights = graph.constant(value)
    ready = value is not None and _is_stored(value)
    if ready and stored_weights(node, output_axis(node)) is None:
        return "weights in blocks, with zero points or of another form: the product runs in float"
    fits = ready or (weights is not None and weights.ndim >= 2 and weights.dtype == np.float32)
    fits = fits and not graph.attribute(node, "transA", 0) and float(graph.attribute(node, "alpha", 1.0)) > 0
    fits = fits and (node.op_type not in ("MatMul", "Gemm") or (value is not None and len(graph.shape(value)) == 2))
    return "" if fits else "no constant weight matrix: runs in float"


def _has_blocks(node: Node) -> bool:
    """Whether a Gemm or MatMul has a stored matrix with scales for blocks, which rows quantised at run time meet as it is."""
    value = node.inputs[1]
    maker = graph.producer(value) if value is not None else None
    blocks = maker is not None and maker.op_type == "DequantizeLinear" and bool(graph.attribute(maker, "block_size", 0))
    return blocks and node.op_type in ("Gemm", "MatMul") and value is not None and len(graph.shape(value)) == 2


def output_axis(node: Node) -> int | None:
    """Axis of the weight that holds the outputs; None where one scale per output is impossible (grouped ConvTranspose)."""
    if node.op_type == "ConvTranspose":
        return 1 if int(graph.attribute(node, "group", 1)) == 1 else None
    if node.op_type == "MatMul":
        return 1
    return 0 if node.op_type == "Conv" or graph.attribute(node, "transB", 0) else 1


def _int8_without_table(node: Node) -> bool:
    """Whether the node has an int8 form also when it is no function of one tensor."""
    return node.op_type not in ELEMENTWISE or node.op_type in BINARY


def _reaches_int8(node: Node, quantisable: dict[str, bool]) -> bool:
    """Whether the node works in int8 itself, or some node behind it that it only moves data to."""
    pending = [node]
    while pending:
        current = pending.pop()
        if current.op_type not in MOVEMENT:
            if quantisable[current.name or ""]:
                return True
            continue
        pending += [user for output in current.outputs for user, _ in graph.consumers(output)]
    return False


def _only_user(value: Value) -> Node | None:
    uses = graph.consumers(value)
    return uses[0][0] if len(uses) == 1 and not graph.is_graph_output(value) else None


def _is_constant_clip(node: Node) -> bool:
    return node.op_type in CLIPS and all(graph.constant(v) is not None for v in node.inputs[1:] if v is not None)


def _is_bias_add(node: Node, product: Node) -> bool:
    if node.op_type != "Add" or product.op_type != "MatMul":
        return False
    held = [graph.constant(v) for v in node.inputs]
    columns = graph.shape(product.outputs[0])[-1]
    return any(h is not None and h.size == columns and h.shape[-1:] == (columns,) for h in held)


def _fuses(node: Node, user: Node | None, quantisable: dict[str, bool]) -> bool:
    """Whether ``user`` is the clip, or the bias of a MatMul, that runs inside ``node``'s step."""
    if user is None or not quantisable[node.name or ""] or not quantisable[user.name or ""]:
        return False
    if _is_bias_add(user, node):
        return True
    return _is_constant_clip(user) and (
        node.op_type in PRODUCTS or (node.op_type in ARITHMETIC and node.op_type not in ("Softmax", "Concat"))
    )


def _chain_roots(model: Model, quantisable: dict[str, bool]) -> dict[str, str]:
    """For each value made by an elementwise node of one tensor: that tensor. A fused clip or bias starts anew."""
    roots: dict[str, str] = {}
    for node in graph.nodes(model):
        data = _data_inputs(node)
        if node.op_type not in ELEMENTWISE or not quantisable[node.name or ""] or not data:
            continue
        scalar = all((h := graph.constant(v)) is None or h.size == 1 for v in node.inputs if v is not None)
        sources = {roots.get(v.name or "", v.name or "") for v in data}
        maker = graph.producer(data[0])
        in_chain = (data[0].name or "") in roots
        alone = maker is not None and len(data) == 1 and _only_user(data[0]) is node and not in_chain
        inside_step = maker is not None and alone and _fuses(maker, node, quantisable)
        if scalar and len(sources) == 1 and not inside_step:
            roots[node.outputs[0].name or ""] = sources.pop()
    return roots


def _decide(node: Node, value: Value, quantisable: dict[str, bool], roots: dict[str, str], found: Placement) -> None:
    name = value.name or ""
    users = [user for user, _ in graph.consumers(value)]
    if (
        _is_stored(value)
        or not _is_float(value)
        or (node.op_type in MOVEMENT and quantisable[node.name or ""])
        or graph.constant(value) is not None
    ):
        return
    if not quantisable[node.name or ""]:
        readers = [(user, index) for user, index in graph.consumers(value) if _reaches_int8(user, quantisable)]
        if readers:
            found.points[name] = None if len(readers) == len(users) else readers
        return
    if _gives_floats(node) and users and not any(_reaches_int8(user, quantisable) for user in users):
        return
    if name not in roots and _fuses(node, _only_user(value), quantisable):
        return
    if name in roots:
        outside = [(n, i) for n, i in graph.consumers(value) if roots.get(n.outputs[0].name or "") != roots[name]]
        if outside or graph.is_graph_output(value):
            found.points[name] = None if graph.is_graph_output(value) or len(outside) == len(users) else outside
        return
    found.points[name] = None


def _leave_rows_to_run_time(model: Model, quantisable: dict[str, bool], found: Placement) -> None:
    for node in graph.nodes(model):
        if node.op_type not in ("Gemm", "MatMul") or not quantisable[node.name or ""]:
            continue
        quantisable[node.name or ""] = False
        if multiplies_activations(node):
            found.kept[node.name or ""] = "a product of two activations stays in float beside rows quantised at run time"
        else:
            found.by_row.append(node)


def _gives_floats(node: Node) -> bool:
    """Whether the int8 form of the node may leave its sums in float, unrounded (and the bias added behind a MatMul with them)."""
    if node.op_type == "Add":
        makers = [graph.producer(v) for v in _data_inputs(node)]
        return any(maker is not None and _is_bias_add(node, maker) for maker in makers)
    return node.op_type in ("Gemm", "MatMul")


def _note_symmetric(node: Node, found: Placement) -> None:
    """The second operand of a product of activations: its kernels take bytes around zero at half the price of others."""
    origin = _origin(node.inputs[1])
    if origin is not None:
        found.symmetric.add(origin)


def _share(model: Model, found: Placement) -> None:
    """MaxPool and its like keep their input's parameters; parts of a Concat that feed nothing else take the whole's."""
    for node in graph.nodes(model):
        output = node.outputs[0].name or ""
        if output not in found.points:
            continue
        nearest = node.op_type in ("Resize", "Upsample") and graph.attribute(node, "mode", "nearest") == "nearest"
        source = _origin(node.inputs[0]) if node.op_type in SAME_SCALE or nearest else None
        if source in found.points:
            found.same_as[output] = str(source)
            _note_filler(node, str(source), found)
        if node.op_type == "Concat":
            for part in _data_inputs(node):
                name = part.name or ""
                if name in found.points and _only_user(part) is node and name not in found.same_as:
                    found.same_as[name] = output


def _note_filler(node: Node, source: str, found: Placement) -> None:
    """A Pad with another number than zero widens its input's range; infinities (before a MaxPool) do not: the end serves."""
    held = graph.constant(node.inputs[2]) if node.op_type == "Pad" and len(node.inputs) > 2 else None
    if held is None or held.size != 1:
        return
    filler = float(held.reshape(()))
    if np.isfinite(filler) and abs(filler) < LOWEST:
        found.fillers.append((source, filler))


def _origin(value: Value | None) -> str | None:
    """The quantised value that stands behind operators that only move data."""
    while value is not None:
        maker = graph.producer(value)
        if maker is None or maker.op_type not in MOVEMENT:
            return value.name
        value = maker.inputs[0]
    return None


def parameters(low: float, high: float, symmetric: bool = False) -> tuple[float, int]:
    """Scale (float32 value) and int8 zero point of the range, widened to hold zero exactly; ``symmetric``: 127 steps a side."""
    if symmetric:
        return max(float(np.float32(max(-low, high) / 127)), 1e-30) if max(-low, high) > 0 else 1.0, 0
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / 255)) if high > low else 1.0
    scale = max(scale, 1e-30)
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))


def int8_nodes(model: Model, placement: Placement) -> set[str]:
    """Names of the nodes that give a quantised value, are part of a step or table that does, or move int8."""
    found: set[str] = set()
    for node in reversed(graph.nodes(model)):
        value = node.outputs[0]
        if node.name in placement.kept or node.domain or not _is_float(value):
            continue
        users = [user.name for user, _ in graph.consumers(value)]
        inside = bool(users) and not graph.is_graph_output(value) and all(name in found for name in users)
        if inside or value.name in placement.points:
            found.add(node.name or "")
    return found


def fixed_range(node: Node | None) -> tuple[float, float] | None:
    """The range that an operator's definition gives, or None."""
    return (0.0, 1.0) if node is not None and node.op_type in UNIT_RANGE else None
