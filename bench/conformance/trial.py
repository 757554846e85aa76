"""One case through our runtime: load, compile for this machine, run, compare with the stored outputs.

What every exporter writes into the file is given at compile time (``edgezip.frontends.onnx.load(constants=...)``): weights,
scales, shapes, axes. Everything else arrives at run time. ``FIXED`` says which inputs of which operator those are.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import onnx

from bench.conformance.cases import Case
from edgezip import pack
from edgezip.errors import EdgeZipError, UsageError
from edgezip.frontends import onnx as frontend
from edgezip.runtime.session import Session

Array = np.ndarray[Any, Any]

FIXED: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BatchNormalization": (1, 2, 3, 4),
    "BlackmanWindow": (0,),
    "CausalConvWithState": (1, 2),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "Conv": (1, 2),
    "ConvInteger": (1, 2, 3),
    "ConvTranspose": (1, 2),
    "CumProd": (1,),
    "CumSum": (1,),
    "DFT": (1, 2),
    "DeformConv": (1, 3),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "GRU": (1, 2, 3),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "LSTM": (1, 2, 3, 7),
    "LayerNormalization": (1, 2),
    "MatMulInteger": (1, 2, 3),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "NonMaxSuppression": (2, 3, 4),
    "OneHot": (1,),
    "Pad": (1, 2, 3),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearMatMul": (1, 2, 3, 4, 5, 6, 7),
    "QuantizeLinear": (1, 2),
    "RMSNormalization": (1,),
    "RNN": (1, 2, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
REDUCED_AXES = 1  # of every Reduce...
LIMIT_BYTES = 1 << 30  # of folded constants: the whole networks among the cases make up to 574 MB of weights in nodes


class Verdict(Enum):
    """How a case went."""

    PASSED = "passed"
    WRONG = "wrong"
    REFUSED = "refused"
    CRASHED = "crashed"  # a signal, a hang, or an exception that is not ours


@dataclass(frozen=True, slots=True)
class Result:
    """A verdict and, unless passed, why."""

    verdict: Verdict
    reason: str = ""


def try_case(case: Case, fixed: set[str]) -> Result:
    """Runs every pair of the case; ``fixed`` are the names of inputs that are given at compile time."""
    if not case.pairs:
        return Result(Verdict.REFUSED, "the case has no stored outputs")
    try:
        for inputs, outputs in case.pairs:
            wrong = _run_pair(case, fixed, inputs, outputs)
            if wrong:
                return Result(Verdict.WRONG, wrong)
    except EdgeZipError as error:
        return Result(Verdict.REFUSED, short(error.what))
    except Exception as error:  # what the guard is there for
        return Result(Verdict.CRASHED, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160])
    return Result(Verdict.PASSED)


def fixed_inputs(model: onnx.ModelProto) -> set[str]:
    """Names of graph inputs that stand where exporters write a constant."""
    names = {info.name for info in model.graph.input}
    found = set()
    for node in model.graph.node:
        positions = (REDUCED_AXES,) if node.op_type.startswith("Reduce") else FIXED.get(node.op_type, ())
        found |= {node.input[i] for i in positions if i < len(node.input) and node.input[i]}
    return found & names


def _run_pair(case: Case, fixed: set[str], inputs: list[Array | None], outputs: list[Array | None]) -> str:
    constants = {tensor.name for tensor in case.model.graph.initializer}
    names = [info.name for info in case.model.graph.input if info.name not in constants]
    feeds = {name: array for name, array in zip(names, inputs, strict=False) if array is not None}
    model = frontend.load(
        case.model.SerializeToString(),
        constants={name: array for name, array in feeds.items() if name in fixed},
        shapes={name: array.shape for name, array in feeds.items() if name not in fixed},
        fold_limit_bytes=LIMIT_BYTES,
        where=case.name,
    )
    program = pack.compile(model)
    session = Session(program, threads=1)
    wanted = {program.tensors[i].name: program.tensors[i].dtype.numpy for i in program.inputs}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = session.run({name: at_border(feeds[name], kind) for name, kind in wanted.items()})
    return compare(case, results, outputs)


def at_border(array: Array, kind: np.dtype[Any]) -> Array:
    """float16 and double inputs enter as float32, as the program declares them. Raises UsageError: a number is too large."""
    if array.dtype not in (np.float16, np.float64) or kind != np.float32:
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(kind)
    if (np.isinf(narrow) & ~np.isinf(array)).any():
        raise UsageError("the case's double numbers are beyond float32")
    return narrow


def compare(case: Case, results: Mapping[str, Array], outputs: list[Array | None]) -> str:
    """What differs, or an empty string; the tolerances are those of ONNX's own suite, and one unit of the largest number."""
    for info, wanted in zip(case.model.graph.output, outputs, strict=False):
        got = results[info.name]
        if wanted is None:
            return f"output {info.name} is no tensor"
        if f"{info.name}.count" in results:  # room for all that there can be, and how many rows are meant
            axis = next((a for a, size in enumerate(wanted.shape) if got.shape[a : a + 1] != (size,)), 0)
            got = got.take(range(int(results[f"{info.name}.count"][0])), axis)
        floats = wanted.dtype in (np.float16, np.float64) and got.dtype == np.float32
        if got.shape != wanted.shape or (got.dtype != wanted.dtype and not floats):
            return f"output {info.name}: {got.dtype} {got.shape} instead of {wanted.dtype} {wanted.shape}"
        if floats:
            got = got.astype(wanted.dtype)
        if not np.allclose(got, wanted, rtol=case.rtol, atol=max(case.atol, resolution(wanted)), equal_nan=True):
            away = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
            return (
                f"output {info.name}: {int((away > case.atol).sum())} of {got.size} values differ, by up to {np.nanmax(away):.3g}"
            )
    return ""


def resolution(wanted: Array) -> float:
    """One unit in the last place of the largest float32 number: stored sums that ought to be 0 hold as much rounding."""
    finite = wanted.reshape(-1)[np.isfinite(wanted).reshape(-1)] if wanted.dtype == np.float32 else wanted.reshape(-1)[:0]
    return float(np.abs(finite).max() * np.finfo(np.float32).eps) if finite.size else 0.0


def short(text: str) -> str:
    """A reason without the names of the case's own nodes and tensors, so that like reasons group."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"^\d+ node\(s\) cannot run: ", "", text)
    text = re.sub(r"'[^']*'", "'..'", text)
    return text[:200]
