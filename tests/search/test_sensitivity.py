"""The ranking of layers: a layer made fragile comes first, and the check of the halves knows chance from fact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgezip import graph
from edgezip.cli.main import main
from edgezip.compression import compress
from edgezip.errors import CalibrationError
from edgezip.frontends import onnx as front
from edgezip.passes.weight_grid import Form
from edgezip.recipe import Recipe
from edgezip.search import sensitivity
from edgezip.search.sensitivity import measure_sensitivity


def _model(fragile: int) -> Any:
    """Four products in a row; in one a large weight that meets zeros takes the range of every row."""
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    weights = []
    for number in range(4):
        held = generator.standard_normal((24, 24)) / 5
        if number == fragile:
            held[:, 5] = 30.0
        if number == fragile - 1:
            held[5] = 0.0
        weights.append(numpy_helper.from_array(held.astype(np.float32), f"w{number}"))
    nodes = []
    for number in range(4):
        source, made = (f"v{number}" if number else "x"), ("y" if number == 3 else f"m{number}")
        nodes.append(helper.make_node("Gemm", [source, f"w{number}"], [made], name=f"layer{number}", transB=1))
        if number < 3:
            nodes.append(helper.make_node("Tanh", [made], [f"v{number + 1}"], name=f"tanh{number}"))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 24))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 24))]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    return front.load(proto.SerializeToString())


def _samples(count: int = 16) -> list[dict[str, Any]]:
    generator = np.random.default_rng(1)
    return [{"x": (generator.standard_normal((1, 24)) * (np.arange(24) != 5)).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("fragile", [0, 2, 3])
def test_the_fragile_layer_comes_first(fragile: int) -> None:
    found = measure_sensitivity(_model(fragile), _samples(), Form(4, "channel"))
    assert found.layers[0].name == f"layer{fragile}"
    assert len(found.layers) == 4
    assert [row.divergence for row in found.layers] == sorted((row.divergence for row in found.layers), reverse=True)
    assert found.samples == 16


def test_more_bits_cost_less_and_the_model_is_not_touched() -> None:
    model = _model(1)
    before = graph.to_bytes(model)
    four, eight = (measure_sensitivity(model, _samples(), Form(bits, "channel")).layers for bits in (4, 8))
    by_name = {row.name: row.divergence for row in four}
    assert all(row.divergence < by_name[row.name] for row in eight)
    assert graph.to_bytes(model) == before


def test_the_halves_agree_on_facts_and_not_on_chance() -> None:
    assert sensitivity._rank_correlation([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]) == pytest.approx(1.0)
    assert sensitivity._rank_correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    assert sensitivity._rank_correlation([1.0], [2.0]) == 1.0


def test_divergence_is_of_shares_where_outputs_are_shares() -> None:
    p, q = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    expected = 0.5 * np.log(2) + 0.5 * np.log(0.5 / 0.75)
    assert sensitivity._row_divergence(p, q)[0] == pytest.approx(expected)
    logits = np.log(p) + 7, np.log(q) - 3
    assert sensitivity._row_divergence(*logits)[0] == pytest.approx(expected)


def test_one_sample_has_no_halves() -> None:
    with pytest.raises(CalibrationError, match="two halves"):
        measure_sensitivity(_model(0), _samples(1), Form(4, "channel"))


def test_the_verb_prints_the_order_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, data = tmp_path / "m.onnx", tmp_path / "s.npz"
    graph.save(_model(2), path)
    np.savez(data, x=np.concatenate([sample["x"] for sample in _samples()]))
    assert main(["sensitivity", str(path), "--calib", str(data), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["layers"][0]["name"] == "layer2"
    assert facts["form"] == "int4 per channel"
    assert main(["sensitivity", str(path), "--calib", str(data)]) == 0
    assert "layer2" in capsys.readouterr().out
    assert main(["sensitivity", str(path), "--calib", str(data), "--per", "48"]) == 2


RECIPES = {
    "prune": "passes: [{prune: {pattern: 1x1, sparsity: 0.6, method: magnitude}}]",
    "cluster": "passes: [{cluster: {table: powers, count: 4}}]",
    "factorize": "passes: [{factorize: {rank_by: ratio, rank: 0.4, prefer: size, whiten: false, multiple: 1}}]",
    "quantize_weights": "passes: [{quantize_weights: {bits: 3, per: channel, method: gptq}}]",
    "int8": "quantize: {method: minmax}",
    "quantize_weights + int8": "passes: [{quantize_weights: {bits: 3, per: channel}}]\nquantize: {method: minmax}",
}


@pytest.mark.parametrize("passes", RECIPES)
def test_a_recipe_ranks_each_layer_as_it_leaves_it(passes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same by hand: the outputs of the network in which one layer alone is the recipe's, run layer by layer in NumPy."""
    path, data, recipe = tmp_path / "m.onnx", tmp_path / "s.npz", tmp_path / "r.yaml"
    model, samples = _model(2), _samples()
    graph.save(model, path)
    np.savez(data, x=np.concatenate([sample["x"] for sample in samples]))
    recipe.write_text(RECIPES[passes] + "\n")
    assert main(["sensitivity", str(path), "--calib", str(data), "--recipe", str(recipe), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["form"] == passes
    assert {row["name"] for row in facts["layers"]} == {f"layer{n}" for n in range(4)}
    assert all(row["divergence"] > 0 for row in facts["layers"])
    if passes in ("prune", "cluster"):
        options = Recipe.load(recipe).model_copy(update={"recover": "none"})
        small = compress(model, options, calibration=samples).model
        for row in facts["layers"]:
            number = int(row["name"][-1])
            assert row["divergence"] == pytest.approx(_by_hand(model, small, number, samples), rel=1e-3)


def _by_hand(model: Any, small: Any, number: int, samples: list[dict[str, Any]]) -> float:
    """Divergence with weight ``number`` out of ``small``."""
    wanted = graph.constant(graph.find_value(model, f"w{number}"))
    rows = np.eye(24, dtype=np.float32)
    source = f"v{number}" if number else "x"
    made = f"m{number}" if number < 3 else "y"
    alone = graph.part(small, [source], [made])
    got = np.concatenate([graph.run(alone, {source: row[None]})[made] for row in rows]).T  # the matrix itself
    assert not np.allclose(got, wanted)
    found = []
    for sample in samples:
        outputs = []
        for chosen in (wanted, got):
            x = sample["x"].astype(np.float64)
            for layer in range(4):
                held = chosen if layer == number else graph.constant(graph.find_value(model, f"w{layer}"))
                x = x @ held.T.astype(np.float64)
                x = np.tanh(x) if layer < 3 else x
            outputs.append(x)
        found.append(sensitivity._row_divergence(*outputs).mean())
    return float(np.mean(found))


def test_layers_that_changed_their_shapes_are_named_and_a_recipe_stands_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data, recipe = tmp_path / "m.onnx", tmp_path / "s.npz", tmp_path / "r.yaml"
    graph.save(_model(2), path)
    np.savez(data, x=np.concatenate([sample["x"] for sample in _samples()]))
    recipe.write_text("passes: [{prune_channels: {macs: 0.3, multiple: 4, method: l2}}]\n")
    call = ["sensitivity", str(path), "--calib", str(data)]
    assert main([*call, "--recipe", str(recipe), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["left_out"]
    assert main([*call, "--recipe", str(recipe), "--bits", "4"]) == 2
    assert main([*call, "--target", "rpi4"]) == 2
    recipe.write_text("passes: [{cluster: {keep: [Gemm]}}]\n")
    assert main([*call, "--recipe", str(recipe)]) == 2


def test_halves_of_the_data_that_disagree_are_told() -> None:
    """Two branches; samples of even number feed the one alone, the others the other: the order is that of the half."""
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(3)
    weights = [numpy_helper.from_array(generator.standard_normal((12, 8)).astype(np.float32), name) for name in ("u", "v")]
    nodes = [
        helper.make_node("MatMul", ["a", "u"], ["p"], name="left"),
        helper.make_node("MatMul", ["b", "v"], ["q"], name="right"),
        helper.make_node("Add", ["p", "q"], ["y"], name="sum"),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 12)) for name in ("a", "b")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8))]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model = front.load(proto.SerializeToString())
    rows = [generator.standard_normal((1, 12)).astype(np.float32) for _ in range(8)]
    torn = [{"a": row * (i % 2 == 0), "b": row * (i % 2 == 1)} for i, row in enumerate(rows)]
    assert not measure_sensitivity(model, torn, Form(3, "channel")).is_stable
    same = [{"a": row, "b": 0.1 * row} for row in rows]
    assert measure_sensitivity(model, same, Form(3, "channel")).is_stable
