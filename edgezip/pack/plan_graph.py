"""What runs in int8, what fuses, and what must exist in float: decided for the whole graph before anything is lowered.

Each QuantizeLinear is looked at backwards. Behind it stands a chain of elementwise nodes on one int8 tensor (it becomes a
table), or a Relu or Clip on a node with an int8 kernel (the clip becomes the output range), or something that runs in float.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack import tables
from edgezip.pack.context import QParams, constant_of, qparams_of

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

Array = np.ndarray[Any, Any]
MOVEMENT = {
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Split",
    "Identity",
    "Gather",
    "Expand",
    "Tile",
    "DepthToSpace",
    "SpaceToDepth",
    "Dropout",
}


class Kind(Enum):
    """How a QuantizeLinear gets its value."""

    TABLE = "table"
    INT8 = "int8"
    REQUANTIZE = "requantize"
    FLOAT = "float"


@dataclass(slots=True)
class QPlan:
    """The decision for one QuantizeLinear."""

    kind: Kind
    q: QParams
    node: Node | None = None  # the node that runs in int8
    low: float = -math.inf  # clip between node and QuantizeLinear
    high: float = math.inf
    bias: Array | None = None  # constant added behind a MatMul


@dataclass(slots=True)
class GraphPlan:
    """Decisions for the whole graph; values and nodes by name."""

    q: dict[str, QPlan] = field(default_factory=dict)  # by name of the QuantizeLinear
    int8_values: dict[str, str] = field(default_factory=dict)  # float value -> the int8 tensor it dequantises
    in_float: set[str] = field(default_factory=set)  # nodes that run in float (or move integers)


def clip_bounds(node: Node) -> tuple[float, float] | None:
    """The range of a Relu or of a Clip with constant bounds, or None."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type != "Clip":
        return None
    bounds = [float(graph.attribute(node, "min", -math.inf)), float(graph.attribute(node, "max", math.inf))]
    for position in (1, 2):
        if len(node.inputs) > position and node.inputs[position] is not None:
            held = graph.constant(node.inputs[position])
            if held is None:
                return None
            bounds[position - 1] = float(held.reshape(()))
    return bounds[0], bounds[1]


def only_consumer(value: Value) -> Node | None:
    """The one node that reads the value, when it is read once and is not an output of the graph."""
    uses = graph.consumers(value)
    return uses[0][0] if len(uses) == 1 and not graph.is_graph_output(value) else None


def analyse(model: Model, int8_rules: set[str]) -> GraphPlan:
    """Decide for every node; ``int8_rules`` are the operators that have an int8 rule."""
    plan = GraphPlan()
    for node in graph.nodes(model):
        if node.op_type == "DequantizeLinear":
            _note_dequantized(node, plan)
        elif node.op_type == "QuantizeLinear":
            q = qparams_of(node)
            if q is not None:
                plan.q[node.name or ""] = _decide(node, q, plan, int8_rules)
        elif node.op_type in MOVEMENT and _root(node.inputs[0], plan):
            for output in node.outputs:
                plan.int8_values[output.name or ""] = output.name or ""
    _need_floats(model, plan)
    return plan


def _root(value: Value | None, plan: GraphPlan) -> str | None:
    return None if value is None else plan.int8_values.get(value.name or "")


def _note_dequantized(node: Node, plan: GraphPlan) -> None:
    if graph.constant(node.inputs[0]) is None and qparams_of(node) is not None:
        source, name = node.inputs[0], node.outputs[0].name or ""
        assert source is not None
        maker = graph.producer(source)
        paired = maker is None or maker.op_type != "QuantizeLinear" or qparams_of(maker) == qparams_of(node)
        plan.int8_values[name] = source.name or "" if paired else name  # other parameters: an int8 form of its own


def _decide(node: Node, q: QParams, plan: GraphPlan, int8_rules: set[str]) -> QPlan:
    value = node.inputs[0]
    assert value is not None
    if _root(value, plan):
        return QPlan(Kind.REQUANTIZE, q)
    if constant_of(value) is not None:
        return QPlan(Kind.FLOAT, q)
    if tables.chain_of(value, lambda v: _root(v, plan)) is not None:
        return QPlan(Kind.TABLE, q)
    low, high = -math.inf, math.inf
    base = graph.producer(value)
    while (
        base is not None
        and (bounds := clip_bounds(base)) is not None
        and not isinstance(graph.constant(base.inputs[0]), np.ndarray)
    ):
        low, high = (max(low, min(bounds[0], high)), min(high, max(bounds[1], low)))
        inner = base.inputs[0]
        base = graph.producer(inner) if inner is not None and only_consumer(inner) is base else None
    bias = None
    if base is not None and base.op_type == "Add":
        base, bias = _absorb_bias(base)
    if base is not None and base.op_type in int8_rules and not base.domain and len(base.outputs) == 1 and _all_int8(base, plan):
        return QPlan(Kind.INT8, q, base, low, high, bias)
    return QPlan(Kind.FLOAT, q)


def _absorb_bias(add: Node) -> tuple[Node, Array | None]:
    """MatMul + Add(constant along the last axis) is one step, as exporters of linear layers write it."""
    for data, other in ((add.inputs[0], add.inputs[1]), (add.inputs[1], add.inputs[0])):
        held = constant_of(other)
        if held is None or data is None:
            continue
        maker = graph.producer(data)
        if (
            maker is not None
            and maker.op_type == "MatMul"
            and constant_of(maker.inputs[1]) is not None
            and only_consumer(data) is add
        ):
            columns = graph.shape(data)[-1]
            if held.shape in ((columns,), (1, columns), (1, 1, columns)):
                return maker, np.asarray(held, np.float32).reshape(-1)
    return add, None


def _all_int8(node: Node, plan: GraphPlan) -> bool:
    """Every input that is not a constant has an int8 form, and there is one."""
    data = [v for v in node.inputs if v is not None and constant_of(v) is None]
    integers = {"Resize", "Pad", "Slice", "Gather", "Expand", "Tile", "Reshape"}
    if node.op_type == "Where":
        data = data[1:] if data and graph.dtype(data[0]) == np.bool_ else data
    if node.op_type in integers:
        data = data[:1]
    return bool(data) and all(_root(v, plan) for v in data)


def _need_floats(model: Model, plan: GraphPlan) -> None:
    """Mark, from the outputs backwards, the nodes that must be lowered in float."""
    needed = {value.name for value in graph.output_values(model)}
    for node in reversed(graph.nodes(model)):
        if node.op_type == "DequantizeLinear" and node.outputs[0].name in plan.int8_values:
            needed |= {v.name for v in node.inputs[:1] if v is not None}  # int8 that another node than a QuantizeLinear made
            continue
        if node.op_type == "QuantizeLinear" and (node.name or "") in plan.q:
            decided = plan.q[node.name or ""]
            if decided.kind is Kind.FLOAT:
                needed.add(node.inputs[0].name if node.inputs[0] is not None else None)
            elif decided.node is not None:
                needed |= {v.name for v in decided.node.inputs if v is not None and v.name not in plan.int8_values}
            continue
        if any(output.name in needed for output in node.outputs) or any(o.name in plan.int8_values for o in node.outputs):
            plan.in_float.add(node.name or "")
            needed |= {v.name for v in node.inputs if v is not None}
