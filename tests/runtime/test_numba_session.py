"""Whole programs on the Numba backend: the bytes of the interpreter, without the C extension."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from op_cases import GENERATORS, Case, by_reference
from small_program import small_program

import edgezip
from edgezip.errors import MissingFileError, ShapeError, UsageError
from edgezip.program import Layout, Op, Program
from edgezip.runtime.numba_session import NumbaSession
from edgezip.runtime.reference import ReferenceSession, first_difference


def feeds() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(5).standard_normal((1, 4, 6, 6)).astype(np.float32)}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("layout", "act_sign"), [(Layout.K4N16, 0x80), (Layout.K4N16, 0), (Layout.K8N16, 0)])
def test_every_step_of_a_program_equals_the_interpreter(layout: Layout, act_sign: int, threads: int) -> None:
    program = small_program(layout, act_sign)
    with NumbaSession(program, threads=threads) as session:
        assert not first_difference(program, ReferenceSession(program).steps(feeds()), session.steps(feeds()))


@pytest.mark.parametrize("act_sign", [0x80, 0], ids=["unsigned", "signed"])
def test_pools_equal_the_interpreter(act_sign: int) -> None:
    rng = np.random.default_rng(act_sign)
    for number in range(150):
        case = GENERATORS[Op.POOL](Case(rng, act_sign))
        program, (arena, given) = case.program(), case.fill()
        want = by_reference(program, arena, given)
        session = NumbaSession(program)
        session._bind({program.tensors[i].name: feed for i, feed in zip(program.inputs, given, strict=True)})
        session._arena[: arena.size] = arena
        session._execute(session._steps[0])
        np.testing.assert_array_equal(session._arena[: arena.size], want[0], f"case {number}: {program.steps[0].params}")
        for mine, theirs in zip(session._outputs, want[1], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_backend_is_the_callers_choice() -> None:
    program = small_program(Layout.K4N16, 0x80)
    session = edgezip.Session(program, backend="numba", threads=2)
    assert session.isa.startswith("numba")
    assert session.verify_vectors() == edgezip.Session(program).verify_vectors()
    assert session.inputs == edgezip.Session(program).inputs
    with pytest.raises(UsageError, match="no such backend"):
        edgezip.Session(program, backend="cuda")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="no such option"):
        edgezip.Session(program, backend="numba", isa="avx2")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="threads"):
        edgezip.Session(program, backend="numba", threads=0)


def test_bad_feeds_and_files_are_refused(tmp_path: Path) -> None:
    session = edgezip.Session(small_program(Layout.K4N16, 0x80), backend="numba")
    with pytest.raises(ShapeError, match="missing"):
        session.run({})
    with pytest.raises(MissingFileError):
        edgezip.Session(tmp_path / "none.ez", backend="numba")


WITHOUT_C = """
import sys
sys.modules["edgezip.kernels._native"] = None  # importing it raises ImportError
import edgezip
from edgezip.errors import RuntimeUnavailableError
session = edgezip.Session(sys.argv[1], backend="numba")
assert session.verify_vectors() == (1, 1), session.verify_vectors()
try:
    edgezip.Session(sys.argv[1])
except RuntimeUnavailableError as error:
    assert 'backend="numba"' in str(error), error
else:
    raise AssertionError("the native backend opened without its extension")
"""


def test_it_runs_where_no_extension_is_built(tmp_path: Path) -> None:
    small_program(Layout.K4N16, 0x80).save(tmp_path / "p.ez")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_C, str(tmp_path / "p.ez")],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr


def test_a_wrong_test_vector_is_seen() -> None:
    program: Program = small_program(Layout.K4N16, 0x80)
    program.vectors[0][-1] = program.vectors[0][-1] + np.float32(1)
    assert NumbaSession(program).verify_vectors() == (0, 1)
