"""The Python session: same bits as the interpreter, zero copies, and errors that say where."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_program import small_program

from edgezip.errors import MissingFileError, ProgramError, RuntimeUnavailableError, ShapeError, UsageError
from edgezip.program import HEADER, SECTIONS, STEP, TENSOR, DType, Layout, Program, read
from edgezip.runtime.reference import ReferenceSession, first_difference
from edgezip.runtime.session import Session, isas

FORMATS = [(Layout.K4N16, 0x80), (Layout.K4N16, 0), (Layout.K8N16, 0)]


@pytest.fixture(scope="module")
def program() -> Program:
    return small_program()


def feeds(seed: int = 5) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).standard_normal((1, 4, 6, 6)).astype(np.float32)}


@pytest.mark.parametrize(("layout", "act_sign"), FORMATS, ids=["K4N16-unsigned", "K4N16-signed", "K8N16-signed"])
def test_every_step_equals_the_interpreter_on_every_isa(layout: Layout, act_sign: int) -> None:
    for seed in range(3):
        made = small_program(layout, act_sign, seed)
        for isa in [name for name, is_here in isas() if is_here]:
            with Session(made, isa=isa, threads=1 + seed) as session:
                assert session.isa == isa
                got, want = session.steps(feeds(seed)), ReferenceSession(made).steps(feeds(seed))
                assert first_difference(made, want, got) == ""
                assert session.verify_vectors() == (1, 1)


def test_threads_do_not_change_a_bit(program: Program) -> None:
    one = Session(program).run(feeds())
    for threads in (2, 4, 64):
        with Session(program, threads=threads) as session:
            assert session.threads == threads
            got = session.run(feeds())
            assert all(got[name].tobytes() == one[name].tobytes() for name in one)


def test_a_path_bytes_and_a_program_are_the_same(program: Program, tmp_path: Path) -> None:
    program.save(tmp_path / "p.ez")
    results = [
        Session(source).run(feeds()) for source in (program, program.to_bytes(), tmp_path / "p.ez", str(tmp_path / "p.ez"))
    ]
    for result in results[1:]:
        assert all(np.array_equal(result[name], results[0][name]) for name in results[0])


def test_inputs_and_outputs_are_described(program: Program) -> None:
    session = Session(program)
    assert [(i.name, i.dtype, i.shape) for i in session.inputs] == [("x", DType.F32, (1, 4, 6, 6))]
    assert [(o.name, o.shape) for o in session.outputs] == [("picture", (1, 4, 3, 3)), ("scores", (4,))]


def test_results_are_written_into_the_callers_arrays(program: Program) -> None:
    session = Session(program)
    outputs = {o.name: np.full(o.shape, 7, np.float32) for o in session.outputs}
    session.run_into(feeds(), outputs)
    want = session.run(feeds())
    assert all(np.array_equal(outputs[name], want[name]) for name in want)


def test_a_bound_run_reads_what_its_arrays_hold_at_each_call(program: Program) -> None:
    session, x = Session(program), feeds()
    outputs = {o.name: np.empty(o.shape, np.float32) for o in session.outputs}
    bound = session.bind(x, outputs)
    for seed in (5, 6, 7):
        x["x"][...] = feeds(seed)["x"]
        bound()
        want = Session(program).run(feeds(seed))
        assert all(np.array_equal(outputs[name], want[name]) for name in want)


def test_a_bound_run_keeps_its_arrays_alive(program: Program) -> None:
    session = Session(program)
    outputs = {o.name: np.empty(o.shape, np.float32) for o in session.outputs}
    bound = session.bind(feeds(), outputs)  # nobody else holds the feed
    junk = [np.ones((1, 4, 6, 6), np.float32) for _ in range(100)]
    bound()
    assert len(junk) == 100
    assert np.array_equal(outputs["scores"], Session(program).run(feeds())["scores"])


def test_a_bound_run_is_refused_what_a_run_would_copy_or_mix_up(program: Program) -> None:
    session, x = Session(program), feeds()["x"]
    outputs = {o.name: np.empty(o.shape, np.float32) for o in session.outputs}
    with pytest.raises(ShapeError, match="contiguous"):
        session.bind({"x": np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)}, outputs)
    with pytest.raises(ShapeError, match="shares memory"):
        session.bind({"x": x}, {**outputs, "scores": x.reshape(-1)[:4]})
    bound = session.bind({"x": x}, outputs)
    session.close()
    with pytest.raises(UsageError, match="closed"):
        bound()


def test_a_read_only_feed_is_read(program: Program) -> None:
    x = feeds()["x"]
    x.flags.writeable = False
    assert np.array_equal(Session(program).run({"x": x})["scores"], Session(program).run(feeds())["scores"])


def test_an_input_that_is_not_contiguous_gives_the_same(program: Program) -> None:
    session, x = Session(program), feeds()["x"]
    turned = np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    assert not turned.flags.c_contiguous
    assert np.array_equal(session.run({"x": turned})["picture"], session.run({"x": x})["picture"])


def test_the_profile_names_each_step(program: Program) -> None:
    session = Session(program, profile=True, isa="portable")
    session.run(feeds())
    rows = session.profile()
    assert [row[0] for row in rows] == [step.name for step in program.steps]
    assert [row[1] for row in rows] == [step.op.name.lower() for step in program.steps]
    assert {row[2] for row in rows} == {"portable"}
    assert all(row[3] > 0 for row in rows)


def test_a_wrong_vector_is_seen(program: Program) -> None:
    damaged = small_program()
    damaged.vectors[0][2] = damaged.vectors[0][2] + np.float32(1e-6)
    assert Session(damaged).verify_vectors() == (0, 1)


# --- refusals ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [{}, {"y": np.zeros(1)}, {"x": np.zeros((1, 4, 6, 5), np.float32)}, {"x": np.zeros((1, 4, 6, 6))}], ids=str
)
def test_a_feed_that_does_not_fit_is_refused_by_name(program: Program, bad: dict[str, Any]) -> None:
    with pytest.raises(ShapeError) as caught:
        Session(program).run(bad)
    assert caught.value.where == "x"
    assert caught.value.expected
    assert caught.value.got


ODD_FEEDS = [
    ({1: np.zeros(1)}, ShapeError, "x: input is missing .*got 1"), ({None: 1, b"x": 1}, ShapeError, "got None, b'x'"),
    ([np.zeros(1)], UsageError, "given by name .*got list"), (None, UsageError, "got NoneType"),
    ({"x": [[1], [1, 2]]}, ShapeError, "x: input is no array"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "error", "said"), ODD_FEEDS, ids=range(len(ODD_FEEDS)))
@pytest.mark.parametrize("session", [Session, ReferenceSession])
def test_feeds_without_names_are_typed_errors(
    program: Program, session: Any, given: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        session(program).run(given)


def test_an_output_that_is_not_contiguous_or_writable_is_refused(program: Program) -> None:
    session = Session(program)
    for bad in (np.empty((1, 4, 3, 6), np.float32)[..., ::2], np.broadcast_to(np.float32(0), (1, 4, 3, 3))):
        with pytest.raises(ShapeError):
            session.run_into(feeds(), {"picture": bad, "scores": np.empty(4, np.float32)})


def test_a_session_that_was_closed_says_so(program: Program) -> None:
    session = Session(program)
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.run(feeds())


def test_an_isa_that_does_not_exist_is_refused_with_the_list(program: Program) -> None:
    with pytest.raises(UsageError, match="mmx") as caught:
        Session(program, isa="mmx")
    assert "portable" in caught.value.hint


def test_the_environment_forces_an_isa(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEZIP_ISA", "portable")
    assert Session(program).isa == "portable"
    assert Session(program, isa=isas()[0][0]).isa == isas()[0][0] if isas()[0][1] else True


@pytest.mark.parametrize("threads", [-1, 65, 1000])
def test_a_thread_count_out_of_range_is_refused(program: Program, threads: int) -> None:
    with pytest.raises(UsageError, match="threads"):
        Session(program, threads=threads)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="compile"):
        Session(tmp_path / "none.ez")


def test_without_the_extension_the_error_says_what_to_do(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "edgezip.kernels._native", None)
    with pytest.raises(RuntimeUnavailableError, match="make build"):
        Session(program)


# --- the verifier, one contradiction at a time ------------------------------------------------------------------------------

STEPS = len(small_program().steps)


def changed(raw: bytes, section: str | None, index: int, field: str, value: Any) -> bytes:
    """The file with one field of one record replaced and its checksums repaired. ``section`` None: the header."""
    data = bytearray(raw)
    header = np.frombuffer(raw, HEADER, 1).copy()
    if section is None:
        header[0][field] = value
    else:
        dtype = {"steps": STEP, "tensors": TENSOR, "io": np.dtype([("index", "<u4")])}[section]
        start = int(header[0]["sections"][SECTIONS.index(section)]["offset"]) + index * dtype.itemsize
        record = np.frombuffer(bytes(data[start : start + dtype.itemsize]), dtype).copy()
        record[0][field] = value
        data[start : start + dtype.itemsize] = record.tobytes()
    for place in range(len(SECTIONS)):
        part = header[0]["sections"][place]
        header[0]["sections"][place]["crc32"] = zlib.crc32(
            bytes(data[int(part["offset"]) : int(part["offset"]) + int(part["bytes"])])
        )
    header[0]["crc32"] = zlib.crc32(header.tobytes()[:-4])
    data[: HEADER.itemsize] = header.tobytes()
    return bytes(data)


def tensor(name: str) -> int:
    return next(i for i, t in enumerate(small_program().tensors) if t.name == name)


def step(op: str) -> int:
    return next(i for i, s in enumerate(small_program().steps) if s.name.startswith(op))


CONTRADICTIONS: list[tuple[str | None, int, str, Any, str]] = [
    (None, 0, "format_version", 2, "format_version"), (None, 0, "numerics", 0x324E5A45, "numerics"),
    (None, 0, "layout", 3, "layout"),
    (None, 0, "act_sign", 1, "act_sign"), (None, 0, "header_bytes", 255, "file_bytes"), (None, 0, "file_bytes", 1, "file_bytes"),
    (None, 0, "arena_bytes", 2**40, "arena_bytes"), (None, 0, "arena_bytes", 65, "arena_bytes"),
    (None, 0, "scratch_bytes", 0, "scratch_bytes"),
    (None, 0, "n_steps", 0, "steps"), (None, 0, "n_tensors", 2**31, "counts"), (None, 0, "n_inputs", 0, "io"),
    (None, 0, "n_vectors", 2, "vectors"), (None, 0, "reserved", 1, "reserved"),
    (None, 0, "solo_us", -2, "solo_us"), (None, 0, "spin_us", 1_000_001, "solo_us"),
    (None, 0, "n_steps", STEPS - 1, "steps"),
    ("tensors", 0, "dtype", 0, "dtype"), ("tensors", 0, "dtype", 7, "dtype"), ("tensors", 0, "place", 0, "place"),
    ("tensors", 0, "place", 5, "place"), ("tensors", 0, "rank", 9, "rank"), ("tensors", 0, "form", 1, "form"),
    ("tensors", 0, "reserved1", (0, 0, 0, 0, 0, 1), "reserved"), ("tensors", 0, "dims", (0, 4, 6, 6, 1, 1, 1, 1), "dims"),
    ("tensors", 0, "dims", (1, 4, 6, 6, 2, 1, 1, 1), "dims"), ("tensors", 0, "dims", (2**31 - 1, 2**31 - 1, 6, 6, 1, 1, 1, 1),
    "dims"),
    ("tensors", 0, "row_stride", 5, "row_stride"), ("tensors", 0, "row_stride", 7, "bytes"),
    ("tensors", 0, "bytes", 577, "bytes"),
    ("tensors", 0, "scale", 1.0, "scale"), ("tensors", 0, "zero_point", 1, "scale"), ("tensors", 0, "offset", 1, "offset"),
    ("tensors", tensor("conv"), "scale", 0.0, "scale"), ("tensors", tensor("conv"), "scale", np.nan, "scale"),
    ("tensors", tensor("conv"), "scale", np.inf, "scale"), ("tensors", tensor("conv"), "scale", 1e-40, "scale"),
    ("tensors", tensor("conv"), "scale", -1.0, "scale"), ("tensors", tensor("conv"), "zero_point", 128, "zero_point"),
    ("tensors", tensor("conv"), "offset", 2**63, "offset"), ("tensors", tensor("means"), "offset", 2, "offset"),
    ("tensors", tensor("CONV.w"), "offset", 32, "offset"), ("tensors", tensor("CONV.w"), "offset", 2**40, "offset"),
    ("tensors", tensor("scores"), "offset", 2, "offset"), ("tensors", tensor("scores"), "name_offset", 2**31, "name"),
    ("tensors", tensor("scores"), "name_bytes", 2**31, "name"), ("io", 0, "index", 2**31, "io"), ("io", 0, "index", 1, "io"),
    ("io", 1, "index", 2, "io"), ("steps", 0, "op", 0, "op"), ("steps", 0, "op", 9999, "op"),
    ("steps", 0, "reserved", 1, "reserved"),
    ("steps", 0, "n_inputs", 9, "n_inputs"), ("steps", 0, "n_outputs", 0, "n_inputs"), ("steps", 0, "name_bytes", 2**20, "name"),
    ("steps", 0, "inputs", (9999, *[-1] * 7), "inputs"), ("steps", 0, "inputs", (-2, *[-1] * 7), "inputs"),
    ("steps", 0, "inputs", (0, 0, *[-1] * 6), "inputs"), ("steps", 0, "outputs", (-1, -1, -1, -1), "outputs"),
    ("steps", 0, "outputs", (0, -1, -1, -1), "place"), ("steps", 0, "outputs", (tensor("CONV.w"), -1, -1, -1), "place"),
    ("steps", step("conv"), "inputs", (tensor("conv"), *[-1] * 7), ""), ("steps", step("table"), "params", (1, *[0] * 255),
    "params"),
]  # fmt: skip


@pytest.mark.parametrize(("section", "index", "field", "value", "named"), CONTRADICTIONS, ids=lambda v: str(v)[:40])
def test_a_contradiction_is_refused_by_name(section: str | None, index: int, field: str, value: Any, named: str) -> None:
    raw = small_program().to_bytes()
    with pytest.raises(ProgramError) as caught:
        Session(changed(raw, section, index, field, value))
    assert caught.value.what.startswith(named)
    if section == "steps":
        assert f"step {index}" in caught.value.where


def test_a_file_of_an_older_format_says_so() -> None:
    old = small_program().to_bytes()
    old = old[:8] + (2).to_bytes(4, "little") + old[12:250]  # version 2 had a header of 256 bytes
    with pytest.raises(ProgramError, match="expected 3, got 2: compile the model again"):
        Session(old)
    with pytest.raises(ProgramError, match="program of another version"):
        read(old)


def rebuilt(edit: Any) -> bytes:
    made = small_program(vectors=0)
    edit(made)
    return made.to_bytes()


def test_a_read_of_bytes_that_nobody_wrote_is_refused() -> None:
    def drop_first(made: Program) -> None:
        del made.steps[0]

    with pytest.raises(ProgramError, match="no earlier step wrote"):
        Session(rebuilt(drop_first))


def test_an_output_that_nobody_writes_is_refused() -> None:
    def drop_last(made: Program) -> None:
        del made.steps[-1]

    with pytest.raises(ProgramError, match="no step writes"):
        Session(rebuilt(drop_last))


def test_a_result_over_its_operand_is_refused() -> None:
    def overlap(made: Program) -> None:
        made.tensors[tensor("pooled")].offset = made.tensors[tensor("sum")].offset

    with pytest.raises(ProgramError, match="overlaps"):
        Session(rebuilt(overlap))


def test_parts_of_common_rows_are_no_overlap() -> None:
    """Slices of a concatenation: their extents cross, their bytes do not."""

    def interleave(made: Program) -> None:
        a, b = made.tensors[tensor("conv")], made.tensors[tensor("depthwise")]
        a.offset = b.offset = made.arena_bytes - 64
        a.row_stride = b.row_stride = 8
        b.offset += 4
        made.arena_bytes += 36 * 8 + 32 - 36 * 8 % 32
        made.arena_bytes = -(-made.arena_bytes // 64) * 64
        made.steps = [s for s in made.steps if s.op.name in ("COPY", "CONV", "DEPTHWISE")][:3]

    made = small_program(vectors=0)
    interleave(made)
    with pytest.raises(ProgramError, match="no step writes"):  # all three steps were accepted before
        Session(made.to_bytes())


def test_two_outputs_of_one_name_are_refused() -> None:
    def rename(made: Program) -> None:
        made.tensors[tensor("scores")].name = "picture"

    with pytest.raises(ProgramError, match="this name"):
        Session(rebuilt(rename))


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "a\x7f", "\udc80"], ids=repr)
def test_names_with_control_characters_or_broken_text_are_refused(name: str) -> None:
    made = small_program(vectors=0)
    made.tensors[tensor("scores")].name = "a~b[2J"
    raw = made.to_bytes()
    bad = name.encode(errors="surrogateescape").ljust(6, b"_")
    with pytest.raises(ProgramError, match="UTF-8"):
        Session(changed(raw.replace(b"a~b[2J", bad), None, 0, "layout", 1))


def test_bytes_behind_the_end_and_gaps_that_are_not_zero_are_refused() -> None:
    raw = bytearray(small_program().to_bytes())
    with pytest.raises(ProgramError):
        Session(bytes(raw) + b"\0")
    header = np.frombuffer(bytes(raw), HEADER, 1)[0]
    io = header["sections"][SECTIONS.index("io")]
    raw[int(io["offset"]) + int(io["bytes"])] = 1
    with pytest.raises(ProgramError, match="gap"):
        Session(bytes(raw))
