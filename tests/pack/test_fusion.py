"""What fuses into one step, what must not, and that fusing changes no bit of the quantised graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from pack_graphs import (
    assert_same_steps,
    build,
    feeds_for,
    ints,
    node,
    ops_of,
    quantise,
    quantise_activations,
    quantise_weights,
    range_params,
    run_everywhere,
    weights,
)

from edgezip import graph, pack
from edgezip.pack import compose
from edgezip.program import Convert, Op, Place, Program, Step
from edgezip.target import load_target

EDGES = [Op.COPY]  # quantise at the input, dequantise at the output


def quantised_steps(model: graph.Model, most_differing: float = 0.02) -> list[Step]:
    feeds = feeds_for(model)
    quantise(model, feeds)
    program, results = run_everywhere(model, feeds)
    assert_same_steps(model, feeds, results["y"], most_differing)
    return program.steps


def ops(steps: Sequence[Step]) -> list[Op]:
    return [step.op for step in steps]


@pytest.mark.parametrize("clip", [["Relu"], ["Clip"], ["Relu", "Clip"]], ids="-".join)
def test_clip_behind_an_int8_product_is_its_range(clip: list[str]) -> None:
    names = [f"c{i}" for i in range(len(clip))] + ["y"]
    bounds = {"Relu": [], "Clip": ["lo", "hi"]}
    behind = [node(op, [names[i], *bounds[op]], names[i + 1]) for i, op in enumerate(clip)]
    constants = {"w": weights(6, 4, 3, 3), "lo": np.asarray(0.1, np.float32), "hi": np.asarray(0.8, np.float32)}
    steps = quantised_steps(build([node("Conv", ["x", "w"], "c0"), *behind], constants), 0)
    assert ops(steps) == [Op.COPY, Op.CONV, Op.COPY]


@pytest.mark.parametrize("groups", [1, 4], ids=["conv", "depthwise"])
def test_table_behind_an_int8_product_is_its_post_op(groups: int) -> None:
    nodes = [node("Conv", ["x", "w"], "c", group=groups), node("HardSwish", ["c"])]
    steps = quantised_steps(build(nodes, {"w": weights(4, 4 // groups, 3, 3)}))
    assert ops(steps) == [Op.COPY, Op.DEPTHWISE if groups > 1 else Op.CONV, Op.COPY]
    assert len(steps[1].inputs) == 6


def test_silu_written_as_two_nodes_becomes_the_post_op_of_its_convolution() -> None:
    model = build(
        [node("Conv", ["x", "w"], "c"), node("Sigmoid", ["c"], "s"), node("Mul", ["c", "s"])], {"w": weights(6, 4, 1, 1)}
    )
    feeds = feeds_for(model)
    held = graph.run(model, feeds, ["c", "y"])
    for name, array in [("x", feeds["x"]), *held.items()]:
        graph.insert_qdq(model, graph.find_value(model, name), *range_params(array))
    quantise_weights(model)
    program, results = run_everywhere(model, feeds)
    assert_same_steps(model, feeds, results["y"], 0.02)
    assert ops_of(program) == [Op.COPY, Op.CONV, Op.COPY]


def residual_block(tail: Sequence[str] = (), order: tuple[str, str] = ("c", "p")) -> graph.Model:
    names = ["s", *(f"t{i}" for i in range(len(tail)))]
    nodes = [
        node("Conv", ["x", "v"], "p", pads=[1, 1, 1, 1]),
        node("Conv", ["p", "w"], "c", pads=[1, 1, 1, 1]),
        node("Add", order, names[0] if tail else "y"),
        *(node(op, [names[i]], names[i + 1] if i + 1 < len(tail) else "y") for i, op in enumerate(tail)),
    ]
    return build(nodes, {"v": weights(4, 4, 3, 3), "w": weights(4, 4, 3, 3)})


@pytest.mark.parametrize("tail", [(), ("Relu",)], ids=["add", "add_relu"])
@pytest.mark.parametrize("order", [("c", "p"), ("p", "c")])
def test_residual_add_joins_the_later_convolution(tail: tuple[str, ...], order: tuple[str, str]) -> None:
    steps = quantised_steps(residual_block(tail, order))
    assert ops(steps) == [Op.COPY, Op.CONV, Op.CONV, Op.COPY]
    assert steps[2].inputs[4] >= 0


def test_residual_add_keeps_the_rounding_of_the_q_between() -> None:
    """EZ-N1 rule 10: the fused step gives the bytes of the same graph whose sum is kept apart by a second reader."""
    fused, apart = residual_block(), residual_block()
    feeds = feeds_for(fused)
    for model in (fused, apart):
        quantise(model, feeds)
    c = graph.consumers(graph.find_value(apart, "c_quantized"))[0][0].outputs[0]
    graph.set_type(c, np.float32, graph.shape(graph.find_value(apart, "c")))
    apart.graph.outputs.append(c)
    one, two = run_everywhere(fused, feeds), run_everywhere(apart, feeds)
    assert Op.BINARY not in ops_of(one[0])
    assert Op.BINARY in ops_of(two[0])
    np.testing.assert_array_equal(one[1]["y"], two[1]["y"])


def test_result_with_a_second_reader_is_not_fused_away() -> None:
    nodes = [
        node("Conv", ["x", "w"], "c"),
        node("Tanh", ["c"], "t"),
        node("Conv", ["c", "v"], "d"),
        node("Mul", ["d", "t"]),
    ]
    steps = quantised_steps(build(nodes, {"w": weights(4, 4, 1, 1), "v": weights(4, 4, 1, 1)}))
    assert ops(steps) == [Op.COPY, Op.CONV, Op.TABLE, Op.CONV, Op.BINARY, Op.COPY]


def pieces(op: str) -> graph.Model:
    """Functions of one tensor as exporters write them out, for Q/DQ behind every node."""
    scalars = {"three": 3, "five": 5, "six": 6, "zero": 0, "half": 0.5}
    behind = {
        "nearly_hard_swish": [  # by 5: the front end puts the true one together before anything is quantised
            node("Add", ["c", "three"], "p"),
            node("Clip", ["p", "zero", "six"], "q"),
            node("Mul", ["c", "q"], "m"),
            node("Div", ["m", "five"]),
        ],
        "tanh_residual": [node("Tanh", ["c"], "t"), node("Add", ["t", "c"])],
        "maximum": [node("Mul", ["c", "half"], "h"), node("Max", ["c", "h"])],
        "minimum": [node("Sigmoid", ["c"], "h"), node("Min", ["h", "c"])],
        "difference": [node("Exp", ["c"], "h"), node("Sub", ["c", "h"])],
        "ratio": [node("Exp", ["c"], "h"), node("Div", ["c", "h"])],
    }
    constants = {name: np.asarray(value, np.float32) for name, value in scalars.items()}
    return build([node("Conv", ["x", "w"], "c"), *behind[op]], {"w": weights(6, 4, 1, 1), **constants})


PIECES = ["nearly_hard_swish", "tanh_residual", "maximum", "minimum", "difference", "ratio"]


@pytest.mark.parametrize("op", PIECES)
def test_function_in_pieces_with_q_between_is_one_table_with_the_same_bytes(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pieces(op)
    feeds = feeds_for(model)
    quantise(model, feeds)
    composed, fast = run_everywhere(model, feeds)
    monkeypatch.setattr(compose, "run", lambda builder: None)
    in_steps, slow = run_everywhere(model, feeds)
    assert ops_of(composed) == [Op.COPY, Op.CONV, Op.COPY]
    assert len(in_steps.steps) > len(composed.steps)
    np.testing.assert_array_equal(fast["y"], slow["y"])


def test_function_of_two_tensors_is_no_table() -> None:
    nodes = [node("Tanh", ["a"], "t"), node("Mul", ["t", "b"])]
    model = build(nodes, inputs={"a": (3, 5), "b": (3, 5)})
    feeds = feeds_for(model)
    quantise(model, feeds)
    program, _ = run_everywhere(model, feeds)
    assert Op.BINARY in ops_of(program)


def test_float_convolution_takes_its_clip_and_writes_the_graph_output_itself() -> None:
    model = build([node("Conv", ["x", "w"], "c"), node("Relu", ["c"])], {"w": weights(6, 4, 6, 5)})
    program, _ = run_everywhere(model, feeds_for(model))
    assert ops_of(program)[-1] is Op.CONV
    assert program.steps[-1].params["float_lo"] == 0
    assert program.tensors[program.steps[-1].outputs[0]].place is Place.OUTPUT


@pytest.mark.parametrize("operands", [("c", "s"), ("s", "c")], ids="-".join)
def test_float_silu_written_as_two_nodes_is_one_step_with_the_same_bits(operands: tuple[str, str]) -> None:
    nodes = [node("Conv", ["x", "w"], "c"), node("Sigmoid", ["c"], "s"), node("Mul", operands)]
    constants = {"w": weights(6, 4, 1, 1)}
    apart = build([*nodes, node("Neg", ["s"], "z")], constants, outputs=("y", "z"))  # a second reader keeps the sigmoid
    feeds = feeds_for(apart)
    program, results = run_everywhere(build(nodes, constants), feeds)
    kept, wanted = run_everywhere(apart, feeds)
    assert Op.BINARY in ops_of(kept)
    assert Op.BINARY not in ops_of(program)
    np.testing.assert_array_equal(results["y"], wanted["y"])


def test_product_with_the_sigmoid_of_another_tensor_stays_a_product() -> None:
    model = build([node("Sigmoid", ["a"], "s"), node("Mul", ["b", "s"])], inputs={"a": (3, 5), "b": (3, 5)})
    program, _ = run_everywhere(model, feeds_for(model))
    assert ops_of(program) == [Op.UNARY, Op.BINARY]


def test_float_sum_takes_its_clip() -> None:
    model = build([node("Add", ["a", "b"], "s"), node("Clip", ["s", "lo", "hi"])], _bounds(), {"a": (3, 5), "b": (3, 5)})
    program, results = run_everywhere(model, feeds_for(model))
    assert ops_of(program) == [Op.BINARY]
    assert results["y"].max() <= np.float32(0.8)


def _bounds() -> dict[str, Any]:
    return {"lo": np.asarray(0.1, np.float32), "hi": np.asarray(0.8, np.float32)}


CLIPPED = {
    "MaxPool": {"kernel_shape": [2, 2]},
    "GlobalMaxPool": {},
    "AveragePool": {"kernel_shape": [2, 2]},
    "Softmax": {"axis": 1},
    "ReduceMax": {"keepdims": 1},
    "ReduceMean": {"keepdims": 1},
    "DepthToSpace": {"blocksize": 2},
    "Transpose": {"perm": [0, 2, 3, 1]},
}


@pytest.mark.parametrize("op", CLIPPED)
@pytest.mark.parametrize("same_scale", [False, True], ids=["own_scale", "same_scale"])
def test_clip_behind_an_operator_without_a_range_is_not_lost(op: str, same_scale: bool) -> None:
    model = build([node(op, ["x"], "p", **CLIPPED[op]), node("Clip", ["p", "lo", "hi"])], _bounds())
    feeds = feeds_for(model)
    quantise_activations(model, feeds)
    if same_scale:
        q = [n for n in graph.nodes(model) if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
        for later in q[2:]:
            for position in (1, 2):
                later.replace_input_with(position, q[0].inputs[position])
    _, results = run_everywhere(model, feeds)
    assert_same_steps(model, feeds, results["y"], 0.02)


@pytest.mark.parametrize("op", ["Concat", "Pad", "Resize"])
def test_clip_behind_a_copy_is_not_lost(op: str) -> None:
    made = {
        "Concat": node("Concat", ["x", "x"], "p", axis=1),
        "Pad": node("Pad", ["x", "pads"], "p"),
        "Resize": node("Resize", ["x", "", "scales"], "p", mode="nearest"),
    }
    constants = {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1), "scales": np.array([1, 1, 2, 2], np.float32), **_bounds()}
    quantised_steps(build([made[op], node("Clip", ["p", "lo", "hi"])], constants))


def test_concat_of_convolutions_needs_no_copy() -> None:
    nodes = [
        node("Conv", ["x", "v"], "p"),
        node("Conv", ["x", "w"], "q"),
        node("Concat", ["p", "q"], "c", axis=1),
        node("Conv", ["c", "u"]),
    ]
    model = build(nodes, {"v": weights(16, 4, 1, 1), "w": weights(6, 4, 1, 1), "u": weights(3, 22, 1, 1)})
    feeds = feeds_for(model)
    program, _ = run_everywhere(model, feeds)
    assert ops_of(program) == [Op.COPY, Op.CONV, Op.CONV, Op.CONV, Op.COPY]
    parts = [program.tensors[step.outputs[0]] for step in program.steps[1:3]]
    assert [part.row_stride for part in parts] == [22, 22]
    assert parts[1].offset - parts[0].offset == 16 * 4


def test_split_of_channels_is_read_in_place_by_windows() -> None:
    nodes = [
        node("Conv", ["x", "v"], "c"),
        node("Split", ["c", "sizes"], ["p", "q"], axis=1),
        node("Conv", ["p", "w"], "d"),
        node("MaxPool", ["q"], "m", kernel_shape=[1, 1]),
        node("Concat", ["d", "m"], axis=1),
    ]
    model = build(nodes, {"v": weights(8, 4, 1, 1), "w": weights(5, 3, 1, 1), "sizes": ints(3, 5)})
    program, results = run_everywhere(model, feeds_for(model))
    np.testing.assert_allclose(results["y"], graph.run(model, feeds_for(model))["y"], atol=1e-5)
    assert ops_of(program) == [Op.COPY, Op.CONV, Op.CONV, Op.POOL, Op.COPY]
    assert [program.tensors[step.inputs[0]].row_stride for step in program.steps[2:4]] == [8, 8]


def test_enlarged_part_goes_straight_into_its_concat() -> None:
    scales = np.array([1, 1, 2, 3], np.float32)
    model = build(
        [
            node("Conv", ["x", "w"], "c"),
            node("Resize", ["c", "", "scales"], "r", mode="nearest"),
            node("Conv", ["r", "u"], "d"),
            node("Resize", ["c", "", "scales"], "s", mode="nearest"),
            node("Concat", ["d", "s"], "k", axis=1),
            node("Conv", ["k", "v"]),
        ],
        {"scales": scales, "w": weights(4, 4, 1, 1), "u": weights(5, 4, 1, 1), "v": weights(6, 9, 1, 1)},
    )
    program, results = run_everywhere(model, feeds_for(model))
    np.testing.assert_allclose(results["y"], graph.run(model, feeds_for(model))["y"], atol=1e-5)
    assert ops_of(program) == [Op.COPY, Op.CONV, Op.COPY, Op.CONV, Op.COPY, Op.CONV, Op.COPY]


def test_enlarged_part_of_another_scale_is_requantised_while_small() -> None:
    scales = np.array([1, 1, 2, 3], np.float32)
    model = build(
        [
            node("Conv", ["x", "w"], "c"),
            node("Resize", ["c", "", "scales"], "r", mode="nearest"),
            node("Conv", ["r", "u"], "d"),
            node("Resize", ["c", "", "scales"], "s", mode="nearest"),
            node("Concat", ["d", "s"], "k", axis=1),
            node("Conv", ["k", "v"]),
        ],
        {"scales": scales, "w": weights(4, 4, 1, 1), "u": 3 * weights(5, 4, 1, 1), "v": weights(6, 9, 1, 1)},
    )
    feeds = feeds_for(model)
    quantise(model, feeds)
    program, results = run_everywhere(model, feeds)
    assert_same_steps(model, feeds, results["y"], 0.02)
    copies = [step for step in program.steps if step.op is Op.COPY]
    requantising = [step for step in copies if step.params["convert"] == Convert.REQUANTIZE]
    assert [program.tensors[step.inputs[0]].dims for step in requantising if step.name.startswith("Concat")][-1] == (1, 6, 5, 4)
    enlarging = [step for step in copies if step.name == "Resize_s"]
    assert [program.tensors[step.outputs[0]].row_stride for step in enlarging] == [9]


def test_quantised_input_is_read_once_and_never_kept_in_float() -> None:
    steps = quantised_steps(build([node("Conv", ["x", "w"])], {"w": weights(6, 4, 1, 1)}), 0)
    assert ops(steps) == [Op.COPY, Op.CONV, Op.COPY]


def test_every_fused_node_is_named_in_the_metadata() -> None:
    model = residual_block(("Relu",))
    quantise(model, feeds_for(model))
    program = pack.compile(model, load_target("rpi4"))
    held = [name for step in program.metadata["steps"] for name in (step.get("node"), *step.get("fused", ())) if name]
    assert {"Conv_p", "Conv_c", "Add_s", "Relu_y"} <= set(held)


def _bytes_model(kind: int) -> graph.Model:
    """DequantizeLinear -> Conv -> Relu -> QuantizeLinear on integer inputs and outputs, as converters of int8 models write it."""
    zero = np.asarray(7 if kind == TensorProto.INT8 else 135, np.uint8 if kind == TensorProto.UINT8 else np.int8)
    nodes = [
        node("DequantizeLinear", ["x", "s", "z"], "f"),
        node("DequantizeLinear", ["w", "sw", "zw"], "g", axis=0),
        node("Conv", ["f", "g"], "c"),
        node("Relu", ["c"], "r"),
        node("QuantizeLinear", ["r", "t", "z"]),
    ]
    constants = {
        "s": np.asarray(0.02, np.float32),
        "t": np.asarray(0.03, np.float32),
        "z": zero,
        "w": np.random.default_rng(0).integers(-127, 128, (6, 4, 3, 3)).astype(np.int8),
        "sw": np.full(6, 0.01, np.float32),
        "zw": np.zeros(6, np.int8),
    }
    return build(nodes, constants, outputs={"y": kind}, kind=kind)


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.UINT8], ids=["int8", "uint8"])
def test_integer_inputs_and_outputs_keep_the_type_and_the_bytes_of_the_model(kind: int) -> None:
    model = _bytes_model(kind)
    dtype = np.int8 if kind == TensorProto.INT8 else np.uint8
    info = np.iinfo(dtype)
    feeds = {"x": np.random.default_rng(1).integers(info.min, info.max + 1, (1, 4, 6, 5)).astype(dtype)}
    program, results = run_everywhere(model, feeds)
    expected = graph.run(model, feeds, optimize=False)["y"]
    assert results["y"].dtype == expected.dtype
    assert np.abs(results["y"].astype(int) - expected).max() <= 1
    assert np.mean(results["y"] != expected) < 0.02
    assert Op.CONV in ops_of(program)
    assert not _float_products(program)


def _float_products(program: Program) -> list[str]:
    return [s["name"] for s in program.metadata["steps"] if s.get("form") == "float32"]


def norm_program(nodes: Sequence[Any], **constants: Any) -> tuple[graph.Model, dict[str, Any]]:
    constants = {"s": weights(12), "b": weights(12), "w": weights(12, 12), **constants}
    model = build(nodes, constants, {"x": (1, 5, 12), "r": (1, 5, 12)})
    return model, feeds_for(model)


def test_sum_before_and_quantiser_behind_a_normalisation_join_it() -> None:
    model, feeds = norm_program(
        [node("Add", ["x", "r"], "t"), node("LayerNormalization", ["t", "s", "b"], "n"), node("MatMul", ["n", "w"])]
    )
    for name, scale in (("n", 0.02), ("y", 0.05)):
        graph.insert_qdq(model, graph.find_value(model, name), np.asarray(scale, np.float32), np.asarray(3, np.int8))
    quantise_weights(model)
    program, results = run_everywhere(model, feeds)
    assert ops(program.steps) == [Op.NORM, Op.CONV, Op.COPY]
    assert program.steps[0].params["results"] == 2
    assert_same_steps(model, feeds, results["y"], 0.02)


def test_a_sum_that_others_read_is_written_by_the_normalisation() -> None:
    model, feeds = norm_program(
        [node("Add", ["x", "r"], "t"), node("LayerNormalization", ["t", "s"], "n"), node("MatMul", ["n", "w"], "m"),
         node("Add", ["m", "t"])]
    )  # fmt: skip
    program, results = run_everywhere(model, feeds)
    assert ops(program.steps)[0] is Op.NORM
    assert program.steps[0].params["results"] == 5
    np.testing.assert_allclose(results["y"], graph.run(model, feeds)["y"], rtol=1e-5, atol=1e-5)


def test_a_sum_that_is_read_before_its_normalisation_stays() -> None:
    model, feeds = norm_program(
        [node("Add", ["x", "r"], "t"), node("MatMul", ["t", "w"], "m"), node("LayerNormalization", ["t", "s"], "n"),
         node("Add", ["m", "n"])]
    )  # fmt: skip
    program, _ = run_everywhere(model, feeds)
    assert ops(program.steps)[0] is Op.BINARY


def attention_nodes(scale: str) -> list[Any]:
    split = [node("Reshape", [name, "heads"], f"{name}h") for name in "qkv"]
    turned = [
        node("Transpose", ["qh"], "qt", perm=[0, 2, 1, 3]),
        node("Transpose", ["kh"], "kt", perm=[0, 2, 3, 1]),
        node("Transpose", ["vh"], "vt", perm=[0, 2, 1, 3]),
    ]
    scores = [
        node("MatMul", ["qt", "kt"], "s"),
        node(scale, ["s", "f"], "t"),
        node("Add", ["t", "mask"], "u"),
        node("Softmax", ["u"], "p"),
    ]
    return [
        *split,
        *turned,
        *scores,
        node("MatMul", ["p", "vt"], "o"),
        node("Transpose", ["o"], "ot", perm=[0, 2, 1, 3]),
        node("Reshape", ["ot", "flat"]),
    ]


def attention_model(scale: str = "Mul", mask: tuple[int, ...] = (2, 1, 1, 7)) -> graph.Model:
    constants = {"heads": ints(2, 7, 3, 8), "flat": ints(2, 7, 24), "f": np.asarray(0.35, np.float32)}
    return build(attention_nodes(scale), constants, {**dict.fromkeys("qkv", (2, 7, 24)), "mask": mask})


@pytest.mark.parametrize("scale", ["Mul", "Div"])
@pytest.mark.parametrize("mask", [(2, 1, 1, 7), (1, 1, 7, 7), (2, 3, 7, 7)], ids=str)
def test_attention_is_one_step_without_a_copy(scale: str, mask: tuple[int, ...]) -> None:
    model = attention_model(scale, mask)
    feeds = feeds_for(model)
    program, results = run_everywhere(model, feeds)
    assert [op for op in ops(program.steps) if op is not Op.COPY] == [Op.ATTENTION]
    assert ops(program.steps).count(Op.COPY) <= 1  # into the output
    np.testing.assert_allclose(results["y"], graph.run(model, feeds)["y"], rtol=1e-5, atol=1e-5)


def test_attention_of_int8_operands_keeps_scores_in_float() -> None:
    model = attention_model()
    for name, zero in {"q": 4, "k": 0, "v": 0, "y": -3}.items():
        graph.insert_qdq(model, graph.find_value(model, name), np.asarray(0.018, np.float32), np.asarray(zero, np.int8))
    graph.insert_qdq(model, graph.find_value(model, "p"), np.asarray(1 / 255, np.float32), np.asarray(-128, np.int8))
    feeds = feeds_for(model)
    program, results = run_everywhere(model, feeds)
    assert ops(program.steps).count(Op.ATTENTION) == 1
    assert_same_steps(model, feeds, results["y"], 0.02)


def test_scores_that_somebody_else_reads_keep_their_steps() -> None:
    constants = {"heads": ints(2, 7, 3, 8), "flat": ints(2, 7, 24), "f": np.asarray(0.35, np.float32)}
    shapes = {**dict.fromkeys("qkv", (2, 7, 24)), "mask": (2, 1, 1, 7)}
    model = build(attention_nodes("Mul"), constants, shapes, outputs=("y", "p"))
    program, _ = run_everywhere(model, feeds_for(model))
    assert Op.ATTENTION not in ops(program.steps)
    assert ops(program.steps).count(Op.MATMUL) == 2


@pytest.mark.parametrize("first", [True, False])
def test_row_added_behind_a_float_matmul_is_its_bias(first: bool) -> None:
    operands = ["m", "c"] if first else ["c", "m"]
    constants = {"w": weights(12, 9), "c": weights(9), "d": weights(9)}
    nodes = [node("MatMul", ["x", "w"], "m"), node("Add", operands, "n"), node("Add", ["n", "d"])]
    model = build(nodes, constants, {"x": (1, 5, 12)})
    feeds = feeds_for(model)
    program, results = run_everywhere(model, feeds)
    assert [op for op in ops(program.steps) if op is not Op.COPY] == [Op.CONV, Op.BINARY]  # one row has room, a second has not
    np.testing.assert_allclose(results["y"], graph.run(model, feeds)["y"], rtol=1e-5, atol=1e-5)
