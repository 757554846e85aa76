"""Programs without inputs, and results without elements: every session runs them, and no step may touch what is empty."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_session import changed

from edgezip import compile as compile_model
from edgezip.errors import ProgramError
from edgezip.frontends import onnx as front
from edgezip.program import DType, Layout, Op, Place, Program, Step, Tensor, read
from edgezip.runtime.numba_session import NumbaSession
from edgezip.runtime.reference import ReferenceSession
from edgezip.runtime.session import Session, load_native

SESSIONS = (Session, ReferenceSession, NumbaSession)


def made(*, with_numbers: bool = True) -> Program:
    """Three numbers of a Range, unless left out, and a result of shape 0x3."""
    from onnx import TensorProto, helper

    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["none"])]
    outputs = [helper.make_tensor_value_info("none", TensorProto.FLOAT, None)]
    held = [helper.make_tensor("shape", TensorProto.INT64, [2], [0, 3])]
    if with_numbers:
        nodes.append(helper.make_node("Range", ["from", "to", "by"], ["numbers"]))
        outputs.append(helper.make_tensor_value_info("numbers", TensorProto.INT64, None))
        held += [helper.make_tensor(n, TensorProto.INT64, [], [v]) for n, v in (("from", 3), ("to", 9), ("by", 2))]
    graph = helper.make_graph(nodes, "constants", [], outputs, held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return compile_model(front.load(proto.SerializeToString()))


@pytest.mark.parametrize("kind", SESSIONS)
def test_a_program_without_inputs_gives_its_constants(kind: Any) -> None:
    program = made()
    assert (program.inputs, len(program.vectors)) == ([], 1)
    results = kind(read(program.to_bytes())).run({})
    assert results["numbers"].tolist() == [3, 5, 7]
    assert (results["none"].shape, results["none"].dtype) == ((0, 3), np.float32)
    assert Session(program).verify_vectors() == (1, 1)


@pytest.mark.parametrize("kind", SESSIONS)
def test_a_program_of_nothing_but_an_empty_result_has_no_steps_and_no_vectors(kind: Any) -> None:
    program = made(with_numbers=False)
    assert (program.steps, program.vectors) == ([], [])
    assert kind(read(program.to_bytes())).run({})["none"].shape == (0, 3)


def test_the_c_runtime_takes_no_array_of_inputs_where_there_are_none() -> None:
    ffi, lib = load_native()
    session, out = Session(made()), [np.empty((0, 3), np.float32), np.empty(3, np.int64)]
    assert not lib.ez_session_run(session._handle(), ffi.NULL, [ffi.from_buffer(array) for array in out])
    assert out[1].tolist() == [3, 5, 7]


def copy_of(x: Tensor, y: Tensor) -> bytes:
    walk = {"rank": 1, "dims": (1,), "x_stride": (1,), "y_stride": (1,), "scale": 1.0, "lo": -128, "hi": 127}
    program = Program(Layout.K4N16, 0x80, 64, 0, [x, y], [Step("copy", Op.COPY, (0,), (1,), walk)], [0], [1])
    return program.to_bytes()


def test_a_step_that_writes_an_empty_result_is_refused() -> None:
    raw = copy_of(Tensor("x", DType.F32, Place.INPUT, (1,)), Tensor("y", DType.F32, Place.OUTPUT, (0,)))
    for kind in SESSIONS:
        with pytest.raises(ProgramError, match="no elements"):
            kind(raw if kind is not ReferenceSession else read(raw))


@pytest.mark.parametrize("place", [Place.INPUT, Place.ARENA])
def test_only_a_result_may_be_empty(place: Place) -> None:
    x, y = Tensor("x", DType.F32, Place.INPUT, (1,)), Tensor("y", DType.F32, Place.OUTPUT, (1,))
    raw = Program(
        Layout.K4N16, 0x80, 64, 0, [x, y, Tensor("e", DType.F32, place, (0,))], read(copy_of(x, y)).steps, [0], [1]
    ).to_bytes()
    with pytest.raises(ProgramError, match="dims"):
        Session(raw)


def test_an_empty_result_with_bytes_or_rows_of_its_own_is_refused() -> None:
    raw = made(with_numbers=False).to_bytes()
    for field, value in (("bytes", 4), ("row_stride", 4)):
        with pytest.raises(ProgramError, match="no bytes"):
            Session(changed(raw, "tensors", 0, field, value))


def test_a_vector_of_no_bytes_is_refused() -> None:
    """A file of a kilobyte could state a million of them, each looked up anew."""
    program = made(with_numbers=False)
    program.vectors = [[np.empty((0, 3), np.float32)]]
    with pytest.raises(ProgramError, match="no bytes"):
        Session(program.to_bytes())
