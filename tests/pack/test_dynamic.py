"""Programs with dynamic shapes: at every size the bits of the program compiled for that size, on every backend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dynamic_graphs import dynamic_graph, shape_at
from onnx import helper, numpy_helper

from edgezip.cli.main import main
from edgezip.compilation import compile
from edgezip.compression import compress
from edgezip.dynamic import STEP_PATCH, Shapes, Symbol, Term, value_of
from edgezip.errors import InvalidModelError, ProgramError, ShapeError, UsageError
from edgezip.frontends import onnx as frontend
from edgezip.frontends.resizable import Resizable, symbol_of
from edgezip.frontends.transferred import Transferred
from edgezip.pack.formulas import Formulas
from edgezip.program import Program, read
from edgezip.runtime.backends import Session
from edgezip.runtime.reference import ReferenceSession

Array = np.ndarray[Any, Any]
NAME = {"image": "w", "sequence": "s"}


def feed(kind: str, n: int, size: int) -> dict[str, Array]:
    shape = shape_at(kind, n, size)
    return {"x": np.random.default_rng(size).standard_normal(shape).astype(np.float32)}


def assert_equals_static(model: bytes, program: Program, kind: str, sizes: list[tuple[int, int]]) -> None:
    session, reference = Session(program), ReferenceSession(program)
    for n, size in sizes:
        given = feed(kind, n, size)
        static = compile(frontend.load(model, shapes={"x": shape_at(kind, n, size)}), vectors=0)
        want = Session(static).run(given)["y"]
        got = session.run(given)["y"]
        assert got.shape == want.shape
        assert got.tobytes() == want.tobytes(), (n, size)
        assert reference.run(given)["y"].tobytes() == want.tobytes(), (n, size)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["image", "sequence"])
def test_every_size_equals_the_static_program(kind: str, seed: int) -> None:
    model = dynamic_graph(kind, seed)
    program = compile(model, dims={NAME[kind]: (8, 45)}, vectors=0)
    sizes = np.random.default_rng(seed).integers(8, 46, 6).tolist()
    assert_equals_static(model, program, kind, [(1, size) for size in [8, 45, 9, *sizes]])


@pytest.mark.parametrize(("kind", "seed"), [("image", 11), ("image", 12), ("sequence", 13)])
def test_two_symbols_at_once(kind: str, seed: int) -> None:
    model = dynamic_graph(kind, seed)
    program = compile(model, dims={"n": (1, 4), NAME[kind]: (9, 33)}, vectors=0)
    assert_equals_static(model, program, kind, [(1, 9), (4, 33), (1, 33), (4, 9), (3, 17), (2, 32), (3, 10)])


def test_a_step_restricts_the_sizes() -> None:
    model = dynamic_graph("image", 3)
    program = compile(model, dims={"x.3": (32, 300, 32)}, vectors=0)
    assert program.shapes is not None
    assert program.shapes.symbols == [Symbol("x.3", 32, 288, 32, 0, 3)]
    assert_equals_static(model, program, "image", [(1, 32), (1, 288), (1, 160)])
    with pytest.raises(ShapeError, match=r"axis 3 \(x.3\)"):
        Session(program).run(feed("image", 1, 33))


@pytest.fixture(scope="module")
def program() -> Program:
    return compile(dynamic_graph("image", 1), dims={"n": (1, 2), "w": "8..40"})


@pytest.mark.parametrize("backend", ["native", "numba"])
def test_bundled_vectors_have_several_sizes_and_pass(program: Program, backend: Any) -> None:
    assert {vector[0].shape for vector in program.vectors} >= {(2, 5, 8, 40), (1, 5, 8, 8)}
    assert len({vector[0].shape for vector in program.vectors}) == 3
    assert Session(program, backend=backend).verify_vectors() == (3, 3)


def test_program_survives_writing_and_reading(program: Program, tmp_path: Path) -> None:
    program.save(tmp_path / "p.ez")
    again = read(tmp_path / "p.ez")
    assert again.shapes is not None
    assert program.shapes is not None
    for name in ("symbols", "derived", "boxes"):
        assert getattr(again.shapes, name) == getattr(program.shapes, name)
    assert [v.patches for v in again.shapes.variants] == [v.patches for v in program.shapes.variants]
    assert again.to_bytes() == program.to_bytes()
    assert Session(tmp_path / "p.ez").verify_vectors() == (3, 3)


@pytest.mark.parametrize("backend", ["native", "numba"])
@pytest.mark.parametrize(
    ("shape", "named"),
    [((1, 5, 8, 41), r"input 'x', axis 3 \(w\)"), ((3, 5, 8, 40), r"input 'x', axis 0 \(n\)"), ((1, 5, 8, 7), "axis 3")],
)
def test_a_size_out_of_bounds_names_input_axis_and_bounds(
    program: Program, backend: Any, shape: tuple[int, ...], named: str
) -> None:
    with pytest.raises(ShapeError, match=named):
        Session(program, backend=backend).run({"x": np.zeros(shape, np.float32)})


@pytest.mark.parametrize("backend", ["native", "numba"])
def test_another_dimension_must_be_as_declared(program: Program, backend: Any) -> None:
    session = Session(program, backend=backend)
    with pytest.raises(ShapeError, match="does not fit"):
        session.run({"x": np.zeros((1, 5, 9, 40), np.float32)})
    with pytest.raises(ShapeError):
        session.run({"x": np.zeros((1, 5), np.float32)})
    session.run({"x": np.zeros((1, 5, 8, 40), np.float32)})


def test_resize_refuses_wrong_sizes_and_keeps_the_present_ones(program: Program) -> None:
    session = Session(program)
    assert session.sizes == (2, 40)
    session.resize((1, 8))
    assert session.inputs[0].shape == (1, 5, 8, 8)
    for sizes in ((1, 41), (1,), (0, 8)):
        with pytest.raises(UsageError):
            session.resize(sizes)
    assert session.run({"x": np.zeros((1, 5, 8, 8), np.float32)})["y"].shape[0] == 1


def test_a_bound_run_keeps_its_size(program: Program) -> None:
    session = Session(program)
    x, y = feed("image", 1, 20), {}
    y = {name: np.empty_like(array) for name, array in session.run(x).items()}
    bound = session.bind(x, y)
    session.run(feed("image", 2, 40))
    bound()
    assert all(array.tobytes() == y[name].tobytes() for name, array in Session(program).run(x).items())


# --- what is refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "error", "named"),
    [
        ({"q": (1, 4)}, UsageError, "no input has a dynamic dimension 'q'"), ({"w": "4"}, UsageError, "bounds of a dimension"),
        ({"w": "9..4"}, UsageError, "bounds"), ({"w": (0, 4)}, UsageError, "bounds"), ({"n": (1, 2)}, ShapeError, "unknown"),
        ({"n": (1, 2), "w": (1, 2), "x.1": (1, 2)}, UsageError, "at most 2"),
    ],
)  # fmt: skip
def test_wrong_bounds_are_refused(dims: dict[str, Any], error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        compile(dynamic_graph("image", 0), dims=dims)


def test_a_size_that_the_exporter_wrote_down_is_named() -> None:
    """As torch.jit traces leave it: a Reshape to the length of the example."""
    nodes = [helper.make_node("Reshape", ["x", "dims"], ["y"], name="heads")]
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [1, "w", 6])], [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.array([12, 2, 3]), "dims")],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=8).SerializeToString()
    with pytest.raises(InvalidModelError, match=r"does not fit at w=20.*exported with as a number.*dynamic"):
        compile(model, dims={"w": (4, 20)})


def test_hostile_formulas_are_errors_and_never_read_outside(program: Program) -> None:
    made = read(program.to_bytes())
    assert made.shapes is not None
    variant = made.shapes.variants[0]
    refused = 0
    for number, patch in enumerate(variant.patches):
        for term in (Term(2**62, (0, 1, 1)), Term(-1), Term(2**31 - 1), Term(64, (1,))):
            variant.patches[number] = type(patch)(patch.kind, patch.index, patch.field, patch.position, (term,))
            made.vectors = []
            try:
                with Session(made.to_bytes()) as session:
                    session.resize((2, 24))
                    session.run({info.name: np.zeros(info.shape, info.dtype.numpy) for info in session.inputs})
            except (ProgramError, UsageError, ShapeError):
                refused += 1
        variant.patches[number] = patch
    assert refused > 3 * len(variant.patches)


def test_after_a_failed_resize_nothing_runs_until_one_succeeds(program: Program) -> None:
    made = read(program.to_bytes())
    assert made.shapes is not None
    made.vectors = []
    for variant in made.shapes.variants:  # right at the largest width only
        for number, patch in enumerate(variant.patches):
            if patch.kind == STEP_PATCH and patch.field == "out_w":
                value = variant.steps[patch.index].params["out_w"]
                variant.patches[number] = replace(patch, terms=(Term(value),))
    session = Session(made.to_bytes())
    with pytest.raises(ProgramError):
        session.resize((2, 9))
    with pytest.raises(ProgramError):
        session.run(feed("image", 2, 9))
    session.resize((2, 40))
    assert session.run(feed("image", 2, 40))["y"].tobytes() == Session(program).run(feed("image", 2, 40))["y"].tobytes()


# --- formulas -----------------------------------------------------------------------------------------------------------------


def fitted(function: Any, samples: list[int]) -> Any:
    formulas = Formulas([np.array(samples, np.int64)])
    terms = formulas.terms([function(s) for s in samples])
    assert terms is not None
    shapes = Shapes([], formulas.derived, [], [])
    return lambda s: value_of(terms, shapes.quantities([s]))


SAMPLES = [45, 44, 43, 40, 33, 32, 31, 24, 17, 16, 15, 12, 11, 10, 9, 8]


@pytest.mark.parametrize(
    "function",
    [
        lambda s: s, lambda s: 12 * s, lambda s: s * s, lambda s: 3 * s * s - 5 * s + 7, lambda s: (s - 1) * 40,
        lambda s: s * s * s, lambda s: (s + 1) // 2, lambda s: (s - 3) // 2 + 1, lambda s: 6 * ((s + 3) // 4),
        lambda s: 2 * s - 3,
    ],
)  # fmt: skip
def test_formula_holds_beyond_its_samples(function: Any) -> None:
    found = fitted(function, SAMPLES)
    assert all(found(s) == function(s) for s in range(8, 46))


def test_what_has_no_formula_is_none() -> None:
    random = np.random.default_rng(0).integers(0, 1000, len(SAMPLES))
    assert Formulas([np.array(SAMPLES, np.int64)]).terms(random.tolist()) is None


def test_a_rounding_that_samples_leave_open_is_asked_for() -> None:
    formulas = Formulas([np.array([40, 32, 24], np.int64)])
    formulas.terms([5, 4, 3])  # s // 8 among others
    assert formulas.derived == [] or formulas.undecided([np.arange(24, 41)]) is not None


def test_bounds_are_read_and_rounded_to_the_step() -> None:
    assert symbol_of("s", "1..128") == Symbol("s", 1, 128, 1)
    assert symbol_of("s", "32..1290:32") == Symbol("s", 32, 1280, 32)


def test_the_command_line_runs_any_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "m.ez"
    model.write_bytes(dynamic_graph("sequence", 1))
    assert main(["compile", str(model), "-o", str(out), "--dim", "s=8..20"]) == 0
    assert "dims      s=8..20" in capsys.readouterr().out
    assert main(["inspect", str(out)]) == 0
    assert "dynamic dimensions: s=8..20" in capsys.readouterr().out
    np.save(tmp_path / "x.npy", np.zeros((1, 11, 5), np.float32))
    (tmp_path / "x.bin").write_bytes(np.zeros((1, 11, 5), np.float32).tobytes())
    for file in ("x.npy", "x.bin"):
        assert main(["run", str(out), "--input", f"x={tmp_path / file}"]) == 0
        assert "[1, " in capsys.readouterr().out
    assert main(["verify", str(out), "--bitexact"]) == 0
    assert main(["bench", str(out), "--min-time", "0", "--runs", "2", "--per-layer"]) == 0
    assert main(["bench", str(out), "--min-time", "0", "--runs", "2", "--per-layer", "--shape", "x=1x9x5"]) == 0
    assert main(["bench", str(out), "--min-time", "0", "--runs", "2", "--shape", "x=1x21x5"]) != 0
    assert "8..20" in capsys.readouterr().err
    np.save(tmp_path / "x.npy", np.zeros((1, 21, 5), np.float32))
    assert main(["run", str(out), "--input", f"x={tmp_path / 'x.npy'}"]) != 0
    assert "axis 1 (s)" in capsys.readouterr().err


def test_a_compressed_model_keeps_the_sizes_of_its_source(tmp_path: Path) -> None:
    model = dynamic_graph("image", 4)
    loaded = frontend.load(model, shapes={"x": shape_at("image", 1, 24)})
    samples = [feed("image", 1, 24), {"x": -feed("image", 1, 24)["x"]}]
    small = compress(loaded, calibration=samples)
    program = compile(small, dims={"w": (12, 40)}, source=model)
    assert any(step.get("form") == "int8" for step in program.metadata["steps"])
    assert Session(program).verify_vectors() == (3, 3)
    own = Session(compile(small, vectors=0)).run(samples[0])["y"]
    session = Session(program)
    assert session.run(samples[0])["y"].tobytes() == own.tobytes()  # at the size that it was compressed at
    reference = ReferenceSession(program)
    for size in (12, 13, 31, 40):
        given = feed("image", 1, size)
        assert session.run(given)["y"].tobytes() == reference.run(given)["y"].tobytes()
        static = compile(Transferred(small.model, Resizable(model, {"w": (12, 40)})).at([size]), vectors=0)
        assert session.run(given)["y"].tobytes() == Session(static).run(given)["y"].tobytes()
        exact = Session(compile(frontend.load(model, shapes={"x": shape_at("image", 1, size)}), vectors=0)).run(given)["y"]
        got = session.run(given)["y"]
        assert got.shape == exact.shape
        assert np.abs(got - exact).mean() < 0.1 * np.abs(exact).mean() + 1e-3


def test_a_loaded_model_has_no_dimensions_left() -> None:
    with pytest.raises(UsageError, match="dynamic dimensions need"):
        compile(frontend.load(dynamic_graph("image", 0), shapes={"x": shape_at("image", 1, 9)}), dims={"w": (8, 9)})
