"""A small recurrent net whose two states go from run to run: h' = tanh(x U + h W), c' = c + h'; y = h' V + c'."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgezip import graph
from edgezip.compilation import compile
from edgezip.frontends.onnx import load
from edgezip.program import Program

Array = np.ndarray[Any, Any]
STATE = {"h": "hn", "c": "cn"}
WIDTH = 5


def recurrent_model() -> graph.Model:
    """float32: inputs h, x, c (states on either side of the caller's input); outputs hn, y, cn."""
    rng = np.random.default_rng(7)
    weights = {name: rng.uniform(-0.6, 0.6, (WIDTH, WIDTH)).astype(np.float32) for name in "UWV"}
    nodes = [
        helper.make_node("MatMul", ["x", "U"], ["xu"], name="xu"),
        helper.make_node("MatMul", ["h", "W"], ["hw"], name="hw"),
        helper.make_node("Add", ["xu", "hw"], ["sum"], name="sum"),
        helper.make_node("Tanh", ["sum"], ["hn"], name="tanh"),
        helper.make_node("Add", ["c", "hn"], ["cn"], name="add"),
        helper.make_node("MatMul", ["hn", "V"], ["hv"], name="hv"),
        helper.make_node("Add", ["hv", "cn"], ["y"], name="y"),
    ]
    made = helper.make_graph(
        nodes,
        "recurrent",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]) for name in ("h", "x", "c")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]) for name in ("hn", "y", "cn")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return load(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=8).SerializeToString())


def state_program(target: str = "x86-64", vectors: int = 3) -> Program:
    """Compiled; ``c`` starts as 1, 2, 3, ..., ``h`` as zeros."""
    initial = {"c": np.arange(1, WIDTH + 1, dtype=np.float32).reshape(1, WIDTH)}
    return compile(recurrent_model(), target, state=STATE, initial=initial, vectors=vectors)


def chunks(count: int) -> list[dict[str, Array]]:
    """Consecutive inputs."""
    rng = np.random.default_rng(3)
    return [{"x": rng.standard_normal((1, WIDTH)).astype(np.float32)} for _ in range(count)]
