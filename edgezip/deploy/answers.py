"""What ``ez_run`` may answer. A device can be flaky or hostile: nothing is coerced, every number has limits, text cannot steer
a terminal, and figures that contradict each other are refused."""

from __future__ import annotations

import json
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgezip.errors import DeviceError

MAX_US = 1e12
MAX_BYTES = 1 << 48


def _printable(text: str) -> str:
    """Without what JSON escapes could bring back: control and direction marks."""
    return "".join(c for c in text if c.isprintable())


Text = Annotated[str, Field(max_length=1024), AfterValidator(_printable)]
Word = Annotated[
    str, Field(max_length=32, pattern=r"^[A-Za-z0-9_.+-]+$")
]  # in this dialect $ is the end of the text, not of a line
Cpus = Annotated[str, Field(max_length=64, pattern=r"^(none|[0-9,-]+(\.\.\.)?)$")]
Microseconds = Annotated[float, Field(ge=0, lt=MAX_US)]
Bytes = Annotated[int, Field(ge=0, lt=MAX_BYTES)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, frozen=True)


class Answer(_Strict):
    """What every answer has."""

    ez_run: Word
    verb: Word
    isa: Word
    threads: int = Field(ge=1, le=64)
    affinity: Cpus
    load_us: Microseconds
    arena_bytes: Bytes
    file_bytes: Bytes


class TensorAnswer(_Strict):
    """An input or output as the device sees it."""

    name: Text
    dtype: Word
    shape: list[Annotated[int, Field(ge=0, lt=1 << 31)]] = Field(max_length=8)
    bytes: Bytes


class IsaAnswer(_Strict):
    """An ISA table of the runner."""

    name: Word
    supported: bool


class DimAnswer(_Strict):
    """A dynamic dimension."""

    name: Text
    low: int = Field(ge=1, le=2**31 - 1)
    high: int = Field(ge=1, le=2**31 - 1)
    step: int = Field(ge=1, le=2**31 - 1)


class InfoAnswer(Answer):
    """Answer of ``ez_run info``."""

    numerics: Word
    layout: Word
    act_sign: int = Field(ge=0, le=128)
    steps: int = Field(ge=0, le=1_000_000)
    vectors: int = Field(ge=0, le=1_000_000)
    isas: list[IsaAnswer] = Field(max_length=64)
    inputs: list[TensorAnswer]
    outputs: list[TensorAnswer]
    states: list[TensorAnswer]
    dims: list[DimAnswer] = Field(max_length=2)


class StepDifference(_Strict):
    """The first step whose outputs had other bytes than the host's reference."""

    vector: int = Field(ge=0, le=1_000_000)
    step: int = Field(ge=0, le=1_000_000)
    name: Text
    op: Word
    kernel: Word


class VerifyAnswer(Answer):
    """Answer of ``ez_run verify``; the last two with ``--per-step``."""

    vectors: int = Field(ge=0, le=1_000_000)
    passed: int = Field(ge=0)
    mismatched_bytes: Bytes
    steps_checked: int | None = Field(None, ge=0, le=1 << 40)
    first_difference: StepDifference | None = None

    @property
    def is_proof(self) -> bool:
        """At least one vector, and all of them equal, and all of their steps."""
        return self.passed == self.vectors > 0 and self.first_difference is None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.passed > self.vectors or (self.passed == self.vectors) != (self.mismatched_bytes == 0):
            raise ValueError("passed, vectors and mismatched_bytes contradict each other")
        if self.first_difference and (not self.steps_checked or self.first_difference.vector >= self.vectors):
            raise ValueError("first_difference is of a step that was not checked")
        return self


class RunAnswer(Answer):
    """Answer of ``ez_run run``."""

    run_us: Microseconds
    outputs: list[TensorAnswer]


class Latency(_Strict):
    """Microseconds."""

    p50: Microseconds
    p90: Microseconds
    p99: Microseconds
    min: Microseconds
    mean: Microseconds
    stdev: Microseconds
    n: int = Field(ge=1, le=10_000_000)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.p50 <= self.p90 <= self.p99 or self.mean < self.min:
            raise ValueError("percentiles are not in order")
        return self


class LayerAnswer(_Strict):
    """One step of ``ez_run bench --per-layer``."""

    name: Text
    op: Word
    kernel: Word
    threads: int = Field(ge=1, le=64)
    us: Microseconds


class BenchAnswer(Answer):
    """Answer of ``ez_run bench``."""

    warmup: int = Field(ge=0, le=10_000_000)
    latency_us: Latency
    peak_memory_bytes: Bytes
    layers: list[LayerAnswer] | None = None


Kind = TypeVar("Kind", bound=Answer)


def parse(text: str, kind: type[Kind], verb: str, where: str) -> Kind:
    """The answer in the last line of ``text`` (a login shell may print before it). Raises DeviceError when it makes no sense."""
    lines = text.strip().splitlines()
    try:
        answer = json.loads(lines[-1] if lines else "", parse_constant=_refuse_constant, object_pairs_hook=_unique)
        parsed = kind.model_validate(answer)
        if parsed.verb != verb:
            raise ValueError(f"it answers {parsed.verb}")
    except (ValueError, RecursionError) as error:
        hint = "deploy again; is it the runner of this version?"
        raise DeviceError(f"the device's answer makes no sense: {_first(error)}", where=where, hint=hint) from error
    return parsed


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        detail = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, detail["loc"]))
        return _printable(f"{place}: {detail['msg']}" if place else detail["msg"])[:200]
    return _printable(str(error))[:200]


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found
