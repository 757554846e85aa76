"""A program whose sums depend on the C of rare operators: weighted resizing, remainders of floats, bits read as another type."""

from __future__ import annotations

import numpy as np
from onnx import helper, numpy_helper

from edgezip.compilation import compile
from edgezip.frontends.onnx import load
from edgezip.program import Program


def rare_program(target: str) -> Program:
    """x (1, 3, 5, 7) grown by a cubic without the outside, cropped with a fill, taken modulo -0.7, its sign cleared by bits."""
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["a"], mode="cubic", exclude_outside=1),
        helper.make_node(
            "Resize", ["a", "roi", "", "sizes"], ["b"], mode="linear", coordinate_transformation_mode="tf_crop_and_resize",
            extrapolation_value=0.3,
        ),
        helper.make_node("Mod", ["b", "d"], ["c"]),
        helper.make_node("BitCast", ["c"], ["e"], to=6),
        helper.make_node("BitwiseAnd", ["e", "m"], ["f"]),
        helper.make_node("BitCast", ["f"], ["y"], to=1),
    ]  # fmt: skip
    held = {
        "scales": np.array([1, 1, 2.5, 0.7], np.float32), "roi": np.array([0, 0, -0.2, 0.1, 1, 1, 0.9, 1.3], np.float32),
        "sizes": np.array([1, 3, 9, 6]), "d": np.array(-0.7, np.float32), "m": np.array(0x7FFFFFFF, np.int32),
    }  # fmt: skip
    made = helper.make_graph(
        nodes, "rare", [helper.make_tensor_value_info("x", 1, [1, 3, 5, 7])], [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 26)])
    return compile(load(model.SerializeToString()), target)
