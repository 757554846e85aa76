"""The committed conformance table against a fresh run: nothing may get worse, nothing may pass unnoticed."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bench.conformance import guard, scope, table
from bench.conformance.__main__ import rows_of, run_cases
from bench.conformance.cases import Case, data_sets
from bench.conformance.trial import Result, Verdict, fixed_inputs, try_case
from edgezip.errors import MissingFileError

RANK = {verdict: rank for rank, verdict in enumerate(reversed(table.VERDICTS))}  # crashed 0 ... passed 3
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows() -> list[table.Row]:
    try:
        cases = [case for cases in data_sets(ROOT / ".work" / "conformance").values() for case in cases]
    except MissingFileError:
        if os.environ.get("EDGEZIP_REQUIRE_TOOLS"):
            raise
        pytest.skip("no apt here to fetch libonnx-testdata with")
    return rows_of(cases, run_cases(cases, os.cpu_count() or 1))


def test_no_case_gets_worse_and_none_passes_unnoticed(rows: list[table.Row]) -> None:
    entered = {(row.data_set, row.case): row for row in table.read()}
    common = [(row, entered[row.data_set, row.case]) for row in rows if (row.data_set, row.case) in entered]
    assert len(common) > 2500  # another onnx may have other cases; these are compared
    worse = [
        f"{now.case}: {now.verdict} ({now.reason}), was {was.verdict}"
        for now, was in common
        if RANK[now.verdict] < RANK[was.verdict]
    ]
    assert not worse
    better = [now.case for now, was in common if RANK[now.verdict] > RANK[was.verdict]]
    assert not better, "run `python -m bench.conformance --write` and commit the table"


def test_nothing_crashes_and_nothing_is_wrong(rows: list[table.Row]) -> None:
    assert not [row for row in rows if row.verdict == "crashed"]
    assert not [row for row in rows if row.verdict == "wrong" and not row.outside]


def test_the_page_is_made_of_the_table() -> None:
    assert table.PAGE.read_text() == table.page(table.read())


def relu(outputs: list[float]) -> Case:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return Case("own", "test_relu", model, [([np.array([-1, 2], np.float32)], [np.array(outputs, np.float32)])])


def test_a_wrong_number_is_seen() -> None:
    assert try_case(relu([0, 2]), set()).verdict is Verdict.PASSED
    found = try_case(relu([0, 2.01]), set())
    assert found.verdict is Verdict.WRONG
    assert "1 of 2" in found.reason


def test_a_crash_and_a_hang_cost_one_case_each() -> None:
    def trial(number: int) -> Result:
        if number == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 3:
            time.sleep(60)
        return Result(Verdict.PASSED)

    results = guard.run_all(6, trial, 2, limit_s=0.5)
    assert [r.verdict.value for r in results] == ["passed", "crashed", "passed", "crashed", "passed", "passed"]
    assert [results[1].reason, results[3].reason] == ["SIGSEGV", "hangs"]


def test_scope_is_decided_by_types_and_operators() -> None:
    assert scope.outside(relu([0, 2])) == ""
    text = relu([0, 2])
    text.model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    assert scope.outside(text) == "type string"
    loop = relu([0, 2])
    loop.model.graph.node[0].op_type = "Loop"
    assert scope.outside(loop) == "loops over subgraphs"


def test_weights_and_shapes_are_fixed_and_data_is_not() -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xyz"]
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "y"], ["z"])], "g", info[:2], info[2:])
    assert fixed_inputs(helper.make_model(graph)) == {"y"}


def test_summary_counts_what_is_in_scope() -> None:
    row = table.Row("set", "a", "Relu", "", "passed", "")
    rows = [row, replace(row, case="b", verdict="refused", reason="no"), replace(row, case="c", outside="text")]
    assert "| set | 2 | 1 | 1 | 0 | 0 | 50.0 % | 1 |" in table.summary(rows)
