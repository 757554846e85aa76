"""RNN, GRU and LSTM nodes: shapes that contradict each other are refused, batch-first ones (layout 1) written as time-first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from edgezip import graph
from edgezip.errors import InvalidModelError

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
X, LENGTHS, H0, C0 = 0, 4, 5, 6
STATE_TURNED, Y_TURNED = (1, 0, 2), (2, 0, 1, 3)  # (D, B, H) <-> (B, D, H); (T, D, B, H) -> (B, T, D, H)


def check(node: Node, place: str) -> None:
    """Raises InvalidModelError when attributes and the shapes of operands do not fit each other."""
    direction, layout = graph.attribute(node, "direction", "forward"), int(graph.attribute(node, "layout", 0))
    if direction not in DIRECTIONS:
        _refuse(place, "direction", ", ".join(DIRECTIONS), direction)
    if layout not in (0, 1):
        _refuse(place, "layout", "0 or 1", layout)
    dims = [None if value is None else graph.shape(value) for value in node.inputs]
    dims += [None] * (8 - len(dims))
    x, w, r = dims[:3]
    if x is None or w is None or r is None or not len(x) == len(w) == len(r) == 3:
        _refuse(place, "X, W, R", "three dimensions each", [x, w, r])
    count, gates, hidden, batch = DIRECTIONS[direction], GATES[node.op_type], r[2], x[1 - layout]
    state = (batch, count, hidden) if layout else (count, batch, hidden)
    rows = gates * hidden
    expected = {
        "W": (1, (count, rows, x[2])), "R": (2, (count, rows, hidden)), "B": (3, (count, 2 * rows)),
        "sequence_lens": (4, (batch,)), "initial_h": (5, state), "initial_c": (6, state), "P": (7, (count, 3 * hidden)),
    }  # fmt: skip
    for name, (position, wanted) in expected.items():
        if dims[position] is not None and dims[position] != wanted:
            _refuse(place, name, f"shape {wanted}", dims[position])
    if graph.attribute(node, "hidden_size", hidden) != hidden:
        _refuse(place, "hidden_size", f"{hidden} as R has", graph.attribute(node, "hidden_size"))
    if not graph.attribute(node, "clip", 1.0) > 0:
        _refuse(place, "clip", "a positive number", graph.attribute(node, "clip"))


def _refuse(place: str, field: str, expected: str, got: Any) -> NoReturn:
    raise InvalidModelError(
        f"bad value of '{field}'", where=place, expected=expected, got=str(got), hint="export the model again"
    )


def time_first(model: Model, node: Node) -> None:
    """Layout 1 as layout 0 between transposes: ONNX Runtime has no other, and the kernels need none."""
    if not int(graph.attribute(node, "layout", 0)):
        return
    for position in (X, H0, C0):
        value = node.inputs[position] if position < len(node.inputs) else None
        if value is not None:
            turned = graph.new_node(
                model, "Transpose", [value], f"{node.name}_{position}", attrs={"perm": list(STATE_TURNED)}, before=node
            )
            graph.set_type(turned, graph.dtype(value), [graph.shape(value)[axis] for axis in STATE_TURNED])
            node.replace_input_with(position, turned)
    graph.set_attribute(node, "layout", None)
    for value, perm in zip(node.outputs, (Y_TURNED, STATE_TURNED, STATE_TURNED), strict=False):
        if value.name:
            _turn_back(model, value, perm)


def _turn_back(model: Model, value: Value, perm: tuple[int, ...]) -> None:
    """The node gives the time-first value now: its readers get it as before."""
    kind, dims = graph.dtype(value), graph.shape(value)
    inverse = [perm.index(axis) for axis in range(len(perm))]
    graph.set_type(value, kind, [dims[axis] for axis in inverse])
    made = graph.insert_after(model, value, "Transpose", attrs={"perm": list(perm)}, name=f"{value.name}_batch_first")
    graph.set_type(made, kind, dims)
