"""``ez.compress``: runs the passes of a recipe and keeps the account of what each did."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.errors import UsageError
from edgezip.recipe import Int8, Recipe

if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.passes.histogram import Histogram
    from edgezip.passes.place_qdq import Placement
    from edgezip.passes.sample_set import SampleSet
    from edgezip.pipeline import PassReport
    from edgezip.target import Target

Array = np.ndarray[Any, Any]
Calibration = str | os.PathLike[str] | Iterable[Mapping[str, Array]]
Progress = Callable[[str, int], None]
# Kept for the SQNR of each layer and the choice of method: as many as fit, since on 64 of LeNet-5's small pictures the choice
# was still chance; a picture of 224 x 224 gives 80 samples.
PROBE_SAMPLES = 256
PROBE_BYTES = 48 * 2**20
PROBE_OUTPUT_BYTES = 256 * 2**20  # of what the float network gives for them, which is held while methods are compared
# Unseen inputs reach beyond what calibration saw of the outputs: a tenth more range gained 0.2 to 0.4 dB on both LeNets and
# the demo and lost nothing on SqueezeNet (2026-11-24, scored samples).
OUTPUT_MARGIN = 1.1
# Where int8 changes the outputs more than this, biases are settled by measurement (some seconds a network), if there are samples
# enough: settled on four pages, PP-OCRv4's detector gained 2 dB and lost 20 pages to 3 (2026-11-24).
SETTLE_BELOW_DB = 20.0
SETTLE_SAMPLES = 10
AUTO_METHODS = ("mse", "percentile", "minmax")


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One row: a layer's form, its bytes before and after, and the SQNR (dB) of what it gives; None where not measured."""

    name: str
    op: str
    form: str
    bits: int
    sparsity: float
    bytes_before: int
    bytes_after: int
    sqnr_db: float | None
    reason: str


@dataclass(slots=True)
class CompressionReport:
    """What was done to every layer. SQNR is measured on calibration samples: expect less on others (LeNet-5: 2 dB)."""

    layers: list[LayerReport] = field(default_factory=list)
    output_sqnr_db: dict[str, float] = field(default_factory=dict)
    samples: int = 0
    method: str = ""
    passes: list[PassReport] = field(default_factory=list)  # what ran before, in order

    @property
    def bytes_before(self) -> int:
        """Weight bytes of the model that came in."""
        return sum(layer.bytes_before for layer in self.layers)

    @property
    def bytes_after(self) -> int:
        """Weight bytes of the result."""
        return sum(layer.bytes_after for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "layers": [asdict(layer) for layer in self.layers],
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "output_sqnr_db": self.output_sqnr_db,
            "sqnr_measured_on": "calibration samples",
            "samples": self.samples,
            "method": self.method,
            "passes": [report.to_dict() for report in self.passes],
        }


@dataclass(slots=True)
class Compressed:
    """A valid ONNX model and the report on how it came about."""

    model: Model
    report: CompressionReport

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ONNX file atomically."""
        from edgezip import graph

        graph.save(self.model, Path(path))


def compress(
    model: Any,
    recipe: Recipe | None = None,
    *,
    calibration: Calibration | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    mean: float = 0.0,
    std: float = 1.0,
    target: Target | str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """Compress ``model`` (a path, a torch module or a loaded model) as ``recipe`` says (int8 by default).

    A torch module is traced with ``example_inputs``, see ``frontends.load_torch``. ``calibration``: a folder, a .npz file, or
    feeds by input name (None where no pass needs any); ``mean`` and ``std`` apply to pictures. ``target``: for passes that ask
    what pays there. ``cache_dir``: results of passes are kept there, and a run that was stopped goes on from them. ``progress``
    is told the stage and how much of it is done. Raises CalibrationError, ShapeError, MissingFileError, UsageError, errors of
    loading.
    """
    from edgezip import frontends, graph, pipeline
    from edgezip.frontends import onnx

    model = frontends.opened(model, shapes=shapes, example_inputs=example_inputs, dynamic_shapes=dynamic_shapes)
    recipe = recipe or Recipe.int8()
    if recipe.quantize is None and not recipe.passes:
        raise UsageError("the recipe has no passes", hint="use --int8, or a recipe with passes or a quantize section")
    samples = None if calibration is None else sample_set(model, calibration, mean, std)
    tell = progress or (lambda stage, count: None)
    changed, reports = pipeline.run_passes(
        model,
        recipe.passes,
        samples,
        target=_target(target),
        cache_dir=None if cache_dir is None else Path(cache_dir),
        progress=tell,
        recover=recipe.recover,
        force=recipe.force,
    )
    if recipe.quantize is None:
        return _unquantised(model, changed, reports, samples)
    if reports:
        changed = onnx.load(graph.to_bytes(changed))  # folds tables of shared weights into the integers they stand for
    made = _quantize(changed, recipe.quantize, samples, tell)
    made.report.passes = reports
    if reports and samples is not None:  # against what came in, not against what the passes made of it
        made.report.output_sqnr_db = _output_sqnr(model, made.model, samples)
    return made


def _target(target: Target | str | None) -> Target | None:
    if not isinstance(target, str):
        return target
    from edgezip.target import load_target

    return load_target(target)


def sample_set(model: Model, calibration: Calibration, mean: float = 0.0, std: float = 1.0) -> SampleSet:
    """Samples of a folder, a file or the caller, each proved to fit the inputs of ``model`` when it is read."""
    from edgezip.passes.sample_set import SampleSet

    held = calibration if isinstance(calibration, (str, os.PathLike)) else list(calibration)
    return SampleSet(lambda: _feeds(model, held, 0, mean, std))


def _unquantised(model: Model, changed: Model, reports: list[PassReport], samples: SampleSet | None) -> Compressed:
    """The result of a recipe without ``quantize``: each layer's last row, with the bytes that it had at first."""
    from edgezip.pipeline import final_rows

    report = CompressionReport(passes=reports)
    for row in final_rows(reports):
        sqnr = None if row.sqnr_db is None else round(row.sqnr_db, 2)
        report.layers.append(
            LayerReport(row.name, row.op, row.form, row.bits, row.sparsity, row.bytes_before, row.bytes_after, sqnr, row.reason)
        )
    if samples is not None:
        report.output_sqnr_db, report.samples = _output_sqnr(model, changed, samples), len(samples)
    return Compressed(changed, report)


def _output_sqnr(model: Model, changed: Model, samples: SampleSet) -> dict[str, float]:
    """The SQNR of each output in dB, over as many samples as fit."""
    from edgezip import graph
    from edgezip.passes.measure_sqnr import measure_sqnr

    probe: list[Mapping[str, Array]] = []
    for feed in takewhile(lambda one: _has_room(probe, one, 0), samples()):
        probe.append(feed)
    outputs = {v.name or "": v.name or "" for v in graph.output_values(model)}
    return measure_sqnr(model, changed, outputs, probe)


def _feeds(model: Model, calibration: Calibration, limit: int, mean: float, std: float) -> Iterable[Mapping[str, Array]]:
    from edgezip import graph
    from edgezip.passes import calibration_data as data
    from edgezip.samples import Input

    inputs = [Input(v.name or "", graph.dtype(v), graph.shape(v)) for v in graph.input_values(model)]
    if isinstance(calibration, (str, os.PathLike)):
        return data.read(os.fspath(calibration), inputs, limit=limit, mean=mean, std=std)
    return data.checked(calibration, inputs, limit)


def _quantize(model: Model, options: Int8, samples: SampleSet | None, progress: Progress) -> Compressed:
    from edgezip import graph
    from edgezip.passes.calibrate import calibrate
    from edgezip.passes.correct_bias import correct_bias
    from edgezip.passes.place_qdq import place
    from edgezip.passes.quantize_recurrent import quantize_recurrent
    from edgezip.passes.quantize_rows import quantize_rows
    from edgezip.passes.quantize_static import quantize_static

    _check_quantisable(model, options)
    placement = place(model, options.keep, dynamic=options.activations == "dynamic")
    if not placement.points and not placement.recurrent and not placement.by_row:
        raise UsageError(
            "nothing in this model can run in int8",
            hint="see `edgezip inspect MODEL`; is everything in --keep? compile or deploy it as it is, in float",
        )
    if samples is None and (placement.points or options.activations == "static"):
        raise UsageError(
            "int8 needs calibration data", where="quantize", hint="give a folder or .npz with some tens of typical inputs"
        )
    probe: list[Mapping[str, Array]] = []
    given = _bytes_given(model)

    def watched() -> Iterable[Mapping[str, Array]]:
        for feed in islice(samples() if samples is not None else (), options.num_samples or None):
            if _has_room(probe, feed, given):
                probe.append(feed)
            yield feed

    wanted = set(placement.points) | {node.inputs[0].name or "" for node in placement.products if node.inputs[0] is not None}
    seen = [0]

    def count(done: int) -> None:
        seen[0] = done
        progress("calibrate", done)

    histograms = calibrate(model, sorted(wanted), watched(), count) if samples is not None else {}
    means = {name: h.channel_mean for name, h in histograms.items() if h.channel_mean is not None}

    @cache
    def rounded(method: str) -> Model:
        small = quantize_static(model, placement, ranges(model, placement, histograms, method))
        quantize_recurrent(small, {node.name or "" for node in placement.recurrent})
        quantize_rows(small, {node.name or "" for node in placement.by_row})
        return small

    def variant(method: str, corrected: bool) -> Model:
        return correct_bias(graph.clone(rounded(method)), model, means) if corrected else rounded(method)

    progress("quantize", 0)
    small, chosen = _best(model, options, variant, probe, progress)
    progress("measure", 0)
    report = _report(model, small, placement, probe, seen[0])
    report.method = chosen
    return Compressed(small, report)


def _has_room(probe: list[Mapping[str, Array]], feed: Mapping[str, Array], given: int) -> bool:
    """``given``: bytes of what is held beside each sample."""
    size, count = sum(array.nbytes for array in feed.values()), len(probe) + 1
    return not probe or (count <= PROBE_SAMPLES and count * size <= PROBE_BYTES and count * given <= PROBE_OUTPUT_BYTES)


def _bytes_given(model: Model) -> int:
    """Of what the choice of method looks at, a sample."""
    from edgezip import graph

    values = graph.values(model)
    known = [values[name] for name in _judged(model) if graph.has_static_shape(values[name])]
    return sum(4 * int(np.prod(graph.shape(value))) for value in known)


def _check_quantisable(model: Model, options: Int8) -> None:
    """Refuse a model that is int8 already, and a ``keep`` that names nothing (a typing error would go unnoticed)."""
    from edgezip import graph
    from edgezip.passes.place_qdq import matches

    nodes = graph.nodes(model)
    done = next((n for n in nodes if n.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")), None)
    if done is not None:
        raise UsageError(
            "the model is quantised already",
            where=f"node '{done.name}' ({done.op_type})",
            hint="compile it as it is, or start from the float model",
        )
    idle = [pattern for pattern in options.keep if not any(matches(node, (pattern,)) for node in nodes)]
    if idle:
        raise UsageError(
            "nothing in the model matches what is to be kept in float",
            where="--keep",
            expected="names or operators of nodes, or patterns of them",
            got=", ".join(idle),
            hint="see the names with `edgezip inspect MODEL`",
        )


def _best(
    model: Model,
    options: Int8,
    variant: Callable[[str, bool], Model],
    probe: list[Mapping[str, Array]],
    progress: Progress,
) -> tuple[Model, str]:
    """The variant of best output SQNR on the probe samples, and its name; no rule is best on every network."""
    from edgezip import graph
    from edgezip.passes.measure_sqnr import compare
    from edgezip.passes.settle_bias import settle_bias

    if options.method != "auto":
        return variant(options.method, options.correct_bias), options.method
    if not probe:
        return variant(AUTO_METHODS[0], False), "rows quantised at run time"
    judged = _judged(model)
    exact = list(graph.run_many(model, iter(probe), list(judged)))

    def worst(small: Model, chosen: slice = slice(None)) -> float:
        there = graph.values(small)
        pairs = {name: other if (other := f"{name}_dequantized") in there else name for name in judged}
        return min(compare(exact[chosen], graph.run_many(small, iter(probe[chosen]), list(pairs.values())), pairs).values())

    found = [
        (worst(small := variant(method, corrected)), small, f"{method}{' with bias correction' if corrected else ''}")
        for method in AUTO_METHODS
        for corrected in ((True, False) if options.correct_bias else (False,))
    ]
    best = max(found, key=lambda row: row[0])
    if options.correct_bias and best[0] < SETTLE_BELOW_DB and len(probe) >= 2 * SETTLE_SAMPLES:
        rest = slice(1, None, 2)  # samples that biases were not settled on
        best = (worst(best[1], rest), *best[1:])
        for method in AUTO_METHODS:
            settled = settle_bias(
                variant(method, True), model, probe[::2][:SETTLE_SAMPLES], lambda done: progress("settle", done)
            )
            best = max(best, (worst(settled, rest), settled, f"{method} with settled biases"), key=lambda row: row[0])
    return best[1], best[2]


def _judged(model: Model) -> list[str]:
    """Names of what the choice looks at: the outputs, and instead of a Softmax what it is made of, for chances saturate."""
    from edgezip import graph

    names = []
    for value in graph.output_values(model):
        maker = graph.producer(value)
        source = maker.inputs[0] if maker is not None and maker.op_type == "Softmax" else None
        names.append(str((source if source is not None and graph.producer(source) is not None else value).name))
    return list(dict.fromkeys(names))


def ranges(model: Model, placement: Placement, histograms: Mapping[str, Histogram], method: str) -> dict[str, tuple[float, int]]:
    """(scale, zero point) of every point: by its operator's definition, by another point, or by the calibrator.

    What the readers do not look at (below -3 before a hard-swish) is no part of a range.
    Outputs of the graph take all that was seen: a clipped winner would lose against nothing.
    """
    from edgezip import graph
    from edgezip.passes.calibrators import METHODS
    from edgezip.passes.flat_ends import ends
    from edgezip.passes.place_qdq import fixed_range, parameters

    values = graph.values(model)
    outputs = {v.name for v in graph.output_values(model)}
    owners = {name: _owner(name, placement.same_as) for name in placement.points}
    symmetric = {owners[name] for name in placement.symmetric if name in owners}
    params: dict[str, tuple[float, int]] = {}
    for name, owner in owners.items():
        if owner not in params:
            fixed = fixed_range(graph.producer(values[owner]))
            seen = histograms[owner].within(*ends(values[owner]))
            low, high = fixed or METHODS["minmax" if owner in outputs else method](seen)
            margin = OUTPUT_MARGIN if owner in outputs and not fixed else 1.0
            beside = [number for padded, number in placement.fillers if owners[padded] == owner]
            params[owner] = parameters(min(low * margin, *beside, 0.0), max(high * margin, *beside, 0.0), owner in symmetric)
        params[name] = params[owner]
    return params


def _owner(name: str, same_as: Mapping[str, str]) -> str:
    """The value whose parameters ``name`` takes in the end."""
    for _ in range(len(same_as)):
        name = same_as.get(name, name)
    return name


def _report(
    model: Model, small: Model, placement: Placement, probe: list[Mapping[str, Array]], samples: int
) -> CompressionReport:
    from edgezip import graph
    from edgezip.passes.measure_sqnr import measure_sqnr
    from edgezip.passes.place_qdq import int8_nodes
    from edgezip.passes.quantize_weights import BITS_KEY
    from edgezip.passes.stored_weights import stored_constants

    there = graph.values(small)
    outputs = {v.name or "" for v in graph.output_values(model)}
    pairs = {name: name if name in outputs else f"{name}_dequantized" for name in placement.points}
    pairs = {
        name: other for name, other in pairs.items() if other in there and name not in {v.name for v in graph.input_values(model)}
    }
    pairs |= {name: name for name in outputs}
    sqnr = measure_sqnr(model, small, pairs, probe) if probe else {}
    report = CompressionReport(samples=samples, output_sqnr_db={name: sqnr[name] for name in sorted(outputs) if name in sqnr})
    quantised = {node.name for node in [*placement.products, *placement.recurrent, *placement.by_row]}
    in_int8 = int8_nodes(model, placement)
    for node in graph.nodes(model):
        weights = [h for v in node.inputs if (h := graph.constant(v)) is not None and h.dtype == np.float32]
        stored = stored_constants(node)
        before = sum(h.nbytes for h in weights) + sum(4 * each.codes.size for each in stored)
        is_int8 = node.name in quantised
        int8_op = is_int8 or node.name in in_int8
        report.layers.append(
            LayerReport(
                node.name or "",
                node.op_type,
                "int8" if int8_op else "float32" if before or node.name in placement.kept else "none",
                int(graph.get_metadata(node, BITS_KEY) or 8) if int8_op else 32,
                _sparsity([*weights, *(each.codes for each in stored)]),
                before,
                _bytes_after(weights, is_int8 and not stored, node in placement.recurrent)
                + sum(each.file_bytes for each in stored),
                _sqnr_of(node, sqnr),
                placement.kept.get(node.name or "", ""),
            )
        )
    return report


def _bytes_after(weights: list[Array], is_int8: bool, is_recurrent: bool) -> int:
    """int8 weights with a float32 scale for each output; biases stay four bytes wide."""
    if not is_int8 or not weights:
        return sum(h.nbytes for h in weights)
    if is_recurrent:  # of the input and of the state, (directions, outputs, K)
        return sum(int(h.size + 4 * h[..., 0].size) for h in weights[:2]) + sum(h.nbytes for h in weights[2:])
    main = max(weights, key=lambda h: h.size)
    return main.size + sum(h.nbytes for h in weights if h is not main) + 4 * (weights[1].size if len(weights) > 1 else 1)


def _sparsity(weights: list[Array]) -> float:
    total = sum(h.size for h in weights)
    return float(sum(int((h == 0).sum()) for h in weights) / total) if total else 0.0


def _sqnr_of(node: Any, sqnr: Mapping[str, float]) -> float | None:
    """SQNR of the node's result, or of the clip behind it that runs in the same step."""
    from edgezip import graph

    value = node.outputs[0]
    if value.name in sqnr:
        return round(sqnr[value.name], 2)
    users = graph.consumers(value)
    behind = str(users[0][0].outputs[0].name) if len(users) == 1 else ""
    return round(sqnr[behind], 2) if behind in sqnr else None
