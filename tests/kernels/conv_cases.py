"""Random programs of one convolution, and a run of them by the C kernels and by the NumPy interpreter over the same arena."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgezip.kernels import native
from edgezip.pack.weights import sums_are_small
from edgezip.program import HEADER, SECTIONS, STEP, TENSOR, DType, Layout, Op, Place, Program, Step, Tensor, Unary
from edgezip.runtime.reference import _RUN, ReferenceSession

Array = np.ndarray[Any, Any]
FUNCTIONS = [kind for kind in Unary if kind not in (Unary.NOT, Unary.LOG, Unary.SQRT)]  # those two give NaN, of any sign
FORMATS = [(Layout.K4N16, 0x80), (Layout.K4N16, 0), (Layout.K8N16, 0)]  # x86, dotprod, neon


def up(n: int, step: int) -> int:
    return -(-n // step) * step


def pack_gemm_s8(w: Array, step: int) -> Array:
    """int8 (outputs, taps, channels) -> packed bytes (N/16, K/step, 16, step)."""
    outputs, taps, channels = w.shape
    padded = np.zeros((up(outputs, 16), taps, up(channels, step)), np.int8)
    padded[:outputs, :, :channels] = w
    return padded.reshape(-1, 16, padded[0].size // step, step).transpose(0, 2, 1, 3)


def pack_depthwise_s8(w: Array, step: int, kernel: tuple[int, int]) -> Array:
    """int8 (channels, taps) -> step 4: four vertical taps together (horizontal ones when the height is 1); step 8: by tap."""
    channels, taps = w.shape
    padded = np.zeros((up(channels, 16), taps), np.int8)
    padded[:channels] = w
    panels = padded.reshape(-1, 16, taps)
    if step == 8:
        return panels.transpose(0, 2, 1)
    height, width = kernel if kernel[0] > 1 else (kernel[1], 1)
    out = np.zeros((len(panels), up(height, 4) // 4, width, 16, 4), np.int8)
    for tap in range(taps):
        ky, kx = divmod(tap, width)
        out[:, ky // 4, kx, :, ky % 4] = panels[:, :, tap]
    return out


def pack_f32(w: Array) -> Array:
    """float32 (outputs, K) -> (N/16, K, 16)."""
    padded = np.zeros((up(len(w), 16), w.shape[1]), np.float32)
    padded[: len(w)] = w
    return padded.reshape(-1, 16, w.shape[1]).transpose(0, 2, 1)


class _Memory:
    """Places tensors: constants into the weights section, activations into the arena."""

    def __init__(self) -> None:
        self.weights = bytearray()
        self.arena_bytes = 0
        self.tensors: list[Tensor] = []

    def constant(self, name: str, array: Array, dtype: DType) -> int:
        self.weights += bytes(up(len(self.weights), 64) - len(self.weights))
        raw = np.ascontiguousarray(array).reshape(-1)
        self.tensors.append(Tensor(name, dtype, Place.WEIGHTS, (raw.nbytes // dtype.numpy.itemsize,), len(self.weights)))
        self.weights += raw.tobytes()
        return len(self.tensors) - 1

    def activation(self, name: str, dims: tuple[int, ...], dtype: DType, zero_point: int = 0, view: int = 0) -> int:
        """``view`` elements more from pixel to pixel than there are channels: a slice of a wider tensor."""
        tensor = Tensor(name, dtype, Place.ARENA, dims, self.arena_bytes + 64, 0.05, zero_point, dims[-1] + view)
        self.arena_bytes = up(tensor.offset + tensor.bytes, 64) + 64
        self.tensors.append(tensor)
        return len(self.tensors) - 1


def _geometry(rng: np.random.Generator, depthwise: bool, channels: int, plain: int) -> dict[str, Any]:
    """``plain``, if not 0, is the size of a square kernel that has nothing else."""
    pick = lambda *values: int(rng.choice(values))  # noqa: E731
    p: dict[str, Any] = {f"{name}_{axis}": 1 for name in ("kernel", "stride", "dilation", "out_step") for axis in "hw"}
    p |= {"pad_top": 0, "pad_left": 0, "out_offset_h": 0, "out_offset_w": 0}
    if plain:
        pads = {pad: pick(*range(plain)) for pad in ("pad_top", "pad_left")}
        return p | {"groups": 1, "kernel_h": plain, "kernel_w": plain} | pads
    if depthwise or rng.random() < 0.7:
        for axis, pad in (("h", "pad_top"), ("w", "pad_left")):
            p[f"kernel_{axis}"] = pick(1, 2, 3, 3, 5, 7)
            p[f"stride_{axis}"] = pick(1, 1, 2, 3)
            p[f"dilation_{axis}"] = pick(1, 1, 2)
            p[pad] = pick(-1, 0, 0, 1, 1, 2, 4)
    p["groups"] = channels if depthwise else int(rng.choice([g for g in (1, 1, 2, 3, channels) if channels % g == 0]))
    return p


@dataclass(frozen=True)
class ConvSizes:
    """A convolution of given size and square kernel, where a random one would be too small. Larger kernels draw their padding."""

    channels: int
    outputs: int
    grid: tuple[int, int]
    kernel: int = 1


def conv_program(
    rng: np.random.Generator, op: Op, layout: Layout, act_sign: int, quantised: bool, sizes: ConvSizes | None = None
) -> Program:
    """One convolution with random geometry, views, post-ops and extremes."""
    pick = lambda *values: int(rng.choice(values))  # noqa: E731
    depthwise, step = op is Op.DEPTHWISE, 4 if layout is Layout.K4N16 else 8
    channels = pick(1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 31, 33, 48, 64, 66, 80)
    channels = sizes.channels if sizes else channels
    p = _geometry(rng, depthwise, channels, sizes.kernel if sizes else 0)
    groups = p["groups"]
    outputs = channels if depthwise else groups * pick(1, 2, 3, 7, 8, 15, 16, 17, 24, 33, 47, 64, 65, 96)
    outputs = sizes.outputs if sizes else outputs if outputs < 700 else groups
    p["out_h"], p["out_w"] = pick(1, 2, 3, 5, 7, 11), pick(1, 2, 3, 5, 8, 13, 17, 19)
    p["out_h"], p["out_w"] = sizes.grid if sizes else (p["out_h"], p["out_w"])
    phase = rng.random() < 0.2 and not sizes
    if phase:
        p |= {"out_step_h": pick(1, 2), "out_step_w": pick(1, 2, 3), "out_offset_h": pick(0, 1), "out_offset_w": pick(0, 1, 2)}
    y_h = p["out_offset_h"] + (p["out_h"] - 1) * p["out_step_h"] + 1 + (pick(0, 1) if phase else 0)
    y_w = p["out_offset_w"] + (p["out_w"] - 1) * p["out_step_w"] + 1 + (pick(0, 1) if phase else 0)
    batch, taps = pick(1, 1, 2), p["kernel_h"] * p["kernel_w"]
    memory, dtype = _Memory(), DType.S8 if quantised else DType.F32
    zero = lambda: pick(-128, -3, 0, 17, 127)  # noqa: E731
    view = lambda: pick(0, 0, 5, 64)  # noqa: E731
    image = sizes.grid if sizes else (pick(1, 2, 5, 9), pick(1, 3, 6, 10))
    x = memory.activation("x", (batch, *image, channels), dtype, zero(), view())
    per_group, entries = channels // groups, up(outputs // groups, 16) * groups
    if depthwise:
        per_group, entries = 1, up(channels, 16)
    inputs = [x]
    if quantised:
        w = rng.choice(np.array([-127, 127], np.int8), (outputs, taps, per_group)) if rng.random() < 0.2 else rng.integers(
            -127, 128, (outputs, taps, per_group), np.int8)  # fmt: skip
        by_row = groups == 1 and p["dilation_w"] == 1  # a row of the kernel is padded once
        cut = w.reshape(outputs, p["kernel_h"], -1) if by_row else w
        packed = pack_depthwise_s8(w[..., 0], step, (p["kernel_h"], p["kernel_w"])) if depthwise else np.concatenate(
            [pack_gemm_s8(part, step).reshape(-1) for part in np.split(cut, groups)])  # fmt: skip
        inputs.append(memory.constant("w", packed, DType.U8))
        bias = rng.integers(-20000, 20000, entries, np.int32)
        inputs.append(memory.constant("bias", bias, DType.S32))
        most = 4.0 if rng.random() < 0.1 else 4e-3  # from 1 on the clamp comes before the conversion
        mult = np.full(entries, 0.5, np.float32) if rng.random() < 0.2 else rng.uniform(1e-4, most, entries).astype(np.float32)
        inputs.append(memory.constant("mult", mult, DType.F32))
        p |= {"lo": pick(-128, -128, -5), "hi": pick(127, 127, 60), "zero_point_mid": zero(), "zero_point_mid_out": zero()}
        largest = np.abs(bias.astype(np.int64)).max() + 255 * np.abs(w.astype(np.int64)).sum(axis=(1, 2))
        p["small_sums"] = int(sums_are_small(largest, mult.max()))
        p |= {"scale_a": 0.7, "scale_b": 1.3, "add_lo": pick(-128, -9), "add_hi": pick(127, 90)}
    else:
        w32 = rng.standard_normal((outputs, taps * per_group)).astype(np.float32)
        packed = pack_f32(w32) if depthwise else np.concatenate([pack_f32(part).reshape(-1) for part in np.split(w32, groups)])
        inputs.append(memory.constant("w", packed, DType.F32))
        inputs.append(memory.constant("bias", rng.standard_normal(entries).astype(np.float32), DType.F32))
        p |= {"float_lo": float(rng.choice([-np.inf, 0.0])), "float_hi": float(rng.choice([np.inf, 6.0]))}
        p |= _float_post_ops(rng)
    y = memory.activation("y", (batch, y_h, y_w, outputs), dtype, zero(), view())
    whole = (y_h, y_w) == (p["out_h"], p["out_w"])
    if whole and rng.random() < 0.4:
        in_place = quantised and rng.random() < 0.4
        residual = memory.activation("residual", (batch, y_h, y_w, outputs), dtype, zero(), view())
        if in_place:  # the planner lets the sum take the place of its dying operand
            memory.tensors[residual].offset, memory.tensors[residual].row_stride = (
                memory.tensors[y].offset,
                memory.tensors[y].row_stride,
            )
        inputs += [residual] if quantised else [-1, residual]
    elif quantised:
        inputs.append(-1)
    if quantised and rng.random() < 0.3:
        inputs.append(memory.constant("table", rng.integers(0, 256, 256, np.uint8), DType.U8))
    program = Program(
        layout, act_sign, memory.arena_bytes + 64, 0, memory.tensors, [Step("conv", op, tuple(inputs), (y,), p)], [], []
    )
    program.weights = bytes(memory.weights)
    return program


def _float_post_ops(rng: np.random.Generator) -> dict[str, float]:
    """Half of the time none, else any function, factor and shift; the clamp of a sum."""
    made: dict[str, float] = {"act": 0, "affine": 0}
    made |= {"sum_lo": float(rng.choice([-np.inf, 0.0])), "sum_hi": float(rng.choice([np.inf, 1.5]))}
    if rng.random() < 0.5:
        made |= {"act": int(rng.choice(FUNCTIONS)), "act_alpha": 0.3, "act_beta": 0.4}
    if rng.random() < 0.3:
        made |= {"affine": 1, "factor": float(rng.choice([1.0, -0.7])), "shift": float(rng.choice([-0.0, 0.25]))}
    return made


def random_arena(rng: np.random.Generator, program: Program) -> Array:
    """Arena bytes with valid activations: any byte, or well-sized floats."""
    arena = rng.integers(0, 256, program.arena_bytes, np.uint8)
    if rng.random() < 0.2:
        arena = rng.choice(np.array([0, 255], np.uint8), program.arena_bytes)
    if program.tensors[0].dtype is DType.F32:
        arena = rng.standard_normal(program.arena_bytes // 4).astype(np.float32).view(np.uint8)
    return arena


def by_reference(program: Program, arena: Array) -> Array:
    """The arena after the NumPy interpreter ran the step."""
    session = ReferenceSession(program)
    session._arena[:] = arena
    for step in program.steps:
        _RUN[step.op](session, step)
    return session._arena


def records(program: Program) -> tuple[bytes, bytes]:
    """The step and tensor records as the file holds them."""
    raw = program.to_bytes()
    header = np.frombuffer(raw, HEADER, 1)[0]
    parts = {name: raw[s["offset"] : s["offset"] + s["bytes"]] for name, s in zip(SECTIONS, header["sections"], strict=True)}
    assert len(parts["steps"]) == STEP.itemsize
    assert len(parts["tensors"]) == TENSOR.itemsize * len(program.tensors)
    return parts["steps"], parts["tensors"]


def by_kernels(program: Program, arena: Array, isa: str, threads: int = 1, step: bytes | None = None) -> Array:
    """The arena after the C step ran; ``step`` replaces the program's record."""
    memory = native.readable(arena)
    weights = native.readable(np.frombuffer(program.weights, np.uint8))
    data = [(memory if t.place is Place.ARENA else weights)[t.offset :] for t in program.tensors]
    own_step, tensors = records(program)
    native.run_step(step or own_step, tensors, data, layout=program.layout, act_sign=program.act_sign, isa=isa, threads=threads)
    return memory
