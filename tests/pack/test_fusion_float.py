"""What follows a float32 product runs in its step, with the bits that it has as steps of its own."""

from __future__ import annotations

import numpy as np
import pytest
from pack_graphs import build, feeds_for, node, ops_of, run_everywhere, weights

from edgezip import graph
from edgezip.pack import fuse_epilogue
from edgezip.program import Op, Program, Unary

FUNCTIONS = {
    "Sigmoid": {}, "Tanh": {}, "Exp": {}, "Erf": {}, "HardSwish": {}, "HardSigmoid": {"alpha": 0.3}, "LeakyRelu": {"alpha": 0.2},
    "Elu": {"alpha": 0.7}, "Gelu": {}, "Softplus": {}, "Neg": {}, "Abs": {}, "Floor": {}, "Ceil": {}, "Relu": {},
}  # fmt: skip
PRODUCTS = {
    "conv": (Op.CONV, node("Conv", ["x", "w"], "c"), weights(19, 4, 3, 3)),
    "depthwise": (Op.DEPTHWISE, node("Conv", ["x", "w"], "c", group=4), weights(4, 1, 3, 3)),
    "grouped": (Op.CONV, node("Conv", ["x", "w"], "c", group=2), weights(6, 2, 1, 1)),
    "transposed": (Op.CONV, node("ConvTranspose", ["x", "w"], "c", strides=[2, 2]), weights(4, 5, 2, 2)),
}
NUMBERS = {name: np.asarray(value, np.float32) for name, value in (("f", 0.37), ("s", -1.25), ("lo", -0.2), ("hi", 0.9))}
CHAINS = {
    "function, factor, shift": [node("HardSwish", ["c"], "h"), node("Mul", ["f", "h"], "m"), node("Add", ["m", "s"])],
    "clip, function": [node("Clip", ["c", "lo", "hi"], "k"), node("Sigmoid", ["k"])],
    "silu": [node("Sigmoid", ["c"], "g"), node("Mul", ["c", "g"])],
    "clip, factor": [node("Relu", ["c"], "k"), node("Mul", ["k", "f"])],
    "function, shift": [node("Tanh", ["c"], "t"), node("Add", ["s", "t"])],
    "sum": [node("Add", ["c", "r"])],
    "sum, clip": [node("Add", ["r", "c"], "a"), node("Relu", ["a"])],
    "silu, sum": [node("Sigmoid", ["c"], "g"), node("Mul", ["c", "g"], "z"), node("Add", ["z", "r"])],
    "silu, factor, sum, clip": [
        node("Sigmoid", ["c"], "g"), node("Mul", ["g", "c"], "z"), node("Mul", ["z", "f"], "m"), node("Add", ["m", "r"], "a"),
        node("Clip", ["a", "lo", "hi"]),
    ],
    "function, factor, shift, sum": [
        node("Gelu", ["c"], "h"), node("Mul", ["h", "f"], "m"), node("Add", ["m", "s"], "b"), node("Add", ["r", "b"]),
    ],
}  # fmt: skip


def both(model: graph.Model, monkeypatch: pytest.MonkeyPatch) -> tuple[Program, Program]:
    """The program with the fusions and the one without, after a comparison of every bit on every ISA."""
    feeds = feeds_for(model)
    fused, results = run_everywhere(model, feeds)
    monkeypatch.setattr(fuse_epilogue, "RULES", ())
    apart, wanted = run_everywhere(model, feeds)
    np.testing.assert_array_equal(results["y"].view(np.uint32), wanted["y"].view(np.uint32))
    return fused, apart


def steps_of(program: Program) -> set[Op]:
    return set(ops_of(program)) - {Op.COPY}


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_behind_a_product(function: str, product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op, made, w = PRODUCTS[product]
    model = build([made, node(function, ["c"], **FUNCTIONS[function])], {"w": w}, {"x": (2, 4, 7, 9)}, opset=20)
    fused, apart = both(model, monkeypatch)
    assert steps_of(fused) == {op}
    assert steps_of(apart) == {op, Op.UNARY}


@pytest.mark.parametrize("product", [name for name in PRODUCTS if name != "transposed"])
@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_behind_a_product(chain: str, product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op, made, w = PRODUCTS[product]
    shortcut = node("Conv", ["x", "v"], "r")
    constants = {"w": w, "v": weights(len(w), 4, w.shape[2], w.shape[3]), **NUMBERS}
    model = build([shortcut, made, *CHAINS[chain]], constants, {"x": (2, 4, 7, 9)}, opset=20)
    fused, apart = both(model, monkeypatch)
    assert steps_of(fused) <= {op, Op.CONV}
    assert steps_of(apart) & {Op.UNARY, Op.BINARY}


def test_a_fully_connected_layer_takes_its_function(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build([node("Gemm", ["x", "w"], "c"), node("Gelu", ["c"])], {"w": weights(33, 21)}, {"x": (5, 33)}, opset=20)
    fused, _ = both(model, monkeypatch)
    assert ops_of(fused) == [Op.CONV]
    assert fused.steps[0].params["act"] == Unary.GELU


@pytest.mark.parametrize(
    "behind",
    [
        [node("Tanh", ["c"], "t"), node("Mul", ["c", "t"])],  # a second reader
        [node("Add", ["c", "c"])],  # a sum with itself
        [node("Add", ["c", "s"], "a"), node("Mul", ["a", "f"])],  # a factor behind the shift
        [node("Mul", ["c", "x"])],  # a product of two tensors
    ],
    ids=["second reader", "itself", "wrong order", "two tensors"],
)  # fmt: skip
def test_what_does_not_fit_stays_a_step(behind: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    constants = {"w": weights(4, 4, 1, 1), **NUMBERS}
    model = build([node("Conv", ["x", "w"], "k"), node("Neg", ["k"], "c"), *behind], constants, {"x": (1, 4, 3, 5)})
    fused, _ = both(model, monkeypatch)
    assert steps_of(fused) & {Op.UNARY, Op.BINARY}


def test_a_lost_residual_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse_epilogue, "with_input", lambda step, position, tensor: None)
    shortcut, (_, made, w) = node("Conv", ["x", "v"], "r"), PRODUCTS["conv"]
    model = build([shortcut, made, *CHAINS["sum"]], {"w": w, "v": weights(19, 4, 3, 3)}, {"x": (1, 4, 7, 9)})
    with pytest.raises(AssertionError):
        both(model, monkeypatch)


@pytest.mark.parametrize("behind", ["Relu", "Concat"])
def test_a_transposed_row_is_made_pixel_by_pixel_of_its_input(behind: str) -> None:
    """Stride 2 by a kernel of 2: a row of outputs is one convolution, unless it joins a Concat, where its pixels lie apart."""
    nodes = [
        node("ConvTranspose", ["x", "w"], "c", strides=[2, 2]),
        node(behind, ["c"] if behind == "Relu" else ["c", "c"], axis=1),
    ]
    if behind == "Relu":
        nodes[-1].ClearField("attribute")
    model = build(nodes, {"w": weights(4, 5, 2, 2)}, {"x": (2, 4, 7, 9)})
    program, _ = run_everywhere(model, feeds_for(model))
    assert ops_of(program).count(Op.CONV) == (2 if behind == "Relu" else 4)


def test_a_sum_with_a_constant_of_all_its_elements_keeps_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """tf2onnx writes the first step of an unrolled LSTM so: its state times weights is a constant row."""
    constants = {"w": weights(5, 16), "r": weights(1, 16)}
    model = build([node("MatMul", ["x", "w"], "c"), node("Add", ["c", "r"])], constants, {"x": (1, 5)})
    both(model, monkeypatch)
