"""The README's tables are made from results and replace what stood there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import protocol, ratios, readme
from edgezip.errors import MissingFileError


def row(peer: str, precision: str, median: float) -> dict[str, Any]:
    return {"peer": peer, "precision": precision, "median_us": median, "least_us": median * 0.9, "version": f"1.0 {peer}"}


def result(task: str, threads: int = 1, ours: float = 1500.0) -> dict[str, Any]:
    rows = {
        "edgezip int8": {**row("edgezip", "int8", ours), "gops": 700.0, "percent_of_peak": 90.0},
        "edgezip float32": {**row("edgezip", "float32", 3000.0), "gops": 100.0, "percent_of_peak": 60.0},
        "litert int8": row("litert", "int8", 3000.0),
        "litert float32": row("litert", "float32", 6000.0),
    }
    return {"task": task, "threads": threads, "candidates": rows, "ratios": ratios.of(rows)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for each in (result("resnet18"), result("resnet18", 2, 800.0)):
        protocol.merge("models", each, ("task", "threads"), tmp_path)
    protocol.merge("kernels", result("gemm_196x256x256"), ("task", "threads"), tmp_path)
    return tmp_path


def test_the_tables_hold_times_ratios_and_means(folder: Path) -> None:
    tables = readme.section(folder)
    cells = "2.00 (2.00) litert int8 | 4.00 (4.00) litert float32 | 2.00 (2.00) litert float32 | 2.00"
    assert f"| ResNet-18, 224x224 | 1.50 ms | {cells} |" in tables
    assert "| geometric mean |  | 2.00 (2.00) | 4.00 (4.00) | 2.00 (2.00) | 2.00 (2.00) |" in tables
    assert "| ResNet-18, 224x224 | 800 us | 1.88 (1.88) | 3.75 (3.75) litert int8 |" in tables
    assert (
        "| int8 products, 11 layer shapes | edgezip | 700 to 700 | 90 to 90 | 2.00 (2.00) | 2.00 (gemm_196x256x256) |" in tables
    )


def test_another_machine_has_a_table_of_its_own(folder: Path) -> None:
    protocol.merge("models", result("resnet18", ours=3000.0), ("task", "threads"), folder / "zen3")
    tables = readme.section(folder)
    assert tables.count("| ResNet-18, 224x224 |") == 3  # two threads, and one here and there
    assert "| ResNet-18, 224x224 | 3.00 ms | 1.00 (1.00) litert int8 |" in tables.partition("Another machine")[2]


def test_ladders_show_metric_counts_and_speed() -> None:
    rung = {"recipe": "2:4 obs", "pct": 62.5, "paired": {"worse": 4, "better": 1}, "sqnr_db": 12.34, "layers_sqnr_db": None}
    rows = [{"recipe": "float", "pct": 63.333}, {**rung, "times_as_fast": 1.876}, {"recipe": "cp", "refused": "slower"}]
    table = readme.ladders_table({"results": [{"task": "squeezenet", "ladder": "pruning", "rows": rows}]})
    assert "| SqueezeNet 1.1, 227x227: pruning | float | 63.33 |  |  |  |  |" in table
    assert "|  | 2:4 obs | 62.50 | 4 / 1 | 12.3 |  | 1.88 |" in table
    assert "cp" not in table


def test_agreement_stands_beside_the_best_setting_of_each_peer() -> None:
    def found(sqnr: float, pct: float) -> dict[str, object]:
        return {"sqnr_db": sqnr, "pct": pct, "paired": {"worse": 3, "better": 1}}

    row = {"task": "resnet18", "metric": "top-1", "samples": 1000, "float_pct": 70.0, "edgezip": found(23.25, 69.5)}
    row["onnxruntime"] = {"minmax": found(15.0, 60.0), "entropy": found(18.96, 61.0), "percentile": {"failed": "no"}}
    table = readme.agreement_table([{**row, "nncf": {"fast": {"failed": "no"}}}])
    assert "| ResNet-18, 224x224 | top-1 % | 1,000 | 70.00 | 69.50 | 3 / 1 | 23.2 | 19.0 dB entropy (61.00) | fails |" in table
    assert readme.agreement_table([row]).endswith("| 19.0 dB entropy (61.00) |  |")


def test_ladders_show_each_kind_of_layer_and_how_many_were_left() -> None:
    row = {"layers_sqnr_db": 18.04, "by_kind_db": {"conv": 19.0, "depthwise": 12.26}, "layers_changed": 3}
    assert readme.layers_cell({**row, "left_as_they_were": {"predicted to be slower": 20, "kept by request": 3}}) == (
        "18.0 (conv 19.0, depthwise 12.3), 3 of 26"
    )
    assert readme.layers_cell({**row, "by_kind_db": {"conv": 18.04}}) == "18.0"
    assert readme.layers_cell({**row, "by_kind_db": {"conv": 18.04, "linear": 153.4}}) == "18.0 (conv 18.0, linear exact)"
    assert not readme.layers_cell({"layers_sqnr_db": None})


def test_writing_twice_changes_only_what_is_between_the_marks(folder: Path) -> None:
    text = f"# Head\n{readme.BEGIN}\nold\n{readme.END}\ntail\n"
    once = readme.replaced(text, readme.section(folder))
    assert once == readme.replaced(once, readme.section(folder))
    assert once.startswith("# Head\n")
    assert once.endswith("\ntail\n")
    assert "old" not in once


def test_a_readme_without_marks_and_a_folder_without_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no place"):
        readme.replaced("# Head\n", "tables")
    with pytest.raises(MissingFileError, match=r"\*-models\.json"):
        readme.newest("models", tmp_path)


@pytest.mark.parametrize(
    ("us", "text"), [(49.94, "49.9 us"), (999.0, "999 us"), (2189.1, "2.19 ms"), (23300.0, "23.3 ms"), (7.126, "7.13 us")]
)
def test_durations_have_three_digits(us: float, text: str) -> None:
    assert readme.duration(us) == text
