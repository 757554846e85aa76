"""Tiny ONNX models for the lowering rules, their Q/DQ forms, and one way to run a program on every path at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgezip import graph, pack
from edgezip.frontends.onnx import load
from edgezip.program import Op, Program
from edgezip.runtime.reference import ReferenceSession
from edgezip.runtime.session import Session
from edgezip.target import load_target

Array = np.ndarray[Any, np.dtype[Any]]
TARGETS = ("x86-64", "rpi4")  # K4N16 with the sign flipped, K8N16 without
FUSES_BEHIND = {"Relu", "Clip"}
IMAGE = (1, 4, 6, 5)
NEAR_TIE = 0.005  # of a step: float32 sums, and offsets rounded to 1/254 of an input step


def node(op: str, inputs: Sequence[str], output: str | Sequence[str] = "y", **attrs: Any) -> onnx.NodeProto:
    outputs = [output] if isinstance(output, str) else list(output)
    return helper.make_node(op, list(inputs), outputs, name=f"{op}_{outputs[0]}", **attrs)


def weights(*dims: int, low: float = -0.5, high: float = 0.5) -> Array:
    return np.random.default_rng(sum(dims) + len(dims)).uniform(low, high, dims).astype(np.float32)


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def build(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array] | None = None,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
    outputs: Mapping[str, int] | Sequence[str] = ("y",),
    opset: int = 20,
    kind: int = TensorProto.FLOAT,
) -> graph.Model:
    """The model as the front end gives it; float inputs, outputs float unless ``outputs`` says otherwise."""
    inputs = {"x": IMAGE} if inputs is None else inputs
    kinds = outputs if isinstance(outputs, Mapping) else dict.fromkeys(outputs, TensorProto.FLOAT)
    made = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, kind, list(dims)) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    return load(helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString())


def feeds_for(model: graph.Model, seed: int = 0) -> dict[str, Array]:
    """Uniform numbers in [-2, 2) for every input."""
    random = np.random.default_rng(seed)
    return {
        str(value.name): random.uniform(-2, 2, graph.shape(value)).astype(graph.dtype(value))
        for value in graph.input_values(model)
    }


def run_everywhere(model: graph.Model, feeds: Mapping[str, Array]) -> tuple[Program, dict[str, Array]]:
    """Compile for both layouts; interpreter and C session must agree to the bit on both, and the layouts with each other."""
    results: dict[str, Array] = {}
    program: Program | None = None
    for name in TARGETS:
        program = pack.compile(model, load_target(name))
        expected = ReferenceSession(program).run(feeds)
        got = Session(program).run(feeds)
        for key, array in expected.items():
            np.testing.assert_array_equal(got[key], array, err_msg=f"C differs from the interpreter: {name}, {key}")
            if key in results:
                np.testing.assert_array_equal(results[key], array, err_msg=f"layouts differ: {key}")
        results = expected
    assert program is not None
    return program, results


def ops_of(program: Program) -> list[Op]:
    return [step.op for step in program.steps]


# --- Q/DQ -------------------------------------------------------------------------------------------------------------


def range_params(values: Array, unsigned: bool = False) -> tuple[Array, Array]:
    """Asymmetric parameters for the range of ``values``, zero inside."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = np.float32((high - low) / 255 or 1.0)
    zero = int(np.clip(np.rint(-128 - low / float(scale)), -128, 127))
    return np.asarray(scale, np.float32), np.asarray(zero + 128, np.uint8) if unsigned else np.asarray(zero, np.int8)


def quantise_activations(model: graph.Model, feeds: Mapping[str, Array], *, unsigned: bool = False) -> None:
    """Q/DQ behind every float input and result; Relu and Clip stay joined to what they follow."""
    wanted = [*graph.input_values(model), *(v for n in graph.nodes(model) for v in n.outputs)]
    wanted = [v for v in wanted if graph.dtype(v) == np.float32 and graph.constant(v) is None]
    held = graph.run(model, feeds, [str(v.name) for v in wanted], optimize=False)
    for value in wanted:
        users = [user for user, _ in graph.consumers(value)]
        joined = len(users) == 1 and users[0].op_type in FUSES_BEHIND and graph.producer(value) is not None
        if not joined:
            graph.insert_qdq(model, value, *range_params(held[str(value.name)], unsigned))


def quantise_weights(model: graph.Model, *, per_tensor: bool = False, unsigned: bool = False) -> None:
    """int8 weights of Conv, ConvTranspose, Gemm and MatMul (uint8 with a zero point when ``unsigned``)."""
    for n in graph.nodes(model):
        held = graph.constant(n.inputs[1]) if len(n.inputs) > 1 else None
        if n.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or held is None:
            continue
        axis = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0 if graph.attribute(n, "transB", 0) else 1, "MatMul": 1}[n.op_type]
        value = n.inputs[1]
        assert value is not None
        if unsigned:
            scale, zero = range_params(held, unsigned=True)
            stored = np.clip(np.rint(held / scale) + zero, 0, 255).astype(np.uint8)
            graph.quantize_weight(model, value, stored, scale, zero)
            continue
        top = np.abs(held).max() if per_tensor else np.abs(np.moveaxis(held, axis, 0).reshape(held.shape[axis], -1)).max(axis=1)
        scale = np.asarray(np.where(top > 0, top / 127, 1), np.float32)
        shape = [-1 if i == axis else 1 for i in range(held.ndim)] if not per_tensor else []
        stored = np.clip(np.rint(held / scale.reshape(shape)), -127, 127).astype(np.int8)
        graph.quantize_weight(model, value, stored, scale, np.zeros(scale.shape, np.int8), axis=None if per_tensor else axis)


def quantise(model: graph.Model, feeds: Mapping[str, Array], *, unsigned: bool = False) -> graph.Model:
    """The whole model with Q/DQ; float biases stay (the packer rounds them to steps of sx*sw)."""
    quantise_activations(model, feeds, unsigned=unsigned)
    quantise_weights(model)
    return model


def output_scale(model: graph.Model, name: str = "y") -> float:
    """Scale of the DequantizeLinear that makes an output."""
    maker = graph.producer(graph.find_value(model, name))
    assert maker is not None
    assert maker.op_type == "DequantizeLinear"
    held = graph.constant(maker.inputs[1])
    assert held is not None
    return float(held.reshape(()))


def expected_steps(model: graph.Model, feeds: Mapping[str, Array], name: str = "y") -> tuple[Array, Array]:
    """ONNX Runtime's result in steps of its scale, and how far its float value before rounding lies from a tie."""
    dequantize = graph.producer(graph.find_value(model, name))
    assert dequantize is not None
    quantize = graph.producer(dequantize.inputs[0])
    assert quantize is not None
    before = str(quantize.inputs[0].name)
    held = graph.run(model, feeds, [name, before], optimize=False)
    scale = output_scale(model, name)
    exact = held[before].astype(np.float64) / scale
    return np.rint(held[name].astype(np.float64) / scale), np.abs(exact - np.floor(exact) - 0.5)


def assert_same_steps(model: graph.Model, feeds: Mapping[str, Array], got: Array, most_differing: float = 0.0) -> None:
    """Equal to ONNX Runtime's float arithmetic, but one step beside it where its value falls on a tie.

    ``most_differing`` bounds the share of other differences by one step: those that come from a tie further up.
    """
    expected, from_tie = expected_steps(model, feeds)
    steps = np.rint(got.astype(np.float64) / output_scale(model)) - expected
    assert np.abs(steps).max(initial=0) <= 1
    assert np.mean((steps != 0) & (from_tie > NEAR_TIE)) <= most_differing
