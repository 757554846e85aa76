"""How a rule writes nodes: constants from arrays, names from the node, types left to the next round of inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.frontends import bounded

if TYPE_CHECKING:
    from edgezip.graph import Array, Model, Node, Value

Rule = Callable[["Emitter"], bool]
RULES: dict[str, Rule] = {}
LARGEST_CONSTANT = 1 << 24  # elements of a table or a canvas that a rule makes: a few numbers of a file must not fill the memory


def decomposes(*op_types: str) -> Callable[[Rule], Rule]:
    """Registers the rule of these operators; it returns whether it replaced the node."""

    def register(rule: Rule) -> Rule:
        for op_type in op_types:
            RULES[op_type] = rule
        return rule

    return register


def run(model: Model) -> bool:
    """Applies every rule once; returns whether anything was replaced. Nodes whose shapes are not known yet stay."""
    changed, taken = bounded.bound(model), graph.names(model)
    for node in graph.nodes(model):
        rule = None if node.domain else RULES.get(node.op_type)
        if rule is not None and _is_known(node):
            op_type = node.op_type
            if rule(Emitter(model, node, taken)):
                graph.count_note(model, f"{op_type}: written as other operators")
                changed = True
    return changed


def _is_known(node: Node) -> bool:
    values = [value for value in [*node.inputs, *node.outputs] if value is not None and value.name]
    return all(value.dtype is not None and graph.has_static_shape(value) for value in values)


class Emitter:
    """Writes nodes before ``node``, which ``finish`` replaces."""

    def __init__(self, model: Model, node: Node, taken: set[str]) -> None:
        self.model, self.node, self.taken = model, node, taken

    def __call__(self, op_type: str, *inputs: Value | Array | None, **attrs: Any) -> Value:
        """The one output of a new node; arrays become constants."""
        name = f"{self.node.name}.{op_type}"
        held = [self.value(x) for x in inputs]
        return graph.new_node(self.model, op_type, held, name, attrs=attrs, before=self.node, taken=self.taken)

    def value(self, x: Value | Array | None) -> Value | None:
        """``x``, or the constant that holds it."""
        if isinstance(x, (np.ndarray, np.generic)):
            return graph.add_initializer(self.model, f"{self.node.name}.constant", np.asarray(x), self.taken)
        return x

    def finish(self, *results: Value | None) -> bool:
        """Lets ``results`` stand for the node's outputs, in order (None: unread), and takes the node out; always true."""
        for old, new in zip(self.node.outputs, results, strict=False):
            if new is not None and old.name:
                made = new
                if new.producer() is None or graph.is_graph_output(new):
                    made = self("Identity", new)  # a constant or an input cannot be renamed to an output
                if old.dtype is not None and made.dtype is None:
                    graph.set_type(made, graph.dtype(old), graph.shape(old))
                graph.replace_uses(old, made, outputs=True)
        self.model.graph.remove(self.node, safe=True)
        return True

    # --- the node ---------------------------------------------------------------------------------------------------------

    def input(self, position: int) -> Value | None:
        """Input ``position``, or None."""
        return self.node.inputs[position] if position < len(self.node.inputs) else None

    @property
    def x(self) -> Value:
        """The first input."""
        value = self.node.inputs[0]
        assert value is not None
        return value

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first input."""
        return graph.shape(self.x)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the first input."""
        return graph.dtype(self.x)

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of the first output."""
        return graph.shape(self.node.outputs[0])

    def constant(self, position: int) -> Array | None:
        """Input ``position`` if it is a constant."""
        return graph.constant(self.input(position))

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return graph.attribute(self.node, name, default)

    def is_read(self, position: int) -> bool:
        """Whether anything reads output ``position``."""
        return position < len(self.node.outputs) and bool(
            self.node.outputs[position].uses() or graph.is_graph_output(self.node.outputs[position])
        )

    # --- shorthands -------------------------------------------------------------------------------------------------------

    def number(self, value: float, like: Value | None = None) -> Array:
        """A scalar of the dtype of ``like`` (the first input)."""
        return np.asarray(value, graph.dtype(like if like is not None else self.x))

    def reduce(self, op_type: str, x: Value, axes: Sequence[int], keep: bool = True) -> Value:
        """A reduction in the form of the model's operator set."""
        as_input = graph.opset(self.model) >= (13 if op_type == "ReduceSum" else 18)
        if as_input:
            return self(op_type, x, np.asarray(list(axes), np.int64), keepdims=int(keep))
        return self(op_type, x, axes=list(axes), keepdims=int(keep))

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """``x`` under another shape."""
        return self("Reshape", x, np.asarray(list(shape), np.int64))

    def cast(self, x: Value, kind: Any) -> Value:
        """``x`` in another dtype."""
        from onnx import helper

        return self("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
