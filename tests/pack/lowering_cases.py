"""One small float model for each lowering rule and each of its variants; the tests run all of them, in float and in int8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto
from pack_graphs import IMAGE, build, ints, node, weights

Build = Callable[[], Any]  # of graph.Model
FLAT = {"x": (3, 10)}
TOKENS = {"x": (1, 5, 12)}
TWO = {"a": IMAGE, "b": IMAGE}
f32 = np.float32


def conv(w: tuple[int, ...], x: tuple[int, ...] = IMAGE, bias: bool = True, **attrs: Any) -> Build:
    constants = {"w": weights(*w), **({"b": weights(w[0])} if bias else {})}
    return lambda: build([node("Conv", ["x", *constants], **attrs)], constants, {"x": x})


def transposed(w: tuple[int, ...], x: tuple[int, ...] = IMAGE, **attrs: Any) -> Build:
    constants = {"w": weights(*w), "b": weights(w[1] * attrs.get("group", 1))}
    return lambda: build([node("ConvTranspose", ["x", "w", "b"], **attrs)], constants, {"x": x})


def one(op: str, constants: dict[str, Any] | None = None, x: tuple[int, ...] = IMAGE, opset: int = 20, **attrs: Any) -> Build:
    held = {name: np.asarray(array) for name, array in (constants or {}).items()}
    return lambda: build([node(op, ["x", *held], **attrs)], held, {"x": x}, opset=opset)


def two(op: str, a: tuple[int, ...] = IMAGE, b: tuple[int, ...] = IMAGE) -> Build:
    return lambda: build([node(op, ["a", "b"])], inputs={"a": a, "b": b})


def resize(mode: str, scales: tuple[float, ...] = (1, 1, 2, 2), x: tuple[int, ...] = IMAGE, **attrs: Any) -> Build:
    held = {"scales": np.asarray(scales, f32)}
    return lambda: build([node("Resize", ["x", "", "scales"], mode=mode, **attrs)], held, {"x": x})


CONVOLUTIONS: dict[str, Build] = {
    "conv_1x1": conv((6, 4, 1, 1)),
    "conv_3x3": conv((20, 4, 3, 3), pads=[1, 1, 1, 1]),
    "conv_no_bias_strided_uneven_pads": conv((6, 4, 3, 2), bias=False, strides=[2, 1], pads=[0, 1, 2, 0]),
    "conv_dilated": conv((5, 4, 3, 3), dilations=[2, 2], pads=[2, 2, 2, 2]),
    "conv_same_upper": conv((6, 4, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv_same_lower": conv((6, 4, 2, 2), auto_pad="SAME_LOWER"),
    "conv_batch_2": conv((6, 4, 3, 3), x=(2, 4, 5, 5), pads=[1, 1, 1, 1]),
    "conv_grouped": conv((6, 2, 3, 3), group=2),
    "conv_depthwise": conv((4, 1, 3, 3), group=4, pads=[1, 1, 1, 1], strides=[2, 2]),
    "conv_depthwise_5x5_wide": conv((36, 1, 5, 5), x=(1, 36, 7, 7), group=36, pads=[2, 2, 2, 2]),
    "conv_depth_multiplier": conv((8, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    "conv_1d": conv((6, 4, 3), x=(1, 4, 9), pads=[1, 1]),
    "conv_1d_depthwise": conv((4, 1, 3), x=(1, 4, 9), group=4, pads=[1, 1]),
    "conv_1d_causal": conv((6, 4, 3), x=(1, 4, 9), dilations=[2], pads=[4, 0]),
    "conv_1d_strided_batch": conv((6, 4, 5), x=(3, 4, 31), strides=[3], pads=[2, 1]),
    "conv_1d_grouped": conv((6, 2, 3), x=(1, 4, 9), group=2, pads=[1, 1]),
    "conv_1d_depthwise_causal": conv((4, 1, 3), x=(2, 4, 9), group=4, dilations=[3], pads=[6, 0]),
    "conv_1d_depthwise_strided": conv((20, 1, 9), x=(1, 20, 40), group=20, strides=[2], pads=[4, 4]),
    "conv_1d_same": conv((6, 4, 4), x=(1, 4, 10), auto_pad="SAME_UPPER", strides=[2]),
    "conv_1d_of_one_channel": conv((18, 1, 16), x=(1, 1, 64), bias=False, strides=[8]),
    "conv_one_channel": conv((6, 1, 3, 3), x=(1, 1, 6, 6)),
    "transposed_2x2": transposed((4, 3, 2, 2), strides=[2, 2]),
    "transposed_3x3_stride_2": transposed((4, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    "transposed_4x4_stride_2": transposed((4, 3, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1]),
    "transposed_stride_above_kernel": transposed((4, 3, 2, 1), strides=[3, 2]),
    "transposed_dilated": transposed((4, 3, 3, 3), dilations=[2, 2], strides=[1, 2]),
    "transposed_dilated_by_its_stride": transposed((4, 3, 3, 3), dilations=[2, 2], strides=[2, 2]),
    "transposed_grouped": transposed((4, 3, 2, 3), group=2, strides=[2, 2]),
    "transposed_depthwise": transposed((4, 1, 4, 4), group=4, strides=[2, 2], pads=[1, 1, 1, 1]),
    "transposed_output_shape": transposed((4, 3, 3, 3), strides=[2, 2], output_shape=[12, 10]),
    "transposed_same_upper": transposed((4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    "transposed_1d": transposed((4, 3, 4), x=(1, 4, 7), strides=[2], pads=[1, 1]),
    "transposed_1d_grouped": transposed((4, 3, 5), x=(2, 4, 7), group=2, strides=[3], output_padding=[2]),
    "transposed_1d_dilated": transposed((4, 3, 3), x=(1, 4, 7), dilations=[3], strides=[2], pads=[2, 1]),
    "transposed_1d_depthwise": transposed((4, 1, 4), x=(1, 4, 7), group=4, strides=[2], pads=[1, 1]),
    "channels_last_input_depthwise": lambda: build(
        [node("Transpose", ["x"], "t", perm=[0, 3, 1, 2]), node("Conv", ["t", "w"], group=4)],
        {"w": weights(4, 1, 3, 3)}, {"x": (1, 6, 5, 4)},
    ),
    "gemm": one("Gemm", {"w": weights(10, 7), "c": weights(7)}, (3, 10)),
    "gemm_transposed_scaled": one("Gemm", {"w": weights(7, 10), "c": weights(1, 7)}, (3, 10), transB=1, alpha=0.5, beta=2.0),
    "matmul_constant": one("MatMul", {"w": weights(12, 9)}, (1, 5, 12)),
    "matmul_add": lambda: build(
        [node("MatMul", ["x", "w"], "m"), node("Add", ["c", "m"])], {"w": weights(12, 9), "c": weights(9)}, TOKENS
    ),
    "matmul_two_activations": two("MatMul", (2, 3, 5, 8), (2, 3, 8, 6)),
    "matmul_shared_second": two("MatMul", (4, 5, 8), (8, 6)),
    "matmul_batched_constant": one("MatMul", {"w": weights(2, 8, 6)}, (2, 5, 8)),
}  # fmt: skip

BINARY: dict[str, Build] = {
    **{op.lower(): two(op) for op in ("Add", "Sub", "Mul", "Min", "Max")},
    "div": lambda: build(
        [node("Abs", ["b"], "p"), node("Add", ["p", "one"], "d"), node("Div", ["a", "d"])], {"one": np.asarray(1, f32)}, TWO
    ),
    "add_per_channel": one("Add", {"c": weights(4, 1, 1)}),
    "mul_scalar": one("Mul", {"c": np.asarray(0.37, f32)}),
    "sub_from_constant": lambda: build([node("Sub", ["c", "x"])], {"c": weights(1, 4, 6, 5)}),
    "mul_by_gate": two("Mul", IMAGE, (1, 4, 1, 1)),
    "add_row_to_column": two("Add", (1, 4, 6, 1), (1, 4, 1, 5)),
    "add_lower_rank": two("Add", IMAGE, (6, 5)),
    "conv_add_plain_order": lambda: build(
        [node("Conv", ["a", "w"], "c", pads=[1, 1, 1, 1]), node("Add", ["c", "b"])], {"w": weights(4, 4, 3, 3)}, TWO
    ),
    "add_to_itself": lambda: build([node("Add", ["x", "x"])]),
}  # fmt: skip

UNARY: dict[str, Build] = {
    **{
        op.lower(): one(op)
        for op in ("Relu", "Sigmoid", "Tanh", "Exp", "Erf", "HardSwish", "HardSigmoid", "LeakyRelu", "Elu", "Softplus", "Neg",
                   "Abs", "Floor", "Ceil", "Gelu")
    },
    "gelu_tanh": one("Gelu", approximate="tanh"),
    "leaky_relu_alpha": one("LeakyRelu", alpha=0.3),
    "hard_sigmoid_alpha": one("HardSigmoid", alpha=0.3, beta=0.4),
    "clip": one("Clip", {"lo": f32(-0.5), "hi": f32(0.7)}),
    "clip_no_lower": lambda: build([node("Clip", ["x", "", "hi"])], {"hi": np.asarray(0.7, f32)}),
    "sqrt_of_abs": lambda: build([node("Abs", ["x"], "p"), node("Sqrt", ["p"])]),
    "reciprocal_of_exp": lambda: build([node("Exp", ["x"], "p"), node("Reciprocal", ["p"])]),
    "log_of_exp": lambda: build([node("Exp", ["x"], "p"), node("Log", ["p"])]),
    "square": one("Pow", {"e": f32(2)}),
    "root": lambda: build([node("Abs", ["x"], "p"), node("Pow", ["p", "e"])], {"e": np.asarray(0.5, f32)}),
    "silu": lambda: build([node("Sigmoid", ["x"], "s"), node("Mul", ["x", "s"])]),
    "hard_swish_in_pieces": lambda: build(
        [node("Add", ["x", "three"], "p"), node("Clip", ["p", "zero", "six"], "c"), node("Mul", ["c", "x"], "m"),
         node("Div", ["m", "six"])],
        {"three": np.asarray(3, f32), "zero": np.asarray(0, f32), "six": np.asarray(6, f32)},
    ),
    "gelu_in_pieces": lambda: build(
        [node("Div", ["x", "root2"], "d"), node("Erf", ["d"], "e"), node("Add", ["e", "one"], "p"), node("Mul", ["x", "p"], "m"),
         node("Mul", ["m", "half"])],
        {"root2": np.asarray(2**0.5, f32), "one": np.asarray(1, f32), "half": np.asarray(0.5, f32)},
    ),
    "prelu_per_channel": one("PRelu", {"s": weights(4, 1, 1)}),
    "prelu_one_slope": one("PRelu", {"s": weights(1)}),
    "batch_normalization": one(
        "BatchNormalization",
        {"s": weights(4, low=0.5, high=2), "b": weights(4), "m": weights(4), "v": weights(4, low=0.5, high=2)},
    ),
}  # fmt: skip

WINDOWS: dict[str, Build] = {
    "max_pool": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "max_pool_ceil": one("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "max_pool_dilated": one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]),
    "max_pool_same": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    "max_pool_1d": one("MaxPool", x=(1, 4, 9), kernel_shape=[3], strides=[2]),
    "max_pool_1d_padded_dilated": one("MaxPool", x=(2, 4, 11), kernel_shape=[3], pads=[2, 1], dilations=[2]),
    "average_pool_1d": one("AveragePool", x=(2, 4, 10), kernel_shape=[4], strides=[3], pads=[1, 2]),
    "average_pool": one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "average_pool_counting_pads": one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    "average_pool_ceil": one("AveragePool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "average_pool_uneven_pads": one("AveragePool", kernel_shape=[2, 3], pads=[0, 1, 1, 0]),
    "global_average_pool": one("GlobalAveragePool"),
    "global_max_pool": one("GlobalMaxPool"),
    "global_average_pool_1d": one("GlobalAveragePool", x=(1, 4, 9)),
    "reduce_mean_image": one("ReduceMean", {"axes": ints(2, 3)}, keepdims=0),
    "reduce_mean_channels": one("ReduceMean", {"axes": ints(1)}, keepdims=1),
    "reduce_mean_last": one("ReduceMean", {"axes": ints(-1)}, keepdims=1),
    "reduce_mean_apart": one("ReduceMean", {"axes": ints(1, 3)}, keepdims=0),
    "reduce_mean_all": one("ReduceMean", keepdims=0),
    "reduce_mean_old_form": one("ReduceMean", opset=13, axes=[2, 3]),
    "reduce_l2": one("ReduceL2", {"axes": ints(1, 3)}, keepdims=1),
    "reduce_sum_square": one("ReduceSumSquare", {"axes": ints(-1)}, keepdims=0),
    "reduce_sum": one("ReduceSum", {"axes": ints(2)}, keepdims=1),
    "reduce_max": one("ReduceMax", {"axes": ints(1, 2)}, keepdims=0),
    "reduce_min": one("ReduceMin", {"axes": ints(3)}, keepdims=1),
    "reduce_mean_of_conv": lambda: build(
        [node("Conv", ["x", "w"], "c"), node("ReduceMean", ["c", "axes"], keepdims=0)],
        {"w": weights(6, 4, 1, 1), "axes": ints(2, 3)},
    ),
    "layer_norm": one("LayerNormalization", {"s": weights(12), "b": weights(12)}, (1, 5, 12), epsilon=1e-3),
    "layer_norm_no_bias": one("LayerNormalization", {"s": weights(33)}, (7, 33)),
    "layer_norm_two_axes": one("LayerNormalization", {"s": weights(5, 12), "b": weights(5, 12)}, (2, 5, 12), axis=1),
    "layer_norm_turned": lambda: build(
        [node("Transpose", ["x"], "t", perm=[0, 2, 3, 1]), node("LayerNormalization", ["t", "s"])], {"s": weights(4)}
    ),
    "rms_norm": one("RMSNormalization", {"s": weights(12)}, (1, 5, 12), opset=23),
    "norm_of_sum": lambda: build(
        [node("Add", ["x", "r"], "t"), node("LayerNormalization", ["t", "s", "b"], "n"), node("MatMul", ["n", "w"], "m"),
         node("Add", ["m", "t"])],
        {"s": weights(12), "b": weights(12), "w": weights(12, 12)}, {"x": (1, 5, 12), "r": (1, 5, 12)},
    ),
    "softmax_last": one("Softmax", axis=-1),
    "softmax_channels": one("Softmax", axis=1),
    "softmax_flat": one("Softmax", x=(3, 10)),
    "softmax_old_form_last": one("Softmax", x=(3, 10), opset=11),
    "softmax_of_conv": lambda: build(
        [node("Conv", ["x", "w"], "c"), node("Softmax", ["c"], axis=1)], {"w": weights(6, 4, 1, 1)}
    ),
}  # fmt: skip

RESIZES: dict[str, Build] = {
    **{
        f"linear_{mode}": resize("linear", coordinate_transformation_mode=mode)
        for mode in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
    },
    **{
        f"nearest_{mode}_{rule}": resize("nearest", (1, 1, 1.7, 2), coordinate_transformation_mode=mode, nearest_mode=rule)
        for mode in ("half_pixel", "asymmetric")
        for rule in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    },
    **{
        f"nearest_align_corners_{rule}": resize(
            "nearest", (1, 1, 1.5, 2), coordinate_transformation_mode="align_corners", nearest_mode=rule
        )
        for rule in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    },
    "linear_shrinking": resize("linear", (1, 1, 0.5, 0.6)),
    "linear_one_axis": resize("linear", (1, 1, 3)),
    "linear_to_sizes": lambda: build(
        [node("Resize", ["x", "", "", "sizes"], mode="linear", coordinate_transformation_mode="align_corners")],
        {"sizes": ints(1, 4, 9, 11)},
    ),
    "nearest_to_sizes": lambda: build(
        [node("Resize", ["x", "", "", "sizes"], coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        {"sizes": ints(1, 4, 12, 10)},
    ),
}  # fmt: skip
RESIZES["linear_one_axis"] = resize("linear", (1, 1, 3), x=(1, 4, 7))

MOVEMENT: dict[str, Build] = {
    "concat_channels": lambda: build([node("Concat", ["a", "b"], axis=1)], inputs={"a": IMAGE, "b": (1, 3, 6, 5)}),
    "concat_rows": lambda: build([node("Concat", ["a", "b"], axis=2)], inputs={"a": IMAGE, "b": (1, 4, 2, 5)}),
    "concat_with_constant": one("Concat", {"c": weights(1, 2, 6, 5)}, axis=1),
    "concat_of_convs": lambda: build(
        [node("Conv", ["x", "v"], "p"), node("Conv", ["x", "w"], "q"), node("Concat", ["p", "q"], axis=1)],
        {"v": weights(16, 4, 1, 1), "w": weights(6, 4, 1, 1)},
    ),
    "concat_same_part_twice": lambda: build(
        [node("Conv", ["x", "v"], "p"), node("Concat", ["p", "p"], axis=1)], {"v": weights(5, 4, 1, 1)}
    ),
    "split": lambda: build(
        [node("Split", ["x", "s"], ["p", "q"], axis=1), node("Concat", ["q", "p"], axis=1)], {"s": ints(1, 3)}
    ),
    "split_behind_conv": lambda: build(
        [node("Conv", ["x", "v"], "c"), node("Split", ["c", "s"], ["p", "q"], axis=1), node("Mul", ["q", "p"])],
        {"v": weights(8, 4, 1, 1), "s": ints(4, 4)},
    ),
    "slice_step_2": one("Slice", {"a": ints(1, 0), "b": ints(6, 4), "c": ints(2, 1), "d": ints(2, 1)}),
    "slice_backwards": one("Slice", {"a": ints(-1), "b": ints(-100), "c": ints(3), "d": ints(-1)}),
    "slice_negative_ends": one("Slice", {"a": ints(-3), "b": ints(-1), "c": ints(-2)}),
    "transpose": one("Transpose", perm=[0, 2, 3, 1]),
    "transpose_default": one("Transpose", x=(3, 10)),
    "transpose_of_conv": lambda: build(
        [node("Conv", ["x", "v"], "c"), node("Transpose", ["c"], perm=[0, 2, 3, 1])], {"v": weights(7, 4, 1, 1)}
    ),
    "reshape": one("Reshape", {"s": ints(2, 60)}),
    "reshape_of_conv": lambda: build(
        [node("Conv", ["x", "v"], "c"), node("Reshape", ["c", "s"])], {"v": weights(7, 4, 1, 1), "s": ints(7, 30)}
    ),
    "flatten_of_pool_then_gemm": lambda: build(
        [node("GlobalAveragePool", ["x"], "g"), node("Flatten", ["g"], "f"), node("Gemm", ["f", "w"])], {"w": weights(4, 3)}
    ),
    "flatten_of_image_then_gemm": lambda: build(
        [node("Conv", ["x", "v"], "c"), node("Flatten", ["c"], "f"), node("Gemm", ["f", "w"])],
        {"v": weights(3, 4, 3, 3), "w": weights(36, 5)},
    ),
    "squeeze": one("Squeeze", {"axes": ints(0)}),
    "unsqueeze": one("Unsqueeze", {"axes": ints(0, 3)}),
    "shuffle_channels": lambda: build(
        [node("Conv", ["x", "v"], "c"), node("Reshape", ["c", "s"], "r"), node("Transpose", ["r"], "t", perm=[0, 2, 1, 3, 4]),
         node("Reshape", ["t", "u"])],
        {"v": weights(6, 4, 1, 1), "s": ints(1, 2, 3, 6, 5), "u": ints(1, 6, 6, 5)},
    ),
    "expand": one("Expand", {"s": ints(2, 4, 3, 5)}, (1, 4, 1, 5)),
    "expand_higher_rank": one("Expand", {"s": ints(2, 3, 10)}, (3, 10)),
    "tile": one("Tile", {"r": ints(1, 2, 1, 3)}),
    "depth_to_space": one("DepthToSpace", x=(1, 12, 3, 4), blocksize=2),
    "depth_to_space_crd": one("DepthToSpace", x=(1, 12, 3, 4), blocksize=2, mode="CRD"),
    "space_to_depth": one("SpaceToDepth", x=(1, 3, 6, 4), blocksize=2),
    "pad_constant": one("Pad", {"p": ints(0, 0, 1, 2, 0, 1, 0, 3), "v": f32(0.5)}),
    "pad_cropping": one("Pad", {"p": ints(0, 0, -1, 2, 0, 0, -2, 0)}),
    "pad_reflect": one("Pad", {"p": ints(0, 0, 2, 1, 0, 0, 1, 3)}, mode="reflect"),
    "pad_edge_batch_and_channels": one("Pad", {"p": ints(1, 2, 0, 9, 0, 1, 7, 0)}, mode="edge"),
    "pad_wrap_wider": one("Pad", {"p": ints(0, 0, 7, 5, 0, 0, 6, 6)}, mode="wrap"),
    "pad_reflect_cropping": one("Pad", {"p": ints(0, 0, -2, 2, 0, 0, 1, -1)}, mode="reflect"),
    "pad_edge": one("Pad", {"p": ints(0, 0, 2, 1, 0, 0, 1, 3)}, mode="edge"),
    "pad_wrap": one("Pad", {"p": ints(0, 0, 2, 1, 0, 0, 1, 3)}, mode="wrap"),
    "pad_some_axes": lambda: build(
        [node("Pad", ["x", "p", "", "axes"])], {"p": ints(1, 2, 0, 3), "axes": ints(2, -1)}
    ),
    "gather": one("Gather", {"i": ints(2, 0, -1)}, axis=1),
    "gather_matrix_of_indices": one("Gather", {"i": np.array([[0, 3], [5, 1]], np.int64)}, axis=2),
    "gather_one": one("Gather", {"i": np.asarray(1, np.int64)}, axis=1),
    "identity_then_relu": lambda: build([node("Identity", ["x"], "i"), node("Relu", ["i"])]),
}  # fmt: skip

LOGIC: dict[str, Build] = {
    "where": lambda: build(
        [node("Greater", ["a", "b"], "m"), node("Where", ["m", "a", "b"])], inputs=TWO
    ),
    "where_broadcast": lambda: build(
        [node("Less", ["x", "zero"], "m"), node("Where", ["m", "zero", "x"])], {"zero": np.asarray(0, f32)}
    ),
    **{
        op.lower(): (lambda op=op: build([node(op, ["a", "b"])], inputs=TWO, outputs={"y": TensorProto.BOOL}))
        for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
    },
    **{
        op.lower(): (
            lambda op=op: build(
                [node("Greater", ["a", "b"], "p"), node("Less", ["a", "zero"], "q"), node("Not", ["q"], "r"),
                 node(op, ["p", "r"], "s"),
                 node("Cast", ["s"], to=TensorProto.FLOAT)],
                {"zero": np.asarray(0, f32)}, TWO,
            )
        )
        for op in ("And", "Or")
    },
    "clip_of_integers": lambda: build(
        [node("Cast", ["x"], "i", to=TensorProto.INT32), node("Clip", ["i", "low", "high"])],
        {"low": np.array(-1, np.int32), "high": np.array(1, np.int32)}, outputs={"y": TensorProto.INT32},
    ),
    "cast_to_integer": lambda: build([node("Cast", ["x"], to=TensorProto.INT32)], outputs={"y": TensorProto.INT32}),
    "gather_by_run_time_index": lambda: build(
        [node("Abs", ["b"], "p"), node("Cast", ["p"], "i", to=TensorProto.INT64), node("Gather", ["a", "i"], axis=2)],
        inputs={"a": IMAGE, "b": (3,)},
    ),
}  # fmt: skip

FLOAT_CASES = {**CONVOLUTIONS, **BINARY, **UNARY, **WINDOWS, **RESIZES, **MOVEMENT, **LOGIC}
INT8_CASES = {**CONVOLUTIONS, **BINARY, **UNARY, **WINDOWS, **RESIZES, **MOVEMENT, "where": LOGIC["where"]}
