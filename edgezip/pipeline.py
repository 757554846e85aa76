"""Runs the passes of a recipe one after another, each result kept under the digest of what it came from.

A run that was interrupted goes on where it stopped and ends with the same bytes, because every pass begins with the model as it
was read back, whether it was made just now or last week.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgezip import pass_cache
from edgezip.errors import UsageError
from edgezip.passes.refit_layers import refit_layers
from edgezip.recipe import OrderChannels, Prune, PruneChannels, Step
from edgezip.search.error_shares import error_shares

if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.passes.follow_inputs import Wanted
    from edgezip.passes.gather_hessians import Inputs
    from edgezip.passes.layer_change import LayerChange
    from edgezip.passes.products import Product
    from edgezip.passes.refit_layers import Recovered
    from edgezip.passes.sample_set import SampleSet
    from edgezip.recipe import Cluster, Equalize, Factorize, QuantizeWeights, Smooth
    from edgezip.target import Target

Progress = Callable[[str, int], None]
Made = tuple["Model", list["LayerChange"]]
SCALED = {"equalize", "smooth"}  # leave the network's function as it is, but not what flows between its layers
EXACT = {*SCALED, "order_channels"}  # nothing to recover
FOLLOW = {"gptq", "adaround"}  # fit to float outputs on inputs as the layers rounded before leave them
KEPT = "kept by request"
SHARE_SAMPLES = 4  # on which each layer's share of the error is measured: two runs of the network a layer and sample
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
    recover: str = "refit",
    force: bool = False,
) -> tuple[Model, list[PassReport]]:
    """``model`` after all ``steps``, and a report for each round of each; the original is not touched.

    ``samples`` may be None when every step has a method without data. ``cache_dir``: where results are kept, up to
    CACHE_BYTES; None keeps none. ``recover``: "refit", "bias" or "none" after each pass, where there are samples. ``force``: also
    patterns of zeros that no kernel of ``target`` skips. Raises UsageError, CalibrationError, InvalidModelError.
    """
    from edgezip.passes.finite_weights import check_finite

    check_finite(model)
    run = _Run(model, samples, target, None if cache_dir is None else cache_dir / "passes", progress, recover)
    known = True  # the names of the layers to come
    for step in steps:
        _check_samples(step.name, step.options.model_dump(), samples)
        _check_pattern(step, target, force)
        if known:
            _check_keep(model, step)
        known = known and step.name != "factorize"
    return run.all([part for step in steps for part in rounds_of(step)])


class _Run:
    """A walk through the steps: the model as it stands, what its layers are to give, and which outputs they have left."""

    def __init__(
        self,
        model: Model,
        samples: SampleSet | None,
        target: Target | None,
        cache: Path | None,
        progress: Progress | None,
        recover: str,
    ) -> None:
        self._model, self._samples, self._target, self._cache = model, samples, target, cache
        self._tell = progress or (lambda stage, done: None)
        self._recover = recover if samples is not None else "none"
        self._wanted = model  # its layers give what those of the result shall give
        self._outputs: dict[str, tuple[int, ...]] = {}

    def all(self, steps: Sequence[Step]) -> tuple[Model, list[PassReport]]:
        reports = [self._step(step) for step in steps]
        return self._model, reports

    def _step(self, step: Step) -> PassReport:
        from edgezip import graph

        _check_keep(self._model, step)
        _check_layers(self._model, step)
        options = step.options.model_dump(mode="json")
        data = graph.to_bytes(self._model)
        place = None if self._cache is None else self._cache / self._key(data, step.name, options)
        kept = None if place is None else pass_cache.read(place)
        from_cache = kept is not None
        if kept is None:
            parts = None if place is None else pass_cache.Layers(place)
            made, rows = self._made(step, parts)
            kept = graph.to_bytes(made), rows
            if place is not None and parts is not None:
                pass_cache.write(place, *kept)
                parts.clear()
        self._model = graph.from_bytes(kept[0])
        self._follow(step.name, kept[1])
        return PassReport(step.name, options, tuple(kept[1]), from_cache)

    def _made(self, step: Step, parts: pass_cache.Layers | None) -> tuple[Model, list[LayerChange]]:
        samples = None if step.name == "equalize" else self._samples
        layers = Layers(self._model, samples, lambda done: self._tell(step.name, done), parts)
        made, rows = _RUN[step.name](self._model, step.options, layers, self._target)
        rows = [replace(row, predicted_us=_predicted(self._model, made, row.name, self._target)) for row in rows]
        if self._samples is None or step.name in EXACT:
            return made, rows
        shares = error_shares(
            self._model, made, list(islice(self._samples(), SHARE_SAMPLES)), [r.name for r in rows if not r.reason]
        )
        rows = [replace(row, share=shares.get(row.name)) for row in rows]
        if self._recover == "none" or _fits_itself(step):
            return made, rows
        outputs = self._composed(rows)
        made, found = refit_layers(
            self._wanted,
            made,
            self._samples,
            samples=len(self._samples),
            outputs=outputs,
            mode=self._recover,
            keep=[row.name for row in rows if row.reason == KEPT],
            progress=lambda done: self._tell("recover", done),
        )
        ways = {each.name: each for each in found}
        return made, [_with_recovery(row, ways.get(row.name)) for row in rows]

    def _follow(self, name: str, rows: Sequence[LayerChange]) -> None:
        self._outputs = self._composed(rows)
        if name in SCALED:
            self._wanted, self._outputs = self._model, {}

    def _composed(self, rows: Sequence[LayerChange]) -> dict[str, tuple[int, ...]]:
        """Which outputs of the wanted model's layers are left after ``rows``."""
        found = dict(self._outputs)
        for row in rows:
            if row.outputs is not None:
                before = found.get(row.name)
                found[row.name] = row.outputs if before is None else tuple(before[i] for i in row.outputs)
        return found

    def _key(self, data: bytes, name: str, options: dict[str, Any]) -> str:
        from edgezip import __version__, graph

        said = {
            "edgezip": __version__,
            "pass": name,
            "options": options,
            "samples": self._samples.digest if self._samples else "",
        }
        said["target"] = self._target.model_dump(mode="json") if self._target else ""
        said["recover"] = self._recover
        said["wanted"] = hashlib.sha256(graph.to_bytes(self._wanted)).hexdigest() if self._recover != "none" else ""
        said["outputs"] = self._outputs
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode() + b"\0" + data).hexdigest()


def _fits_itself(step: Step) -> bool:
    """Whether the pass answers for the errors of earlier layers on its own, and settles biases."""
    return step.name == "quantize_weights" and getattr(step.options, "method", "") in FOLLOW


def _with_recovery(row: LayerChange, found: Recovered | None) -> LayerChange:
    return row if found is None else replace(row, recovery=found.way, recovered_db=round(found.after_db, 2))


def rounds_of(step: Step) -> list[Step]:
    """The step, or its rounds: multiplications go by the same share each time, sparsity nears its end ever more slowly. Before
    N:M pruning channels are put into order.

    Zhu and Gupta, "To prune, or not to prune", 2017, equation 1.
    """
    options = step.options
    rounds = int(getattr(options, "rounds", 1))
    if rounds == 1 and isinstance(options, Prune) and options.permute and ":" in options.pattern:
        return [Step(order_channels=OrderChannels(pattern=options.pattern, keep=options.keep)), step]
    if rounds == 1:
        return [step]
    if isinstance(options, PruneChannels):
        each = [{"macs": 1 - (1 - options.macs) ** (1 / rounds)}] * rounds
    else:
        assert isinstance(options, Prune)
        if ":" in options.pattern:
            raise UsageError(
                "N:M has one sparsity: it cannot grow", where="prune: rounds", got=f"{rounds} rounds of {options.pattern}"
            )
        each = [{"sparsity": options.sparsity * (1 - (1 - (i + 1) / rounds) ** 3)} for i in range(rounds)]
    return [step.model_copy(update={step.name: options.model_copy(update=change | {"rounds": 1})}) for change in each]


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
    if samples is None and options.get("scales") == "output":
        hint = "give some with --calib, or take scales: mse"
        raise UsageError("scales of least output error need calibration data", where=name, hint=hint)
    free = DATA_FREE.get(name)
    if samples is None and free is not None and options["method"] != free:
        raise UsageError(
            f"'{options['method']}' needs calibration data", where=name, hint=f"give some with --calib, or take method {free}"
        )


def _check_keep(model: Model, step: Step) -> None:
    """A pattern that keeps nothing is a typing error, which else would go unnoticed."""
    from edgezip import graph
    from edgezip.passes.place_qdq import matches

    nodes = graph.nodes(model)
    idle = [pattern for pattern in getattr(step.options, "keep", ()) if not any(matches(node, (pattern,)) for node in nodes)]
    if idle:
        raise UsageError(
            "nothing in the model matches what is to be kept",
            where=f"{step.name}: keep",
            expected="names or operators of nodes, or patterns of them",
            got=", ".join(idle),
            hint="see the names with `edgezip inspect MODEL`",
        )


def _check_layers(model: Model, step: Step) -> None:
    """A pass that finds nothing to work on would leave the model as it is without a word."""
    from edgezip.passes.products import find_products

    if not find_products(model):
        raise UsageError(
            "no layer has float weights that nothing else reads",
            where=step.name,
            hint="an earlier pass made integers of them: put this one before it" if _holds_codes(model) else "",
        )


def _holds_codes(model: Model) -> bool:
    from edgezip import graph

    return any(node.op_type == "DequantizeLinear" for node in graph.nodes(model))


def _check_pattern(step: Step, target: Target | None, force: bool) -> None:
    """A pattern of zeros that the target's kernels multiply by all the same is no gain in time."""
    from edgezip.passes.prune_weights import Pattern

    pattern = getattr(step.options, "pattern", None)
    if pattern is None:
        return
    held = Pattern(pattern)
    if step.name == "order_channels" and not held.n_of_m:
        raise UsageError("only N:M has an order of channels", where="order_channels: pattern", expected="N:M", got=pattern)
    if target is None or force or step.name == "order_channels" or pattern in target.sparse_patterns:
        return
    known = ", ".join(target.sparse_patterns)
    raise UsageError(
        f"no kernel of {target.name} skips zeros of this pattern: it would be no faster",
        where="prune: pattern",
        expected=known or f"none: {target.name} runs all weights as dense ones",
        got=pattern,
        hint="prune_channels makes it faster; --force (recipe: force: true) prunes all the same, for a smaller file",
    )


def _predicted(before: Model, after: Model, name: str, target: Target | None) -> tuple[float, float] | None:
    """Microseconds of the layer, and of the chain that stands for it."""
    if target is None:
        return None
    from edgezip import cost, graph

    old = {node.name: node for node in graph.nodes(before)}
    chain = re.compile(rf"{re.escape(name)}(_\d+)?")
    new = [
        node for node in graph.nodes(after) if chain.fullmatch(node.name or "") and (node.name == name or node.name not in old)
    ]
    if name not in old:
        return None
    pair = [sum(cost.predict_us(cost.layer_cost(node), target) for node in side) for side in ([old[name]], new)]
    return round(pair[0], 2), round(pair[1], 2)


@dataclass(frozen=True, slots=True)
class Layers:
    """The products of ``model`` with what they meet, where there are ``samples``; ``tell`` hears how many are done. ``kept``:
    where a pass of minutes finds layers that it had finished when it was stopped."""

    model: Model
    samples: SampleSet | None
    tell: Callable[[int], None]
    kept: pass_cache.Layers | None = None

    def __iter__(self) -> Iterator[tuple[Product, Inputs | None]]:
        from edgezip.passes.gather_hessians import gather_hessians
        from edgezip.passes.products import find_products

        products = find_products(self.model)
        if self.samples is None:
            return iter([(product, None) for product in products])
        return gather_hessians(self.model, products, self.samples, samples=len(self.samples), progress=self.tell)

    def following(self, changed: Model) -> Iterator[tuple[Product, Wanted]]:
        """The same, their inputs being those in ``changed`` at the moment they are asked for."""
        from edgezip.passes.follow_inputs import follow_inputs
        from edgezip.passes.products import find_products

        assert self.samples is not None
        products = find_products(self.model)
        return follow_inputs(self.model, changed, products, self.samples, samples=len(self.samples), progress=self.tell)


def _equalize(model: Model, options: Equalize, layers: Layers, target: Target | None) -> Made:
    from edgezip.passes.equalize_channels import equalize_channels

    return equalize_channels(model, through_relu6=options.through_relu6)


def _smooth(model: Model, options: Smooth, layers: Layers, target: Target | None) -> Made:
    from edgezip.passes.smooth_activations import smooth_activations
    from edgezip.passes.weight_grid import Form

    held = ((product, inputs) for product, inputs in layers if inputs is not None)
    form = Form(options.bits, options.per, scales="output")
    return smooth_activations(model, held, method=options.method, form=form, through_relu6=options.through_relu6)


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


def _order_channels(model: Model, options: OrderChannels, layers: Layers, target: Target | None) -> Made:
    from edgezip.passes.order_channels import order_channels

    n, m = map(int, options.pattern.split(":"))
    return order_channels(model, layers, n, m, keep=options.keep)


def _factorize(model: Model, options: Factorize, layers: Layers, target: Target | None) -> Made:
    from edgezip.passes.factorize_weights import Rank, factorize_weights

    rank = Rank(options.rank_by, options.rank, options.multiple)
    return factorize_weights(
        model,
        layers,
        rank,
        method=options.method,
        target=target,
        prefer=options.prefer,
        whiten=options.whiten,
        keep=options.keep,
    )


def _quantize_weights(model: Model, options: QuantizeWeights, layers: Layers, target: Target | None) -> Made:
    from edgezip import graph
    from edgezip.passes.quantize_weights import quantize_weights
    from edgezip.passes.weight_grid import Form

    form = Form(options.bits, options.per, options.symmetric, options.packed, options.scales)
    changes = {pattern: layer.model_dump(exclude_none=True) for pattern, layer in options.layers.items()}
    forms = {pattern: replace(form, **change) for pattern, change in changes.items()}
    shadow = graph.clone(model) if options.method in FOLLOW and layers.samples is not None else None
    seen = layers if shadow is None else layers.following(shadow)
    kept = None if options.method == "nearest" else layers.kept
    return quantize_weights(model, seen, form, method=options.method, keep=options.keep, forms=forms, shadow=shadow, kept=kept)


def _cluster(model: Model, options: Cluster, layers: Layers, target: Target | None) -> Made:
    from edgezip.passes.cluster_weights import Codebook, cluster_weights

    return cluster_weights(model, layers, Codebook(options.table, options.count), keep=options.keep)


_RUN: dict[str, Callable[[Any, Any, Layers, Any], Made]] = {
    "equalize": _equalize,
    "smooth": _smooth,
    "prune_channels": _prune_channels,
    "order_channels": _order_channels,
    "prune": _prune,
    "factorize": _factorize,
    "quantize_weights": _quantize_weights,
    "cluster": _cluster,
}
