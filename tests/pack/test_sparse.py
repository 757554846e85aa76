"""Block-sparse weights from a model to a program: which form they take, where they are skipped, and that nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
from pack_graphs import feeds_for, run_everywhere
from sparse_graphs import sparse_network, sparse_rows

from edgezip import pack
from edgezip.dynamic import Symbol
from edgezip.kernels.native import supported_isas
from edgezip.kernels.sparse_blocks import ISAS
from edgezip.pack import sparse
from edgezip.program import BLOCKS, Program, read
from edgezip.runtime.reference import ReferenceSession
from edgezip.runtime.session import Session
from edgezip.target import BreakEven, load_target

EVEN = BreakEven(rows=0.7, few_rows=0.5, winograd=0.2)


def forms(program: Program) -> dict[str, int]:
    return {t.name: t.form for t in program.tensors if t.name.endswith(".weights")}


@pytest.mark.parametrize("density", [0.1, 0.25, 0.6])
def test_sparse_program_equals_reference_in_both_layouts(density: float) -> None:
    for model in (sparse_network(density), sparse_rows(density)):
        program, _ = run_everywhere(model, feeds_for(model))
        assert set(forms(program).values()) == {BLOCKS}


def test_dense_weights_stay_panels() -> None:
    model = sparse_network(1.0)
    program, _ = run_everywhere(model, feeds_for(model))
    assert set(forms(program).values()) == {0}


def test_blocks_make_the_file_smaller_and_survive_it() -> None:
    dense, thin = (pack.compile(sparse_network(density), "x86-64") for density in (1.0, 0.25))
    assert len(thin.weights) < 0.5 * len(dense.weights)
    again = read(thin.to_bytes())
    assert again.to_bytes() == thin.to_bytes()
    assert forms(again) == forms(thin)
    thin.coded = True
    assert read(thin.to_bytes()).plain_bytes() == thin.plain_bytes()


def test_form_and_kernel_of_each_layer_are_told() -> None:
    model = sparse_network(0.25)
    for skips in (True, False):
        even = BreakEven(rows=1.0, few_rows=1.0, winograd=1.0) if skips else BreakEven(rows=0, few_rows=0, winograd=0)
        target = load_target("x86-64").model_copy(update={"sparse": dict.fromkeys(ISAS, even)})
        program = pack.compile(model, target)
        told = [step["blocks"] for step in program.metadata["steps"] if "blocks" in step]
        assert [entry["skipped_on"] for entry in told] == [list(ISAS) if skips else []] * 3
        assert all(0.2 < entry["kept"] < 0.3 for entry in told)
        for isa in supported_isas():
            with Session(program, isa=isa, profile=True) as session:
                session.run(feeds_for(model))
                kernels = {kernel for name, op, kernel, _ in session.profile() if op in ("conv", "linear")}
            assert kernels <= ({isa, f"{isa}-blocks"} if skips else {isa})
            assert isa != "portable" or kernels == {"portable-blocks" if skips else "portable"}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.3, 0.5, 0.51, 0.7, 0.71, 1.0])
def test_sparse_is_never_chosen_where_dense_is_faster(share: float) -> None:
    """The decision is the table: below the break-even of every kind of dense kernel that the layer can meet, and only there."""
    for kind in ("rows", "few_rows", "winograd"):
        assert sparse.runs_blocks(share, {kind}, EVEN) == (share <= getattr(EVEN, kind))
    assert sparse.runs_blocks(share, {"rows", "few_rows", "winograd"}, EVEN) == (share <= EVEN.winograd)
    assert not sparse.runs_blocks(share, {"rows"}, None)


def test_kinds_follow_the_shape() -> None:
    conv = {f"{name}_{axis}": 1 for name in ("kernel", "stride", "dilation", "out_step") for axis in "hw"}
    conv |= {"groups": 1, "out_h": 14, "out_w": 14}
    window = conv | {"kernel_h": 3, "kernel_w": 3}
    assert sparse.kinds_of_conv(conv, 1, 64) == {"rows"}
    assert sparse.kinds_of_conv(conv | {"out_h": 1, "out_w": 5}, 1, 64) == {"few_rows"}
    assert sparse.kinds_of_conv(window, 1, 64) == {"winograd"}
    assert sparse.kinds_of_conv(window, 1, 62) == {"rows"}
    assert sparse.kinds_of_conv(window | {"stride_h": 2}, 1, 64) == {"rows"}


def test_a_program_of_any_size_keeps_its_blocks() -> None:
    never = load_target("x86-64").model_copy(update={"sparse": {}})
    for target in (load_target("x86-64"), never):  # skipped, and expanded when the session begins
        program = pack.compile_dynamic(lambda sizes: sparse_rows(0.25, sizes[0]), [Symbol("n", 1, 12)], [("x", 0)], target)
        assert [t.form for t in program.shapes.variants[0].tensors if t.name.endswith(".weights")] == [BLOCKS]
        with Session(program) as session:
            for rows in (1, 3, 7, 12):
                x = np.random.default_rng(rows).standard_normal((rows, 64)).astype(np.float32)
                want = ReferenceSession(program.at((rows,))).run({"x": x})["y"]
                np.testing.assert_array_equal(session.run({"x": x})["y"], want)
