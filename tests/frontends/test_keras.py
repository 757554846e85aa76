"""Networks of Keras by way of its ONNX and TensorFlow Lite exports; ``keras_files/make.py`` wrote them, with Keras' answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_tflite import by_edgezip, by_litert, feeds_of

import edgezip
from edgezip import graph
from edgezip.errors import ShapeError

HERE = Path(__file__).parent / "keras_files"
FILES = sorted(path.name for path in HERE.iterdir() if path.suffix in (".onnx", ".tflite"))
# float16 weights are off by 2^-12 of themselves, of dynamic range by half a step of 1/127 of the largest in their row, as the
# activations are; both beside the float network's answers, as parts of the largest
LOSS = {"float16": 1e-3, "dynamic": 2e-2}


def kind_of(name: str) -> str:
    return name.split(".")[1]


def test_every_network_is_there_in_both_formats() -> None:
    assert {name.split(".")[0] for name in FILES if name.endswith(".onnx")} == {"vision", "segment", "attention", "sequence"}
    assert {kind_of(name) for name in FILES if name.endswith(".tflite")} == {"float32", "float16", "dynamic", "int8"}


@pytest.mark.parametrize("name", [name for name in FILES if kind_of(name) != "int8"])
def test_a_float_export_answers_as_keras_does(name: str) -> None:
    known = np.load(HERE / f"{name.split('.')[0]}.npz")
    got = by_edgezip(HERE / name, [known["x"]])[0]
    largest = float(np.abs(known["y"]).max())
    assert np.abs(got - known["y"]).max() <= LOSS.get(kind_of(name), 1e-4) * largest


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [name for name in FILES if kind_of(name) == "int8"])
def test_an_int8_export_is_within_one_step_of_litert(name: str, seed: int) -> None:
    data = (HERE / name).read_bytes()
    feeds = feeds_of(data, seed)
    got, want = by_edgezip(HERE / name, feeds)[0], by_litert(data, feeds)[0]
    assert got.dtype == want.dtype == np.int8
    assert np.abs(got.astype(int) - want).max() <= 1
    assert np.unique(want).size > 1  # not saturated


def test_the_unknown_batch_of_an_export_can_be_chosen(tmp_path: Path) -> None:
    path = HERE / "segment.float32.tflite"  # its dilated convolution cuts the batch into blocks
    name = str(graph.input_values(edgezip.load(path))[0].name)
    known = np.load(HERE / "segment.npz")
    program = edgezip.compile(path, shapes={name: (3, 12, 12, 3)}, vectors=0)
    x = np.concatenate([known["x"], np.zeros_like(known["x"]), known["x"]])
    got = next(iter(edgezip.Session(program).run({name: x}).values()))
    assert got.shape == (3, *known["y"].shape[1:])
    np.testing.assert_allclose(got[[0, 2]], np.repeat(known["y"], 2, 0), atol=1e-5)
    with pytest.raises(ShapeError, match=r"only dimensions of -1"):
        edgezip.load(path, shapes={name: (1, 10, 12, 3)})
