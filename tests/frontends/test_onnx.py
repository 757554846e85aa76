"""The ONNX front end: the same numbers as the file, every shape known, names kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphs as graphs
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgezip import frontends, graph
from edgezip.errors import InvalidModelError, MissingFileError, ShapeError, UnsupportedModelError, UsageError
from edgezip.frontends import onnx as front

OPSETS = range(11, 26)


def original(proto: onnx.ModelProto, feeds: dict[str, graph.Array]) -> list[graph.Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, feeds)


def feeds_of(model: graph.Model) -> dict[str, graph.Array]:
    random = np.random.default_rng(7)
    return {str(v.name): random.standard_normal(graph.shape(v)).astype(graph.dtype(v)) for v in graph.input_values(model)}


def assert_same_numbers(proto: onnx.ModelProto, model: graph.Model) -> None:
    """1e-5 of the largest output: a sum of k terms of folded float32 weights differs by about sqrt(k) * 6e-8, k < 100 here."""
    feeds = feeds_of(model)
    expected, got = original(proto, feeds), graph.run(model, feeds, optimize=False)
    assert [info.name for info in proto.graph.output] == list(got)
    for want, have in zip(expected, got.values(), strict=True):
        assert want.shape == have.shape
        assert want.dtype == have.dtype
        assert np.abs(want - have).max() <= 1e-5 * np.abs(want).max()


def assert_every_shape_is_known(model: graph.Model) -> None:
    for value in graph.values(model).values():
        assert graph.shape(value) is not None
        assert graph.dtype(value) is not None


def cases() -> list[tuple[str, int]]:
    """Every family at the two ends of the opset range; every opset on three families; later operators from their first opset."""
    ends = [(name, opset) for name in graphs.FAMILIES for opset in (11, 25)]
    forms = [
        (name, o) for name in ("split_concat", "shape_arithmetic", "reduce_mean", "conv_bn") for o in OPSETS if o not in (11, 25)
    ]
    return ends + forms + [(name, opset) for name, (since, _) in graphs.SINCE.items() for opset in {since, 25}]


@pytest.mark.parametrize(("family", "opset"), cases())
def test_numbers_and_shapes_equal_the_original(family: str, opset: int) -> None:
    build = graphs.FAMILIES[family] if family in graphs.FAMILIES else graphs.SINCE[family][1]
    proto = build(opset)
    model = front.load(proto.SerializeToString())
    assert graph.opset(model) == (13 if (family, opset) == ("softmax", 11) else opset)  # raised where a form needs it
    assert_every_shape_is_known(model)
    onnx.checker.check_model(graph.to_proto(model), full_check=True)
    assert_same_numbers(proto, model)


def ops(model: graph.Model) -> list[str]:
    return [node.op_type for node in graph.nodes(model)]


@pytest.mark.parametrize("family", ["conv_bn", "conv_transpose_grouped_bn", "gemm_bn", "gemm_no_trans_bn", "conv_add_bn_relu"])
def test_batch_norm_disappears_into_the_layer_before(family: str) -> None:
    model = front.load(graphs.FAMILIES[family](17).SerializeToString())
    assert not {"BatchNormalization", "Add"} & set(ops(model))


def test_batch_norm_with_nothing_before_it_stays() -> None:
    assert ops(front.load(graphs.FAMILIES["bn_alone"](17).SerializeToString())) == ["BatchNormalization"]


def test_batch_norm_is_not_folded_when_the_convolution_has_a_second_reader() -> None:
    proto = graphs.FAMILIES["conv_bn"](17)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("c", 1, None))
    model = front.load(proto.SerializeToString())
    assert ops(model) == ["Conv", "BatchNormalization"]
    assert_same_numbers(proto, model)


def test_a_shared_weight_is_folded_into_a_copy() -> None:
    proto = graphs.FAMILIES["conv_shared_weight_bn"](17)
    model = front.load(proto.SerializeToString())
    assert np.array_equal(graph.constant(graph.find_value(model, "w")), onnx.numpy_helper.to_array(proto.graph.initializer[0]))


def test_a_wrong_fold_would_be_seen() -> None:
    proto = graphs.FAMILIES["conv_bn"](17)
    model = front.load(proto.SerializeToString())
    weight = graph.constant(graph.find_value(model, "w"))
    graph.replace_weight(model, "w", weight * np.float32(1.001))
    with pytest.raises(AssertionError):
        assert_same_numbers(proto, model)


def test_shape_arithmetic_leaves_one_reshape() -> None:
    assert ops(front.load(graphs.FAMILIES["shape_arithmetic"](17).SerializeToString())) == ["Reshape"]


def test_dropout_and_identity_disappear_and_the_output_keeps_its_name() -> None:
    nodes = [graphs.node("Identity", ["x"], "a"), graphs.node("Relu", ["a"], "b", name="act"), graphs.node("Dropout", ["b"], "y")]
    model = front.load(graphs.model(nodes).SerializeToString())
    assert [(n.name, n.op_type, n.outputs[0].name) for n in graph.nodes(model)] == [("act", "Relu", "y")]


def test_identity_between_an_input_and_an_output_stays() -> None:
    proto = graphs.model([graphs.node("Identity", ["x"])])
    model = front.load(proto.SerializeToString())
    assert ops(model) == ["Identity"]
    assert_same_numbers(proto, model)


def test_dead_nodes_and_unused_constants_disappear() -> None:
    proto = graphs.model(
        [graphs.node("Relu", ["x"]), graphs.node("Mul", ["x", "c"], "z")], [graphs.weights("c", 1), graphs.weights("d", 3)]
    )
    model = front.load(proto.SerializeToString())
    assert ops(model) == ["Relu"]
    assert graph.initializers(model) == []


def test_names_survive_and_unnamed_nodes_are_called_by_operator_and_place() -> None:
    nodes = [
        graphs.node("Relu", ["x"], "a", name="first"),
        graphs.node("Abs", ["a"], "b"),
        graphs.node("Relu", ["b"], "y", name="first"),
    ]
    model = front.load(graphs.model(nodes).SerializeToString())
    assert [n.name for n in graph.nodes(model)] == ["first", "Abs_1", "first_2"]
    assert [n.outputs[0].name for n in graph.nodes(model)] == ["a", "b", "y"]


def test_nodes_out_of_order_are_sorted() -> None:
    proto = graphs.model([graphs.node("Relu", ["a"]), graphs.node("Abs", ["x"], "a")])
    assert ops(front.load(proto.SerializeToString())) == ["Abs", "Relu"]


def test_quantised_weights_are_not_folded_back_to_float() -> None:
    constants = [
        graphs.tensor("q", np.ones((4, 4, 1, 1), np.int8)),
        graphs.tensor("s", np.float32(0.5)),
        graphs.tensor("z", np.int8(0)),
    ]
    nodes = [graphs.node("DequantizeLinear", ["q", "s", "z"], "w"), graphs.node("Conv", ["x", "w"])]
    assert ops(front.load(graphs.model(nodes, constants).SerializeToString())) == ["DequantizeLinear", "Conv"]


def test_local_functions_are_inlined() -> None:
    proto = graphs.model([onnx.helper.make_node("Twice", ["x"], ["y"], domain="mine", name="t")])
    body = [graphs.node("Add", ["a", "a"], "b")]
    proto.functions.append(onnx.helper.make_function("mine", "Twice", ["a"], ["b"], body, [onnx.helper.make_opsetid("", 17)]))
    proto.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    model = front.load(proto.SerializeToString())
    assert ops(model) == ["Add"]
    assert_same_numbers(proto, model)


def test_weights_listed_among_the_inputs_are_constants() -> None:
    proto = graphs.tiny_conv()
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [1, 1, 3, 3]))
    assert [v.name for v in graph.input_values(front.load(proto.SerializeToString()))] == ["x"]


# ---------------------------------------------------------------- shapes


def test_a_dynamic_batch_becomes_one() -> None:
    model = front.load(graphs.model([graphs.node("Relu", ["x"])], x=("N", 3, 4, 4)).SerializeToString())
    assert graph.shape(graph.find_value(model, "y")) == (1, 3, 4, 4)


def test_shapes_fix_every_dimension() -> None:
    data = graphs.model([graphs.node("Relu", ["x"])], x=("N", 3, "h", "w")).SerializeToString()
    assert graph.shape(graph.find_value(front.load(data, shapes={"x": (2, 3, 5, 7)}), "y")) == (2, 3, 5, 7)


def test_a_dynamic_dimension_without_shape_says_which_flag_to_use() -> None:
    data = graphs.model([graphs.node("Relu", ["x"])], x=("N", 3, "h", None)).SerializeToString()
    with pytest.raises(ShapeError, match=r"input 'x'.*Nx3xhx\?.*--shape x=1x3x224x224"):
        front.load(data)


def test_a_shape_that_contradicts_the_file_is_refused() -> None:
    data = graphs.model([graphs.node("Relu", ["x"])], x=(1, 3, 4, 4)).SerializeToString()
    for wrong in ((1, 4, 4, 4), (1, 3, 4), (1, 3, 4, 0)):
        with pytest.raises(ShapeError, match="input 'x'"):
            front.load(data, shapes={"x": wrong})


def test_a_shape_for_an_unknown_input_names_the_inputs() -> None:
    with pytest.raises(UsageError, match="expected x, got z"):
        front.load(graphs.tiny_conv().SerializeToString(), shapes={"z": (1,)})


def test_declared_inner_shapes_are_not_believed() -> None:
    proto = graphs.model([graphs.node("Relu", ["x"], "a"), graphs.node("Relu", ["a"])])
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("a", 1, [1, 2, 3]))
    assert graph.shape(graph.find_value(front.load(proto.SerializeToString()), "a")) == (1, 4, 8, 8)


def test_a_shape_that_depends_on_the_data_is_refused_with_the_node() -> None:
    nodes = [graphs.node("NonZero", ["x"], "places", name="nz"), graphs.node("ReduceSum", ["places"], name="behind")]
    proto = graphs.model(nodes, out_kind=onnx.TensorProto.INT64)
    with pytest.raises(UnsupportedModelError, match="nz"):
        front.load(proto.SerializeToString())


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("opset", [0, 29])
def test_other_opsets_are_refused_with_the_range(opset: int) -> None:
    with pytest.raises(UnsupportedModelError, match="1 to 28"):
        front.load(graphs.model([graphs.node("Relu", ["x"])], opset=opset).SerializeToString())


def test_all_unknown_operators_are_listed_at_once() -> None:
    proto = graphs.model(
        [onnx.helper.make_node("Foo", ["x"], ["a"], name="f1", domain="odd"), graphs.node("Bar", ["a"], name="f2")]
    )
    proto.opset_import.append(onnx.helper.make_opsetid("odd", 1))
    with pytest.raises(UnsupportedModelError, match=r"2 nodes.*f1.*odd.*f2"):
        front.load(proto.SerializeToString())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"hello world, this is no model\n" * 9, "text file"),
        (b"PK\x03\x04rest", "zip"),
        (b"version https://git-lfs", "LFS"),
    ],
)
def test_a_file_that_is_not_onnx_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidModelError, match=says):
        frontends.load(path)


def test_missing_files_and_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        frontends.load(tmp_path / "none.onnx")
    with pytest.raises(MissingFileError):
        front.load(tmp_path)
    (tmp_path / "m.pb").touch()
    with pytest.raises(UnsupportedModelError, match="TensorFlow graph"):
        frontends.load(tmp_path / "m.pb")


def test_loading_twice_gives_the_same_bytes() -> None:
    data = graphs.FAMILIES["conv_add_bn_relu"](17).SerializeToString()
    assert graph.to_bytes(front.load(data)) == graph.to_bytes(front.load(data))


def test_a_loaded_model_loads_again_unchanged(tmp_path: Path) -> None:
    model = front.load(graphs.FAMILIES["conv_add_bn_relu"](17).SerializeToString())
    graph.save(model, tmp_path / "m.onnx")
    assert graph.to_bytes(frontends.load(tmp_path / "m.onnx")) == graph.to_bytes(model)


def test_one_zero_point_may_be_a_scalar_beside_a_scale_of_one_element() -> None:
    """What onnxruntime's own quantiser writes."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="d"),
    ]
    weights = [numpy_helper.from_array(np.array([0.1], np.float32), "s"), numpy_helper.from_array(np.array(3, np.uint8), "z")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], weights), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    assert [n.op_type for n in graph.nodes(front.load(model.SerializeToString()))] == ["QuantizeLinear", "DequantizeLinear"]


def _vec(name: str, *dims: int) -> onnx.TensorProto:
    return graphs.weights(name, *dims)


GEMM = [graphs.node("Gemm", ["x", "w", "c"], alpha=0.5, beta=2.0)]
OTHER_WORDS = {
    "softmax over several axes": graphs.model([graphs.node("Softmax", ["x"], axis=1)], opset=11),
    "softmax of opset 12 by its default": graphs.model([graphs.node("Softmax", ["x"])], opset=12),
    "gemm of a transposed first operand": graphs.model(
        [graphs.node("Gemm", ["x", "w"], transA=1)], [_vec("w", 5, 3)], x=(5, 2)
    ),
    "gemm adds a matrix": graphs.model(GEMM, [_vec("w", 5, 3), _vec("c", 2, 3)], x=(2, 5)),
    "gemm adds a column": graphs.model(GEMM, [_vec("w", 5, 3), _vec("c", 2, 1)], x=(2, 5)),
    "gemm adds a column as long as a row": graphs.model(GEMM, [_vec("w", 5, 3), _vec("c", 3, 1)], x=(3, 5)),
    "gemm adds what is computed": graphs.model(
        [graphs.node("ReduceMean", ["x"], "c", axes=[1]), *GEMM], [_vec("w", 5, 3)], x=(2, 5), opset=13
    ),
    "sum of three": graphs.model([graphs.node("Sum", ["x", "a", "b"])], [_vec("a", 8), _vec("b", 4, 1, 1)]),
    "sum of one": graphs.model([graphs.node("Relu", ["x"], "r"), graphs.node("Sum", ["r"])]),
    "concat with a part of nothing": graphs.model(
        [graphs.node("Slice", ["x", "five", "five", "axis"], "none"), graphs.node("Concat", ["none", "x", "a", "x"], axis=2)],
        [
            graphs.tensor("five", np.array([5])), graphs.tensor("axis", np.array([2])),
            graphs.tensor("a", np.zeros((1, 4, 0, 8), np.float32)),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER_WORDS)
def test_forms_that_the_runtime_has_in_other_words_give_the_same_numbers_and_run(case: str) -> None:
    from edgezip import pack
    from edgezip.runtime.session import Session

    proto = OTHER_WORDS[case]
    model = front.load(proto.SerializeToString())
    assert_same_numbers(proto, model)
    assert_every_shape_is_known(model)
    feeds = feeds_of(model)
    want, got = original(proto, feeds)[0], Session(pack.compile(model)).run(feeds)["y"]
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
