"""softmax(q k * factor + mask) v becomes one step, head by head: scores never leave the caches.

The step computes what its parts computed, with one reservation: where a score is infinite or no number, a part of its own
would have held it inside a range (as in ``fuse_float``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgezip.pack.builder import Builder
from edgezip.pack.context import merge_dims
from edgezip.pack.uses import is_contiguous, quantizes_all, readers, writers
from edgezip.program import Binary, DType, Op, Step

UNCLIPPED = (-float("inf"), float("inf"))
MOST_SCORES = 2**24  # beyond that the walk of a mask is not compared element by element


@dataclass(slots=True)
class Chain:
    """What stands between the two products; indices of steps, the second product last."""

    steps: list[int] = field(default_factory=list)
    factor: float = 1.0
    divides: int = 0
    mask: int = -1
    stride_mask: tuple[int, ...] = (0, 0, 0, 1)
    scale_p: float = 0.0
    zero_p: int = 0


def run(builder: Builder) -> None:
    """Fuse all that can be; the parts are left without a reader."""
    for index, step in enumerate(builder.steps):
        if step.op is Op.MATMUL and builder.tensors[step.outputs[0]].dtype is DType.F32:
            chain = _chain(builder, index)
            if chain is not None:
                _fuse(builder, index, chain)


def _only_reader(builder: Builder, tensor: int) -> int:
    """The one step that reads a contiguous whole tensor that one step writes; else -1."""
    used_by = readers(builder, tensor)
    return used_by[0] if len(used_by) == 1 and is_contiguous(builder, tensor) and len(writers(builder, tensor)) == 1 else -1


def _is_score_walk(p: dict[str, Any], strides: tuple[int, ...]) -> bool:
    """Whether strides (outer, inner, row, column) walk contiguous (outer, inner, M, N) scores."""
    sizes = (p["outer"], p["inner"], p["M"], p["N"])
    wanted = [int(np.prod(sizes[i + 1 :])) for i in range(4)]
    return all(size == 1 or stride == want for size, stride, want in zip(sizes, strides, wanted, strict=True))


def _chain(builder: Builder, index: int) -> Chain | None:
    p = builder.steps[index].params
    if not _is_score_walk(p, p["stride_y"]):
        return None
    chain, tensor = Chain(), builder.steps[index].outputs[0]
    while (at := _only_reader(builder, tensor)) > index:
        step = builder.steps[at]
        chain.steps.append(at)
        if step.op is Op.SOFTMAX and builder.tensors[tensor].dims[-1] == p["N"]:
            return _behind_softmax(builder, index, step.outputs[0], chain)
        if step.op is not Op.BINARY:
            return None
        scales = len(chain.steps) == 1 and _scales(builder, step, tensor, chain)
        if not scales and (chain.mask >= 0 or not _masks(builder, step, tensor, p, chain)):
            return None
        tensor = step.outputs[0]
    return None


def _unclipped(p: dict[str, Any]) -> bool:
    return (p["float_lo"], p["float_hi"]) == UNCLIPPED


def _scales(builder: Builder, step: Step, tensor: int, chain: Chain) -> bool:
    """A product with, or division by, one constant."""
    p = step.params
    own = 0 if builder.buffer_of[step.inputs[0]] == builder.buffer_of[tensor] else 1
    raw = builder.constant_bytes.get(step.inputs[1 - own], b"")
    divides = p["kind"] == Binary.DIV
    if p["kind"] not in (Binary.MUL, Binary.DIV) or (divides and own) or len(raw) != 4 or not _unclipped(p):
        return False
    chain.factor, chain.divides = float(np.frombuffer(raw, np.float32)[0]), int(divides)
    return bool(np.isfinite(chain.factor)) and p["stride_y"] == (1,) == p["stride_b" if own else "stride_a"]


def _masks(builder: Builder, step: Step, tensor: int, scores: dict[str, Any], chain: Chain) -> bool:
    """The addition of something ready before the first product, that walks the scores by strides."""
    p = step.params
    own = 0 if builder.buffer_of[step.inputs[0]] == builder.buffer_of[tensor] else 1
    mask = step.inputs[1 - own]
    sizes = (scores["outer"], scores["inner"], scores["M"], scores["N"])
    if p["kind"] != Binary.ADD or not _unclipped(p) or builder.buffer_of[mask] == builder.buffer_of[tensor]:
        return False
    if int(np.prod(sizes)) > MOST_SCORES or int(np.prod(p["dims"])) != int(np.prod(sizes)):
        return False
    plain = merge_dims(list(p["dims"]), [list(p["stride_b" if own else "stride_a"])])
    if plain[1] != (1,) or merge_dims(list(p["dims"]), [list(p["stride_y"])])[1] != (1,):
        return False
    walk = _offsets(p["dims"], p["stride_a" if own else "stride_b"]).reshape(sizes)
    strides = tuple(int(walk[(0,) * i + (1,) + (0,) * (3 - i)]) if sizes[i] > 1 else 0 for i in range(4))
    strides = (*strides[:3], 1) if sizes[3] == 1 else strides
    if strides[3] != 1 or not np.array_equal(walk, _offsets(sizes, strides).reshape(sizes)):
        return False
    chain.mask, chain.stride_mask = mask, strides
    return True


def _offsets(dims: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray[Any, Any]:
    total = np.zeros(tuple(dims), np.int64)
    for axis, (size, stride) in enumerate(zip(dims, strides, strict=True)):
        total += (np.arange(size) * stride).reshape([-1 if i == axis else 1 for i in range(len(dims))])
    return total.reshape(-1)


def _behind_softmax(builder: Builder, index: int, tensor: int, chain: Chain) -> Chain | None:
    """The quantiser, if there is one, and the product with V."""
    first = builder.steps[index].params
    at = _only_reader(builder, tensor)
    if at > index and quantizes_all(builder, builder.steps[at], tensor):
        tensor = builder.steps[at].outputs[0]
        chain.scale_p, chain.zero_p = builder.tensors[tensor].scale, builder.tensors[tensor].zero_point
        chain.steps.append(at)
        at = _only_reader(builder, tensor)
    step = builder.steps[at] if at > index else None
    if step is None or step.op is not Op.MATMUL or builder.buffer_of[step.inputs[0]] != builder.buffer_of[tensor]:
        return None
    p = step.params
    same = (p["outer"], p["inner"], p["M"], p["K"]) == (first["outer"], first["inner"], first["M"], first["N"])
    if not same or not _is_score_walk({**first}, p["stride_a"]) or builder.buffer_of[step.inputs[1]] == builder.buffer_of[tensor]:
        return None
    chain.steps.append(at)
    ready = [t for t in (*builder.steps[index].inputs, chain.mask) if t >= 0 and builder.buffer_of[t] >= 0]
    return chain if all(max(writers(builder, t), default=-1) < index for t in ready) else None


def _fuse(builder: Builder, index: int, chain: Chain) -> None:
    scores, product = builder.steps[index], builder.steps[chain.steps[-1]]
    s, p = scores.params, product.params
    inputs = (*scores.inputs, product.inputs[1], *([chain.mask] if chain.mask >= 0 else []))
    parts = [builder.forms[i] for i in (index, *chain.steps)]
    form = {**parts[-1], "op": "Attention", "macs": sum(part.get("macs", 0) for part in parts)}
    form["fused"] = [str(part["node"]) for part in parts[:-1] if part.get("node")]
    builder.forms[chain.steps[-1]] = form
    builder.steps[chain.steps[-1]] = Step(product.name, Op.ATTENTION, inputs, product.outputs, {
        **{name: s[name] for name in ("outer", "inner", "M", "N", "K")}, "D": p["N"],
        "stride_q": s["stride_a"], "stride_k": s["stride_b"], "stride_v": p["stride_b"], "stride_y": p["stride_y"],
        "stride_mask": chain.stride_mask, "scale_scores": s["scale"], "factor": chain.factor, "divides": chain.divides,
        "scale_p": chain.scale_p, "zero_p": chain.zero_p, "scale": p["scale"], "lo": p["lo"], "hi": p["hi"],
    })  # fmt: skip
