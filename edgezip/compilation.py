"""``ez.compile``: from an ONNX model to a program with its own proof.

Packing is done by ``pack``; this adds the bundled test vectors, whose expected outputs come from the NumPy reference, so
that every device can prove that it computes the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.program import DType, Program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgezip.frontends.resizable import Resizable
    from edgezip.frontends.transferred import Transferred
    from edgezip.target import Target

Array = np.ndarray[Any, Any]
MOST_OF_SIZES = 3


def compile(
    model: Any,
    target: Target | str = "host",
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    samples: Sequence[Mapping[str, Array]] = (),
    vectors: int = 2,
    state: Mapping[str, str] | None = None,
    initial: Mapping[str, Array] | None = None,
    dims: Mapping[str, str | tuple[int, ...]] | None = None,
    source: Any = None,
) -> Program:
    """Pack ``model`` (a path, a torch module, a loaded model, what ``compress`` gave) and bundle ``vectors`` test vectors.

    A torch module is traced with ``example_inputs``, see ``frontends.load_torch``. The vectors' inputs are the first of
    ``samples`` (feeds by input name), then seeded noise. ``state`` pairs graph inputs with graph outputs, ``{"h": "hn"}``: the
    session keeps them, and each run starts with what the run before left; they start as zeros or as ``initial`` says.
    ``dims`` bounds dynamic dimensions, ``{"s": "1..128", "x.3": (32, 1280, 32)}``, by their name in the file or by input and
    axis: the program then runs any size within. Compression fixes the shapes of a model: with ``dims`` a compressed model takes
    the file that it was made from as ``source``. Raises
    UnsupportedModelError that lists every node without a kernel, InvalidModelError, ShapeError, TargetError, UsageError.
    """
    from edgezip import frontends, pack
    from edgezip.compression import Compressed

    if isinstance(model, Compressed):
        model = model.model
    if dims:
        how = {"example_inputs": example_inputs, "dynamic_shapes": dynamic_shapes}
        sized = _sized(model, dims, shapes, source, how)
        program = pack.compile_dynamic(sized.at, sized.symbols, sized.shown_by, target, state=state, initial=initial)
        program.vectors = make_vectors(program, samples, vectors)
        return program
    model = frontends.opened(model, shapes=shapes, example_inputs=example_inputs, dynamic_shapes=dynamic_shapes)
    program = pack.compile(model, target, state=state, initial=initial)
    program.vectors = make_vectors(program, samples, vectors)
    return program


def _sized(
    model: Any,
    dims: Mapping[str, str | tuple[int, ...]],
    shapes: Mapping[str, tuple[int, ...]] | None,
    source: Any,
    how: Mapping[str, Any],
) -> Resizable | Transferred:
    """The model in every size that ``dims`` allows; ``how`` belongs to a torch module."""
    from edgezip import frontends
    from edgezip.frontends.resizable import Resizable
    from edgezip.frontends.transferred import Transferred

    if source is None:
        return Resizable(frontends.open_dimensions(model, **how), dims, shapes)
    return Transferred(frontends.opened(model), Resizable(frontends.open_dimensions(source, **how), dims, shapes))


def make_vectors(program: Program, samples: Sequence[Mapping[str, Array]], count: int) -> list[list[Array]]:
    """``count`` test vectors: inputs from ``samples`` first, then noise; outputs by the NumPy reference.

    A program with states gets at least two, if any: they follow each other, so the second proves what the first left. One with
    dynamic shapes gets at least three: of the least sizes, the largest, and some between. One without inputs gets one at most,
    and none when its results have no elements.
    """
    from edgezip.runtime.reference import ReferenceSession

    session = ReferenceSession(program)
    count = max(count, 2) if program.states and count else count
    if not program.inputs and not program.states:
        count = min(count, int(any(program.tensors[i].bytes for i in program.outputs)))
    feeds = [dict(sample) for sample in list(samples)[:count]]
    if program.shapes is not None and count:
        count = max(count, MOST_OF_SIZES)
    feeds += [noise(program.at(_sizes_of_vector(program, seed)), seed) for seed in range(count - len(feeds))]
    made = []
    for feed in feeds:
        results = session.run(feed)
        inputs = [np.asarray(feed[program.tensors[i].name], order="C") for i in program.inputs]
        made.append(inputs + [results[program.tensors[i].name] for i in program.outputs])
    return made


def _sizes_of_vector(program: Program, number: int) -> tuple[int, ...]:
    """The sizes of noise vector ``number``: the largest, the least, then in between."""
    symbols = program.shapes.symbols if program.shapes else []
    parts = (1.0, 0.0, 0.382, 0.764)
    part = parts[number % len(parts)]
    return tuple(symbol.sizes[round(part * (len(symbol.sizes) - 1))] for symbol in symbols)


def noise(program: Program, seed: int) -> dict[str, Array]:
    """Seeded inputs that suit each input's dtype: normal floats, small whole numbers."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for index in program.inputs:
        tensor = program.tensors[index]
        if tensor.dtype is DType.F32:
            feeds[tensor.name] = generator.standard_normal(tensor.dims).astype(np.float32)
        else:
            feeds[tensor.name] = generator.integers(0, 2, tensor.dims).astype(tensor.dtype.numpy)
    return feeds
