"""Operators without a kernel of their own, written as others that have one. One file a family; importing this registers them all.

These are rules of arithmetic, for operators that real models have seldom or where speed does not matter. What the standard
writes out itself is in ``frontends/standard.py``.
"""

from edgezip.frontends.decompose import (
    activations,
    determinants,
    integers,
    normalizations,
    products,
    recurrences,
    reductions,
    sampling,
    scattered,
    selections,
    volumes,
)
from edgezip.frontends.decompose.emitter import RULES, run

__all__ = [
    "RULES",
    "activations",
    "determinants",
    "integers",
    "normalizations",
    "products",
    "recurrences",
    "reductions",
    "run",
    "sampling",
    "scattered",
    "selections",
    "volumes",
]
