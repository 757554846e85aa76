"""Activations with a parameter that no kernel takes."""

from __future__ import annotations

from edgezip.frontends.decompose.emitter import Emitter, decomposes


@decomposes("Swish")
def swish(emit: Emitter) -> bool:
    """x * sigmoid(alpha * x) where alpha is not 1."""
    alpha = float(emit.attr("alpha", 1.0))
    if alpha == 1.0:
        return False
    return emit.finish(emit("Mul", emit.x, emit("Sigmoid", emit("Mul", emit.x, emit.number(alpha)))))
