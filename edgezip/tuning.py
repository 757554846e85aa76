"""``edgezip targets calibrate``: a device's cost coefficients, from the times of a model made for the purpose.

The probe is an ordinary program, so what is measured is what networks get: convolutions of usual shapes, depthwise layers, a
fully connected layer whose weights come from memory, elementwise steps, and steps with nothing to do. It runs step by step
through the same runner as ``bench --per-layer``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import compilation, compression, tuning_blocks
from edgezip.measure import step_cost
from edgezip.program import DType, Op, Program
from edgezip.recipe import Recipe
from edgezip.target import BreakEven, Cost, Target

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, Any]
# Times of all steps in microseconds: of a program on n threads, every step shared (so that sharing short ones is measured too).
StepTimes = Callable[[Program, int], list[float]]

CONVOLUTIONS = (  # (outputs, kernel, stride, groups) one after another, from 28 x 28 pixels of 64 channels
    (128, 1, 1, 1), (128, 3, 1, 128), (96, 1, 1, 1), (96, 3, 2, 1), (192, 1, 1, 1), (192, 5, 1, 192), (96, 1, 1, 1),
    (96, 3, 2, 96), (256, 1, 1, 1), (128, 3, 1, 1),
)  # fmt: skip
CHANNELS, PIXELS = 64, 28
WIDE = 1536  # inputs and outputs of the layer whose weights come from memory: 2.4 MB
TINY = 16
FASTEST = 1e6  # of a rate in a profile
NOT_WORTH_IT_US = 1_000_000


@dataclass(frozen=True)
class Tuning:
    """What was measured: the new coefficients beside those of the profile, the shares of blocks up to which skipping the others
    pays, and the time of each step of the probes."""

    target: str
    before: Cost
    after: Cost
    sparse: BreakEven
    steps: list[dict[str, Any]]


def measure(target: Target, step_times: StepTimes, threads: int, source: str) -> Tuning:
    """Coefficients of ``target`` from what ``step_times`` measures; with ``threads`` > 1 also what a second one brings."""
    s8, f32 = probes(target)
    s8_us, f32_us = step_times(s8, 1), step_times(f32, 1)
    rates: dict[str, Any] = fit(s8, s8_us) | fit(f32, f32_us)
    if threads > 1:
        rates |= fit_threads(s8_us, step_times(s8, 2))
    after = Cost(**rates, source=source)
    rows = [
        {"form": form, "name": step.name, "op": step.op.name.lower(), "macs": step_cost.macs(program, step), "us": us}
        for form, program, times in (("int8", s8, s8_us), ("float32", f32, f32_us))
        for step, us in zip(program.steps, times, strict=True)
    ]
    return Tuning(target.name, target.cost, after, tuning_blocks.measure(target, step_times), rows)


def fit(program: Program, times_us: list[float]) -> dict[str, float]:
    """Rates by kind of step, as sums of work over sums of time."""
    is_int8 = any(program.tensors[step.inputs[0]].dtype is DType.S8 for step in program.steps if step.op is Op.CONV)
    form = "s8" if is_int8 else "f32"
    work: dict[str, list[float]] = {}
    for step, us in zip(program.steps, times_us, strict=True):
        kind = _kind(step.name, step.op)
        amount = step_cost.bytes_moved(program, step) if kind in ("stream", "elementwise") else step_cost.macs(program, step)
        work.setdefault(kind, []).append(us)
        work.setdefault(f"{kind} work", []).append(amount)
    found = {
        f"{form}_gmacs": _rate(work, "product"),
        f"depthwise_{form}_gmacs": _rate(work, "depthwise"),
    }
    if is_int8:
        found |= {
            "stream_gbs": _rate(work, "stream"),
            "elementwise_gbs": _rate(work, "elementwise"),
            "overhead_us": round(float(np.median(work["tiny"])), 3),
        }
    return found


def _kind(name: str, op: Op) -> str:
    for kind in ("tiny", "stream", "elementwise"):
        if name.startswith(kind):
            return kind
    return {Op.CONV: "product", Op.DEPTHWISE: "depthwise"}.get(op, "other")


def _rate(work: Mapping[str, list[float]], kind: str) -> float:
    """1e9 a second; what a clock could not resolve is as fast as a profile may say."""
    most = sum(work[f"{kind} work"]) / max(sum(work[kind]), 1e-3) / 1e3
    return float(f"{min(most, FASTEST):.4g}")


def fit_threads(one_us: list[float], two_us: list[float]) -> dict[str, Any]:
    """What a second thread brings to long steps (median of five), and the threshold at which all steps together take least."""
    steps = sorted(zip(one_us, two_us, strict=True), reverse=True)
    speedup = float(np.median([one / max(two, 1e-3) for one, two in steps[:5]]))

    def together(threshold: float) -> float:
        return sum(two if one >= threshold else one for one, two in steps)

    best = min([NOT_WORTH_IT_US, *(one for one, _ in steps)], key=together)
    return {"two_threads": min(max(round(speedup, 3), 0.1), 2.5), "solo_us": max(int(best), 1)}


# --- the probes -------------------------------------------------------------------------------------------------------


def probes(target: Target) -> tuple[Program, Program]:
    """The same layers as an int8 and as a float program for ``target``, without test vectors; always the same bytes."""
    from edgezip.frontends import onnx as frontend

    feeds = [{"x": np.random.default_rng(0).standard_normal((1, CHANNELS, PIXELS, PIXELS)).astype(np.float32)}]
    small = frontend.load(_network(stream=False).SerializeToString(), where="the probe")
    large = frontend.load(_network(stream=True).SerializeToString(), where="the probe")
    large = compression.compress(large, Recipe.int8("minmax", correct_bias=False), calibration=feeds).model
    return compilation.compile(large, target, vectors=0), compilation.compile(small, target, vectors=0)


def _network(*, stream: bool) -> onnx.ModelProto:
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(1)
    nodes, constants = [], []

    def weight(name: str, *dims: int) -> str:
        values = generator.standard_normal(dims) / np.sqrt(np.prod(dims[1:]))
        constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def add(op: str, name: str, inputs: list[str], **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{name}.y"], name=name, **attributes))
        return f"{name}.y"

    def fully_connected(x: str, name: str, inputs: int, outputs: int) -> str:
        return add("Gemm", name, [x, weight(f"{name}.w", outputs, inputs)], transB=1)

    x, channels = "x", CHANNELS
    for i, (outputs, kernel, stride, groups) in enumerate(CONVOLUTIONS):
        w = weight(f"conv{i}.w", outputs, channels // groups, kernel, kernel)
        y = add("Conv", f"conv{i}", [x, w], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, group=groups)
        x, channels = y, outputs
    halves = [add("Conv", f"half{i}", ["x", weight(f"half{i}.w", CHANNELS, CHANNELS, 1, 1)]) for i in range(2)]
    product = add("Mul", "elementwise0", halves)
    pooled = [add("Flatten", f"flat{i}", [add("GlobalAveragePool", f"pool{i}", [v])]) for i, v in enumerate((x, product))]
    y = add("Concat", "joined", pooled, axis=1)
    y = fully_connected(y, "widen", channels + CHANNELS, WIDE)
    if stream:
        y = fully_connected(y, "stream0", WIDE, WIDE)
    y = fully_connected(y, "narrow", WIDE, TINY)
    for i in range(4):
        y = fully_connected(y, f"tiny{i}", TINY, TINY)
    result = helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, TINY])
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, PIXELS, PIXELS])
    graph = helper.make_graph(nodes, "edgezip-probe", [image], [result], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
