"""Runs the passes of a recipe one after another, each result kept under the digest of what it came from.

A run that was interrupted goes on where it stopped and ends with the same bytes, because every pass begins with the model as it
was read back, whether it was made just now or last week.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgezip.errors import UsageError

if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.passes.gather_hessians import Inputs
    from edgezip.passes.layer_change import LayerChange
    from edgezip.passes.products import Product
    from edgezip.passes.sample_set import SampleSet
    from edgezip.recipe import Cluster, Equalize, Factorize, Prune, PruneChannels, QuantizeWeights, Smooth, Step
    from edgezip.target import Target

Progress = Callable[[str, int], None]
Layers = Iterable[tuple["Product", "Inputs | None"]]
Made = tuple["Model", list["LayerChange"]]
DATA_FREE = {
    "prune_channels": "l2",
    "prune": "magnitude",
    "quantize_weights": "nearest",
}  # pass -> its method that needs no samples


@dataclass(frozen=True, slots=True)
class PassReport:
    """What a pass did: its name and options, a row for each layer, and whether it came out of the cache."""

    name: str
    options: dict[str, Any]
    layers: tuple[LayerChange, ...]
    from_cache: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; rows carry their SQNR in decibels."""
        rows = [asdict(layer) | {"sqnr_db": layer.sqnr_db} for layer in self.layers]
        return {"name": self.name, "options": self.options, "layers": rows, "from_cache": self.from_cache}


def run_passes(
    model: Model,
    steps: Sequence[Step],
    samples: SampleSet | None,
    *,
    target: Target | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Model, list[PassReport]]:
    """``model`` after all ``steps``, and a report for each; the original is not touched.

    ``samples`` may be None when every step has a method without data. ``cache_dir``: where results are kept; None keeps none.
    Raises UsageError, CalibrationError.
    """
    from edgezip import graph

    reports = []
    for step in steps:
        options = step.options.model_dump(mode="json")
        _check_samples(step.name, options, samples)
        key = _key(graph.to_bytes(model), step.name, options, samples, target)
        place = None if cache_dir is None else cache_dir / "passes" / key
        kept = None if place is None else _read(place, step.name, options)
        if kept is None:
            made, rows = _RUN[step.name](model, step.options, _layers(model, step.name, options, samples, progress), target)
            data = graph.to_bytes(made)
            kept = graph.from_bytes(data), PassReport(step.name, options, tuple(rows))
            if place is not None:
                _write(place, data, kept[1])
        model = kept[0]
        reports.append(kept[1])
    return model, reports


def final_rows(reports: Sequence[PassReport]) -> list[LayerChange]:
    """One row a layer: as the last pass that changed it left it, with the bytes that it had at first."""
    rows: dict[str, LayerChange] = {}
    for report in reports:
        for row in report.layers:
            before = rows.get(row.name)
            if before is None:
                rows[row.name] = row
            elif not row.reason:
                rows[row.name] = replace(row, bytes_before=before.bytes_before)
    return list(rows.values())


def _check_samples(name: str, options: dict[str, Any], samples: SampleSet | None) -> None:
    if samples is None and name == "smooth":
        raise UsageError("looks at activations: it needs calibration data", where=name, hint="give some with --calib")
    free = DATA_FREE.get(name)
    if samples is None and free is not None and options["method"] != free:
        raise UsageError(
            f"'{options['method']}' needs calibration data", where=name, hint=f"give some with --calib, or take method {free}"
        )


def _key(data: bytes, name: str, options: dict[str, Any], samples: SampleSet | None, target: Target | None) -> str:
    from edgezip import __version__

    said = {"edgezip": __version__, "pass": name, "options": options, "samples": samples.digest if samples else ""}
    said["target"] = target.name if target else ""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode() + b"\0" + data).hexdigest()


def _read(place: Path, name: str, options: dict[str, Any]) -> tuple[Model, PassReport] | None:
    """What was kept, or None. The rows are written last: without them the model may be half a model."""
    from edgezip import graph
    from edgezip.passes.layer_change import LayerChange

    rows = place.with_suffix(".json")
    if not rows.is_file():
        return None
    held = [LayerChange(**row) for row in json.loads(rows.read_text())]
    return graph.from_bytes(place.with_suffix(".onnx").read_bytes()), PassReport(name, options, tuple(held), True)


def _write(place: Path, data: bytes, report: PassReport) -> None:
    from edgezip.program import write_atomically

    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place.with_suffix(".onnx"), data)
    write_atomically(place.with_suffix(".json"), json.dumps([asdict(layer) for layer in report.layers]).encode())


def _layers(
    model: Model, name: str, options: dict[str, Any], samples: SampleSet | None, progress: Progress | None
) -> Iterable[tuple[Product, Inputs | None]]:
    """The model's products, with what they meet where the pass asks for it."""
    from edgezip.passes.gather_hessians import gather_hessians
    from edgezip.passes.products import find_products

    products = find_products(model)
    if samples is None or name == "equalize":
        return [(product, None) for product in products]
    tell = progress or (lambda stage, done: None)
    return gather_hessians(model, products, samples, samples=len(samples), progress=lambda done: tell(name, done))


def _equalize(model: Model, options: Equalize, layers: Layers, target: Target | None) -> Made:
    from edgezip.passes.equalize_channels import equalize_channels

    return equalize_channels(model, through_relu6=options.through_relu6)


def _smooth(model: Model, options: Smooth, layers: Layers, target: Target | None) -> Made:
    from edgezip.passes.smooth_activations import smooth_activations
    from edgezip.passes.weight_grid import Form

    held = [(product, inputs) for product, inputs in layers if inputs is not None]
    return smooth_activations(model, held, method=options.method, form=Form(options.bits, options.per))


def _prune_channels(model: Model, options: PruneChannels, layers: Layers, target: Target | None) -> Made:
    from edgezip.passes.prune_channels import prune_channels

    return prune_channels(model, layers, options.macs, method=options.method, multiple=options.multiple, keep=options.keep)


def _prune(model: Model, options: Prune, layers: Layers, target: Target | None) -> Made:
    from edgezip.passes.prune_weights import Pattern, prune_weights

    return prune_weights(
        model,
        layers,
        Pattern(options.pattern),
        options.sparsity,
        method=options.method,
        everywhere=options.everywhere,
        keep=options.keep,
    )


def _factorize(model: Model, options: Factorize, layers: Layers, target: Target | None) -> Made:
    from edgezip.passes.factorize_weights import Rank, factorize_weights

    rank = Rank(options.rank_by, options.rank, options.multiple)
    return factorize_weights(model, layers, rank, method=options.method, target=target, prefer=options.prefer, keep=options.keep)


def _quantize_weights(model: Model, options: QuantizeWeights, layers: Layers, target: Target | None) -> Made:
    from edgezip.passes.quantize_weights import quantize_weights
    from edgezip.passes.weight_grid import Form

    form = Form(options.bits, options.per, options.symmetric)
    return quantize_weights(model, layers, form, method=options.method, keep=options.keep)


def _cluster(model: Model, options: Cluster, layers: Layers, target: Target | None) -> Made:
    from edgezip.passes.cluster_weights import Codebook, cluster_weights

    return cluster_weights(model, layers, Codebook(options.table, options.count), keep=options.keep)


_RUN: dict[str, Callable[[Any, Any, Layers, Any], Made]] = {
    "equalize": _equalize,
    "smooth": _smooth,
    "prune_channels": _prune_channels,
    "prune": _prune,
    "factorize": _factorize,
    "quantize_weights": _quantize_weights,
    "cluster": _cluster,
}
