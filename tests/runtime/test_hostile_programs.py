"""Programs and callers that mean harm: cost of verification, gaps of views, counts of work, misuse of the API."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_program import small_program
from test_session import changed, feeds, tensor

from edgezip.errors import ProgramError, ShapeError, UsageError
from edgezip.kernels import native
from edgezip.program import MAX_NAME, PARAMS, STEP, TENSOR, DType, Layout, Op, Place, Program, Step, Tensor
from edgezip.runtime.session import Session, load_native

F32 = DType.F32


def copy(x: int, y: int, dims: tuple[int, ...], x_stride: tuple[int, ...], y_stride: tuple[int, ...], **more: int) -> Step:
    walk = {"rank": len(dims), "dims": dims, "x_stride": x_stride, "y_stride": y_stride, **more}
    return Step("copy", Op.COPY, (x,), (y,), {"convert": 0, "scale": 1.0, "lo": -128, "hi": 127, **walk})


# --- cost ---------------------------------------------------------------------------------------------------------------------


def test_many_steps_over_a_large_arena_are_verified_quickly() -> None:
    """3 MB of steps that each name all of a 256 MB arena: 26 s when the bytes were followed bit by bit, 0.03 s by words."""
    elements, steps = 2**25, 10_000
    tensors = [Tensor("x", F32, Place.INPUT, (1,)), Tensor("y", F32, Place.OUTPUT, (1,))]
    tensors += [Tensor(name, F32, Place.ARENA, (elements,), k * elements * 4) for k, name in enumerate("ab")]
    chain = [copy(2 + i % 2, 3 - i % 2, (elements,), (1,), (1,)) for i in range(steps)]
    listed = [copy(0, 2, (elements,), (0,), (1,)), *chain, copy(2, 1, (1,), (1,), (1,))]
    raw = Program(Layout.K4N16, 0x80, elements * 8 + 64, 64, tensors, listed, [0], [1]).to_bytes()
    start = time.perf_counter()
    Session(raw).close()
    assert time.perf_counter() - start < 3


def test_a_name_longer_than_the_limit_is_refused_by_writer_and_verifier() -> None:
    made = small_program(vectors=0)
    made.steps[0].name = "n" * MAX_NAME
    Session(made).close()
    with pytest.raises(ProgramError, match="name"):
        Session(changed(made.to_bytes(), "steps", 0, "name_bytes", MAX_NAME + 1))
    made.steps[0].name += "n"
    with pytest.raises(UsageError, match=str(MAX_NAME)):
        made.to_bytes()


def test_a_name_with_control_characters_is_refused_by_its_own_text() -> None:
    made = small_program(vectors=0)
    made.steps[0].name = "a\tb"
    with pytest.raises(UsageError, match=r"control characters.*'a\\tb'|'a\\tb'.*control characters"):
        made.to_bytes()


@pytest.mark.parametrize(("skipped", "size"), [(0, 1), (1, 2), (0, 3)])
def test_a_name_that_cuts_a_character_is_refused(skipped: int, size: int) -> None:
    made = small_program(vectors=0)
    made.steps[0].name = "éé"
    raw = made.to_bytes()
    offset = int(np.frombuffer(raw, STEP, 1, 256)["name_offset"][0])
    assert Session(changed(raw, "steps", 0, "name_bytes", 2)).profile is not None
    with pytest.raises(ProgramError, match="name"):
        Session(changed(changed(raw, "steps", 0, "name_offset", offset + skipped), "steps", 0, "name_bytes", size))


# --- gaps between the rows of a view ------------------------------------------------------------------------------------------


def views(*middle: Step) -> bytes:
    """a and b are the left and the right half of common rows of 8; ``middle`` stands between their writing and the result."""
    tensors = [Tensor("x", F32, Place.INPUT, (8, 4)), Tensor("y", F32, Place.OUTPUT, (8, 4))]
    tensors += [Tensor(name, F32, Place.ARENA, (8, 4), offset, row_stride=8) for name, offset in (("a", 0), ("b", 16))]
    first = [copy(0, k, (8, 4), (4, 1), (8, 1)) for k in (2, 3)]
    last = copy(3, 1, (8, 4), (8, 1), (4, 1))
    return Program(Layout.K4N16, 0x80, 320 + 64, 64, tensors, [*first, *middle, last], [0], [1]).to_bytes()


@pytest.mark.parametrize(
    "inside",
    [
        copy(2, 3, (8, 4), (8, 1), (8, 1)),
        copy(2, 3, (4, 2, 2, 2), (16, 8, 2, 1), (16, 8, 2, 1)),
        copy(2, 3, (4, 8), (-1, 8), (1, 8), x_offset=3),
        copy(2, 3, (4, 4), (16, 1), (16, 1), x_offset=8, y_offset=8),
    ],
    ids=["whole", "columns in two axes", "mirrored and turned", "every other row"],
)
def test_walks_along_the_rows_of_a_view_are_accepted(inside: Step) -> None:
    x = np.arange(32, dtype=np.float32).reshape(8, 4)
    assert Session(views(inside)).run({"x": x})["y"].shape == (8, 4)


@pytest.mark.parametrize(
    "outside",
    [
        copy(2, 3, (7, 4), (8, 1), (8, 1), y_offset=4),
        copy(2, 3, (8, 4), (8, 1), (8, 1), x_offset=0, y_offset=1),
        copy(2, 3, (7, 4), (8, 1), (8, 1), x_offset=4),
        copy(2, 3, (5,), (1,), (1,)),
        copy(2, 3, (8, 3), (7, 1), (8, 1)),
        copy(2, 3, (7, 4), (8, -1), (8, 1), x_offset=10),
    ],
    ids=["result in the gap", "result beyond its columns", "operand in the gap", "one long run", "slanting", "mirrored"],
)
def test_walks_through_the_gap_of_a_view_are_refused(outside: Step) -> None:
    """The gap holds the other view: the step would write what it reads, and threads would see it or not."""
    with pytest.raises(ProgramError, match=r"leave the (rows of the view|tensor)") as caught:
        Session(views(outside))
    assert "step 2" in caught.value.where


# --- counts of work -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "rows", "dtype"), [(2**25, 2, DType.S8), (2**31 - 1, 2, DType.S8), (2**31 - 1, 1, F32)])
def test_a_product_of_more_pieces_than_fit_32_bits_is_refused(batch: int, rows: int, dtype: DType) -> None:
    def record(dims: tuple[int, ...], place: Place) -> Any:
        made = Tensor("t", dtype, place, dims, 0, float(dtype is DType.S8))
        row = np.zeros((), TENSOR)
        row["dtype"], row["place"], row["rank"], row["scale"] = made.dtype, made.place, len(dims), made.scale
        row["dims"], row["row_stride"], row["bytes"] = [*dims, *[1] * (8 - len(dims))], made.row_stride, made.bytes
        return row

    step, params = np.zeros((), STEP), np.zeros((), PARAMS[Op.MATMUL])
    step["op"], step["n_inputs"], step["n_outputs"], step["inputs"], step["outputs"] = (
        Op.MATMUL,
        2,
        1,
        [0, 1, *[-1] * 6],
        [2, -1, -1, -1],
    )
    for name, value in {
        "outer": batch,
        "inner": 1,
        "M": rows,
        "N": 1,
        "K": 1,
        "stride_a": [0, 0, 1, 1, 0, 0, 0, 0],
        "stride_b": [0, 0, 1, 1, 0, 0, 0, 0],
        "stride_y": [rows, 0, 1, 1, 0, 0, 0, 0],
        "scale": 1,
        "lo": -128,
        "hi": 127,
    }.items():
        params[name] = value
    step["params"][: params.nbytes] = np.frombuffer(params.tobytes(), np.uint8)
    tensors = b"".join(record(d, Place.ARENA).tobytes() for d in ((rows, 1), (1, 1), (batch, rows, 1)))
    tiny = [np.zeros(64, np.uint8)] * 3
    with pytest.raises(ProgramError, match="pieces of work"):
        native.run_step(step.tobytes(), tensors, tiny, layout=Layout.K4N16, act_sign=0x80, isa="portable")


# --- callers ------------------------------------------------------------------------------------------------------------------


def test_a_step_before_begin_is_refused() -> None:
    session = Session(small_program())
    assert session._lib.ez_session_step(session._session, 0) == session._lib.EZ_BAD_ARGUMENT


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ez")
    code = (
        "import sys; from edgezip.runtime.session import load_native; ffi, lib = load_native();"
        "print(lib.ez_program_open_file(sys.argv[1].encode(), ffi.new('ez_program **'), ffi.new('ez_error *')))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "pipe.ez"], capture_output=True, text=True, timeout=20)
    assert done.stdout.split() == [str(load_native()[1].EZ_IO)]


def unaligned(shape: tuple[int, ...]) -> np.ndarray:
    array = np.zeros(int(np.prod(shape)) * 4 + 1, np.uint8)[1:].view(np.float32).reshape(shape)
    assert not array.flags.aligned
    return array


def test_an_unaligned_input_is_brought_into_line() -> None:
    session, x = Session(small_program()), feeds()["x"]
    shifted = unaligned(x.shape)
    shifted[:] = x
    assert session._fitting({"x": shifted}, session.inputs[0], "input").flags.aligned
    assert np.array_equal(session.run({"x": shifted})["picture"], session.run({"x": x})["picture"])


def test_an_unaligned_output_is_refused() -> None:
    session = Session(small_program())
    with pytest.raises(ShapeError, match="aligned"):
        session.run_into(feeds(), {o.name: unaligned(o.shape) for o in session.outputs})


def test_an_output_that_shares_memory_is_refused() -> None:
    made = small_program()
    session, x = Session(made), feeds()["x"]
    picture = x.reshape(-1)[:36].reshape(1, 4, 3, 3)
    with pytest.raises(ShapeError, match="shares memory"):
        session.run_into({"x": x}, {"picture": picture, "scores": np.empty(4, np.float32)})
    both = np.empty(40, np.float32)
    with pytest.raises(ShapeError, match="shares memory"):
        session.run_into({"x": x}, {"picture": both[:36].reshape(1, 4, 3, 3), "scores": both[35:39]})
    session.run_into({"x": x}, {"picture": both[:36].reshape(1, 4, 3, 3), "scores": both[36:]})
    assert made.tensors[tensor("scores")].dims == (4,)


@pytest.mark.parametrize("threads", [2**40, -(2**40), 1.5, "2"], ids=str)
def test_a_thread_count_that_is_no_small_whole_number_is_refused(threads: Any) -> None:
    with pytest.raises(UsageError, match="threads"):
        Session(small_program(), threads=threads)


def test_every_method_of_a_closed_session_says_so() -> None:
    session = Session(small_program())
    session.close()
    calls = [
        lambda: session.verify_vectors(),
        lambda: session.profile(),
        lambda: session.isa,
        lambda: list(session.steps(feeds())),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="closed"):
            call()


def test_no_bytes_are_no_program() -> None:
    with pytest.raises(ProgramError, match="0 bytes"):
        Session(b"")
