"""``edgezip targets calibrate``: from which share of blocks on skipping the others is no gain on a device.

Three programs of the same layers: all weights as panels; three quarters, and one quarter of the blocks, the others skipped.
Time is close to a line in the share, so two points give the share at which it meets the time of the panels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import compilation, compression
from edgezip.kernels.sparse_blocks import ISAS
from edgezip.program import Program
from edgezip.recipe import Recipe
from edgezip.target import BreakEven, Target

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, Any]
SHARES = (0.75, 0.25)
MARGIN = 0.95  # of the share at which both take the same time: what is gained there is less than what is measured
BLOCK = (8, 16)  # channels x outputs: whole groups in either layout
LAYERS = {  # kind -> (inputs, outputs, kernel) of convolutions of 14 x 14 pixels, or, of few rows, products of one row
    "rows": ((128, 256, 1), (256, 256, 1), (256, 128, 1)),
    "winograd": ((128, 128, 3),),
    "few_rows": ((256, 512, 1), (512, 256, 1)),
}
PIXELS = 14


def measure(target: Target, step_times: Callable[[Program, int], list[float]]) -> BreakEven:
    """The table of the ISA that runs on the device that ``step_times`` measures."""
    dense, *thin = [sums_of(program, step_times(program, 1)) for program in probes(target)]
    return BreakEven(**{kind: break_even(dense[kind], [times[kind] for times in thin]) for kind in LAYERS})


def break_even(dense_us: float, thin_us: Sequence[float]) -> float:
    """The share at which a line through the times of ``SHARES`` meets ``dense_us``, less the margin; 0 to 1."""
    slope = (thin_us[0] - thin_us[1]) / (SHARES[0] - SHARES[1])
    if slope <= 0:  # the share does not matter: nothing is skipped here, or the clock is too coarse
        return 0.0
    met = SHARES[1] + (dense_us - thin_us[1]) / slope
    return round(float(np.clip(met * MARGIN, 0, 1)), 3)


def sums_of(program: Program, times_us: Sequence[float]) -> Mapping[str, float]:
    """Microseconds by kind of layer."""
    pairs = list(zip(program.steps, times_us, strict=True))
    return {kind: sum(us for step, us in pairs if step.name.startswith(f"{kind}.")) for kind in LAYERS}


def probes(target: Target) -> list[Program]:
    """The layers with panels, then with blocks in each of ``SHARES``; always the same bytes."""
    always = dict.fromkeys(ISAS, BreakEven(rows=1, few_rows=1, winograd=1))
    dense = target.model_copy(update={"sparse": {}})
    skips = target.model_copy(update={"sparse": always})
    return [_program(dense, 1.0), *(_program(skips, share) for share in SHARES)]


def _program(target: Target, share: float) -> Program:
    from edgezip.frontends import onnx as frontend

    generator = np.random.default_rng(0)
    model = frontend.load(_network(share).SerializeToString(), where="the probe")
    feeds = [{"x": generator.standard_normal((1, 128, PIXELS, PIXELS)).astype(np.float32)}]
    small = compression.compress(model, Recipe.int8("minmax", correct_bias=False), calibration=feeds).model
    return compilation.compile(small, target, vectors=0)


def _weights(generator: np.random.Generator, inputs: int, outputs: int, kernel: int, share: float) -> Array:
    """(outputs, inputs, kernel, kernel), ``share`` of the blocks of each window position left."""
    values = generator.standard_normal((outputs, inputs, kernel, kernel)) / np.sqrt(inputs * kernel**2)
    order = generator.permutation(outputs // BLOCK[1] * (inputs // BLOCK[0]) * kernel**2)
    kept = (order < round(share * order.size)).reshape(outputs // BLOCK[1], inputs // BLOCK[0], kernel, kernel)
    weights: Array = (values * kept.repeat(BLOCK[1], axis=0).repeat(BLOCK[0], axis=1)).astype(np.float32)
    return weights


def _network(share: float) -> onnx.ModelProto:
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(1)
    nodes, constants, value = [], [], "x"
    for kind, layers in LAYERS.items():
        if kind == "few_rows":
            nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"], name="pool"))
            nodes.append(helper.make_node("Concat", ["pooled", "pooled"], ["twice"], name="join", axis=1))
            value = "twice"
        for number, (inputs, outputs, kernel) in enumerate(layers):
            name = f"{kind}.{number}"
            constants.append(numpy_helper.from_array(_weights(generator, inputs, outputs, kernel, share), f"{name}.w"))
            pads = [kernel // 2] * 4
            nodes.append(helper.make_node("Conv", [value, f"{name}.w"], [f"{name}.y"], name=name, pads=pads))
            value = f"{name}.y"
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 128, PIXELS, PIXELS])
    result = helper.make_tensor_value_info(value, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "edgezip-probe-of-blocks", [image], [result], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
