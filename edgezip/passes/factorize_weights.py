"""Layers as chains of thinner layers: two products for a matrix, three or four convolutions for a window.

``svd``: Gemm, MatMul and 1x1 convolutions; with calibration data the error that counts is the outputs' ("whitened"). ``spatial``:
kh x kw as kh x 1 and 1 x kw (Jaderberg et al., 2014). ``tucker``: 1x1, a thin kh x kw, 1x1 (Kim et al., 2016). ``cp``: 1x1, two
depthwise, 1x1 (Lebedev et al., 2015). A chain that the target would not run faster (or store smaller) is not made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import cost, graph
from edgezip.errors import UsageError
from edgezip.kernels import low_rank
from edgezip.passes.layer_change import LayerChange
from edgezip.passes.place_qdq import matches
from edgezip.passes.products import find_products

if TYPE_CHECKING:
    from edgezip.cost import HasCost
    from edgezip.graph import Model, Value
    from edgezip.passes.gather_hessians import Inputs
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]
METHODS = ("auto", "svd", "spatial", "tucker", "cp")
CP_RANK = 3  # times the geometric mean of outputs and channels is the most that CP tries


@dataclass(frozen=True, slots=True)
class Rank:
    """How many terms: ``energy`` (share of the sum of squares kept), ``ratio`` (of the dense layer's weights), or ``evbmf``.

    ``multiple``: ranks are rounded to it, as kernels like.
    """

    by: str = "energy"
    value: float = 0.9
    multiple: int = 8

    def __post_init__(self) -> None:
        if self.by not in ("energy", "ratio", "evbmf"):
            raise UsageError("no such rule", where="factorize_weights: rank", expected="energy, ratio, evbmf", got=self.by)
        if self.by != "evbmf" and not 0 < self.value < 1:
            raise UsageError("a share between 0 and 1", where="factorize_weights: rank", got=str(self.value))
        if self.multiple < 1:
            raise UsageError("at least 1", where="factorize_weights: multiple", got=str(self.multiple))

    def of(self, matrix: Array, full: int, dense: int, each: int, hessian: Array | None = None) -> int:
        """For ``matrix``: at most ``full`` terms, ``dense`` weights now, ``each`` weights a term."""
        if self.by == "ratio":
            rank = self.value * dense / each
        elif self.by == "evbmf":
            rank = low_rank.evbmf_rank(matrix)
        else:
            rank = low_rank.rank_by_energy(low_rank.singular_values(matrix, hessian), self.value)
        return int(np.clip(np.rint(rank / self.multiple) * self.multiple, min(self.multiple, full), full))


@dataclass(frozen=True, slots=True)
class Link:
    """One layer of a chain: an operator, its weights in ONNX form, and its attributes."""

    op: str
    weights: Array
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chain:
    """Links in order, and the dense (outputs, columns) that they stand for."""

    links: list[Link]
    dense: Array
    text: str


def factorize_weights(
    model: Model,
    layers: Iterable[tuple[Product, Inputs | None]],
    rank: Rank,
    *,
    method: str = "auto",
    target: HasCost | None = None,
    prefer: str = "time",
    keep: Sequence[str] = (),
) -> tuple[Model, list[LayerChange]]:
    """``model`` with ``layers`` as chains where that pays, and a row for each layer; the original is not touched.

    ``auto``: svd for matrices, tucker for windows. ``prefer``: "time" (predicted for ``target``; without one by
    multiplications) or "size" (weights). Raises UsageError.
    """
    if method not in METHODS:
        raise UsageError("no such method", where="factorize_weights: method", expected=", ".join(METHODS), got=method)
    if prefer not in ("time", "size"):
        raise UsageError("no such aim", where="factorize_weights: prefer", expected="time, size", got=prefer)
    small = graph.clone(model)
    there = {product.name: product for product in find_products(small)}
    rows = []
    for product, inputs in layers:
        reason = _reason(product, method, keep)
        chain = None if reason else _chain(product, inputs, rank, method)
        if chain is not None:
            reason = _not_worth_it(product, chain, target, prefer)
        if chain is None or reason:
            rows.append(_row(product, None, inputs, reason))
            continue
        _link(small, there[product.name], chain)
        rows.append(_row(product, chain, inputs, ""))
    graph.sort(small)
    return small, rows


def _reason(product: Product, method: str, keep: Sequence[str]) -> str:
    if matches(product.node, keep):
        return "kept by request"
    if product.groups > 1 or product.node.op_type == "ConvTranspose":
        return f"no chain for {'grouped convolutions' if product.groups > 1 else 'ConvTranspose'}"
    if method == "svd" and product.window > 1:
        return "svd is for matrices and 1x1 convolutions"
    if method in ("spatial", "tucker", "cp") and product.window == 1:
        return f"{method} is for windows of more than one position"
    if product.window > 1 and len(graph.shape(product.weight)) != 4:
        return "no chain for convolutions along other than two axes"
    return ""


def _chain(product: Product, inputs: Inputs | None, rank: Rank, method: str) -> Chain:
    if product.window == 1:
        return _by_svd(product, None if inputs is None else inputs.hessian[0], rank)
    return {"spatial": _by_axes, "cp": _by_cp}.get(method, _by_tucker)(product, rank)


def _by_svd(product: Product, hessian: Array | None, rank: Rank) -> Chain:
    rows = product.weights()[0]
    outputs, columns = rows.shape
    terms = rank.of(rows, min(rows.shape), rows.size, outputs + columns, hessian)
    left, right = low_rank.svd(rows, terms, hessian)
    if product.node.op_type in ("Gemm", "MatMul"):
        links = [Link("MatMul", right.T, {}), Link("", product.array_of(left[None]), {})]
    else:
        spatial = (1,) * (len(graph.shape(product.weight)) - 2)
        first = {name: graph.attribute(product.node, name) for name in ("strides", "pads", "auto_pad")}
        links = [Link("Conv", right.reshape(*right.shape, *spatial), first), Link("", left.reshape(*left.shape, *spatial), {})]
    return Chain(links, left @ right, f"rank {terms}{'' if hessian is None else ', whitened'}")


def _window(product: Product) -> tuple[Array, dict[str, Any]]:
    """(outputs, kh, kw, channels), and the attributes of the window by axis."""
    kh, kw = graph.shape(product.weight)[2:]
    return product.weights()[0].reshape(product.outputs, kh, kw, -1), {
        name: graph.attribute(product.node, name) for name in ("strides", "pads", "dilations", "auto_pad")
    }


def _conv(weights: Array) -> Array:
    """(outputs, kh, kw, channels) -> the ONNX order."""
    return np.ascontiguousarray(np.moveaxis(weights, -1, 1))


def _along(attributes: dict[str, Any], axis: int) -> dict[str, Any]:
    """The attributes of a window, for its part along one axis."""
    made: dict[str, Any] = {"auto_pad": attributes["auto_pad"]}
    for name in ("strides", "dilations"):
        if attributes[name] is not None:
            made[name] = [value if i == axis else 1 for i, value in enumerate(attributes[name])]
    if attributes["pads"] is not None:
        made["pads"] = [value if i % 2 == axis else 0 for i, value in enumerate(attributes["pads"])]
    return made


def _by_tucker(product: Product, rank: Rank) -> Chain:
    held, attributes = _window(product)
    outputs, kh, kw, channels = held.shape
    flat = held.reshape(outputs, kh * kw, channels)
    unfolded = held.reshape(outputs, -1), np.moveaxis(held, -1, 0).reshape(channels, -1)
    if rank.by == "ratio":  # both ranks the same share of their sides: the core has that share squared of the weights
        share = np.sqrt(rank.value)
        sides = [
            int(np.clip(np.rint(share * n / rank.multiple) * rank.multiple, min(rank.multiple, n), n))
            for n in (outputs, channels)
        ]
    else:
        sides = [rank.of(matrix, len(matrix), held.size, 1) for matrix in unfolded]
    out, core, inside = low_rank.tucker2(flat, *sides)
    links = [
        Link("Conv", inside[:, :, None, None], {}),
        Link("Conv", _conv(core.reshape(sides[0], kh, kw, sides[1])), attributes),
        Link("", out[:, :, None, None], {}),
    ]
    dense = np.einsum("or,rws,sc->owc", out, core, inside).reshape(outputs, -1)
    return Chain(links, dense, f"Tucker {sides[0]} x {sides[1]}")


def _by_axes(product: Product, rank: Rank) -> Chain:
    held, attributes = _window(product)
    outputs, kh, kw, channels = held.shape
    matrix = held.transpose(0, 2, 1, 3).reshape(outputs * kw, kh * channels)
    terms = rank.of(matrix, min(matrix.shape), held.size, sum(matrix.shape))
    left, right = low_rank.svd(matrix, terms)
    links = [
        Link("Conv", _conv(right.reshape(terms, kh, 1, channels)), _along(attributes, 0)),
        Link("", _conv(left.reshape(outputs, kw, 1, terms).transpose(0, 2, 1, 3)), _along(attributes, 1)),
    ]
    dense = (left @ right).reshape(outputs, kw, kh, channels).transpose(0, 2, 1, 3).reshape(outputs, -1)
    return Chain(links, dense, f"spatial, rank {terms}")


def _by_cp(product: Product, rank: Rank) -> Chain:
    held, attributes = _window(product)
    outputs, kh, kw, channels = held.shape
    most = int(CP_RANK * np.sqrt(outputs * channels))
    terms = rank.of(held.reshape(outputs, -1), most, held.size, outputs + kh + kw + channels)
    out, rows, columns, inside = low_rank.cp(held, terms)
    grouped = {"group": terms}
    links = [
        Link("Conv", inside.T[:, :, None, None], {}),
        Link("Conv", rows.T[:, None, :, None], _along(attributes, 0) | grouped),
        Link("Conv", columns.T[:, None, None, :], _along(attributes, 1) | grouped),
        Link("", out[:, :, None, None], {}),
    ]
    return Chain(links, low_rank.cp_product([out, rows, columns, inside]).reshape(outputs, -1), f"CP {terms}")


# ---------------------------------------------------------------- the graph


def _not_worth_it(product: Product, chain: Chain, target: HasCost | None, prefer: str) -> str:
    """Why the chain is no gain, or nothing."""
    weights, links = product.weights().size, sum(link.weights.size for link in chain.links)
    if prefer == "size":
        return "" if links < weights else f"{chain.text}: {links:,} weights instead of {weights:,}"
    before, after = cost.layer_cost(product.node), _costs(product, chain)
    if target is None:
        fewer = sum(layer.macs for layer in after) < before.macs
        return "" if fewer else f"{chain.text}: no fewer multiplications"
    old, new = cost.predict_us(before, target), sum(cost.predict_us(layer, target) for layer in after)
    return "" if new < old else f"{chain.text}: predicted {new:.1f} us instead of {old:.1f} us"


def _costs(product: Product, chain: Chain) -> list[cost.LayerCost]:
    """What each link would cost."""
    x = product.node.inputs[0]
    assert x is not None
    shape, found = graph.shape(x), []
    for number, link in enumerate(chain.links):
        made = graph.shape(product.node.outputs[0]) if number == len(chain.links) - 1 else _shape_of(link, shape)
        elements = int(np.prod(made))
        each = link.weights.size // (made[1] if product.node.op_type == "Conv" else made[-1])
        depthwise = int(link.attributes.get("group", 1)) > 1
        traffic = 4 * (int(np.prod(shape)) + elements)
        form = (f"{product.name}_{number}", product.node.op_type, "float32", made, elements * each)
        found.append(cost.LayerCost(*form, link.weights.size, 4 * link.weights.size, traffic, depthwise))
        shape = made
    return found


def _link(model: Model, product: Product, chain: Chain) -> None:
    """Put the chain in the layer's place; the layer's own node, with its name and bias, is the last link."""
    node, value = product.node, product.node.inputs[0]
    assert value is not None
    for number, link in enumerate(chain.links[:-1]):
        shape = _shape_of(link, graph.shape(value))
        attributes = {name: held for name, held in link.attributes.items() if held is not None}
        value = graph.new_node(
            model,
            link.op,
            [value, _weights(model, product, link, str(number))],
            f"{node.name}_{number}",
            attrs=attributes,
            before=node,
        )
        graph.set_type(value, np.float32, shape)
    last = chain.links[-1]
    node.replace_input_with(0, value)
    node.replace_input_with(1, _weights(model, product, last, "last"))
    if node.op_type == "Conv":
        for name in ("strides", "pads", "dilations", "auto_pad", "kernel_shape"):
            graph.set_attribute(node, name, last.attributes.get(name))
    if not product.weight.uses() and not product.weight.is_graph_output():
        model.graph.initializers.pop(product.weight_name)


def _weights(model: Model, product: Product, link: Link, ending: str) -> Value:
    return graph.add_initializer(
        model, graph.unique_name(model, f"{product.weight_name}_{ending}"), link.weights.astype(np.float32)
    )


def _shape_of(link: Link, x: tuple[int, ...]) -> tuple[int, ...]:
    """Of what the link gives for an input of shape ``x``."""
    if link.op == "MatMul":
        return (*x[:-1], link.weights.shape[1])
    window, rank = link.weights.shape[2:], len(x) - 2
    strides = link.attributes.get("strides") or (1,) * rank
    dilations = link.attributes.get("dilations") or (1,) * rank
    pads = link.attributes.get("pads") or (0,) * (2 * rank)
    same = str(link.attributes.get("auto_pad") or "").startswith("SAME")
    sides = []
    for i in range(rank):
        reach = (window[i] - 1) * dilations[i] + 1
        sides.append(-(-x[2 + i] // strides[i]) if same else (x[2 + i] + pads[i] + pads[rank + i] - reach) // strides[i] + 1)
    return (x[0], link.weights.shape[0], *sides)


def _row(product: Product, chain: Chain | None, inputs: Inputs | None, reason: str) -> LayerChange:
    held = product.weights()
    signal = None if inputs is None else inputs.output_error(held)
    error = None if inputs is None or chain is None else inputs.output_error(chain.dense[None] - held)
    size = held.size * 4 if chain is None else 4 * sum(link.weights.size for link in chain.links)
    return LayerChange(
        product.name,
        product.node.op_type,
        "float32" if chain is None or reason else chain.text,
        32,
        0.0 if chain is not None else float((held == 0).mean()),
        held.size * 4,
        held.size * 4 if reason else size,
        signal,
        0.0 if chain is None and signal is not None else error,
        reason,
    )
