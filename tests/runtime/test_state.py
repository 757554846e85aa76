"""State carried from run to run: the same bits on every backend, set and read by name, proved by the bundled vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from state_program import STATE, WIDTH, chunks, recurrent_model, state_program

from edgezip import graph, pack
from edgezip.cli.main import main
from edgezip.compilation import compile
from edgezip.errors import ProgramError, ShapeError, UsageError
from edgezip.measure.bit_exact import check_paths
from edgezip.measure.step_hashes import write_hashes
from edgezip.program import DType, Place, Program, Tensor, read
from edgezip.runtime.backends import Session
from edgezip.runtime.reference import ReferenceSession
from edgezip.runtime.session import isas

Array = np.ndarray[Any, Any]
TARGETS = ("x86-64", "rpi4")


@pytest.fixture(scope="module")
def program() -> Program:
    return state_program()


def wanted(count: int) -> list[dict[str, Array]]:
    """What ONNX Runtime gives when its outputs are fed back by hand."""
    model, results = recurrent_model(), []
    held = {"h": np.zeros((1, WIDTH), np.float32), "c": np.arange(1, WIDTH + 1, dtype=np.float32).reshape(1, WIDTH)}
    for chunk in chunks(count):
        got = graph.run(model, {**chunk, **held}, ["y", "hn", "cn"])
        held = {name: got[result] for name, result in STATE.items()}
        results.append(got)
    return results


def streamed(session: Any, count: int) -> list[Array]:
    return [session.run(chunk)["y"] for chunk in chunks(count)]


def test_a_stream_equals_outputs_fed_back_by_hand(program: Program) -> None:
    session, expected = Session(program), wanted(6)
    for chunk, want in zip(chunks(6), expected, strict=True):
        np.testing.assert_allclose(session.run(chunk)["y"], want["y"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(session.state["h"], want["hn"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(session.state["c"], want["cn"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_every_backend_carries_the_same_bits(target: str) -> None:
    made = state_program(target)
    reference = ReferenceSession(made)
    expected = streamed(reference, 5)
    sessions = [Session(made, backend="numba")] + [Session(made, isa=isa, threads=2) for isa, here in isas() if here]
    for session in sessions:
        for got, want in zip(streamed(session, 5), expected, strict=True):
            assert got.tobytes() == want.tobytes()
        assert {name: array.tobytes() for name, array in session.state.items()} == {
            name: array.tobytes() for name, array in reference.state.items()
        }


@pytest.mark.parametrize("backend", ["native", "numba"])
def test_reset_and_set_decide_what_the_next_run_starts_from(program: Program, backend: Any) -> None:
    session = Session(program, backend=backend)
    first = streamed(session, 4)
    session.reset()
    assert session.state["c"].tolist() == [[1, 2, 3, 4, 5]]
    again = [session.run(chunk)["y"] for chunk in chunks(2)]
    kept = dict(session.state)
    rest = [session.run(chunk)["y"] for chunk in chunks(4)[2:]]
    for name, array in kept.items():
        session.state[name] = array
    repeated = [session.run(chunk)["y"] for chunk in chunks(4)[2:]]
    assert [a.tobytes() for a in [*again, *rest]] == [a.tobytes() for a in first]
    assert [a.tobytes() for a in repeated] == [a.tobytes() for a in rest]


@pytest.mark.parametrize("backend", ["native", "numba"])
def test_a_state_that_does_not_fit_is_refused(program: Program, backend: Any) -> None:
    session = Session(program, backend=backend)
    assert list(session.state) == ["h", "c"]
    with pytest.raises(ShapeError, match="state does not fit"):
        session.state["h"] = np.zeros((2, WIDTH), np.float32)
    with pytest.raises(ShapeError, match="state does not fit"):
        session.state["h"] = np.zeros((1, WIDTH), np.float64)
    with pytest.raises(KeyError):
        session.state["x"] = np.zeros((1, WIDTH), np.float32)


def test_state_is_no_input_and_no_output_of_the_session(program: Program) -> None:
    session = Session(program)
    assert [info.name for info in session.inputs] == ["x"]
    assert [info.name for info in session.outputs] == ["y"]


def test_a_bound_run_advances_the_state(program: Program) -> None:
    session, x, y = Session(program), np.empty((1, WIDTH), np.float32), np.empty((1, WIDTH), np.float32)
    bound, expected = session.bind({"x": x}, {"y": y}), streamed(Session(program), 3)
    for chunk, want in zip(chunks(3), expected, strict=True):
        x[...] = chunk["x"]
        bound()
        assert y.tobytes() == want.tobytes()


def test_steps_advance_the_state_only_when_they_are_exhausted(program: Program) -> None:
    session, expected = Session(program), streamed(Session(program), 2)
    walk = session.steps(chunks(1)[0])
    next(walk)
    walk.close()
    assert session.state["c"].tolist() == [[1, 2, 3, 4, 5]]
    for _ in session.steps(chunks(1)[0]):
        pass
    assert session.run(chunks(2)[1])["y"].tobytes() == expected[1].tobytes()


def test_vectors_follow_each_other_and_prove_the_carried_state(program: Program) -> None:
    session = Session(program)
    streamed(session, 2)
    assert session.verify_vectors() == (3, 3)
    assert Session(program, backend="numba").verify_vectors() == (3, 3)
    assert all(check.is_exact for check in check_paths(program, chunks(3)))
    swapped = read(program.to_bytes())
    swapped.vectors[0], swapped.vectors[1] = swapped.vectors[1], swapped.vectors[0]
    assert Session(swapped).verify_vectors()[0] < 3  # the order counts


def test_hashes_of_steps_follow_the_states(program: Program) -> None:
    lines = write_hashes(program, program.to_bytes()).decode().splitlines()[1:]
    steps = len(program.steps)
    repeated = read(program.to_bytes())
    repeated.vectors[1] = repeated.vectors[0]
    assert lines[:steps] != write_hashes(repeated, repeated.to_bytes()).decode().splitlines()[1 + steps : 1 + 2 * steps]


def test_program_survives_writing_and_reading(program: Program) -> None:
    again = read(program.to_bytes())
    assert again.states == program.states
    assert again.to_bytes() == program.to_bytes()


def test_a_model_may_declare_its_states_itself() -> None:
    model = recurrent_model()
    graph.set_metadata(model, graph.STATE, '{"h": "hn", "c": "cn"}')
    made = pack.compile(model, "x86-64")
    assert [made.tensors[state.input].name for state in made.states] == ["h", "c"]
    assert list(Session(made).state) == ["h", "c"]


@pytest.mark.parametrize(
    ("state", "error", "named"),
    [
        ({"g": "hn"}, UsageError, "no input is called g"), ({"h": "gn"}, UsageError, "no output is called gn"),
        ({"h": "hn", "c": "hn"}, UsageError, "one output"), ({"h": "hn", "c": "cn", "x": "y"}, UsageError, "no input is left"),
    ],
)  # fmt: skip
def test_a_wrong_pair_is_refused_by_name(state: dict[str, str], error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        compile(recurrent_model(), state=state)


def test_an_initial_value_must_fit() -> None:
    with pytest.raises(ShapeError, match="initial value"):
        compile(recurrent_model(), state=STATE, initial={"h": np.zeros((1, 4), np.float32)})
    with pytest.raises(UsageError, match="no state is called x"):
        compile(recurrent_model(), state=STATE, initial={"x": np.zeros((1, WIDTH), np.float32)})


def hostile(program: Program, edit: Any) -> bytes:
    made = read(program.to_bytes())
    made.vectors = []
    edit(made)
    return made.to_bytes()


def other_output(made: Program) -> None:
    y = made.tensors[made.states[0].output]
    made.tensors[made.states[0].output] = Tensor(y.name, y.dtype, y.place, (WIDTH, 1), y.offset)


def arena_initial(made: Program) -> None:
    made.states[1].initial = next(i for i, t in enumerate(made.tensors) if t.place is Place.ARENA)


def short_initial(made: Program) -> None:
    made.tensors.append(Tensor("short", DType.F32, Place.WEIGHTS, (1, WIDTH - 1), 0))
    made.states[1].initial = len(made.tensors) - 1


def absent_initial(made: Program) -> None:
    made.states[1].initial = 10_000


def swapped_ends(made: Program) -> None:
    made.states[0].input, made.states[1].input = made.states[1].input, made.states[0].input


@pytest.mark.parametrize("edit", [other_output, arena_initial, short_initial, absent_initial, swapped_ends])
def test_a_contradictory_state_is_refused(program: Program, edit: Any) -> None:
    with pytest.raises(ProgramError):
        Session(hostile(program, edit))


def test_the_command_line_names_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph.save(recurrent_model(), tmp_path / "m.onnx")
    assert main(["compile", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "m.ez"), "--state", "h=hn,c=cn"]) == 0
    assert "h, c, kept from run to run" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "m.ez")]) == 0
    assert "states: h float32 1x5, c float32 1x5" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "m.ez"), "--bitexact"]) == 0
    assert main(["bench", str(tmp_path / "m.ez"), "--min-time", "0", "--runs", "2"]) == 0
    assert main(["compile", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "m.ez"), "--state", "h"]) == 2
