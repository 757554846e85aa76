"""Operators in pieces become one, in every spelling; what only looks alike stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_graphs import model, node, tensor

from edgezip import graph
from edgezip.frontends import onnx as front

Nodes = list[onnx.NodeProto]
SHAPE = (1, 4, 6, 6)


def f32(name: str, number: float) -> onnx.TensorProto:
    return tensor(name, np.array(number, np.float32))


def _gate(clip: str = "clip") -> Nodes:
    """g = clip(x + 3, 0, 6)."""
    add = node("Add", ["three", "x"], "a")
    forms = {
        "clip": [node("Clip", ["a", "zero", "six"], "g")],
        "min of max": [node("Max", ["zero", "a"], "m"), node("Min", ["m", "six"], "g")],
        "min of relu": [node("Relu", ["a"], "m"), node("Min", ["six", "m"], "g")],
    }
    return [add, *forms[clip]]


ONE_AND_EXP = [node("Neg", ["x"], "n"), node("Exp", ["n"], "e"), node("Add", ["one", "e"], "d")]
SPELLINGS: dict[str, tuple[str, Nodes]] = {
    "x * gate / 6": ("HardSwish", [*_gate(), node("Mul", ["x", "g"], "p"), node("Div", ["p", "six"])]),
    "gate * x * 1/6": ("HardSwish", [*_gate(), node("Mul", ["g", "x"], "p"), node("Mul", ["sixth", "p"])]),
    "x * (gate / 6)": ("HardSwish", [*_gate(), node("Div", ["g", "six"], "s"), node("Mul", ["x", "s"])]),
    "(x / 6) * gate": ("HardSwish", [*_gate(), node("Div", ["x", "six"], "s"), node("Mul", ["g", "s"])]),
    "x * min(max) / 6": ("HardSwish", [*_gate("min of max"), node("Mul", ["x", "g"], "p"), node("Div", ["p", "six"])]),
    "x * relu6 / 6": ("HardSwish", [*_gate("min of relu"), node("Mul", ["x", "g"], "p"), node("Div", ["p", "six"])]),
    "x * HardSigmoid": ("HardSwish", [node("HardSigmoid", ["x"], "s", alpha=1 / 6, beta=0.5), node("Mul", ["s", "x"])]),
    "gate / 6": ("HardSigmoid", [*_gate(), node("Div", ["g", "six"])]),
    "gate * 1/6": ("HardSigmoid", [*_gate("min of max"), node("Mul", ["g", "sixth"])]),
    "clip(0.2 x + 0.5)": (
        "HardSigmoid",
        [node("Mul", ["x", "fifth"], "s"), node("Add", ["s", "half"], "a"), node("Clip", ["a", "zero", "one"])],
    ),
    "1 / (1 + exp(-x))": ("Sigmoid", [*ONE_AND_EXP, node("Div", ["one", "d"])]),
    "reciprocal": ("Sigmoid", [*ONE_AND_EXP, node("Reciprocal", ["d"])]),
}  # fmt: skip

ALIKE: dict[str, Nodes] = {
    "another factor": [*_gate(), node("Mul", ["x", "g"], "p"), node("Div", ["p", "five"])],
    "another tensor": [*_gate(), node("Neg", ["x"], "n"), node("Mul", ["n", "g"], "p"), node("Div", ["p", "six"])],
    "another clip": [node("Add", ["x", "three"], "a"), node("Clip", ["a", "one", "six"], "g"), node("Div", ["g", "six"])],
    "another slope": [node("HardSigmoid", ["x"], "s"), node("Mul", ["s", "x"])],
    "another exponent": [node("Exp", ["x"], "e"), node("Add", ["one", "e"], "d"), node("Div", ["one", "d"])],
    "a broadcast": [node("Add", ["x", "wide"], "a"), node("Clip", ["a", "zero", "six"], "g"), node("Div", ["g", "six"])],
}

CONSTANTS = [
    *(f32(*pair) for pair in (("zero", 0), ("one", 1), ("three", 3), ("five", 5), ("six", 6), ("half", 0.5), ("fifth", 0.2))),
    f32("sixth", 1 / 6),
    tensor("wide", np.full((2, 4, 6, 6), 3, np.float32)),
]  # fmt: skip


def proto(nodes: Nodes, opset: int = 13) -> onnx.ModelProto:
    used = {name for n in nodes for name in n.input}
    return model(nodes, [c for c in CONSTANTS if c.name in used], x=SHAPE, opset=opset)


def operators(loaded: graph.Model) -> list[str]:
    return [n.op_type for n in graph.nodes(loaded)]


def difference(source: onnx.ModelProto, loaded: graph.Model) -> float:
    x = np.random.default_rng(1).uniform(-8, 8, SHAPE).astype(np.float32)
    x.reshape(-1)[:5] = (-3, 3, 0, -100, 100)

    def run(content: bytes) -> Any:
        return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]

    return float(np.abs(run(source.SerializeToString()) - run(graph.to_bytes(loaded))).max())


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_pieces_become_one_operator(spelling: str) -> None:
    wanted, nodes = SPELLINGS[spelling]
    source = proto(nodes)
    loaded = front.load(source.SerializeToString())
    assert operators(loaded) == [wanted]
    assert difference(source, loaded) < 2e-5  # of values up to 100: the roundings of the pieces


@pytest.mark.parametrize("name", ALIKE)
def test_what_only_looks_alike_stays(name: str) -> None:
    source = proto(ALIKE[name])
    assert operators(front.load(source.SerializeToString())) == [n.op_type for n in ALIKE[name]]


def _with_quantised_gate(nodes: Nodes) -> Nodes:
    q = [node("QuantizeLinear", ["g", "one", "zp"], "q"), node("DequantizeLinear", ["q", "one", "zp"], "dq")]
    rest = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes[2:]]
    rest[0].input[1] = "dq"
    return [*nodes[:2], *q, *rest]


def test_a_rounding_between_the_pieces_keeps_them_apart() -> None:
    nodes = _with_quantised_gate(SPELLINGS["x * gate / 6"][1])
    source = proto(nodes)
    source.graph.initializer.append(tensor("zp", np.array(0, np.int8)))
    assert "HardSwish" not in operators(front.load(source.SerializeToString()))


def test_a_piece_that_others_read_is_kept_for_them() -> None:
    nodes = [*_gate(), node("Mul", ["x", "g"], "p"), node("Div", ["p", "six"], "h"), node("Sub", ["h", "a"])]
    source = proto(nodes)
    loaded = front.load(source.SerializeToString())
    assert sorted(operators(loaded)) == ["Add", "HardSwish", "Sub"]
    assert difference(source, loaded) < 2e-5


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_the_operator_set_is_raised_where_the_operator_needs_it(opset: int) -> None:
    loaded = front.load(proto(SPELLINGS["x * gate / 6"][1], opset).SerializeToString())
    assert operators(loaded) == ["HardSwish"]
    assert graph.opset(loaded) >= 14


def test_a_wrong_pattern_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgezip.frontends.patterns import hard_swish

    monkeypatch.setattr(hard_swish, "is_close", lambda number, wanted: True)
    loaded = front.load(proto(ALIKE["another factor"]).SerializeToString())
    assert difference(proto(ALIKE["another factor"]), loaded) > 0.1


@pytest.mark.parametrize("operands", [("x", "p"), ("p", "x")], ids="-".join)
def test_a_skip_around_a_gate_is_in_the_gate(operands: tuple[str, str]) -> None:
    gate = [node("GlobalAveragePool", ["x"], "a"), node("HardSigmoid", ["a"], "g"), node("Mul", ["g", "x"], "p")]
    source = proto([*gate, node("Add", operands)])
    loaded = front.load(source.SerializeToString())
    assert operators(loaded) == ["GlobalAveragePool", "HardSigmoid", "Add", "Mul"]
    assert difference(source, loaded) < 2e-5
    assert graph.shape(graph.nodes(loaded)[2].outputs[0]) == (1, 4, 1, 1)


@pytest.mark.parametrize("name", ["a second reader", "a gate of the size of x"])
def test_a_skip_that_would_not_get_cheaper_stays(name: str) -> None:
    gate = [node("Sigmoid", ["x"], "g")] if name != "a second reader" else [node("GlobalAveragePool", ["x"], "g")]
    nodes = [
        *gate,
        node("Mul", ["g", "x"], "p"),
        node("Add", ["x", "p"], "s"),
        node("Sub", ["s", "p" if len(name) < 20 else "x"]),
    ]
    assert operators(front.load(proto(nodes).SerializeToString())) == [n.op_type for n in nodes]


def test_x_divided_by_one_and_its_exponential_is_x_times_the_sigmoid() -> None:
    source = proto([*ONE_AND_EXP, node("Div", ["x", "d"])])
    loaded = front.load(source.SerializeToString())
    assert operators(loaded) == ["Sigmoid", "Mul"]
    assert difference(source, loaded) < 2e-5
