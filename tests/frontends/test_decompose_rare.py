"""Operators of newer sets and of rare models, written as others: the numbers of ONNX's own reference, hostile sizes refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from edgezip import graph, pack
from edgezip.errors import EdgeZipError, InvalidModelError, UnsupportedModelError
from edgezip.frontends import onnx as front
from edgezip.runtime.reference import ReferenceSession
from edgezip.runtime.session import Session

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(11)


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def proto_of(
    op: str, feeds: dict[str, Array], opset: int, constants: dict[str, Array], inputs: list[str], outputs: int, **attrs: Any
) -> Any:
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()]
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, inputs or [*feeds, *constants], names, name="n", **attrs)
    tensors = [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()]
    made = helper.make_graph([node], "g", infos, [helper.make_empty_tensor_value_info(n) for n in names], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])
    return onnx.shape_inference.infer_shapes(model)


def check(
    op: str, feeds: dict[str, Array], opset: int, constants: dict[str, Array] | None = None, inputs: list[str] | None = None,
    outputs: int = 1, expected: list[Array] | None = None, tolerance: float = 2e-5, **attrs: Any,
) -> list[Array]:  # fmt: skip
    """The results, which equal the reference's (or ``expected``); C and the interpreter agree to the bit."""
    proto = proto_of(op, feeds, opset, constants or {}, inputs or [], outputs, **attrs)
    program = pack.compile(front.load(proto.SerializeToString()))
    got, slow = Session(program).run(feeds), ReferenceSession(program).run(feeds)
    with np.errstate(all="ignore"):
        wanted = ReferenceEvaluator(proto).run(None, feeds) if expected is None else expected
    for name, array in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(got[name], slow[name])
        assert got[name].shape == np.shape(array)
        # sums of at most a hundred products of size one in float32
        np.testing.assert_allclose(got[name], array, rtol=tolerance, atol=tolerance)
    return list(got.values())


def refused(op: str, feeds: dict[str, Array], opset: int, constants: dict[str, Array] | None = None, **attrs: Any) -> str:
    proto = proto_of(op, feeds, opset, constants or {}, [], 1, **attrs)
    with pytest.raises((UnsupportedModelError, InvalidModelError)) as caught:
        pack.compile(front.load(proto.SerializeToString()))
    return str(caught.value)


# --- linear attention ---------------------------------------------------------------------------------------------


def attended(rule: str, tokens: int, heads: int, readers: int, *, past: bool, wide: bool = True) -> dict[str, Array]:
    key, value, batch = 6, 5, 2
    feeds = {"q": f32(batch, tokens, readers * key), "k": f32(batch, tokens, heads * key) * np.float32(0.4)}
    feeds["v"] = f32(batch, tokens, heads * value)
    if past:
        feeds["s"] = f32(batch, heads, key, value)
    if "gated" in rule:
        feeds["g"] = -np.abs(f32(batch, tokens, heads * (key if wide else 1)))
    if "delta" in rule:
        feeds["b"] = RNG.uniform(0, 1, (batch, tokens, heads if wide else 1)).astype(np.float32)
    return feeds


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize(("heads", "readers"), [(3, 3), (2, 6), (1, 4)])
@pytest.mark.parametrize(("tokens", "past", "wide"), [(1, True, True), (7, False, True), (5, True, False)])
def test_linear_attention(rule: str, heads: int, readers: int, tokens: int, past: bool, wide: bool) -> None:
    feeds = attended(rule, tokens, heads, readers, past=past, wide=wide)
    inputs = [name if name in feeds else "" for name in "qkvsgb"]
    attrs = {"update_rule": rule, "kv_num_heads": heads, "q_num_heads": readers}
    check("LinearAttention", feeds, 27, inputs=inputs, outputs=2, **attrs)


def test_linear_attention_with_a_factor_of_its_own() -> None:
    feeds = attended("linear", 4, 2, 2, past=False)
    attrs = {"update_rule": "linear", "kv_num_heads": 2, "q_num_heads": 2, "scale": 0.25}
    check("LinearAttention", feeds, 27, outputs=2, **attrs)


@pytest.mark.parametrize(
    "attrs", [{"kv_num_heads": 2, "q_num_heads": 3}, {"kv_num_heads": 0, "q_num_heads": 2}, {"update_rule": "other"}]
)
def test_linear_attention_of_impossible_heads_is_refused(attrs: dict[str, Any]) -> None:
    proto = proto_of(
        "LinearAttention", attended("linear", 4, 2, 2, past=False), 27, {}, [], 2,
        **{"update_rule": "linear", "kv_num_heads": 2, "q_num_heads": 2, **attrs},
    )  # fmt: skip
    with pytest.raises(EdgeZipError):
        pack.compile(front.load(proto.SerializeToString()))


@pytest.mark.parametrize("causal", [0, 1])
def test_attention_windows_add_columns_to_rows_of_whole_numbers(causal: int) -> None:
    """ONNX's propagation of data refuses these sums; inference without it goes on."""
    feeds = {"q": f32(2, 3, 4, 8), "k": f32(2, 3, 6, 8), "v": f32(2, 3, 6, 8)}
    check("Attention", feeds, 25, is_causal=causal, left_window_size=1)


def test_a_range_takes_rows_of_one_element() -> None:
    """The bodies of the standard's own functions hand them over; inference refuses them."""
    nodes = [
        helper.make_node("Shape", ["x"], ["n"], start=1), helper.make_node("Range", ["o", "n", "d"], ["r"]),
        helper.make_node("Cast", ["r"], ["c"], to=1), helper.make_node("Add", ["x", "c"], ["y"]),
    ]  # fmt: skip
    info = [helper.make_tensor_value_info(n, 1, [2, 5]) for n in "xy"]
    held = [onnx.numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("o", 0), ("d", 1))]
    made = helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:], held), opset_imports=[helper.make_opsetid("", 20)])
    x = f32(2, 5)
    got = Session(pack.compile(front.load(made.SerializeToString()))).run({"x": x})["y"]
    np.testing.assert_array_equal(got, x + np.arange(5, dtype=np.float32))


# --- scattered ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("axis", [1, -2])
def test_tensor_scatter(mode: str, axis: int) -> None:
    update = (2, 2, 4, 5) if axis == 1 else (2, 3, 2, 5)
    start = np.array([2, 3] if mode == "circular" else [0, 1], np.int64)
    check("TensorScatter", {"x": f32(2, 3, 4, 5), "u": f32(*update), "w": start}, 24, mode=mode, axis=axis)


def test_tensor_scatter_without_indices_begins_at_zero() -> None:
    check("TensorScatter", {"x": f32(2, 3, 4), "u": f32(2, 2, 4)}, 24)


@pytest.mark.parametrize("size", [None, (2, 3, 7, 8), (2, 3, 9, 8)])
def test_max_unpool_undoes_a_pool(size: tuple[int, ...] | None) -> None:
    x = f32(2, 3, 7, 8)
    pool = helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[3, 2], strides=[2, 2])
    info = [helper.make_tensor_value_info("x", 1, x.shape)]
    outputs = [helper.make_empty_tensor_value_info(n) for n in "yi"]
    made = helper.make_model(helper.make_graph([pool], "g", info, outputs), opset_imports=[helper.make_opsetid("", 22)])
    values, places = ReferenceEvaluator(made).run(None, {"x": x})
    constants = {} if size is None else {"s": np.array(size, np.int64)}
    check("MaxUnpool", {"y": values, "i": places}, 22, constants, kernel_shape=[3, 2], strides=[2, 2])


COLUMNS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((5, 5), (1, 5), {}),
    "overlapping": ((5, 6), (3, 2), {}),
    "strides": ((5, 5), (3, 3), {"strides": [2, 2]}),
    "strides that leave a rest": ((6, 7), (2, 3), {"strides": [3, 2]}),
    "pads": ((5, 5), (1, 5), {"pads": [0, 1, 0, 1]}),
    "dilations": ((6, 6), (2, 2), {"dilations": [1, 5]}),
    "line": ((9,), (4,), {"pads": [1, 2], "strides": [2]}),
    "volume": ((3, 4, 5), (1, 2, 5), {"pads": [0, 1, 0, 1, 0, 2]}),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_to_image(case: str) -> None:
    image, block, attrs = COLUMNS[case]
    count = len(image)
    pads, strides = attrs.get("pads", [0] * 2 * count), attrs.get("strides", [1] * count)
    dilations = attrs.get("dilations", [1] * count)
    steps = [
        (size + pads[a] + pads[a + count] - dilations[a] * (block[a] - 1) - 1) // strides[a] + 1 for a, size in enumerate(image)
    ]
    constants = {"image": np.array(image, np.int64), "block": np.array(block, np.int64)}
    check("Col2Im", {"x": f32(2, 3 * math.prod(block), math.prod(steps))}, 18, constants, **attrs)


def test_columns_to_image_keep_an_infinity_to_its_pixel() -> None:
    x = f32(1, 4, 16)
    x[0, 0, 0] = np.inf
    constants = {"image": np.array([5, 5], np.int64), "block": np.array([2, 2], np.int64)}
    (made,) = check("Col2Im", {"x": x}, 18, constants)
    assert np.isinf(made).sum() == 1
    assert not np.isnan(made).any()


@pytest.mark.parametrize(
    ("image", "attrs"),
    [
        ((1 << 30, 1 << 30), {}),
        ((5, 6), {}),
        ((4, 4), {"dilations": [1 << 19, 1]}),
        ((1 << 20, 1 << 9), {"strides": [1 << 19, 1 << 8]}),
    ],
)
def test_columns_that_do_not_make_the_image_are_refused(image: tuple[int, ...], attrs: dict[str, Any]) -> None:
    constants = {"image": np.array(image, np.int64), "block": np.array([2, 2], np.int64)}
    says = refused("Col2Im", {"x": f32(1, 4, 4)}, 18, constants, **attrs)
    assert "Col2Im" in says or "'y0'" in says, "the node, or its result that is too large"


# --- sampling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "align"),
    [((2, 3, 4, 5), 0), ((2, 3, 4, 5), 1), ((2, 3, 4, 5, 6), 0), ((2, 3, 4, 5, 6), 1), ((1, 1, 1, 4), 0)],
)
def test_affine_grid(size: tuple[int, ...], align: int) -> None:
    axes = len(size) - 2
    check("AffineGrid", {"t": f32(size[0], axes, axes + 1)}, 20, {"size": np.array(size, np.int64)}, align_corners=align)


@pytest.mark.parametrize(
    ("group", "parts", "attrs"),
    [
        (1, 1, {}),
        (2, 1, {"pads": [1, 0, 1, 2]}),
        (1, 2, {"strides": [2, 1]}),
        (2, 4, {"dilations": [2, 1], "pads": [1, 1, 1, 1]}),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_deform_conv(group: int, parts: int, attrs: dict[str, Any], masked: bool) -> None:
    x, w = f32(2, 4, 6, 7), f32(6, 4 // group, 3, 2)
    pads, strides, dilations = attrs.get("pads", [0] * 4), attrs.get("strides", [1, 1]), attrs.get("dilations", [1, 1])
    out = [(x.shape[2 + a] + pads[a] + pads[2 + a] - dilations[a] * (w.shape[2 + a] - 1) - 1) // strides[a] + 1 for a in (0, 1)]
    feeds = {"x": x, "o": f32(2, parts * 6 * 2, *out)}
    constants = {"w": w, "b": f32(6)}
    if masked:
        feeds["m"] = np.abs(f32(2, parts * 6, *out))
    inputs = ["x", "w", "o", "b", *(["m"] if masked else [])]
    # places of up to 8 pixels go through [-1, 1] and back: 2^-22 of a pixel times 8, times differences of size 4, 24 taps
    check("DeformConv", feeds, 22, constants, inputs, tolerance=2e-4, group=group, offset_group=parts, **attrs)


# --- determinants, remainders, bits -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_determinant(size: int, batch: tuple[int, ...]) -> None:
    x = f32(*batch, size, size)
    check("Det", {"x": x}, 22, expected=[np.linalg.det(x.astype(np.float64)).astype(np.float32)], tolerance=1e-4)


def test_determinant_needs_the_exchange_of_rows_and_may_be_zero() -> None:
    turned = np.eye(4, dtype=np.float32)[[1, 2, 3, 0]]
    singular = np.ones((4, 4), np.float32)
    empty = f32(4, 4) * np.array([0, 1, 1, 1], np.float32)
    check("Det", {"x": np.stack([turned, singular, empty])}, 22, expected=[np.array([-1, 0, 0], np.float32)], tolerance=0)


def test_a_large_determinant_is_refused() -> None:
    assert "Det" in refused("Det", {"x": f32(65, 65)}, 22)


def test_float_remainders_have_the_sign_of_the_divisor() -> None:
    values = np.array([0.0, -0.0, 1.5, -1.5, 7.25, -7.25, 1e30, -1e30, 3e-40, np.inf, -np.inf, np.nan], np.float32)
    a, b = (np.ascontiguousarray(side) for side in np.broadcast_arrays(values[:, None], values[None]))
    with np.errstate(all="ignore"):
        expected = np.mod(a.astype(np.float64), b.astype(np.float64)).astype(np.float32)
    (made,) = check("Mod", {"a": a, "b": b}, 13, expected=[expected])
    zeros = made == 0
    assert (np.signbit(made) == np.signbit(b))[zeros].all()


@pytest.mark.parametrize(("before", "after"), [(np.float32, np.int32), (np.int32, np.float32)])
@pytest.mark.parametrize("shape", [(), (7,), (3, 5)])
def test_bits_are_read_as_another_type(before: Any, after: Any, shape: tuple[int, ...]) -> None:
    x = np.asarray(RNG.integers(-(2**31), 2**31, shape)).astype(np.int32).view(before)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(after))
    proto = proto_of("BitCast", {"x": x}, 26, {}, [], 1, to=kind)
    got = Session(pack.compile(front.load(proto.SerializeToString()))).run({"x": x})["y0"]
    assert got.dtype == after
    np.testing.assert_array_equal(got.view(np.int32), x.view(np.int32))


def test_bits_behind_and_before_other_nodes() -> None:
    """The absolute value by its bits: nothing fuses across the change of type."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["a"]), helper.make_node("BitCast", ["a"], ["b"], to=6),
        helper.make_node("BitwiseAnd", ["b", "m"], ["c"]), helper.make_node("BitCast", ["c"], ["d"], to=1),
        helper.make_node("Relu", ["d"], ["y"]),
    ]  # fmt: skip
    info = [helper.make_tensor_value_info(n, 1, [3, 4]) for n in "xy"]
    mask = onnx.numpy_helper.from_array(np.array(0x7FFFFFFF, np.int32), "m")
    made = helper.make_graph(nodes, "g", info[:1], info[1:], [mask])
    model = front.load(helper.make_model(made, opset_imports=[helper.make_opsetid("", 26)]).SerializeToString())
    x = f32(3, 4)
    np.testing.assert_array_equal(Session(pack.compile(model)).run({"x": x})["y"], np.abs(x + x))


@pytest.mark.parametrize(("before", "after"), [(np.int8, np.uint8), (np.uint8, np.int8)])
def test_bits_of_all_bytes(before: Any, after: Any) -> None:
    x = np.arange(256).astype(np.uint8).view(before)
    proto = proto_of("BitCast", {"x": x}, 26, {}, [], 1, to=helper.np_dtype_to_tensor_dtype(np.dtype(after)))
    got = Session(pack.compile(front.load(proto.SerializeToString()))).run({"x": x})["y0"]
    np.testing.assert_array_equal(got, x.view(after))


def test_bits_of_a_bool_are_a_byte() -> None:
    check("BitCast", {"x": np.array([True, False, True])}, 26, expected=[np.array([1, 0, 1], np.uint8)], to=2)


@pytest.mark.parametrize(("before", "after"), [(np.float64, np.int64), (np.int64, np.float64), (np.float16, np.int16)])
def test_bits_of_floats_that_are_computed_in_float32_are_refused(before: Any, after: Any) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(after))
    proto = proto_of("BitCast", {"x": np.zeros(3, before)}, 26, {}, [], 1, to=kind)
    with pytest.raises(UnsupportedModelError, match=r"BitCast of the bits of a (double|float16): it is computed in float32"):
        front.load(proto.SerializeToString())


# --- others -------------------------------------------------------------------------------------------------------


def test_swish_with_a_slope() -> None:
    check("Swish", {"x": f32(3, 5)}, 24, alpha=1.7)


def test_mean_variance_normalization_over_its_default_axes() -> None:
    x = f32(2, 3, 4, 5)
    proto = proto_of("MeanVarianceNormalization", {"x": x}, 13, {}, [], 1)
    loaded = front.load(proto.SerializeToString())
    assert "MeanVarianceNormalization" not in {node.op_type for node in graph.nodes(loaded)}
    wide = x.astype(np.float64)
    centred = wide - wide.mean((0, 2, 3), keepdims=True)
    expected = centred / (np.sqrt((centred**2).mean((0, 2, 3), keepdims=True)) + 1e-9)
    got = Session(pack.compile(loaded)).run({"x": x})["y0"]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


# --- parameters along an axis or of blocks ------------------------------------------------------------------------


@pytest.mark.parametrize(("dims", "attrs"), [((3,), {}), ((5,), {"axis": -1}), ((2, 3, 2), {"axis": 2, "block_size": 3})])
@pytest.mark.parametrize("zero", [False, True])
def test_quantize_and_dequantize_of_activations_with_many_scales(
    dims: tuple[int, ...], attrs: dict[str, Any], zero: bool
) -> None:
    constants = {"s": RNG.uniform(0.1, 2, dims).astype(np.float32)}
    if zero:
        constants["z"] = RNG.integers(0, 255, dims).astype(np.uint8)
    check("QuantizeLinear", {"x": f32(2, 3, 5) * 90}, 21, constants, tolerance=0, **attrs)
    check("DequantizeLinear", {"x": RNG.integers(0, 255, (2, 3, 5)).astype(np.uint8)}, 21, constants, **attrs)


@pytest.mark.parametrize("attrs", [{"axis": 3}, {"axis": 2, "block_size": 1 << 20}, {"axis": 0}])
def test_scales_that_do_not_fit_their_axis_are_refused(attrs: dict[str, Any]) -> None:
    constants = {"s": np.ones(3 if "block_size" not in attrs else (2, 3, 2), np.float32)}
    assert refused("QuantizeLinear", {"x": f32(2, 3, 5)}, 21, constants, **attrs)


def test_computed_zero_points_of_blocks_are_refused_not_left_out() -> None:
    feeds = {"x": np.zeros((2, 4), np.uint8), "z": np.ones((2, 2), np.uint8)}
    proto = proto_of("DequantizeLinear", feeds, 21, {"s": np.ones((2, 2), np.float32)}, ["x", "s", "z"], 1, axis=1, block_size=2)
    with pytest.raises(UnsupportedModelError, match="DequantizeLinear"):
        pack.compile(front.load(proto.SerializeToString()))
