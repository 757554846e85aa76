"""Kits of one operator, their figures in percent of a peak, and the tables."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

from bench import kernels, models, one_op, peak, ratios
from bench.one_op import Convolution, Product
from bench.peers import candidates
from bench.quiet import Quiet
from edgezip.errors import UsageError

SMALL = [Product(5, 12, 8), Convolution(6, 8, 3), Convolution(7, 4, 5, 2), Convolution(6, 3, 3, 2, 8)]
x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the peak loops are x86 assembly")


@pytest.mark.parametrize("operator", SMALL, ids=lambda operator: operator.name)
def test_ours_and_onnxruntime_answer_alike_on_one_operator(operator: one_op.Operator, tmp_path: Path) -> None:
    kit = one_op.make(operator, tmp_path)
    kernels.pack_ours(kit)
    found = [*candidates.ours([], is_operator=True), *candidates.peers(["onnxruntime"], is_operator=True)]
    arguments = models.parser().parse_args(["--rounds", "1", "--seconds", "0.001", "--kits", str(tmp_path)])
    rows = {}
    for candidate in kernels.of_operator(operator, found):
        worker = kernels.client.measure([candidate], kit, 1, 1, 0.001, Quiet())[0]
        rows[candidate.name] = models.row_of(worker, arguments.rounds)
    # one step of 255 on values up to 127: rounding may differ by one where float32 sums fall on a tie
    assert rows["edgezip int8"]["norm_error"] < 0.01, rows
    assert all(row["norm_error"] < 0.1 for row in rows.values()), rows  # a peer's sums of pairs saturate without VNNI
    assert ("onnxruntime MatMulInteger" in rows) == isinstance(operator, Product)


@x86
def test_a_kernel_has_gops_and_a_percent_of_the_peak_of_its_isa(tmp_path: Path) -> None:
    operator = Product(64, 64, 64)
    kit = one_op.make(operator, tmp_path)
    kernels.pack_ours(kit)
    arguments = models.parser().parse_args(["--rounds", "2", "--seconds", "0.002", "--kits", str(tmp_path)])
    found = [*candidates.ours([], is_operator=True), *candidates.peers(["onnxruntime"], is_operator=True)]
    result = kernels.measure(operator, kit, found, arguments)
    mine = result["candidates"]["edgezip int8"]
    assert mine["gops"] == pytest.approx(operator.operations / mine["median_us"] / 1e3, abs=0.1)
    assert mine["peak"] in result["peak_gops"]
    assert 0 < mine["percent_of_peak"] < 150  # other processes may slow the peak's own loops
    assert "gemm_64x64x64" in kernels.table(result)
    assert {item["against"] for item in result["ratios"]} == {"best int8 peer", "best float32 peer", "our float32"}


@x86
def test_peaks_of_wider_registers_are_higher(tmp_path: Path) -> None:
    rates = peak.measure(peak.build(tmp_path), Quiet())
    assert rates["avx2_f32"] > 1
    assert set(rates) <= set(peak.FAMILIES.values()) | {"avx2_s16"}


def test_operations_count_every_multiplication_twice() -> None:
    assert Product(2, 3, 5).operations == 60
    assert Convolution(4, 8, 3).operations == 2 * 16 * 9 * 8
    assert Convolution(4, 8, 3, 2, 16).operations == 2 * 4 * 9 * 8 * 16
    assert Convolution(224, 3, 7, 2, 64).out_size == 112


def test_groups_and_names_are_chosen_and_unknown_ones_refused() -> None:
    assert kernels.chosen(["gemv", "gemm_196x256x256"]) == [*kernels.GEMV, Product(196, 256, 256)]
    with pytest.raises(UsageError, match="depthwise"):
        kernels.chosen(["gemm_1x2x3"])


def test_a_summary_has_a_line_a_group_and_ratio() -> None:
    rows = {
        "edgezip int8": {"peer": "edgezip", "precision": "int8", "median_us": 1, "least_us": 1, "percent_of_peak": 80.0},
        "a": {"peer": "a", "precision": "int8", "median_us": 2, "least_us": 2},
    }
    result = {"task": "gemm_196x256x256", "threads": 1, "candidates": rows, "ratios": ratios.of(rows)}
    lines = kernels.summary([result]).splitlines()
    assert len(lines) == 2
    assert lines[1].split()[:3] == ["gemm", "edgezip", "int8"]


def test_the_int8_files_of_a_kit_give_what_integers_give(tmp_path: Path) -> None:
    kit = one_op.make(Product(5, 12, 8), tmp_path)
    sums = np.load(kit / "matmulinteger.reference.npz")["y"]
    assert sums.shape == (5, 12)
    assert np.abs(sums).max() > 1000
