"""Graphs of normalisations and activations in the pieces that exporters write: ``x`` in, ``y`` out, constants beside them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx_graphs import model, node, tensor

Array = np.ndarray[Any, Any]
WIDTH = 6
EPSILON = 1e-3


@dataclass
class Pieces:
    """Appends nodes; ``op`` returns the name of what it made, constants are given as arrays or numbers."""

    dims: tuple[int, ...] = (2, 5, WIDTH)
    opset: int = 17
    kind: int = onnx.TensorProto.FLOAT
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def op(self, kind: str, *operands: Any, **attributes: Any) -> str:
        names = [value if isinstance(value, str) else self.constant(value) for value in operands]
        self.nodes.append(node(kind, names, f"v{len(self.nodes)}", **attributes))
        return f"v{len(self.nodes) - 1}"

    def constant(self, value: Any) -> str:
        array = np.asarray(value)
        kind = np.int64 if array.dtype.kind == "i" and array.dtype != np.int32 else array.dtype
        held = array.astype(np.float32) if array.dtype.kind == "f" else array.astype(kind)
        self.constants.append(tensor(f"c{len(self.constants)}", held))
        return f"c{len(self.constants) - 1}"

    def reduce(self, kind: str, x: str, *axes: int, keepdims: int = 1) -> str:
        """With axes as an input or an attribute, as the opset has it."""
        if self.opset >= 18 or kind == "ReduceSum":
            return self.op(kind, x, list(axes), keepdims=keepdims)
        return self.op(kind, x, axes=list(axes), keepdims=keepdims)

    def proto(self, result: str) -> onnx.ModelProto:
        """The model whose output is ``result``."""
        for made in self.nodes:
            made.output[0] = "y" if made.output[0] == result else made.output[0]
            made.input[:] = ["y" if name == result else name for name in made.input]
        return model(self.nodes, self.constants, x=self.dims, opset=self.opset, kind=self.kind)


Writer = Callable[[Pieces], str]
SCALE = np.linspace(0.5, 2, WIDTH)
BIAS = np.linspace(-1, 1, WIDTH)


def _centred(g: Pieces) -> str:
    return g.op("Sub", "x", g.reduce("ReduceMean", "x", -1))


def _variance(g: Pieces, centred: str) -> str:
    return g.reduce("ReduceMean", g.op("Pow", centred, 2.0), -1)


def _root(g: Pieces, variance: str, epsilon: float = EPSILON) -> str:
    return g.op("Sqrt", g.op("Add", variance, epsilon))


def _with_scale_and_bias(g: Pieces, norm: str) -> str:
    return g.op("Add", g.op("Mul", norm, SCALE), BIAS)


def torch_layer_norm(g: Pieces) -> str:
    """PyTorch up to opset 16, Paddle: Pow, Sqrt, Div."""
    d = _centred(g)
    return _with_scale_and_bias(g, g.op("Div", d, _root(g, _variance(g, d))))


def twice_centred(g: Pieces) -> str:
    """The difference is written once for the variance and once for the quotient; the square as a product."""
    d = _centred(g)
    root = _root(g, g.reduce("ReduceMean", g.op("Mul", d, d), -1))
    return _with_scale_and_bias(g, g.op("Div", _centred(g), root))


def reciprocal(g: Pieces) -> str:
    """Reciprocal of the root, with the scale in it: ``d * (scale * 1/root)``; the bias first."""
    d = _centred(g)
    inverse = g.op("Mul", SCALE, g.op("Reciprocal", _root(g, _variance(g, d))))
    return g.op("Add", BIAS, g.op("Mul", inverse, d))


def one_over_root(g: Pieces) -> str:
    d = _centred(g)
    return _with_scale_and_bias(g, g.op("Mul", d, g.op("Div", 1.0, _root(g, _variance(g, d)))))


def power_of_minus_half(g: Pieces) -> str:
    d = _centred(g)
    return _with_scale_and_bias(g, g.op("Mul", d, g.op("Pow", g.op("Add", _variance(g, d), EPSILON), -0.5)))


def power_of_half(g: Pieces) -> str:
    d = _centred(g)
    return _with_scale_and_bias(g, g.op("Div", d, g.op("Pow", g.op("Add", EPSILON, _variance(g, d)), 0.5)))


def root_of_reciprocal(g: Pieces) -> str:
    d = _centred(g)
    inverse = g.op("Sqrt", g.op("Reciprocal", g.op("Add", _variance(g, d), EPSILON)))
    return _with_scale_and_bias(g, g.op("Mul", d, inverse))


def keras_layer_norm(g: Pieces) -> str:
    """TensorFlow's batch_normalization of moments: ``x * g + (bias - mean * g)``."""
    mean = g.reduce("ReduceMean", "x", -1)
    variance = _variance(g, g.op("Sub", "x", mean))
    gain = g.op("Mul", g.op("Reciprocal", _root(g, variance)), SCALE)
    return g.op("Add", g.op("Mul", "x", gain), g.op("Sub", BIAS, g.op("Mul", mean, gain)))


def keras_without_bias(g: Pieces) -> str:
    mean = g.reduce("ReduceMean", "x", -1)
    gain = g.op("Mul", g.op("Reciprocal", _root(g, _variance(g, g.op("Sub", "x", mean)))), SCALE)
    return g.op("Sub", g.op("Mul", "x", gain), g.op("Mul", gain, mean))


def flax_layer_norm(g: Pieces) -> str:
    """JAX: sums by 1 / n without the axis, mean of squares less the squared mean, floored at 0, reshaped back."""
    mean = g.op("Mul", g.reduce("ReduceSum", "x", 2, keepdims=0), 1 / WIDTH)
    squares = g.op("Mul", g.reduce("ReduceSum", g.op("Mul", "x", "x"), 2, keepdims=0), 1 / WIDTH)
    variance = g.op("Max", 0.0, g.op("Sub", squares, g.op("Mul", mean, mean)))
    root = g.op("Sqrt", g.op("Add", g.op("Reshape", variance, [2, 5, 1]), EPSILON))
    gain = g.op("Mul", g.op("Reciprocal", root), SCALE[None, None])
    return g.op("Add", g.op("Mul", g.op("Sub", "x", g.op("Unsqueeze", mean, [2])), gain), BIAS[None, None])


def sum_by_count(g: Pieces) -> str:
    mean = g.op("Div", g.reduce("ReduceSum", "x", -1), float(WIDTH))
    d = g.op("Sub", "x", mean)
    return g.op("Div", d, _root(g, g.op("Div", g.reduce("ReduceSum", g.op("Mul", d, d), -1), float(WIDTH))))


def bare(g: Pieces) -> str:
    """Neither scale nor bias."""
    d = _centred(g)
    return g.op("Div", d, _root(g, _variance(g, d)))


def two_axes(g: Pieces) -> str:
    d = g.op("Sub", "x", g.reduce("ReduceMean", "x", 1, 2))
    root = _root(g, g.reduce("ReduceMean", g.op("Pow", d, 2.0), 1, 2))
    return g.op("Mul", g.op("Div", d, root), np.linspace(1, 2, 5 * WIDTH).reshape(5, WIDTH))


def channels_of_a_picture(g: Pieces) -> str:
    """ConvNeXt's norm over axis 1."""
    g.dims = (2, WIDTH, 3, 4)
    d = g.op("Sub", "x", g.reduce("ReduceMean", "x", 1))
    norm = g.op("Div", d, _root(g, g.reduce("ReduceMean", g.op("Pow", d, 2.0), 1)))
    return g.op("Add", g.op("Mul", SCALE[:, None, None], norm), BIAS[:, None, None])


LAYER_NORMS: tuple[Writer, ...] = (
    torch_layer_norm, twice_centred, reciprocal, one_over_root, power_of_minus_half, power_of_half, root_of_reciprocal,
    keras_layer_norm, keras_without_bias, flax_layer_norm, sum_by_count, bare, two_axes, channels_of_a_picture,
)  # fmt: skip


def other_axis_of_the_variance(g: Pieces) -> str:
    d = _centred(g)
    return g.op("Div", d, _root(g, g.reduce("ReduceMean", g.op("Pow", d, 2.0), 1)))


def other_axis_of_the_mean(g: Pieces) -> str:
    d = g.op("Sub", "x", g.reduce("ReduceMean", "x", 1))
    return g.op("Div", d, _root(g, _variance(g, d)))


def cube_for_square(g: Pieces) -> str:
    d = _centred(g)
    return g.op("Div", d, _root(g, g.reduce("ReduceMean", g.op("Pow", d, 3.0), -1), 10.0))


def sum_for_mean(g: Pieces) -> str:
    d = g.op("Sub", "x", g.reduce("ReduceSum", "x", -1))
    return g.op("Div", d, _root(g, _variance(g, d)))


def other_count(g: Pieces) -> str:
    """The unbiased variance divides by n - 1."""
    d = _centred(g)
    return g.op("Div", d, _root(g, g.op("Div", g.reduce("ReduceSum", g.op("Mul", d, d), -1), WIDTH - 1.0)))


def other_tensor(g: Pieces) -> str:
    d = g.op("Sub", "x", g.reduce("ReduceMean", g.op("Neg", "x"), -1))
    return g.op("Div", d, _root(g, _variance(g, d)))


def epsilon_for_each_row(g: Pieces) -> str:
    d = _centred(g)
    return g.op("Div", d, g.op("Sqrt", g.op("Add", _variance(g, d), np.full((5, 1), EPSILON))))


def epsilon_behind_the_root(g: Pieces) -> str:
    """PyTorch's ``x.std() + eps``."""
    d = _centred(g)
    return g.op("Div", d, g.op("Add", g.op("Sqrt", _variance(g, d)), EPSILON))


def negative_epsilon(g: Pieces) -> str:
    d = _centred(g)
    return g.op("Div", d, _root(g, _variance(g, d), -EPSILON))


def dropped_axis_that_meets_another(g: Pieces) -> str:
    """A square of as many rows as columns: the mean of the rows is taken off the columns."""
    g.dims = (WIDTH, WIDTH)
    d = g.op("Sub", "x", g.reduce("ReduceMean", "x", -1, keepdims=0))
    return g.op("Div", d, _root(g, _variance(g, d)))


def other_gain_of_the_mean(g: Pieces) -> str:
    mean = g.reduce("ReduceMean", "x", -1)
    inverse = g.op("Reciprocal", _root(g, _variance(g, g.op("Sub", "x", mean))))
    shift = g.op("Mul", mean, g.op("Mul", inverse, BIAS))
    return g.op("Sub", g.op("Mul", "x", g.op("Mul", inverse, SCALE)), shift)


NOT_LAYER_NORMS: tuple[Writer, ...] = (
    other_axis_of_the_variance, other_axis_of_the_mean, cube_for_square, sum_for_mean, other_count, other_tensor,
    epsilon_for_each_row, epsilon_behind_the_root, negative_epsilon, dropped_axis_that_meets_another, other_gain_of_the_mean,
)  # fmt: skip


def llama_norm(g: Pieces) -> str:
    """PyTorch's modules: ``weight * (x * rsqrt(mean(x^2) + eps))``."""
    root = _root(g, g.reduce("ReduceMean", g.op("Pow", "x", 2.0), -1))
    return g.op("Mul", SCALE, g.op("Mul", "x", g.op("Reciprocal", root)))


def rms_quotient(g: Pieces) -> str:
    root = _root(g, g.reduce("ReduceMean", g.op("Mul", "x", "x"), -1))
    return g.op("Mul", g.op("Div", "x", root), SCALE)


def rms_by_one_over_root(g: Pieces) -> str:
    root = _root(g, g.reduce("ReduceMean", g.op("Mul", "x", "x"), -1))
    return g.op("Mul", g.op("Div", 1.0, root), "x")


RMS_NORMS: tuple[Writer, ...] = (llama_norm, rms_quotient, rms_by_one_over_root)


def square_of_another(g: Pieces) -> str:
    root = _root(g, g.reduce("ReduceMean", g.op("Mul", "x", g.op("Neg", "x")), -1), 100.0)
    return g.op("Div", "x", root)


def rms_over_rows(g: Pieces) -> str:
    return g.op("Div", "x", _root(g, g.reduce("ReduceMean", g.op("Mul", "x", "x"), 1)))


def l2_length(g: Pieces) -> str:
    return g.op("Div", "x", _root(g, g.reduce("ReduceSum", g.op("Mul", "x", "x"), -1)))


NOT_RMS_NORMS: tuple[Writer, ...] = (square_of_another, rms_over_rows, l2_length)


def torch_gelu(g: Pieces) -> str:
    erf = g.op("Erf", g.op("Div", "x", math.sqrt(2)))
    return g.op("Mul", g.op("Mul", "x", g.op("Add", erf, 1.0)), 0.5)


def half_first(g: Pieces) -> str:
    erf = g.op("Erf", g.op("Mul", "x", 1 / math.sqrt(2)))
    return g.op("Mul", g.op("Mul", 0.5, "x"), g.op("Add", 1.0, erf))


def half_in_the_gate(g: Pieces) -> str:
    erf = g.op("Erf", g.op("Div", "x", math.sqrt(2)))
    return g.op("Mul", g.op("Add", g.op("Mul", erf, 0.5), 0.5), "x")


def by_two(g: Pieces) -> str:
    erf = g.op("Erf", g.op("Div", "x", math.sqrt(2)))
    return g.op("Div", g.op("Mul", g.op("Add", erf, 1.0), "x"), 2.0)


def tanh_with_power(g: Pieces) -> str:
    """Hugging Face's gelu_new."""
    inner = g.op("Add", "x", g.op("Mul", g.op("Pow", "x", 3.0), 0.044715))
    tanh = g.op("Tanh", g.op("Mul", inner, math.sqrt(2 / math.pi)))
    return g.op("Mul", g.op("Mul", "x", 0.5), g.op("Add", tanh, 1.0))


def tanh_with_products(g: Pieces) -> str:
    """JAX."""
    cube = g.op("Mul", "x", g.op("Mul", "x", g.op("Mul", 0.044715, "x")))
    tanh = g.op("Tanh", g.op("Mul", 0.7978845834732056, g.op("Add", "x", cube)))
    return g.op("Mul", "x", g.op("Mul", 0.5, g.op("Add", 1.0, tanh)))


def tanh_factored(g: Pieces) -> str:
    """``x * c * (1 + 0.044715 x x)``."""
    square = g.op("Mul", g.op("Mul", "x", 0.044715), "x")
    inner = g.op("Mul", g.op("Mul", "x", 0.7978845608), g.op("Add", square, 1.0))
    return g.op("Mul", g.op("Add", g.op("Tanh", inner), 1.0), g.op("Mul", "x", 0.5))


GELUS: tuple[tuple[Writer, str], ...] = (
    (torch_gelu, "none"), (half_first, "none"), (half_in_the_gate, "none"), (by_two, "none"),
    (tanh_with_power, "tanh"), (tanh_with_products, "tanh"), (tanh_factored, "tanh"),
)  # fmt: skip


def not_halved(g: Pieces) -> str:
    return g.op("Mul", "x", g.op("Add", g.op("Erf", g.op("Div", "x", math.sqrt(2))), 1.0))


def other_divisor(g: Pieces) -> str:
    erf = g.op("Erf", g.op("Div", "x", 1.4))
    return g.op("Mul", g.op("Mul", "x", g.op("Add", erf, 1.0)), 0.5)


def gate_of_another(g: Pieces) -> str:
    erf = g.op("Erf", g.op("Div", g.op("Relu", "x"), math.sqrt(2)))
    return g.op("Mul", g.op("Mul", "x", g.op("Add", erf, 1.0)), 0.5)


def half_for_each_column(g: Pieces) -> str:
    erf = g.op("Erf", g.op("Div", "x", math.sqrt(2)))
    return g.op("Mul", g.op("Mul", "x", g.op("Add", erf, 1.0)), np.full(WIDTH, 0.5))


def tanh_of_square(g: Pieces) -> str:
    inner = g.op("Add", "x", g.op("Mul", g.op("Pow", "x", 2.0), 0.044715))
    tanh = g.op("Tanh", g.op("Mul", inner, math.sqrt(2 / math.pi)))
    return g.op("Mul", g.op("Mul", "x", 0.5), g.op("Add", tanh, 1.0))


NOT_GELUS: tuple[Writer, ...] = (not_halved, other_divisor, gate_of_another, half_for_each_column, tanh_of_square)


def safe_softmax(g: Pieces) -> str:
    power = g.op("Exp", g.op("Sub", "x", g.reduce("ReduceMax", "x", -1)))
    return g.op("Div", power, g.reduce("ReduceSum", power, -1))


def plain_softmax(g: Pieces) -> str:
    power = g.op("Exp", "x")
    return g.op("Mul", power, g.op("Reciprocal", g.reduce("ReduceSum", power, -1)))


def jax_softmax(g: Pieces) -> str:
    greatest = g.op("Max", -math.inf, g.reduce("ReduceMax", "x", 1, keepdims=0))
    power = g.op("Exp", g.op("Sub", "x", g.op("Reshape", greatest, [2, 1, WIDTH])))
    return g.op("Div", power, g.op("Unsqueeze", g.reduce("ReduceSum", power, 1, keepdims=0), [1]))


SOFTMAXES: tuple[Writer, ...] = (safe_softmax, plain_softmax, jax_softmax)


def sum_of_another(g: Pieces) -> str:
    return g.op("Div", g.op("Exp", "x"), g.reduce("ReduceSum", g.op("Exp", g.op("Neg", "x")), -1))


def sum_over_two_axes(g: Pieces) -> str:
    power = g.op("Exp", "x")
    return g.op("Div", power, g.reduce("ReduceSum", power, 1, 2))


def inverted(g: Pieces) -> str:
    power = g.op("Exp", "x")
    return g.op("Div", g.reduce("ReduceSum", power, -1), power)


NOT_SOFTMAXES: tuple[Writer, ...] = (sum_of_another, sum_over_two_axes, inverted)
