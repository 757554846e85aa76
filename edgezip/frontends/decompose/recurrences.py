"""Linear attention: a matrix of state for each head, changed by every token; token by token, or as one masked product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.frontends.decompose.emitter import LARGEST_CONSTANT, Emitter, decomposes
from edgezip.frontends.structure import MAX_NODES

if TYPE_CHECKING:
    from edgezip.graph import Value

PER_TOKEN = 12  # nodes at most
RULES_OF_UPDATE = {"linear": (False, False), "gated": (True, False), "delta": (False, True), "gated_delta": (True, True)}


@dataclass(slots=True)
class _Sizes:
    batch: int
    tokens: int
    heads: int  # of key and value: each has a state
    group: int  # query heads that read one state
    key: int
    value: int


@decomposes("LinearAttention")
def linear_attention(emit: Emitter) -> bool:
    """S = exp(g) S + k (v - k S)' and y = scale q S for each token (ONNX LinearAttention-27); q, k, v (B, T, heads * size)."""
    gated, corrects = RULES_OF_UPDATE.get(emit.attr("update_rule", "gated_delta"), (False, False))
    key, value, decay, beta = (emit.input(place) for place in (1, 2, 4, 5))
    sizes = _sizes_of(emit, key, value)
    if sizes is None or key is None or value is None or (decay is None) == gated or (beta is None) == corrects:
        return False
    if PER_TOKEN * sizes.tokens > MAX_NODES // 4:
        return False
    scale = emit.attr("scale", 0.0) or 1 / np.sqrt(sizes.key)
    query = emit("Mul", emit.x, emit.number(scale))
    state = emit.input(3) or emit.value(np.zeros((sizes.batch, sizes.heads, sizes.key, sizes.value), emit.dtype))
    assert state is not None
    if not gated and not corrects and sizes.group * sizes.tokens**2 <= LARGEST_CONSTANT:
        return emit.finish(*_all_at_once(emit, sizes, query, key, value, state))
    return emit.finish(*_token_by_token(emit, sizes, (query, key, value, decay, beta), state))


def _sizes_of(emit: Emitter, key: Value | None, value: Value | None) -> _Sizes | None:
    heads, readers = int(emit.attr("kv_num_heads", 0)), int(emit.attr("q_num_heads", 0))
    if key is None or value is None or heads < 1 or readers < heads or readers % heads:
        return None
    shapes = [graph.shape(x) for x in (emit.x, key, value)]
    widths = zip(shapes, (readers, heads, heads), strict=True)
    if any(len(shape) != 3 or shape[2] % count for shape, count in widths) or shapes[0][2] * heads != shapes[1][2] * readers:
        return None
    batch, tokens = emit.shape[:2]
    return _Sizes(batch, tokens, heads, readers // heads, shapes[1][2] // heads, shapes[2][2] // heads)


def _all_at_once(emit: Emitter, n: _Sizes, query: Value, key: Value, value: Value, state: Value) -> tuple[Value, Value]:
    """Nothing fades and nothing is corrected: q S before the first token, and a causal product without a softmax."""
    q = emit("Transpose", emit.reshape(query, (n.batch, n.tokens, n.heads, n.group, n.key)), perm=[0, 2, 3, 1, 4])
    q = emit.reshape(q, (n.batch, n.heads, n.group * n.tokens, n.key))
    k = emit("Transpose", emit.reshape(key, (n.batch, n.tokens, n.heads, n.key)), perm=[0, 2, 3, 1])
    v = emit("Transpose", emit.reshape(value, (n.batch, n.tokens, n.heads, n.value)), perm=[0, 2, 1, 3])
    causal = np.tile(np.tri(n.tokens), (n.group, 1)).astype(emit.dtype)
    made = emit("Add", emit("MatMul", emit("Mul", emit("MatMul", q, k), causal), v), emit("MatMul", q, state))
    made = emit("Transpose", emit.reshape(made, (n.batch, n.heads, n.group, n.tokens, n.value)), perm=[0, 3, 1, 2, 4])
    return emit.reshape(made, emit.result), emit("Add", state, emit("MatMul", k, v))


def _token_by_token(
    emit: Emitter, n: _Sizes, inputs: tuple[Value, Value, Value, Value | None, Value | None], state: Value
) -> tuple[Value, Value]:
    query, key, value, decay, beta = inputs
    q = _by_token(emit, query, n, (n.heads, n.group, n.key))
    row, column = (_by_token(emit, key, n, (n.heads, *size)) for size in ((1, n.key), (n.key, 1)))
    v = _by_token(emit, value, n, (n.heads, 1, n.value))
    fade = None if decay is None else emit("Exp", _by_token(emit, decay, n, (n.heads, graph.shape(decay)[2] // n.heads, 1)))
    rate = None if beta is None else _by_token(emit, beta, n, (graph.shape(beta)[2], 1, 1))
    made = []
    for token in range(n.tokens):
        at = np.asarray(token, np.int64)
        if fade is not None:
            state = emit("Mul", state, emit("Gather", fade, at, axis=0))
        written = emit("Gather", v, at, axis=0)
        if rate is not None:
            known = emit("MatMul", emit("Gather", row, at, axis=0), state)
            written = emit("Mul", emit("Sub", written, known), emit("Gather", rate, at, axis=0))
        state = emit("Add", state, emit("Mul", emit("Gather", column, at, axis=0), written))
        read = emit("MatMul", emit("Gather", q, at, axis=0), state)
        made.append(emit.reshape(read, (n.batch, 1, n.heads * n.group * n.value)))
    return emit("Concat", *made, axis=1), state


def _by_token(emit: Emitter, x: Value, n: _Sizes, parts: tuple[int, int, int]) -> Value:
    """(B, T, parts) as (T, B, parts): what one token needs lies together."""
    return emit("Transpose", emit.reshape(x, (n.batch, n.tokens, *parts)), perm=[1, 0, 2, 3, 4])
