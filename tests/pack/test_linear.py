"""int8 weights on rows that are int8 already, or become int8 at run time: the LINEAR step."""

from __future__ import annotations

import numpy as np
import pytest
from pack_graphs import build, feeds_for, node, ops_of, quantise_weights, run_everywhere, weights

from edgezip import graph
from edgezip.kernels import reference
from edgezip.program import Op

TOKENS = {"x": (1, 5, 36)}


def linear_model(op: str, outputs: int) -> graph.Model:
    constants = {"w": weights(36, outputs), **({"b": weights(outputs)} if op == "Gemm" else {})}
    model = build([node(op, ["x", *constants])], constants, {"x": (5, 36)} if op == "Gemm" else TOKENS)
    quantise_weights(model)
    return model


def mark_dynamic(model: graph.Model) -> None:
    for n in graph.nodes(model):
        if n.op_type in ("MatMul", "Gemm"):
            graph.set_metadata(n, "edgezip.activation", "dynamic_s8_row")


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
@pytest.mark.parametrize("outputs", [7, 70])
def test_marked_product_quantises_its_rows_at_run_time(op: str, outputs: int) -> None:
    model = linear_model(op, outputs)
    mark_dynamic(model)
    feeds = feeds_for(model)
    program, results = run_everywhere(model, feeds)
    assert ops_of(program) == [Op.LINEAR]
    rows, scale = reference.quantize_rows(feeds["x"].reshape(-1, 36))
    exact = graph.run(model, {"x": (rows * scale[:, None]).astype(np.float32).reshape(feeds["x"].shape)}, optimize=False)["y"]
    np.testing.assert_allclose(results["y"], exact, rtol=1e-5, atol=1e-5)
    # the rounding of 36 activations of at most 2, in steps of 2 / 127, times weights of at most 0.5
    np.testing.assert_allclose(results["y"], graph.run(model, feeds, optimize=False)["y"], rtol=0, atol=36 * 0.5 * 2 / 127 / 2)


def test_product_without_the_mark_stays_float() -> None:
    model = linear_model("MatMul", 7)
    program, _ = run_everywhere(model, feeds_for(model))
    assert Op.LINEAR not in ops_of(program)


def test_int8_rows_without_a_quantiser_behind_give_floats() -> None:
    model = linear_model("MatMul", 19)
    graph.insert_qdq(model, graph.find_value(model, "x"), np.asarray(0.02, np.float32), np.asarray(-7, np.int8))
    feeds = feeds_for(model)
    program, results = run_everywhere(model, feeds)
    assert ops_of(program)[-1] is Op.LINEAR
    np.testing.assert_allclose(results["y"], graph.run(model, feeds)["y"], rtol=1e-5, atol=1e-5)
