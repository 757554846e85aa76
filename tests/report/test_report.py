"""Documents, tables, the HTML page and the difference of two documents."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgezip.errors import MissingFileError, UsageError
from edgezip.report import difference, html, schema, text

BENCH: dict[str, Any] = {
    "latency_us": {"p50": 120.5, "p90": 130.0, "p99": 150.0, "min": 118.0, "mean": 121.0, "stdev": 3.0, "n": 50},
    "target": "host", "threads": 1, "affinity": "none", "isa": "avx2", "warmup": 3,
    "peak_memory_bytes": 250_000, "file_bytes": 60_000,
    "energy_mj": None, "power_w": None, "power_source": "no sensor", "throttled": None,
    "environment": {"cpu": "<b>bold</b>", "governor": None},
    "layers": [{"name": "stem", "op": "conv", "us": 30.0}, {"name": "head", "op": "conv", "us": 90.0}],
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.ez"
    path.write_bytes(b"abc")
    return path


def test_document_has_the_envelope_and_the_digest(model: Path) -> None:
    made = schema.document("0.1", "bench", model, BENCH)
    assert (made["edgezip"], made["verb"], made["model"]["path"]) == ("0.1", "bench", str(model))
    assert made["model"]["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("key", schema.PROMISED["bench"])
def test_a_promised_key_that_is_missing_is_caught(model: Path, key: str) -> None:
    with pytest.raises(KeyError, match=key):
        schema.document("0.1", "bench", model, {k: v for k, v in BENCH.items() if k != key})


def test_numpy_scalars_and_infinities_become_plain_json() -> None:
    made = json.loads(
        schema.dumps({"a": np.float32(1.5), "b": float("inf"), "c": [np.int64(3), True, None], "d": np.bool_(False)})
    )
    assert made == {"a": 1.5, "b": None, "c": [3, True, None], "d": False}


def test_saved_documents_load_and_strangers_are_refused(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(schema.dumps(schema.document("0.1", "bench", model, BENCH)))
    assert schema.load(path)["latency_us"]["p50"] == 120.5
    for content in ("{", "[1]", '{"verb": "bench"}'):
        path.write_text(content)
        with pytest.raises(UsageError):
            schema.load(path)
    with pytest.raises(MissingFileError):
        schema.load(tmp_path / "absent.json")


def test_table_aligns_figures_right_and_text_left() -> None:
    lines = text.table(("name", "us"), [("a", 1.0), ("longer", 1234.5), ("c", None)]).splitlines()
    assert lines == ["name       us", "a       1.000", "longer   1234", "c           -"]


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (text.size, 999, "999 B"), (text.size, 12_345, "12.3 kB"), (text.size, 2_500_000, "2.50 MB"), (text.size, None, "-"),
        (text.duration, 12.34, "12.3 us"), (text.duration, 4_500, "4.50 ms"), (text.duration, 3e6, "3.00 s"),
        (text.duration, None, "-"), (text.figure, 0.0, "0"), (text.figure, 0.00001, "1e-05"), (text.figure, 12.345, "12.35"),
        (text.figure, float("nan"), "-"),
    ],
)  # fmt: skip
def test_units_read_well(function: Any, value: Any, expected: str) -> None:
    assert function(value) == expected


def test_page_shows_every_layer_with_its_share_and_fetches_nothing(model: Path) -> None:
    page = html.render([schema.document("0.1", "bench", model, BENCH)])
    assert "stem" in page
    assert "width:25.0%" in page
    assert "width:75.0%" in page
    assert not re.search(r"(src|href)\s*=|@import|url\(|<script", page)


def test_page_escapes_what_it_is_given(model: Path) -> None:
    page = html.render([schema.document("0.1", "bench", model, BENCH)])
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold" in page


def test_difference_lists_figures_and_layers_with_ratios(model: Path) -> None:
    before = schema.document("0.1", "bench", model, BENCH)
    slower = [{"name": "stem", "us": 60.0}, {"name": "new", "us": 1.0}]
    rows = {row[0]: row for row in difference.compare(before, {**before, "file_bytes": 30_000, "layers": slower})}
    assert rows["file_bytes"][3] == 0.5
    assert rows["layer stem, us"][1:] == (30.0, 60.0, 2.0)
    assert "layer new, us" not in rows
    assert rows["p50, us"][3] == 1.0
