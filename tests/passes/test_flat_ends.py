"""Ranges end where every reader of a value is flat; biases settle to the means of float."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
import small_nets as models
from onnx import TensorProto, helper, numpy_helper

from edgezip import graph
from edgezip.compression import ranges
from edgezip.frontends import onnx as front
from edgezip.passes.calibrate import calibrate
from edgezip.passes.flat_ends import EVERYTHING, ends
from edgezip.passes.histogram import Histogram
from edgezip.passes.place_qdq import place
from edgezip.passes.quantize_static import quantize_static
from edgezip.passes.settle_bias import settle_bias

SIZE = (1, 3, 8, 8)


def net(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> graph.Model:
    """x -> Conv 1x1 -> c -> the nodes."""
    weight = np.random.default_rng(5).normal(size=(4, 3, 1, 1)).astype(np.float32) * 4
    held = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.float32([3, -2, 0, 1]), "b")]
    held += [numpy_helper.from_array(np.float32(n), name) for name, n in (("low", -1), ("high", 2), ("half", 0.5))]
    used = {name for node in nodes for name in node.input}
    made = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv"), *nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SIZE)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [item for item in held if item.name in ("w", "b") or item.name in used],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)
    return front.load(model.SerializeToString())


def one(op: str, *more: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, ["c", *more], ["y"], name=op, **attributes)


SILU = [helper.make_node("Sigmoid", ["c"], ["s"], name="s"), helper.make_node("Mul", ["c", "s"], ["y"], name="m")]
CASES: dict[str, tuple[list[onnx.NodeProto], tuple[float, float]]] = {
    "hard-swish": ([one("HardSwish")], (-3.0, math.inf)),
    "hard sigmoid": ([one("HardSigmoid", alpha=0.25, beta=0.5)], (-2.0, 2.0)),
    "clip": ([one("Clip", "low", "high")], (-1.0, 2.0)),
    "clip from below": ([one("Clip", "low")], (-1.0, math.inf)),
    "SiLU in two": (SILU, (-8.0, math.inf)),
    "a residual beside it": (
        [helper.make_node("HardSwish", ["c"], ["h"], name="h"), helper.make_node("Add", ["c", "h"], ["y"], name="a")], EVERYTHING,
    ),
    "a gate that others read": ([*SILU[:1], helper.make_node("Mul", ["c", "s"], ["m"], name="m"),
                                 helper.make_node("Add", ["m", "s"], ["y"], name="a")], EVERYTHING),
    "another function": ([one("LeakyRelu")], EVERYTHING),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_range_ends_where_its_readers_are_flat(case: str) -> None:
    nodes, wanted = CASES[case]
    assert ends(graph.find_value(net(*nodes), "c")) == wanted


def test_two_readers_need_the_wider_of_their_ranges() -> None:
    nodes = [one("HardSwish"), helper.make_node("HardSigmoid", ["c"], ["z"], name="z", alpha=0.125, beta=0.5)]
    assert ends(graph.find_value(net(*nodes, outputs=("y", "z")), "c")) == (-4.0, math.inf)


def test_an_output_of_the_graph_is_read_by_the_caller() -> None:
    assert ends(graph.find_value(net(one("HardSwish"), outputs=("y", "c")), "c")) == EVERYTHING


def test_a_histogram_within_ends_counts_what_lay_beyond_at_the_end() -> None:
    histogram = Histogram("t")
    histogram.add(np.linspace(-10, 10, 1001).astype(np.float32))
    clipped = histogram.within(-3, math.inf)
    assert (clipped.low, clipped.high) == (-3, 10)
    assert clipped.counts.sum() == 1001
    assert clipped.counts.max() == clipped.counts[np.flatnonzero(clipped.counts)[0]] > 340
    assert histogram.low == -10


def _quantised(model: graph.Model, samples: list[dict[str, Any]]) -> graph.Model:
    placement = place(model)
    histograms = calibrate(model, sorted(placement.points), samples)
    return quantize_static(model, placement, ranges(model, placement, histograms, "minmax"))


def test_the_int8_steps_in_front_of_a_hard_swish_begin_at_minus_3() -> None:
    model = net(one("HardSwish"))
    samples = [{"x": np.random.default_rng(i).normal(0, 2, SIZE).astype(np.float32)} for i in range(4)]
    small = _quantised(model, samples)
    node = next(n for n in graph.nodes(small) if n.op_type == "QuantizeLinear" and n.inputs[0].name == "c")
    scale, zero = (float(graph.constant(v)) for v in node.inputs[1:3])
    assert (-128 - zero) * scale == pytest.approx(-3, abs=scale)  # one step: the zero point is a whole number


def test_settled_biases_bring_back_the_means_of_float() -> None:
    model = models.conv_net()
    samples = models.samples()
    small = _quantised(model, samples)
    stored = [v for v in graph.initializers(small) if v.dtype.name == "INT32" and np.ndim(graph.constant(v)) == 1]
    shifted = next(v for v in stored if graph.constant(v).any())
    graph.replace_weight(small, shifted.name, graph.constant(shifted) + 4000)  # a fault that it must undo
    settled = settle_bias(small, model, samples)
    names = [n.outputs[0].name for n in graph.nodes(model) if n.op_type == "Conv" and len(n.inputs) > 2]

    def means(run: graph.Model) -> Any:
        found = [np.concatenate([r[n].mean(axis=(0, 2, 3)) for n in names]) for r in graph.run_many(run, iter(samples), names)]
        return np.mean(found, axis=0)

    before, after = (np.abs(means(run) - means(model)) for run in (small, settled))
    # a bias has steps far below a thousandth of the range; what is left comes from rounding the means of few samples
    assert after.max() < 1e-3 < 0.02 < before.max()
    assert graph.to_bytes(small) != graph.to_bytes(settled)


def test_biases_settle_in_one_walk_as_they_do_one_whole_run_a_layer() -> None:
    """The plain way: the network from its input to each convolution in turn, with the biases that are settled so far."""
    model, samples = models.conv_net(channels=16), models.samples()
    small = _quantised(model, samples)
    plain = graph.clone(small)
    for node in [each for each in graph.nodes(plain) if each.op_type == "Conv" and len(each.inputs) > 2]:
        name = str(node.outputs[0].name)

        def mean(run: graph.Model, name: str = name) -> Any:
            return np.mean([r[name].mean(axis=(0, 2, 3), dtype=np.float64) for r in graph.run_many(run, samples, [name])], axis=0)

        bias = graph.producer(node.inputs[2])
        stored, unit = (graph.constant(value) for value in bias.inputs[:2])
        shifted = stored - np.rint((mean(plain) - mean(model)) / unit)
        graph.replace_weight(plain, bias.inputs[0].name, shifted.astype(np.int32))
    walked = settle_bias(small, model, samples)
    names = [v.name for v in graph.initializers(small) if v.dtype.name == "INT32" and np.ndim(graph.constant(v)) == 1]
    before, one_by_one, in_a_walk = (
        np.concatenate([graph.constant(graph.find_value(run, name)) for name in names]) for run in (small, plain, walked)
    )
    assert np.abs(one_by_one - before).max() > 20
    assert np.abs(in_a_walk - one_by_one).max() <= 2  # float sums of a piece may end in other bits than those of the whole


def test_a_network_without_convolutions_has_nothing_to_settle() -> None:
    weight = np.random.default_rng(1).normal(size=(12, 10)).astype(np.float32)
    model = models.load([models.node("MatMul", ["x", "w"], "y")], {"w": weight}, (1, 12))
    assert graph.to_bytes(settle_bias(model, model, models.samples((1, 12)))) == graph.to_bytes(model)
