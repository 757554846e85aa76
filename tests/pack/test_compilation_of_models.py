"""``pack.compile`` as a whole: determinism, what is refused and how, metadata, notes, foreign weights, overflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from pack_graphs import (
    assert_same_steps,
    build,
    feeds_for,
    node,
    ops_of,
    quantise,
    quantise_activations,
    quantise_weights,
    run_everywhere,
    weights,
)

import edgezip
from edgezip import graph, pack
from edgezip.errors import NumericsError, TargetError, UnsupportedModelError
from edgezip.frontends import onnx as frontend
from edgezip.pack.weights import ACCUMULATOR_LIMIT, reach
from edgezip.program import Layout, Op, Place, read
from edgezip.runtime.session import Session
from edgezip.target import list_targets, load_target


def conv_net(int8: bool) -> graph.Model:
    nodes = [
        node("Conv", ["x", "v", "b"], "c", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], "r"),
        node("Conv", ["r", "w"], "d", group=6),
        node("HardSwish", ["d"], "h"),
        node("GlobalAveragePool", ["h"], "g"),
        node("Flatten", ["g"], "f"),
        node("Gemm", ["f", "u"]),
    ]
    constants = {"v": weights(6, 4, 3, 3), "b": weights(6), "w": weights(6, 1, 3, 3), "u": weights(6, 3)}
    model = build(nodes, constants)
    return quantise(model, feeds_for(model)) if int8 else model


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("target", [t.name for t in list_targets()])
def test_same_model_gives_the_same_file(target: str, int8: bool) -> None:
    one, two = (pack.compile(conv_net(int8), target).to_bytes() for _ in range(2))
    assert one == two


@pytest.mark.parametrize("target", [t.name for t in list_targets()])
def test_program_states_the_layout_and_the_sign_of_its_target(target: str) -> None:
    program, profile = pack.compile(conv_net(True), target), load_target(target)
    assert program.layout is Layout[profile.layout.upper()]
    assert program.act_sign == profile.act_sign
    assert program.metadata["target"] == target


def test_program_survives_its_file() -> None:
    program = pack.compile(conv_net(True))
    again = read(program.to_bytes())
    assert again.to_bytes() == program.to_bytes()
    assert [t.place for t in again.tensors].count(Place.INPUT) == 1


def test_compilation_leaves_the_model_as_it_was() -> None:
    model = conv_net(True)
    before = graph.to_bytes(model)
    pack.compile(model, "rpi4")
    assert graph.to_bytes(model) == before


def test_unknown_target_names_its_neighbours() -> None:
    with pytest.raises(TargetError, match="rpi4"):
        pack.compile(conv_net(False), "rpi44")


def test_every_unsupported_node_is_named_at_once_with_a_reason() -> None:
    nodes = [
        node("RandomNormalLike", ["n"], "a"),
        node("Relu", ["a"], "b"),
        node("Multinomial", ["f"], "i"),
        node("Cast", ["i"], "j", to=onnx.TensorProto.FLOAT),
        node("RandomNormalLike", ["m"], "k"),
        node("Softmax", ["x"], "s", axis=1),
    ]
    model = build(nodes, inputs={"x": (1, 4, 6, 5), "m": (2, 3, 3), "n": (2, 3, 3), "f": (2, 3)}, outputs=["b", "j", "k", "s"])
    with pytest.raises(UnsupportedModelError) as caught:
        pack.compile(model)
    text = str(caught.value)
    for name, op in (
        ("RandomNormalLike_a", "RandomNormalLike"),
        ("Multinomial_i", "Multinomial"),
        ("RandomNormalLike_k", "RandomNormalLike"),
    ):
        assert f"{name} ({op}): has no kernel" in text
    assert "3 node(s)" in text, "nodes behind an unsupported one are not counted again"
    assert "Relu" not in text
    assert caught.value.exit_code == 5


def test_a_node_without_a_kernel_is_named_even_behind_another() -> None:
    """Whoever mends the first must not find the second on the next try."""
    model = build(
        [node("RandomNormalLike", ["x"], "a"), node("Relu", ["a"], "b"), node("Bernoulli", ["b"])], inputs={"x": (2, 3, 3)}
    )
    with pytest.raises(UnsupportedModelError, match=r"2 node.*RandomNormalLike_a.*Bernoulli_y") as caught:
        pack.compile(model)
    assert "Relu" not in str(caught.value)


def test_a_scalar_goes_in_and_comes_out() -> None:
    model = build([node("Add", ["x", "one"])], {"one": np.float32(1)}, {"x": ()})
    program = edgezip.compile(model)
    assert [array.shape for array in program.vectors[0]] == [(), ()]
    assert Session(program).run({"x": np.array(2, np.float32)})["y"] == 3


def test_a_dequantize_with_parameters_of_its_own_is_not_taken_for_the_pair_of_its_quantize() -> None:
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], "q"), node("DequantizeLinear", ["q", "t", "u"], "d"),
        node("Relu", ["d"], "r"), node("QuantizeLinear", ["r", "t", "u"], "q2"), node("DequantizeLinear", ["q2", "s", "z"]),
    ]  # fmt: skip
    numbers = {"s": np.float32(0.02), "z": np.int8(3), "t": np.float32(0.05), "u": np.int8(-20)}
    model = build(nodes, numbers)
    feeds = feeds_for(model)
    _, got = run_everywhere(model, feeds)
    expected = graph.run(model, feeds, optimize=False)["y"]
    assert np.abs(got["y"] - expected).max() <= 0.02 * 1.001, "one step, where the two round a tie in their own ways"
    assert np.count_nonzero(got["y"] != expected) <= 2


REFUSED = {
    "conv with computed weights": ([node("Conv", ["x", "w"])], {"x": (1, 4, 6, 5), "w": (3, 4, 1, 1)}, "computed at run time"),
    "conv over four axes": ([node("Conv", ["x", "w"])], {"x": (1, 4, 6, 5, 3, 3)}, "rank 6"),
    "resize by an unknown rule": (
        [node("Resize", ["x", "", "scales"], mode="linear", coordinate_transformation_mode="middle")],
        {"x": (1, 1, 4, 4)},
        "coordinate_transformation_mode middle",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_form_of_a_known_operator_says_what_is_wrong(case: str) -> None:
    nodes, inputs, reason = REFUSED[case]
    constants: dict[str, Any] = {"w": weights(2, 4, 1, 1, 1, 1)} if "four axes" in case else {}
    constants |= {"scales": np.array([1, 1, 1.6, 2], np.float32)}
    with pytest.raises(UnsupportedModelError, match=reason):
        pack.compile(build(nodes, constants, inputs))


def test_node_that_nobody_needs_is_not_an_obstacle() -> None:
    model = build([node("RandomNormalLike", ["m"], "unused"), node("Relu", ["x"])], inputs={"x": (1, 4, 6, 5), "m": (2, 3, 3)})
    assert ops_of(pack.compile(model)) == [Op.UNARY]


# --- metadata ----------------------------------------------------------------------------------------------------------


def test_metadata_describes_each_step() -> None:
    program = pack.compile(conv_net(True), "rpi4")
    steps = program.metadata["steps"]
    assert [s["name"] for s in steps] == [s.name for s in program.steps]
    convs = [s for s in steps if s["op"] in ("Conv", "Gemm")]
    assert [s["macs"] for s in convs] == [6 * 5 * 6 * 4 * 9, 4 * 3 * 6 * 9, 18]
    assert all(s["form"] == "int8" and s["weight_bytes"] > 0 for s in convs)
    assert program.metadata["memory"]["arena_lower_bound"] <= program.arena_bytes


def test_float_step_of_a_quantised_model_says_why() -> None:
    model = build([node("Conv", ["x", "w"], "c"), node("Conv", ["c", "w"])], {"w": weights(4, 4, 1, 1)})
    quantise(model, feeds_for(model))
    last = graph.find_node(model, "Conv_y")
    last.replace_input_with(0, graph.find_value(model, "c"))
    reasons = [s["reason"] for s in pack.compile(model).metadata["steps"] if "reason" in s]
    assert reasons == ["its inputs or its result are not quantised"] * 2


def test_int8_operator_that_cannot_run_so_falls_back_to_float_and_is_noted() -> None:
    model = build([node("Add", ["x", "c"])], {"c": weights(1, 4, 6, 5)})
    feeds = feeds_for(model)
    quantise(model, feeds)
    program, results = run_everywhere(model, feeds)
    assert_same_steps(model, feeds, results["y"])
    assert any("Add_y (Add) runs in float32" in note for note in program.metadata["notes"])
    reasons = [s["reason"] for s in program.metadata["steps"] if "reason" in s]
    assert len(reasons) == 1
    assert "neither one number nor one for each channel" in reasons[0]


# --- foreign weights and limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["per_tensor", "unsigned"])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
def test_foreign_weights_are_taken_or_requantised(form: str, op: str) -> None:
    inputs = {"x": (3, 8)} if op == "Gemm" else None
    model = build([node(op, ["x", "w"])], {"w": weights(8, 5) if op == "Gemm" else weights(4, 4, 3, 3)}, inputs)
    feeds = feeds_for(model)
    quantise_activations(model, feeds, unsigned=True)
    quantise_weights(model, **{form: True})
    program, results = run_everywhere(model, feeds)
    noted = any("quantised again from their float values" in note for note in program.metadata["notes"])
    assert noted == (form == "unsigned")
    if form == "per_tensor":
        assert_same_steps(model, feeds, results["y"])
        return
    expected = graph.run(model, feeds, optimize=False)["y"]
    error = results["y"] - expected
    assert np.sqrt(np.mean(error**2)) < 0.01 * np.sqrt(np.mean(expected**2))


@pytest.mark.parametrize("zero_point", [-128, -3, 0, 127])
def test_reach_is_the_largest_accumulator_of_any_input(zero_point: int) -> None:
    random = np.random.default_rng(3)
    w, bias = random.integers(-127, 128, (4, 5)), random.integers(-1000, 1000, 4)
    corners = np.array(np.meshgrid(*[[-128, 127]] * 5)).reshape(5, -1) - zero_point
    np.testing.assert_array_equal(reach(bias, w.astype(np.int8), zero_point), np.abs(w @ corners + bias[:, None]).max(axis=1))


def _one_weight(bias_steps: int, inner: int = 1) -> graph.Model:
    """A product whose bias is stored as ``bias_steps``."""
    model = build([node("Gemm", ["x", "w", "b"])], {"w": np.full((inner, 2), -1, np.float32), "b": weights(2)}, {"x": (1, inner)})
    feeds = {"x": np.linspace(-1, 1, inner, dtype=np.float32).reshape(1, inner)}
    quantise(model, feeds)
    gemm = graph.find_node(model, "Gemm_y")
    sx = graph.constant(graph.producer(gemm.inputs[0]).inputs[1])  # type: ignore[union-attr,arg-type]
    sw = graph.constant(graph.producer(gemm.inputs[1]).inputs[1])  # type: ignore[union-attr,arg-type]
    stored, scale = np.array([bias_steps, 5], np.int32), (sx * sw).astype(np.float32)
    graph.quantize_weight(model, gemm.inputs[2], stored, scale, np.zeros(2, np.int32), axis=0)  # type: ignore[arg-type]
    return model


def test_bias_that_fills_32_bits_gets_a_coarser_scale() -> None:
    program = pack.compile(_one_weight(ACCUMULATOR_LIMIT - 10))
    assert any("scales of 1 channel(s) doubled" in note for note in program.metadata["notes"])


def test_sum_that_may_overflow_is_refused_with_the_name_of_its_node() -> None:
    with pytest.raises(NumericsError, match="Gemm_y"):
        pack.compile(_one_weight(ACCUMULATOR_LIMIT - 10, inner=6000))


def test_integers_moved_before_they_are_dequantised_are_refused_by_name() -> None:
    def scalar(name: str, value: Any) -> onnx.TensorProto:
        return onnx.numpy_helper.from_array(np.asarray(value), name)

    quantisation = {"s": np.float32(0.1), "z": np.uint8(7), "zw": np.int8(0), "zy": np.uint8(9)}
    held = [scalar(name, value) for name, value in quantisation.items()] + [scalar("w", np.ones((2, 3, 1, 1), np.int8))]
    made = [
        onnx.helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("DequantizeLinear", ["t", "s", "z"], ["f"]),
        onnx.helper.make_node("DequantizeLinear", ["w", "s", "zw"], ["wf"]),
        onnx.helper.make_node("Conv", ["f", "wf"], ["c"], name="moved"),
        onnx.helper.make_node("QuantizeLinear", ["c", "s", "zy"], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "s", "zy"], ["y"]),
    ]
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, (1, 4, 5, 3))
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 2, 4, 5))
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(made, "g", [x], [y], held), opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=10
    )
    with pytest.raises(UnsupportedModelError, match="made by Transpose and not by a QuantizeLinear"):
        pack.compile(frontend.load(proto.SerializeToString()), load_target("host"))


def test_a_constant_seen_under_another_shape_keeps_its_numbers() -> None:
    nodes = [node("MatMul", ["x", "w"], "m"), node("Add", ["m", "b"])]
    model = build(nodes, {"w": weights(8, 20), "b": weights(20)}, {"x": (1, 8)})
    feeds = feeds_for(model)
    _, got = run_everywhere(model, feeds)
    np.testing.assert_allclose(got["y"], graph.run(model, feeds)["y"], rtol=1e-5, atol=1e-5)
