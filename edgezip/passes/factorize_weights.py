"""Layers as chains of thinner layers: two products for a matrix, three or four convolutions for a window.

``svd``: Gemm, MatMul and 1x1 convolutions. ``spatial``: kh x kw as kh x 1 and 1 x kw (Jaderberg et al., 2014). ``tucker``: 1x1, a
thin kh x kw, 1x1 (Kim et al., 2016). ``cp``: 1x1, two depthwise, 1x1 (Lebedev et al., 2015). With calibration data the error that
counts is the outputs' ("whitened"): exactly in matrices, in windows by the second moment that all their places have on average. A
chain that the target would not run faster (or store smaller) is not made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
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
SHARES = (0.85, 0.7, 0.55, 0.45, 0.35, 0.25, 0.18, 0.12, 0.08)  # of a layer's weights, to choose from for a budget
CP_RANK = 3  # times the geometric mean of outputs and channels is the most that CP tries


@dataclass(frozen=True, slots=True)
class Rank:
    """How many terms: ``energy`` (share of the sum of squares kept), ``ratio`` (of the dense layer's weights), ``evbmf``, or
    ``budget`` (share of what all layers cost together, dealt out so that the relative errors add up to the least).

    ``multiple``: ranks are rounded to it, as kernels like.
    """

    by: str = "energy"
    value: float = 0.9
    multiple: int = 8

    def __post_init__(self) -> None:
        if self.by not in ("energy", "ratio", "evbmf", "budget"):
            raise UsageError(
                "no such rule", where="factorize_weights: rank", expected="energy, ratio, evbmf, budget", got=self.by
            )
        if self.by != "evbmf" and not 0 < self.value < 1:
            raise UsageError("a share between 0 and 1", where="factorize_weights: rank", got=str(self.value))
        if self.multiple < 1:
            raise UsageError("at least 1", where="factorize_weights: multiple", got=str(self.multiple))

    def of(self, values: Array, full: int, dense: int, each: int, matrix: Callable[[], Array]) -> int:
        """For a matrix of singular ``values``: at most ``full`` terms, ``dense`` weights now, ``each`` weights a term."""
        if self.by == "ratio":
            rank = self.value * dense / each
        elif self.by == "evbmf":
            rank = low_rank.evbmf_rank(matrix())
        else:
            rank = low_rank.rank_by_energy(values, self.value)
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
    whiten: bool = True,
    keep: Sequence[str] = (),
) -> tuple[Model, list[LayerChange]]:
    """``model`` with ``layers`` as chains where that pays, and a row for each layer; the original is not touched.

    ``auto``: svd for matrices, tucker for windows. ``prefer``: "time" (predicted for ``target``; without one by
    multiplications) or "size" (weights). ``whiten``: inputs, where they are given, weigh the error. Raises UsageError.
    """
    if method not in METHODS:
        raise UsageError("no such method", where="factorize_weights: method", expected=", ".join(METHODS), got=method)
    if prefer not in ("time", "size"):
        raise UsageError("no such aim", where="factorize_weights: prefer", expected="time, size", got=prefer)
    tried = [_tried(product, inputs, rank, method, target, prefer, whiten, keep) for product, inputs in layers]
    if rank.by == "budget":
        tried = _within_budget(tried, rank.value)
    small = graph.clone(model)
    there = {product.name: product for product in find_products(small)}
    for each in tried:
        if each.chain is not None:
            _link(small, there[each.product.name], each.chain)
    graph.sort(small)
    return small, [_row(each) for each in tried]


@dataclass(frozen=True, slots=True)
class _Tried:
    """A layer and its chain (without the dense weights, which are many), or why there is none. ``errors``: E|y|^2 and what the
    chain leaves of it, None without inputs. ``costs``: of the dense layer, and of the chain, in what is to become less. ``loss``:
    relative error, of the weights where inputs are not known. ``menu``: chains to choose from, for a budget."""

    product: Product
    chain: Chain | None
    reason: str
    errors: tuple[float, float] | None
    costs: tuple[float, float]
    loss: float = 0.0
    menu: tuple[_Tried, ...] = ()


def _tried(
    product: Product,
    inputs: Inputs | None,
    rank: Rank,
    method: str,
    target: HasCost | None,
    prefer: str,
    whiten: bool,
    keep: Sequence[str],
) -> _Tried:
    """The layer's chain if it can have one that pays."""
    held = product.weights()
    signal = None if inputs is None else inputs.output_error(held)
    dense = _dense_cost(product, target, prefer)
    nothing = _Tried(product, None, _reason(product, method, keep), None if signal is None else (signal, 0.0), (dense, dense))
    if nothing.reason:
        return nothing
    cut = _cutter(product, inputs if whiten else None, method)

    def made(wanted: Rank) -> _Tried:
        chain = cut(wanted)
        price = _chain_cost(product, chain, target, prefer)
        if price >= dense:
            return replace(nothing, reason=_no_gain(chain, price, dense, target, prefer))
        change = chain.dense[None] - held
        errors = None if inputs is None or signal is None else (signal, inputs.output_error(change))
        whole, left = errors or (float((held**2).sum()), float((change**2).sum()))
        return _Tried(product, replace(chain, dense=held[:0]), "", errors, (dense, price), left / max(whole, 1e-30))

    if rank.by != "budget":
        return made(rank)
    menu = [made(Rank("ratio", share, rank.multiple)) for share in SHARES]
    return replace(nothing, reason=menu[-1].reason, menu=tuple(each for each in menu if each.chain is not None))


def _within_budget(tried: list[_Tried], share: float) -> list[_Tried]:
    """From each menu the chain (or the dense layer) of least loss + price * cost; the least price that keeps to the budget."""
    total = sum(each.costs[0] for each in tried)
    ways = [(each, *each.menu) for each in tried]

    def chosen(price: float) -> list[_Tried]:
        return [min(way, key=lambda one: one.loss + price * one.costs[1]) for way in ways]

    def cost_of(picked: list[_Tried]) -> float:
        return sum(one.costs[1] for one in picked)

    least = sum(min(one.costs[1] for one in way) for way in ways)
    if least > share * total:
        raise UsageError(
            "the budget cannot be reached",
            where="factorize: rank",
            expected=f"at least {least / max(total, 1e-30):.2f}",
            got=str(share),
            hint="ask for less, or factorise by ratio",
        )
    low, high = 0.0, 1.0 / max(total, 1e-30)
    while cost_of(chosen(high)) > share * total:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if cost_of(chosen(middle)) <= share * total else (middle, high)
    return [replace(one, reason=one.reason or "the budget leaves it dense") if one.chain is None else one for one in chosen(high)]


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


def _cutter(product: Product, inputs: Inputs | None, method: str) -> Callable[[Rank], Chain]:
    """Chains of the layer by rank; what does not depend on the rank is computed once."""
    if product.window > 1:
        by = {"spatial": _by_axes, "cp": _by_cp}.get(method, _by_tucker)
        return lambda rank: _better(product, inputs, [by(product, rank, weighing) for weighing in _weighings(inputs)])
    rows, hessian = product.weights()[0], None if inputs is None else inputs.hessian[0]
    left, right = low_rank.svd(rows, min(rows.shape), hessian)
    values = (np.linalg.norm(left, axis=0)) ** 2  # U and V are orthonormal, the singular value is shared between them
    return lambda rank: _by_svd(product, left, right, values, rank, hessian is not None)


def _weighings(inputs: Inputs | None) -> list[Array | None]:
    return [None] if inputs is None else [None, inputs.hessian[0]]


def _better(product: Product, inputs: Inputs | None, chains: list[Chain]) -> Chain:
    """The chain that leaves the least error in the outputs: the moment of a window's places is only an average of theirs."""
    if inputs is None:
        return chains[0]
    return min(chains, key=lambda chain: inputs.output_error(chain.dense[None] - product.weights()))


def _by_svd(product: Product, left: Array, right: Array, values: Array, rank: Rank, whitened: bool) -> Chain:
    outputs, columns = len(left), right.shape[1]
    terms = rank.of(values, min(outputs, columns), outputs * columns, outputs + columns, lambda: product.weights()[0])
    left, right = left[:, :terms], right[:terms]
    if product.node.op_type in ("Gemm", "MatMul"):
        links = [Link("MatMul", right.T, {}), Link("", product.array_of(left[None]), {})]
    else:
        spatial = (1,) * (len(graph.shape(product.weight)) - 2)
        first = {name: graph.attribute(product.node, name) for name in ("strides", "pads", "auto_pad")}
        links = [Link("Conv", right.reshape(*right.shape, *spatial), first), Link("", left.reshape(*left.shape, *spatial), {})]
    return Chain(links, left @ right, f"rank {terms}{', whitened' if whitened else ''}")


def _moment(hessian: Array | None, held: Array, axes: str) -> tuple[Array, Array] | None:
    """Root and inverse root of the second moment of the channels ("c") or of a window's columns of rows ("hc"), on average."""
    if hessian is None:
        return None
    _, kh, kw, channels = held.shape
    split = hessian.reshape(kh, kw, channels, kh, kw, channels)
    if axes == "c":
        return low_rank.roots(np.einsum("hwchwd->cd", split) / (kh * kw))
    return low_rank.roots(np.einsum("hwcgwd->hcgd", split).reshape(kh * channels, -1) / kw)


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


def _by_tucker(product: Product, rank: Rank, hessian: Array | None) -> Chain:
    held, attributes = _window(product)
    outputs, kh, kw, channels = held.shape
    moment = _moment(hessian, held, "c")
    held = held if moment is None else held @ moment[0]
    flat = held.reshape(outputs, kh * kw, channels)
    unfolded = held.reshape(outputs, -1), np.moveaxis(held, -1, 0).reshape(channels, -1)
    if rank.by == "ratio":  # both ranks the same share of their sides: the core has that share squared of the weights
        share = np.sqrt(rank.value)
        sides = [
            int(np.clip(np.rint(share * n / rank.multiple) * rank.multiple, min(rank.multiple, n), n))
            for n in (outputs, channels)
        ]
    else:
        sides = [_side(rank, matrix, len(matrix), held.size, 1) for matrix in unfolded]
    out, core, inside = low_rank.tucker2(flat, *sides)
    inside = inside if moment is None else inside @ moment[1]
    links = [
        Link("Conv", inside[:, :, None, None], {}),
        Link("Conv", _conv(core.reshape(sides[0], kh, kw, sides[1])), attributes),
        Link("", out[:, :, None, None], {}),
    ]
    dense = np.einsum("or,rws,sc->owc", out, core, inside).reshape(outputs, -1)
    return Chain(links, dense, f"Tucker {sides[0]} x {sides[1]}{_said(moment)}")


def _side(rank: Rank, matrix: Array, full: int, dense: int, each: int) -> int:
    values = low_rank.singular_values(matrix) if rank.by == "energy" else np.zeros(0)
    return rank.of(values, full, dense, each, lambda: matrix)


def _said(moment: tuple[Array, Array] | None) -> str:
    return "" if moment is None else ", whitened"


def _by_axes(product: Product, rank: Rank, hessian: Array | None) -> Chain:
    held, attributes = _window(product)
    outputs, kh, kw, channels = held.shape
    matrix = held.transpose(0, 2, 1, 3).reshape(outputs * kw, kh * channels)
    moment = _moment(hessian, held, "hc")
    matrix = matrix if moment is None else matrix @ moment[0]
    terms = _side(rank, matrix, min(matrix.shape), held.size, sum(matrix.shape))
    left, right = low_rank.svd(matrix, terms)
    right = right if moment is None else right @ moment[1]
    links = [
        Link("Conv", _conv(right.reshape(terms, kh, 1, channels)), _along(attributes, 0)),
        Link("", _conv(left.reshape(outputs, kw, 1, terms).transpose(0, 2, 1, 3)), _along(attributes, 1)),
    ]
    dense = (left @ right).reshape(outputs, kw, kh, channels).transpose(0, 2, 1, 3).reshape(outputs, -1)
    return Chain(links, dense, f"spatial, rank {terms}{_said(moment)}")


def _by_cp(product: Product, rank: Rank, hessian: Array | None) -> Chain:
    held, attributes = _window(product)
    outputs, kh, kw, channels = held.shape
    most = int(CP_RANK * np.sqrt(outputs * channels))
    moment = _moment(hessian, held, "c")
    held = held if moment is None else held @ moment[0]
    terms = _side(rank, held.reshape(outputs, -1), most, held.size, outputs + kh + kw + channels)
    out, rows, columns, inside = low_rank.cp(held, terms)
    inside = inside if moment is None else moment[1] @ inside
    grouped = {"group": terms}
    links = [
        Link("Conv", inside.T[:, :, None, None], {}),
        Link("Conv", rows.T[:, None, :, None], _along(attributes, 0) | grouped),
        Link("Conv", columns.T[:, None, None, :], _along(attributes, 1) | grouped),
        Link("", out[:, :, None, None], {}),
    ]
    return Chain(links, low_rank.cp_product([out, rows, columns, inside]).reshape(outputs, -1), f"CP {terms}{_said(moment)}")


# ---------------------------------------------------------------- the graph


def _dense_cost(product: Product, target: HasCost | None, prefer: str) -> float:
    """Weights, microseconds or multiplications of the layer as it is."""
    if prefer == "size":
        return float(product.weights().size)
    now = cost.layer_cost(product.node)
    return float(now.macs) if target is None else cost.predict_us(now, target)


def _chain_cost(product: Product, chain: Chain, target: HasCost | None, prefer: str) -> float:
    """The same of its chain."""
    if prefer == "size":
        return float(sum(link.weights.size for link in chain.links))
    links = _costs(product, chain)
    return float(sum(link.macs for link in links)) if target is None else sum(cost.predict_us(link, target) for link in links)


def _no_gain(chain: Chain, price: float, dense: float, target: HasCost | None, prefer: str) -> str:
    if prefer == "size":
        return f"{chain.text}: {price:,.0f} weights instead of {dense:,.0f}"
    if target is None:
        return f"{chain.text}: no fewer multiplications"
    return f"{chain.text}: predicted {price:.1f} us instead of {dense:.1f} us"


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


def _row(tried: _Tried) -> LayerChange:
    product, chain = tried.product, tried.chain
    held = product.weights()
    return LayerChange(
        product.name,
        product.node.op_type,
        "float32" if chain is None else chain.text,
        32,
        0.0 if chain is not None else float((held == 0).mean()),
        held.size * 4,
        held.size * 4 if chain is None else 4 * sum(link.weights.size for link in chain.links),
        None if tried.errors is None else tried.errors[0],
        None if tried.errors is None else tried.errors[1],
        tried.reason,
    )
