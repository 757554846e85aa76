"""Constants that depend on a dynamic dimension, as exporters write masks and Resize: every size as if compiled for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgezip.compilation import compile
from edgezip.dynamic import TENSOR_PATCH
from edgezip.errors import UnsupportedModelError
from edgezip.frontends import onnx as frontend
from edgezip.pack import dynamic
from edgezip.program import Op, Place, Program, read
from edgezip.runtime.backends import Session
from edgezip.runtime.reference import ReferenceSession

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)


class Graph:
    """Nodes by call; the last one's output is ``y``."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{op.lower()}{len(self.nodes)}", **attributes))
        return name

    def length(self, axis: int) -> str:
        return self("Squeeze", self("Shape", "x", start=axis, end=axis + 1))

    def steps(self, axis: int) -> str:
        """0, 1, ... up to the length of the axis."""
        return self("Range", self.constant(0), self.length(axis), self.constant(1))

    def bytes(self, dims: list[Any], opset: int = 23) -> bytes:
        self("Identity", self.nodes[-1].output[0])
        self.nodes[-1].output[0] = "y"
        made = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], self.constants,
        )  # fmt: skip
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10).SerializeToString()


def rows_and_columns(g: Graph) -> tuple[str, str]:
    steps = g.steps(1)
    return g("Unsqueeze", steps, g.constant([1])), g("Unsqueeze", steps, g.constant([0]))


def range_mask(g: Graph, scores: str) -> str:
    row, column = rows_and_columns(g)
    return g("Where", g("LessOrEqual", column, row), scores, g.constant(np.float32(-1e9)))


def less_mask(g: Graph, scores: str) -> str:
    row, column = rows_and_columns(g)
    bias = g("Where", g("Less", row, column), g.constant(np.float32(-np.inf)), g.constant(np.float32(0)))
    return g("Add", scores, bias)


def square(g: Graph) -> str:
    n = g("Shape", "x", start=1, end=2)
    return g("Concat", n, n, axis=0)


def trilu_mask(g: Graph, scores: str) -> str:
    full = g("ConstantOfShape", square(g), value=numpy_helper.from_array(np.array([-np.inf], np.float32)))
    return g("Add", scores, g("Trilu", full, g.constant(1), upper=1))


def expanded_mask(g: Graph, scores: str) -> str:
    ones = g("Expand", g.constant(np.array(True)), square(g))
    lower = g("Cast", g("Trilu", g("Cast", ones, to=TensorProto.INT32), upper=0), to=TensorProto.BOOL)
    return g("Where", lower, scores, g.constant(np.float32(-1e9)))


def buffer_mask(g: Graph, scores: str) -> str:
    """A registered buffer, cut to the length in both axes."""
    ends = g.constant([0, 0]), square(g), g.constant([0, 1])
    return g("Where", g("Slice", g.constant(np.tri(64, dtype=bool)), *ends), scores, g.constant(np.float32(-1e9)))


def slopes(g: Graph, scores: str) -> str:
    """Distances weighed, as ALiBi has them."""
    row, column = rows_and_columns(g)
    far = g("Cast", g("Abs", g("Sub", row, column)), to=TensorProto.FLOAT)
    return g("Sub", range_mask(g, scores), g("Mul", far, g.constant(np.float32(0.3))))


def attention(mask: Callable[[Graph, str], str]) -> bytes:
    g = Graph()
    q, k, v = (g("MatMul", "x", g.constant(RNG.normal(size=(6, 6)).astype(np.float32))) for _ in range(3))
    scores = mask(g, g("MatMul", q, g("Transpose", k, perm=[0, 2, 1])))
    g("MatMul", g("Softmax", scores, axis=-1), v)
    return g.bytes(["n", "w", 6])


def causal_attention() -> bytes:
    g = Graph()
    heads = [g("MatMul", "x", g.constant(RNG.normal(size=(6, 6)).astype(np.float32))) for _ in range(3)]
    g("Attention", *heads, is_causal=1, q_num_heads=2, kv_num_heads=2)
    return g.bytes(["n", "w", 6])


def positions() -> bytes:
    """Each place divided by the length, and the places from the end on."""
    g = Graph()
    steps = g("Cast", g.steps(1), to=TensorProto.FLOAT)
    length = g("Cast", g.length(1), to=TensorProto.FLOAT)
    share = g("Unsqueeze", g("Div", steps, length), g.constant([1]))
    back = g("Unsqueeze", g("Sub", length, steps), g.constant([1]))
    g("Mul", g("Add", "x", share), back)
    return g.bytes(["n", "w", 6])


def resize(mode: str, rule: str, scale: float, **attributes: Any) -> bytes:
    g = Graph()
    scales = g.constant(np.array([1, 1, 1, scale], np.float32))
    g("Resize", "x", "", scales, mode=mode, coordinate_transformation_mode=rule, **attributes)
    return g.bytes(["n", 3, 4, "w"])


def resized_like(mode: str, kernel: int = 3) -> bytes:
    """A stride and back to the size of the input, as the skip of a U-Net wants it."""
    g = Graph()
    w = g.constant(RNG.normal(size=(3, 3, kernel, kernel)).astype(np.float32))
    small = g("Conv", "x", w, strides=[1, 2], pads=[kernel // 2] * 4)
    grown = g("Resize", small, "", "", g("Shape", "x"), mode=mode, coordinate_transformation_mode="asymmetric")
    g("Add", grown, "x")
    return g.bytes(["n", 3, 4, "w"])


SEQUENCE = {
    **{mask.__name__: lambda mask=mask: attention(mask)
       for mask in (range_mask, less_mask, trilu_mask, expanded_mask, buffer_mask, slopes)},
    "causal_attention": causal_attention, "positions": positions,
}  # fmt: skip
IMAGE = {
    "linear x2": lambda: resize("linear", "half_pixel", 2.0),
    "linear / 2": lambda: resize("linear", "half_pixel", 0.5),
    "linear x1.5": lambda: resize("linear", "asymmetric", 1.5),
    "linear align": lambda: resize("linear", "align_corners", 2.0),
    "cubic x2": lambda: resize("cubic", "half_pixel", 2.0),
    "cubic without edges": lambda: resize("cubic", "half_pixel", 1.3, exclude_outside=1),
    "linear antialias": lambda: resize("linear", "half_pixel", 0.5, antialias=1),
    "cubic align": lambda: resize("cubic", "align_corners", 1.5),
    "like linear": lambda: resized_like("linear"),
    "like nearest": lambda: resized_like("nearest"),
    "like cubic": lambda: resized_like("cubic"),
}  # fmt: skip


def fed(shape: tuple[int, ...]) -> dict[str, Array]:
    return {"x": np.random.default_rng(shape).standard_normal(shape).astype(np.float32)}


def assert_every_size(model: bytes, program: Program, shapes: list[tuple[int, ...]]) -> None:
    session, reference = Session(read(program.to_bytes())), ReferenceSession(program)
    for shape in shapes:
        given = fed(shape)
        want = Session(compile(frontend.load(model, shapes={"x": shape}), vectors=0)).run(given)["y"]
        assert session.run(given)["y"].tobytes() == want.tobytes() == reference.run(given)["y"].tobytes(), shape


@pytest.mark.parametrize("name", SEQUENCE)
def test_masks_and_positions_at_every_length(name: str) -> None:
    model = SEQUENCE[name]()
    program = compile(model, dims={"w": (2, 25)})
    assert_every_size(model, program, [(1, w, 6) for w in range(2, 26)])
    assert Session(program).verify_vectors() == (3, 3)


@pytest.mark.parametrize("name", IMAGE)
def test_resize_at_every_width(name: str) -> None:
    model = IMAGE[name]()
    program = compile(model, dims={"w": (3, 26)}, vectors=0)
    assert_every_size(model, program, [(1, 3, 4, w) for w in range(3, 27)])


@pytest.mark.parametrize("name", ["less_mask", "causal_attention", "positions"])
def test_two_dimensions_one_of_which_the_constants_know(name: str) -> None:
    model = SEQUENCE[name]()
    program = compile(model, dims={"n": (1, 3), "w": (2, 29, 3)}, vectors=0)
    assert_every_size(model, program, [(n, w, 6) for n in (1, 2, 3) for w in range(2, 30, 3)])


def test_two_resized_axes_have_a_table_each() -> None:
    g = Graph()
    scales = g.constant(np.array([1, 1, 1.5, 2], np.float32))
    g("Resize", "x", "", scales, mode="linear", coordinate_transformation_mode="align_corners")
    model = g.bytes([1, 3, "h", "w"])
    program = compile(model, dims={"h": (4, 16, 4), "w": (3, 12)}, vectors=0)
    assert_every_size(model, program, [(1, 3, h, w) for h in (4, 12, 16) for w in (3, 4, 11, 12)])


def test_int8_resize_at_every_width() -> None:
    g = Graph()
    q = g.constant(np.float32(0.02)), g.constant(np.int8(-3))
    x = g("DequantizeLinear", g("QuantizeLinear", "x", *q), *q)
    scales = g.constant(np.array([1, 1, 1, 2], np.float32))
    y = g("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    g("DequantizeLinear", g("QuantizeLinear", y, *q), *q)
    model = g.bytes([1, 3, 4, "w"])
    program = compile(model, dims={"w": (3, 20)}, vectors=0)
    assert any(step.op is Op.RESIZE and program.tensors[step.inputs[0]].dtype.name == "S8" for step in program.steps)
    assert_every_size(model, program, [(1, 3, 4, w) for w in range(3, 21)])


def test_a_mask_is_stored_once_and_copied_once_for_all_its_readers() -> None:
    g = Graph()
    x = "x"
    for _ in range(3):
        scores = less_mask(g, g("MatMul", x, g("Transpose", x, perm=[0, 2, 1])))
        x = g("MatMul", g("Softmax", scores, axis=-1), x)
    program = compile(g.bytes([1, "w", 6]), dims={"w": (2, 32)}, vectors=0)
    assert sum(step.op is Op.COPY for step in program.steps) == 1
    assert len(program.weights) < 2 * 32 * 32 * 4


def test_entries_of_a_table_lie_at_their_places() -> None:
    program = compile(positions(), dims={"w": (4, 40, 4)}, vectors=0)
    assert program.shapes is not None
    patched = [p for p in program.shapes.variants[0].patches if (p.kind, p.field) == (TENSOR_PATCH, "offset")]
    held = [program.shapes.variants[0].tensors[p.index].place for p in patched]
    assert held
    assert held == [Place.WEIGHTS] * len(held)


@pytest.mark.parametrize("name", ["less_mask", "positions"])
def test_an_entropy_coded_program_has_the_entries_of_every_size(name: str) -> None:
    model = SEQUENCE[name]()
    program = compile(model, dims={"w": (2, 25)}, vectors=0)
    program.coded = True
    assert read(program.to_bytes()).weights == program.weights
    session = Session(program.to_bytes())
    for w in (2, 7, 24, 25):
        given = fed((1, w, 6))
        assert session.run(given)["y"].tobytes() == ReferenceSession(program).run(given)["y"].tobytes()


def test_a_table_of_too_many_sizes_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic, "MOST_TABLES", 8)
    with pytest.raises(UnsupportedModelError, match=r"of node 'add\d+' is another for every size.*:STEP"):
        compile(positions(), dims={"w": (2, 25)}, vectors=0)
    compile(positions(), dims={"w": (2, 25, 4)}, vectors=0)


def test_a_wrong_entry_of_a_table_shows() -> None:
    """The fault that the other tests are there to find."""
    program = compile(positions(), dims={"w": (4, 12)}, vectors=0)
    broken = bytearray(program.weights)
    for at in range(0, len(broken) - 64, 4):
        broken[at + 3] ^= 0x80  # another sign
    right = ReferenceSession(program).run(fed((1, 7, 6)))["y"].copy()
    program.weights = bytes(broken)
    assert ReferenceSession(program).run(fed((1, 7, 6)))["y"].tobytes() != right.tobytes()
