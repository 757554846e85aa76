"""DFT and STFT become products with constant tables: against NumPy's FFT in float64 and against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pack_graphs import build, feeds_for, ints, node, run_everywhere

from edgezip import graph

Array = np.ndarray[Any, np.dtype[Any]]


def as_complex(x: Array) -> Array:
    return np.asarray(x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0])


def as_parts(x: Array) -> Array:
    return np.stack([x.real, x.imag], axis=-1)


def assert_close(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    # sums of up to 64 products of size one in float32
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("dims", [(2, 10, 1), (2, 10, 2), (1, 5, 7, 2), (3, 9, 1)])
@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("length", [None, 6, 16])
def test_dft(opset: int, dims: tuple[int, ...], inverse: int, length: int | None) -> None:
    constants = {} if length is None else {"n": np.int64(length)}
    attrs: dict[str, Any] = {"inverse": inverse}
    inputs = ["x", *constants]
    if opset == 20:
        constants["axis"] = np.int64(1)
        inputs = ["x", "n" if length else "", "axis"]
    else:
        attrs["axis"] = 1
    model = build([node("DFT", inputs, **attrs)], constants, {"x": dims}, opset=opset)
    feeds = feeds_for(model)
    transform = np.fft.ifft if inverse else np.fft.fft
    program, got = run_everywhere(model, feeds)
    assert_close(got["y"], as_parts(transform(as_complex(feeds["x"].astype(np.float64)), length, axis=1)))
    assert [step.op.name for step in program.steps].count("CONV") == 1


@pytest.mark.parametrize("length", [None, 8, 12])
def test_real_dft_one_sided(length: int | None) -> None:
    constants = {"axis": np.int64(-2)} | ({} if length is None else {"n": np.int64(length)})
    model = build([node("DFT", ["x", "n" if length else "", "axis"], onesided=1)], constants, {"x": (2, 10, 1)}, opset=20)
    feeds = feeds_for(model)
    _, got = run_everywhere(model, feeds)
    assert_close(got["y"], as_parts(np.fft.rfft(feeds["x"][..., 0].astype(np.float64), length, axis=1)))


@pytest.mark.parametrize(("dims", "onesided"), [((2, 40, 1), 0), ((2, 40, 1), 1), ((1, 40, 2), 0)])
@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize("step", [4, 7])
def test_stft(dims: tuple[int, ...], onesided: int, window: bool, step: int) -> None:
    shape = np.hanning(16) if window else np.ones(16)
    constants = {"step": np.int64(step), "w": shape.astype(np.float32), "n": np.int64(16)}
    inputs = ["x", "step", "w" if window else "", "n"]
    model = build([node("STFT", inputs, onesided=onesided)], constants, {"x": dims}, opset=17)
    feeds = feeds_for(model)
    signal = as_complex(feeds["x"].astype(np.float64))
    cut = np.stack([signal[:, i : i + 16] * shape.astype(np.float32) for i in range(0, 40 - 16 + 1, step)], axis=1)
    _, got = run_everywhere(model, feeds)
    assert_close(got["y"], as_parts(np.fft.rfft(cut) if onesided else np.fft.fft(cut)))


def test_window_and_mel_weights_are_constants() -> None:
    """A front end of speech: Hann window, STFT, power, mel filters, logarithm."""
    constants = {
        "size": np.int64(32), "step": np.int64(16), "bins": np.int64(8), "rate": np.int64(8000), "low": np.float32(50),
        "high": np.float32(4000), "axes": ints(-1), "tiny": np.float32(1e-3),
    }  # fmt: skip
    nodes = [
        node("HannWindow", ["size"], "w"), node("STFT", ["x", "step", "w", "size"], "s"), node("Mul", ["s", "s"], "q"),
        node("ReduceSum", ["q", "axes"], "p", keepdims=0), node("MelWeightMatrix", ["bins", "size", "rate", "low", "high"], "m"),
        node("MatMul", ["p", "m"], "f"), node("Add", ["f", "tiny"], "g"), node("Log", ["g"]),
    ]  # fmt: skip
    model = build(nodes, constants, {"x": (1, 160, 1)}, opset=17)
    feeds = feeds_for(model)
    assert not {"HannWindow", "MelWeightMatrix", "STFT"} & {n.op_type for n in graph.nodes(model)}
    _, got = run_everywhere(model, feeds)
    np.testing.assert_allclose(got["y"], graph.run(model, feeds)["y"], rtol=1e-4, atol=1e-4)
