"""Where lowering rules register: one table for nodes in float, one for nodes between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgezip.pack.context import QParams

if TYPE_CHECKING:
    from edgezip.graph import Node
    from edgezip.pack.builder import Ref
    from edgezip.pack.context import Context


@dataclass(frozen=True, slots=True)
class Target8:
    """Where an int8 rule delivers: the output's parameters and the clip before it."""

    q: QParams
    low: float = -math.inf
    high: float = math.inf
    bias: np.ndarray[Any, Any] | None = None

    @property
    def lo(self) -> int:
        """The clip's lower end as a logical int8: quantising is monotone, so clip and quantise commute."""
        return self._step(self.low, -128)

    @property
    def clip(self) -> tuple[int, int]:
        """Both ends."""
        return self.lo, self.hi

    @property
    def hi(self) -> int:
        """The clip's upper end as a logical int8."""
        return self._step(self.high, 127)

    def _step(self, bound: float, unbounded: int) -> int:
        if math.isinf(bound):
            return unbounded
        steps = np.rint(np.float32(bound) / np.float32(self.q.scale)) + self.q.zero_point
        return int(min(max(steps, -128), 127))


FloatRule: TypeAlias = "Callable[[Context, Node], None]"
Int8Rule: TypeAlias = "Callable[[Context, Node, Target8], Ref]"
FLOAT: dict[str, FloatRule] = {}
INT8: dict[str, Int8Rule] = {}


def lowers(*op_types: str) -> Callable[[FloatRule], FloatRule]:
    """Register the rule that lowers these operators in their own dtypes; it must ``context.set`` every output."""

    def register(rule: FloatRule) -> FloatRule:
        for op_type in op_types:
            FLOAT[op_type] = rule
        return rule

    return register


def lowers_int8(*op_types: str) -> Callable[[Int8Rule], Int8Rule]:
    """Register the rule that lowers these operators from int8 to int8; it returns the int8 result."""

    def register(rule: Int8Rule) -> Int8Rule:
        for op_type in op_types:
            INT8[op_type] = rule
        return rule

    return register
