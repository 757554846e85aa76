"""Hostile and contradictory attribute values, refused before any shape inference or kernel sees them.

Peers were crashed by a stride of 0, a group of 0 and weights that contradict ``kernel_shape`` (reliability.md 1.2): each is an
InvalidModelError here that names node, field and value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from edgezip import graph
from edgezip.errors import InvalidModelError, UnsupportedModelError
from edgezip.frontends import recurrent

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

MAX_WINDOW = 1 << 20  # no real kernel, stride, dilation or pad comes near
WINDOW_OPS = {
    "Conv",
    "ConvTranspose",
    "ConvInteger",
    "QLinearConv",
    "MaxPool",
    "AveragePool",
    "LpPool",
    "MaxUnpool",
    "DeformConv",
}
RESHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}  # as many elements out as in
MAX_CUBIC = 64  # of -0.5 or -0.75 in use
MAX_STEP = (1 << 31) - 1
MIN_SCALE = 2.0**-60  # of activations: the ratio of any two must be a finite float32
AXIS_OPS = {
    "ArgMax",
    "ArgMin",
    "Compress",
    "Concat",
    "CumSum",
    "Gather",
    "GatherElements",
    "Hardmax",
    "LayerNormalization",
    "LogSoftmax",
    "OneHot",
    "ScatterElements",
    "Softmax",
    "Split",
    "TopK",
}


def check(model: Model, where: str) -> None:
    """Raises InvalidModelError when an attribute makes no sense by itself or against constant weights."""
    for node in model.graph.all_nodes():
        place = f"{where}: node '{node.name}' ({node.op_type})"
        if node.op_type in WINDOW_OPS:
            _check_window(node, place)
        rule = _RULES.get(node.op_type)
        if rule is not None:
            rule(node, place)


def check_against_shapes(model: Model, where: str) -> None:
    """The checks that need the shapes of activations: channels against weights, axes against ranks."""
    for node in graph.nodes(model):
        place = f"{where}: node '{node.name}' ({node.op_type})"
        if node.op_type in {"Conv", "ConvTranspose"}:
            _check_channels(node, place)
        if node.op_type in AXIS_OPS:
            _check_axis(node, place)
        if node.op_type == "Transpose":
            _check_perm_length(node, place)
        if node.op_type in RESHAPES:
            _check_elements(node, place)
        if node.op_type == "Resize":
            _check_resized_axes(node, place)
        if node.op_type == "Gemm":
            _check_product(node, place)
        if node.op_type in recurrent.GATES:
            recurrent.check(node, place)
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            _check_scales(node, place)


def _refuse(place: str, field: str, expected: str, got: Any) -> NoReturn:
    raise InvalidModelError(
        f"bad value of '{field}'", where=place, expected=expected, got=str(got), hint="export the model again"
    )


def _check_range(node: Node, place: str, field: str, low: int, high: int = MAX_WINDOW) -> None:
    held = graph.attribute(node, field)
    if held is None:
        return
    for number in held if isinstance(held, tuple) else (held,):
        if not low <= number <= high:
            _refuse(place, field, f"numbers from {low} to {high}", list(held) if isinstance(held, tuple) else held)


def _check_window(node: Node, place: str) -> None:
    for field in ("kernel_shape", "strides", "dilations"):
        _check_range(node, place, field, 1)
    for field in ("pads", "output_padding"):
        _check_range(node, place, field, 0)
    _check_range(node, place, "output_shape", 1)
    if graph.attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", ""):
        _refuse(place, "auto_pad", "NOTSET, SAME_UPPER, SAME_LOWER or VALID", graph.attribute(node, "auto_pad"))
    kernel = _kernel_of(node, place)
    if kernel is None:
        return
    for field, length in (
        ("strides", len(kernel)),
        ("dilations", len(kernel)),
        ("pads", 2 * len(kernel)),
        ("output_padding", len(kernel)),
    ):
        held = graph.attribute(node, field)
        if held is not None and len(held) != length:
            _refuse(place, field, f"{length} numbers for a kernel of {len(kernel)} dimensions", list(held))
    _check_output_padding(node, len(kernel), place)


def _check_output_padding(node: Node, axes: int, place: str) -> None:
    """Padding as wide as the stride and the dilation would be rows that no input reaches."""
    padding = graph.attribute(node, "output_padding") or (0,) * axes
    strides = graph.attribute(node, "strides") or (1,) * axes
    dilations = graph.attribute(node, "dilations") or (1,) * axes
    for number, *steps in zip(padding, strides, dilations, strict=False):
        if number >= max(steps) > 0 and number:
            _refuse(place, "output_padding", f"less than the stride or dilation, {max(steps)}", list(padding))


def _kernel_of(node: Node, place: str) -> tuple[int, ...] | None:
    """The kernel's spatial shape by attribute and weights, which must agree."""
    declared = graph.attribute(node, "kernel_shape")
    if node.op_type not in {"Conv", "ConvTranspose"}:
        return tuple(declared) if declared is not None else None
    group = graph.attribute(node, "group", 1)
    if not 1 <= group <= MAX_WINDOW:
        _refuse(place, "group", "1 or more", group)
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if weight is None or not graph.has_static_shape(weight):
        return tuple(declared) if declared is not None else None
    dims = graph.shape(weight)
    if len(dims) < 3 or min(dims) < 1:
        _refuse(place, "W", "3 or more dimensions of at least 1", list(dims))
    if declared is not None and tuple(declared) != dims[2:]:
        _refuse(place, "kernel_shape", f"{list(dims[2:])} as the weight's shape says", list(declared))
    if dims[0] % group:
        _refuse(place, "group", f"a divisor of the {dims[0]} channels", group)
    _check_bias(node, dims[0] if node.op_type == "Conv" else dims[1] * group, place)
    return dims[2:]


def _check_bias(node: Node, channels: int, place: str) -> None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and graph.has_static_shape(bias) and graph.shape(bias) != (channels,):
        _refuse(place, "B", f"shape ({channels},)", graph.shape(bias))


def _check_transpose(node: Node, place: str) -> None:
    perm = graph.attribute(node, "perm")
    if perm is not None and sorted(perm) != list(range(len(perm))):
        _refuse(place, "perm", "a permutation", list(perm))


def _check_batch_norm(node: Node, place: str) -> None:
    if not 0 <= graph.attribute(node, "epsilon", 1e-5) < math.inf:
        _refuse(place, "epsilon", "a finite number from 0", graph.attribute(node, "epsilon"))
    if graph.attribute(node, "training_mode", 0) or sum(1 for value in node.outputs if value.name) > 1:
        raise UnsupportedModelError(
            "BatchNormalization in training mode", where=place, hint="export the model in evaluation mode"
        )


def _check_block(node: Node, place: str) -> None:
    block = graph.attribute(node, "blocksize", 0)
    if not 1 <= block <= MAX_WINDOW:
        _refuse(place, "blocksize", "1 or more", block)


def _check_quantization(node: Node, place: str) -> None:
    _check_range(node, place, "block_size", 0)
    scale = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if scale is None:
        return
    wide = np.asarray(scale, np.float32)
    if not (np.isfinite(wide).all() and (wide >= np.finfo(np.float32).tiny).all()):
        _refuse(place, "scale", "finite, positive and not denormal", wide.reshape(-1)[:8].tolist())
    if node.op_type == "QuantizeLinear" and not (wide.min() >= MIN_SCALE and wide.max() <= 1 / MIN_SCALE):
        _refuse(place, "scale", "2^-60 to 2^60", wide.reshape(-1)[:8].tolist())
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    held = graph.constant(zero)
    if held is not None and held.dtype == np.int32 and held.any():
        _refuse(place, "zero_point", "0, as ONNX says of int32", held.reshape(-1)[:8].tolist())
    single = scale.size == 1 and zero is not None and graph.has_static_shape(zero) and np.prod(graph.shape(zero)) == 1
    if single:  # () beside (1,): one value either way, and onnxruntime's own quantiser writes it
        return
    if zero is not None and graph.has_static_shape(zero) and graph.shape(zero) != scale.shape:
        _refuse(place, "zero_point", f"shape {scale.shape} as the scale", graph.shape(zero))


def _check_resize(node: Node, place: str) -> None:
    for index in (2, 3):
        sizes = graph.constant(node.inputs[index]) if len(node.inputs) > index else None
        if sizes is not None and sizes.size and not (np.isfinite(sizes).all() and (sizes > 0).all()):
            _refuse(place, ("scales", "sizes")[index - 2], "finite and positive", sizes.tolist()[:8])
    if node.op_type != "Resize":
        return
    region = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if region is not None and not (np.abs(region.astype(np.float64)) <= MAX_WINDOW).all():
        _refuse(place, "roi", f"numbers from {-MAX_WINDOW} to {MAX_WINDOW}", region.tolist()[:8])
    if not abs(graph.attribute(node, "cubic_coeff_a", -0.75)) <= MAX_CUBIC:
        _refuse(place, "cubic_coeff_a", f"{-MAX_CUBIC} to {MAX_CUBIC}", graph.attribute(node, "cubic_coeff_a"))


def _check_resized_axes(node: Node, place: str) -> None:
    """Axes of the input, each once, and for each of them a scale or size, a start and an end."""
    data = node.inputs[0]
    if data is None or node.op_type != "Resize":
        return
    rank = len(graph.shape(data))
    axes = graph.attribute(node, "axes")
    listed = list(range(rank)) if axes is None else [axis % rank for axis in axes if -rank <= axis < rank]
    if axes is not None and len(set(listed)) != len(axes):
        _refuse(place, "axes", f"different numbers from {-rank} to {rank - 1}", list(axes))
    crops = graph.attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    for index, name, expected in ((1, "roi", 2 * len(listed) * crops), (2, "scales", len(listed)), (3, "sizes", len(listed))):
        held = graph.constant(node.inputs[index]) if len(node.inputs) > index else None
        if held is not None and held.size not in (0, expected) and expected:
            _refuse(place, name, f"{expected} numbers", held.tolist()[:8])


def _check_lrn(node: Node, place: str) -> None:
    _check_range(node, place, "size", 1)


def _check_split(node: Node, place: str) -> None:
    _check_range(node, place, "split", 0, (1 << 31) - 1)
    _check_range(node, place, "num_outputs", 1)


def _check_gemm(node: Node, place: str) -> None:
    for field in ("transA", "transB"):
        _check_range(node, place, field, 0, 1)


def _check_slice(node: Node, place: str) -> None:
    steps = graph.constant(node.inputs[4]) if len(node.inputs) > 4 else None
    if steps is not None and not ((steps != 0) & (np.abs(steps.astype(np.float64)) <= MAX_STEP)).all():
        _refuse(place, "steps", f"{-MAX_STEP} to {MAX_STEP}, not 0", steps.tolist()[:8])


_RULES: dict[str, Callable[[Node, str], None]] = {
    "BatchNormalization": _check_batch_norm,
    "DepthToSpace": _check_block,
    "DequantizeLinear": _check_quantization,
    "Gemm": _check_gemm,
    "LRN": _check_lrn,
    "QuantizeLinear": _check_quantization,
    "Resize": _check_resize,
    "Slice": _check_slice,
    "SpaceToDepth": _check_block,
    "Split": _check_split,
    "Transpose": _check_transpose,
}


def _check_channels(node: Node, place: str) -> None:
    data, weight = node.inputs[0], node.inputs[1]
    assert data is not None
    assert weight is not None
    dims, kernel, group = graph.shape(data), graph.shape(weight), graph.attribute(node, "group", 1)
    if len(dims) != len(kernel):
        _refuse(place, "X", f"{len(kernel)} dimensions as the weight", list(dims))
    expected = kernel[1] * group if node.op_type == "Conv" else kernel[0]
    if dims[1] != expected:
        _refuse(place, "X", f"{expected} channels as the weight says", f"{dims[1]} in shape {list(dims)}")
    made = graph.shape(node.outputs[0])
    if len(made) != len(dims):
        _refuse(place, "Y", f"{len(dims)} dimensions as the input", list(made))


def _check_product(node: Node, place: str) -> None:
    """ONNX's inference looks at no inner dimension of a Gemm, nor at C: a wrong ``--shape`` came through to here."""
    a, b = (graph.shape(value)[::step] for value, step in zip(node.inputs[:2], _turns(node), strict=True) if value is not None)
    if a[1] != b[0]:
        _refuse(place, "A", f"{b[0]} columns as B has rows; check --shape", f"{a[1]} in shape {list(a)}")
    added = node.inputs[2] if len(node.inputs) > 2 else None
    if added is not None:
        dims = (1,) * (2 - len(graph.shape(added))) + graph.shape(added)
        if len(dims) != 2 or any(have not in (1, made) for have, made in zip(dims, (a[0], b[1]), strict=True)):
            _refuse(place, "C", f"a shape that broadcasts to {[a[0], b[1]]}", list(graph.shape(added)))


def _turns(node: Node) -> tuple[int, int]:
    """-1 where an operand is transposed, 1 where it is not."""
    return -1 if graph.attribute(node, "transA", 0) else 1, -1 if graph.attribute(node, "transB", 0) else 1


def _check_perm_length(node: Node, place: str) -> None:
    perm, data = graph.attribute(node, "perm"), node.inputs[0]
    if perm is not None and data is not None and len(perm) != len(graph.shape(data)):
        _refuse(place, "perm", f"{len(graph.shape(data))} numbers", list(perm))


def _check_elements(node: Node, place: str) -> None:
    """ONNX's own inference takes a Reshape of 200 elements to 240: whoever believed it would read what lies behind."""
    data, result = node.inputs[0], node.outputs[0]
    if data is None or not (graph.has_static_shape(data) and graph.has_static_shape(result)):
        return
    have, made = math.prod(graph.shape(data)), math.prod(graph.shape(result))
    if have != made:
        _refuse(place, "shape", f"{have} elements, as the input has", f"{made} in {list(graph.shape(result))}")


def _check_scales(node: Node, place: str) -> None:
    """One scale for each index of the axis, or for each block of it."""
    data, scale = node.inputs[0], node.inputs[1]
    if data is None or scale is None or math.prod(graph.shape(scale)) == 1:
        return
    dims, held = graph.shape(data), graph.shape(scale)
    axis, block = graph.attribute(node, "axis", 1), graph.attribute(node, "block_size", 0)
    if not -len(dims) <= axis < len(dims):
        _refuse(place, "axis", f"{-len(dims)} to {len(dims) - 1}", axis)
    axis %= len(dims)
    expected = (dims[axis],) if not block else (*dims[:axis], -(-dims[axis] // block), *dims[axis + 1 :])
    if held != expected:
        _refuse(place, "scale", f"shape {expected} for axis {axis} of {list(dims)}", list(held))


def _check_axis(node: Node, place: str) -> None:
    axis, data = graph.attribute(node, "axis"), _first_known(node.inputs)
    if axis is None or data is None:
        return
    rank = len(graph.shape(data)) + (node.op_type == "OneHot")
    if not -rank <= axis < max(rank, 1):
        _refuse(place, "axis", f"{-rank} to {rank - 1}", axis)


def _first_known(inputs: Sequence[Value | None]) -> Value | None:
    return next((value for value in inputs if value is not None and graph.has_static_shape(value)), None)
