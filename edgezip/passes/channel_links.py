"""Places where a channel may be made smaller on one side and larger on the other without changing what the network computes.

A link is a producer (a product, its depthwise kind included, or a layer norm), a way that keeps channels apart and commutes with
a positive factor (Relu, LeakyRelu, PRelu, pooling, a constant added, ...), and all the products that read the end of that way. No
link is made where anything else reads a value on the way: a residual sum would see the change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.passes.products import find_products

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]
COMMUTES = {"Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "Dropout"}
NORMS = {"LayerNormalization", "RMSNormalization"}
CAPS = {"Clip"}  # [0, c] is Relu below c: commutes when each channel gets a cap of its own


@dataclass(slots=True)
class Link:
    """``channels`` run from ``producer`` (a product) or ``norm`` to ``consumers``; ``added``: constants added on the way;
    ``caps``: Clips on the way, whose upper end becomes one for each channel."""

    channels: int
    producer: Product | None
    norm: Node | None
    consumers: list[Product]
    added: list[Value] = field(default_factory=list)
    caps: list[Node] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the node that the channels come from."""
        node = self.producer.node if self.producer is not None else self.norm
        assert node is not None
        return node.name or ""


def find_links(model: Model, *, through_caps: bool = False) -> list[Link]:
    """All links of the model, in the order of the graph. ``through_caps``: also through Clip from 0 to a number (ReLU6)."""
    products = {product.name: product for product in find_products(model)}
    found = []
    for node in graph.nodes(model):
        link = _start(node, products)
        if link is not None and _follow(node.outputs[0], link, products, through_caps) and link.consumers:
            found.append(link)
    return found


def _start(node: Node, products: dict[str, Product]) -> Link | None:
    product = products.get(node.name or "")
    if product is not None:
        bias = node.inputs[2] if node.op_type != "MatMul" and len(node.inputs) > 2 else None
        if bias is not None and not _own_row(bias, product.groups * product.outputs):
            return None
        return Link(product.groups * product.outputs, product, None, [])
    if node.op_type in NORMS and int(graph.attribute(node, "axis", -1)) in (-1, len(graph.shape(node.outputs[0])) - 1):
        channels = graph.shape(node.outputs[0])[-1]
        if all(value is None or _own_row(value, channels) for value in node.inputs[1:3]) and len(node.inputs) > 1:
            return Link(channels, None, node, [])
    return None


def _own_row(value: Value, channels: int) -> bool:
    """Whether the value is a constant for each channel that nobody else reads."""
    held = graph.constant(value)
    return held is not None and held.size == channels and len(graph.consumers(value)) == 1 and graph.producer(value) is None


def _follow(value: Value, link: Link, products: dict[str, Product], through_caps: bool) -> bool:
    """Whether every reader of the value, and of what commutes behind it, is one of the products, taken into the link."""
    if graph.is_graph_output(value) or not graph.consumers(value):
        return False
    for node, index in graph.consumers(value):
        product = products.get(node.name or "")
        if product is not None:
            if (
                index != 0
                or _channels_read(product) != link.channels
                or (link.norm is not None and product.node.op_type == "Conv")
            ):
                return False
            link.consumers.append(product)
        elif not _passes_on(node, index, link, through_caps) or not _follow(node.outputs[0], link, products, through_caps):
            return False
    return True


def _channels_read(product: Product) -> int:
    return product.groups * (product.columns // product.window)


def _passes_on(node: Node, index: int, link: Link, through_caps: bool) -> bool:
    if node.op_type == "Add" and not node.domain:
        other = node.inputs[1 - index]
        if other is not None and _own_row(other, link.channels) and graph.shape(other)[-1:] == (link.channels,):
            if link.norm is None and link.producer is not None and link.producer.node.op_type not in ("MatMul", "Gemm"):
                return False
            link.added.append(other)
            return True
        return False
    if node.op_type == "Min" and not node.domain and len(node.inputs) == 2:
        other = node.inputs[1 - index]
        rank = len(graph.shape(node.outputs[0]))
        if other is None or not _own_row(other, link.channels) or graph.shape(other) != _row_shape(link.channels, rank):
            return False
        link.added.append(other)
        return True
    if node.op_type in CAPS:
        low, high = (graph.constant(value) for value in [*node.inputs[1:3], None, None][:2])
        if through_caps and high is not None and low is not None and low.size == 1 and not low.any():
            link.caps.append(node)
            return True
        return False
    if node.op_type == "Flatten" and node.outputs:
        return graph.shape(node.outputs[0])[-1] == link.channels
    return node.op_type in COMMUTES and not node.domain and len(node.outputs) == 1


def apply_scale(model: Model, link: Link, scale: Array) -> None:
    """Divide each channel (channels,) where it comes from by ``scale`` and multiply it where it is read. Edits ``model``.

    Clips of the link become Relu and Min: their upper end then stands at another place in each channel.
    """
    inverse = 1.0 / scale
    if link.producer is not None:
        rows = link.producer.weights() * inverse.reshape(link.producer.groups, link.producer.outputs, 1)
        graph.replace_weight(model, link.producer.weight_name, link.producer.array_of(rows))
        _multiply(model, link.producer.bias(), inverse)
    elif link.norm is not None:
        for value in link.norm.inputs[1:3]:
            _multiply(model, value, inverse)
    for value in link.added:
        _multiply(model, value, inverse)
    for product in link.consumers:
        rows = product.weights()
        split = rows.reshape(product.groups, product.outputs, product.window, -1) * scale.reshape(product.groups, 1, 1, -1)
        graph.replace_weight(model, product.weight_name, product.array_of(split.reshape(rows.shape)))
    for node in link.caps:
        _cap_each(model, node, inverse)


def _multiply(model: Model, value: Value | None, factor: Array) -> None:
    held = graph.constant(value)
    if value is not None and held is not None:
        graph.replace_weight(model, value.name or "", (held.astype(np.float64) * factor.reshape(held.shape)).astype(np.float32))


def _row_shape(channels: int, rank: int) -> tuple[int, ...]:
    """A number for each channel, of a convolution's result or of rows."""
    return (channels, *(1,) * (rank - 2)) if rank > 2 else (channels,)


def _cap_each(model: Model, node: Node, inverse: Array) -> None:
    """Clip from 0 to c as Relu and Min with c times ``inverse`` (channels,)."""
    value, high = node.inputs[0], graph.constant(node.inputs[2])
    assert value is not None
    assert high is not None
    result = node.outputs[0]
    caps = (float(high.reshape(())) * inverse).reshape(_row_shape(len(inverse), len(graph.shape(result))))
    row = graph.add_initializer(model, graph.unique_name(model, f"{node.name}_caps"), caps.astype(np.float32))
    made = graph.new_node(model, "Relu", [value], f"{node.name}_uncapped", before=node, like=result)
    capped = graph.new_node(model, "Min", [made, row], f"{node.name}_capped", before=node, like=result)
    graph.replace_uses(result, capped)
    graph.remove_node(model, node)


def reach_made(link: Link) -> Array:
    """(channels,): the largest weight that makes each channel."""
    assert link.producer is not None
    return np.asarray(np.abs(link.producer.weights()).max(axis=-1).reshape(-1))


def reach_read(link: Link) -> Array:
    """(channels,): the largest weight that reads each channel, over all readers."""
    each = [largest_input(product, np.abs(product.weights()).max(axis=1)) for product in link.consumers]
    return np.asarray(np.max(each, axis=0))


def largest_input(product: Product, largest: Array) -> Array:
    """(channels,): the largest of each channel, from one number for each column (groups, columns)."""
    return np.asarray(largest.reshape(product.groups, product.window, -1).max(axis=1).reshape(-1))
