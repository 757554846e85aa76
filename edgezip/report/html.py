"""One offline HTML file from the documents of several verbs; no script, no picture and no font from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from edgezip.report import text

FACTS = (
    "target", "threads", "isa", "file_bytes", "peak_memory_bytes", "throttled", "power_source", "verdict",
    "bitexact", "top1_agreement", "cosine", "sqnr_db", "max_abs_error", "bytes_before", "bytes_after",
)  # fmt: skip
LATENCIES = ("p50", "p90", "p99", "min", "mean", "stdev", "n")


def render(documents: Sequence[Mapping[str, Any]], title: str = "EdgeZip report") -> str:
    """The page: for each document its facts, latency and per-layer table with a bar for each layer's share."""
    from jinja2 import Environment, StrictUndefined

    template = resources.files("edgezip.report").joinpath("page.html").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(title=title, sections=[section(item) for item in documents])


def section(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of one document."""
    latency = document.get("latency_us") or {}
    facts = [(key, _fact(key, document[key])) for key in FACTS if document.get(key) is not None]
    facts += [
        (f"latency {key}", text.duration(latency[key]) if key != "n" else str(latency[key]))
        for key in LATENCIES
        if key in latency
    ]
    environment = [(key, text.cell(value)) for key, value in (document.get("environment") or {}).items()]
    layers = document.get("layers") or []
    columns = list(dict.fromkeys(key for layer in layers for key in layer))
    return {
        "title": f"{document['verb']}: {document['model']['path']}",
        "digest": document["model"]["sha256"],
        "facts": facts,
        "environment": environment,
        "columns": columns,
        "rows": [[text.cell(layer.get(key)) for key in columns] for layer in layers],
        "shares": _shares(layers),
    }


def _shares(layers: Sequence[Mapping[str, Any]]) -> list[float]:
    """Percent of the time (or, without times, of the bytes) that each layer takes."""
    key = next((k for k in ("us", "bytes_after", "bytes") if any(layer.get(k) for layer in layers)), None)
    if key is None:
        return [0.0] * len(layers)
    values = [float(layer.get(key) or 0) for layer in layers]
    return [round(100 * value / sum(values), 1) for value in values]


def _fact(key: str, value: Any) -> str:
    return text.size(value) if key.endswith("_bytes") or key.startswith("bytes_") else text.cell(value)
