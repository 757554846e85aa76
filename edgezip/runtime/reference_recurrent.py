"""EZ_OP_RECURRENT in the NumPy interpreter: the step's operands as ``kernels/recurrent.py`` takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.kernels import recurrent
from edgezip.kernels import reference as ref
from edgezip.program import DType, Recurrent, Step, Unary

if TYPE_CHECKING:
    from edgezip.runtime.reference import ReferenceSession

Array = np.ndarray[Any, Any]
R, BIAS, H0, C0, PEEPHOLE, LENGTHS, FOLD = range(1, 8)


def run(session: ReferenceSession, step: Step) -> None:
    """All directions of the step."""
    p = step.params
    kind, hidden, directions = Recurrent(p["kind"]), p["hidden"], p["directions"]
    gates = session.load(step.inputs[0])
    steps, batch = gates.shape[:2]
    gates = gates.reshape(steps, batch, directions, kind.gates * hidden)
    state = (directions, batch, hidden)
    h = _optional(session, step, H0, state)
    c = _optional(session, step, C0, state) if kind is Recurrent.LSTM else None
    lengths = np.clip(_lengths(session, step, batch, steps), 0, steps)
    results = []
    for d in range(directions):
        own = None if c is None else c[d]
        results.append(recurrent.run(_cell(session, step, d), gates[:, :, d], h[d], own, lengths, bool(d or p["reverse"])))
    for position, index in enumerate(step.outputs):
        session.store(index, np.stack([np.asarray(result[position]) for result in results], axis=0 if position else 1))


def _optional(session: ReferenceSession, step: Step, position: int, shape: tuple[int, ...]) -> Array:
    if position < len(step.inputs) and step.inputs[position] >= 0:
        return session.load(step.inputs[position]).reshape(shape)
    return np.zeros(shape, np.float32)


def _lengths(session: ReferenceSession, step: Step, batch: int, steps: int) -> Array:
    if len(step.inputs) > LENGTHS and step.inputs[LENGTHS] >= 0:
        return session.load(step.inputs[LENGTHS]).reshape(-1)
    return np.full(batch, steps, np.int32)


def parts_of(kind: Recurrent, hidden: int, linear_before_reset: bool) -> list[int]:
    """Columns of the packed weights of a direction, each part from a panel of its own on."""
    return [2 * hidden, hidden] if kind is Recurrent.GRU and not linear_before_reset else [kind.gates * hidden]


def _columns(step: Step) -> tuple[Array, int]:
    """Where the columns of a direction stand among the padded ones, and how many those are."""
    p, found, at = step.params, [], 0
    for columns in parts_of(Recurrent(p["kind"]), p["hidden"], bool(p["linear_before_reset"])):
        found.append(at + np.arange(columns))
        at += -(-columns // 16) * 16
    return np.concatenate(found), at


def _product_f32(session: ReferenceSession, step: Step, direction: int) -> recurrent.Product:
    hidden, (places, padded) = step.params["hidden"], _columns(step)
    packed = session._flat(step.inputs[R]).reshape(step.params["directions"], -1)[direction]
    rows = ref.unpack_gemm_f32(packed, padded, 1, hidden)[places]
    bias = session._flat(step.inputs[BIAS]).reshape(-1, padded)[direction, places]

    def product(state: Array, columns: slice) -> Array:
        return ref.clamp(ref.accumulate_f32(state[:, None], rows[columns], bias[columns]), -np.inf, np.inf)

    return product


def _product_s8(session: ReferenceSession, step: Step, direction: int) -> recurrent.Product:
    hidden, (places, padded) = step.params["hidden"], _columns(step)
    packed = session._flat(step.inputs[R]).reshape(step.params["directions"], -1)[direction]
    rows = ref.unpack_gemm_s8(np.ascontiguousarray(packed), session.pack_step, padded, 1, hidden)[places]
    addend, mult = session._flat(step.inputs[BIAS]).reshape(2, -1, padded)[:, direction, places]
    fold = session._flat(step.inputs[FOLD]).reshape(-1, padded)[direction, places]
    shift = 128 if session.program.act_sign else 0

    def product(state: Array, columns: slice) -> Array:
        quantised, scales = ref.quantize_rows(state)
        acc = ref.accumulate_s8(quantised[:, None].astype(np.int32) + shift, rows[columns], fold[columns])
        return ref.scale_accumulator(acc, scales, mult[columns], addend[columns])

    return product


def _cell(session: ReferenceSession, step: Step, direction: int) -> recurrent.Cell:
    p = step.params
    kind, hidden = Recurrent(p["kind"]), p["hidden"]
    product = (_product_s8 if session.tensor(step.inputs[R]).dtype is DType.U8 else _product_f32)(session, step, direction)
    numbers = [(p["activation"][i], p["alpha"][i], p["beta"][i]) for i in range(3 * direction, 3 * direction + 3)]
    activations = [(Unary(kind or Unary.CLIP).name, alpha, beta) for kind, alpha, beta in numbers]
    peephole = None
    if len(step.inputs) > PEEPHOLE and step.inputs[PEEPHOLE] >= 0:
        peephole = session.load(step.inputs[PEEPHOLE]).reshape(p["directions"], 3, hidden)[direction]
    first, second, third = activations
    return recurrent.Cell(
        kind.name,
        product,
        (first, second, third),
        p["clip"],
        p["cell_clip"],
        bool(p["linear_before_reset"]),
        bool(p["input_forget"]),
        peephole,
    )
