"""What to do with a model, as data: saved as YAML, read back, hashed. Flags of ``edgezip compress`` are short recipes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from edgezip.errors import MissingFileError, UsageError
from edgezip.yaml_keys import single_keys


class Int8(BaseModel):
    """Post-training int8: how ranges are found and what stays in float."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["auto", "minmax", "percentile", "mse", "entropy"] = "auto"  # auto: the one of best output SQNR
    activations: Literal["static", "dynamic"] = "static"  # dynamic: rows of Gemm and MatMul get their scales at run time
    keep: tuple[str, ...] = ()  # names of nodes, operators, or patterns of them, that stay in float
    correct_bias: bool = True
    num_samples: int = Field(default=0, ge=0)  # 0: all


class Equalize(BaseModel):
    """Channels of one layer get ranges like each other (data-free); pays for weights with one scale for the tensor."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    through_relu6: bool = True  # which becomes ReLU and a cap for each channel: one more step in place of a fused clip


class Smooth(BaseModel):
    """Strong channels of activations moved into weights: ``smooth`` before int8 activations, ``awq`` before low-bit weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["smooth", "awq"] = "smooth"
    bits: int = Field(default=4, ge=2, le=8)  # of the weights to come, for awq
    per: Literal["tensor", "channel", 32, 64, 128] = 32
    through_relu6: bool = True  # awq: which becomes ReLU and a cap for each channel


class PruneChannels(BaseModel):
    """Whole channels and attention heads removed, so that ``macs`` (a share) of the multiplications are gone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    macs: float = Field(gt=0, lt=1)
    method: Literal["l2", "wanda"] = "wanda"
    multiple: int = Field(default=8, ge=1)
    rounds: int = Field(default=1, ge=1, le=50)  # so many cuts, each followed by recovery
    keep: tuple[str, ...] = ()


class Prune(BaseModel):
    """Weights removed: ``pattern`` 1x1 (single weights), N:M, or a block of columns x outputs (4x16, 4x32, 8x16)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sparsity: float = Field(gt=0, lt=1)
    pattern: str = "4x16"
    method: Literal["magnitude", "wanda", "obs"] = "obs"
    everywhere: bool = False  # one ranking over all layers instead of the same share of each
    permute: bool = True  # N:M: channels are put into the order in which groups lose least (pass order_channels) before
    rounds: int = Field(default=1, ge=1, le=50)  # sparsity grows in so many steps, each followed by recovery
    keep: tuple[str, ...] = ()


class OrderChannels(BaseModel):
    """Channels put into the order in which N:M pruning loses least; the network computes what it did."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: str = "2:4"
    keep: tuple[str, ...] = ()  # layers that will not be pruned


class Factorize(BaseModel):
    """Layers as chains of thinner ones, where that pays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["auto", "svd", "spatial", "tucker", "cp"] = "auto"
    rank_by: Literal["energy", "ratio", "evbmf", "budget"] = "energy"  # budget: ``rank`` is the share of all layers together
    rank: float = Field(default=0.9, gt=0, lt=1)
    multiple: int = Field(default=8, ge=1)
    prefer: Literal["time", "size"] = "time"
    whiten: bool = True  # calibration data, where there is any, weighs the error
    keep: tuple[str, ...] = ()


class LayerForm(BaseModel):
    """What differs for some layers; the rest is as for all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bits: int | None = Field(default=None, ge=2, le=8)
    per: Literal["tensor", "channel", 32, 64, 128] | None = None
    symmetric: bool | None = None


class QuantizeWeights(BaseModel):
    """Weights of few bits; activations stay as they are (or become int8 by ``quantize`` after it)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bits: int = Field(default=4, ge=2, le=8)
    per: Literal["tensor", "channel", 32, 64, 128] = 32
    symmetric: bool = True
    method: Literal["nearest", "gptq", "adaround", "awq"] = "gptq"
    scales: Literal["mse", "minmax", "output"] = "mse"  # least error of weights, largest weight at largest code, least of outputs
    packed: bool = True  # int2 and int4 in the file; false: int8, for runtimes that do not know those
    layers: dict[str, LayerForm] = {}  # names or operators of nodes, or patterns of them -> another form; the first that fits
    keep: tuple[str, ...] = ()


class Cluster(BaseModel):
    """Weights that share the entries of a table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: Literal["kmeans", "powers", "nf4"] | tuple[int, ...] = "kmeans"
    count: int = Field(default=16, ge=2, le=256)
    keep: tuple[str, ...] = ()

    @field_validator("table", mode="before")
    @classmethod
    def _has_entries(cls, value: Any) -> Any:
        """Told apart from a name before both forms complain."""
        if not isinstance(value, (list, tuple)):
            return value
        if not all(type(entry) is int and -127 <= entry <= 127 for entry in value) or len(set(value)) < 2:
            raise ValueError("a table of one's own is a list of at least 2 different whole numbers from -127 to 127")
        return tuple(value)


class Step(BaseModel):
    """One pass with its options, under its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    equalize: Equalize | None = None
    smooth: Smooth | None = None
    prune_channels: PruneChannels | None = None
    order_channels: OrderChannels | None = None
    prune: Prune | None = None
    factorize: Factorize | None = None
    quantize_weights: QuantizeWeights | None = None
    cluster: Cluster | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_options(cls, values: Any) -> Any:
        """``equalize:`` with nothing behind it is the pass with its defaults."""
        return {k: {} if v is None else v for k, v in values.items()} if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"a step is one pass: {', '.join(type(self).model_fields)}")
        return self

    @property
    def name(self) -> str:
        """Of the pass."""
        return next(iter(self.model_fields_set))

    @property
    def options(self) -> BaseModel:
        """Of the pass."""
        found: BaseModel = getattr(self, self.name)
        return found


class Recipe(BaseModel):
    """``passes`` over float weights in the order in which they run, then ``quantize``; absent ones do not run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    passes: tuple[Step, ...] = ()
    quantize: Int8 | None = None
    recover: Literal["refit", "bias", "none"] = "refit"  # after each pass, from calibration data where there is any
    force: bool = False  # also patterns that no kernel of the target skips

    @classmethod
    def int8(
        cls,
        method: str = "auto",
        *,
        keep: tuple[str, ...] = (),
        correct_bias: bool = True,
        num_samples: int = 0,
        activations: str = "static",
    ) -> Self:
        """Post-training int8. Raises UsageError on an unknown method."""
        values = {
            "method": method,
            "keep": keep,
            "correct_bias": correct_bias,
            "num_samples": num_samples,
            "activations": activations,
        }
        return cls._checked({"quantize": values}, "recipe")

    @classmethod
    def of(
        cls, steps: Sequence[Mapping[str, Any]], last: Recipe | None = None, *, recover: str = "refit", force: bool = False
    ) -> Self:
        """``steps``, each ``{pass: options}``, then the ``quantize`` of ``last``. Raises UsageError."""
        values: dict[str, Any] = {"passes": [dict(step) for step in steps], "recover": recover, "force": force}
        if last is not None and last.quantize is not None:
            values["quantize"] = last.quantize
        return cls._checked(values, "recipe")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a YAML file. Raises MissingFileError, UsageError."""
        import yaml

        path = Path(path)
        if not path.is_file():
            raise MissingFileError("no such recipe", where=str(path))
        try:
            held = yaml.load(path.read_text(), single_keys())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"not YAML: {error}", where=str(path)) from error
        return cls._checked({} if held is None else held, str(path))

    def save(self, path: str | Path) -> None:
        """Write a YAML file that ``load`` reads back to an equal recipe."""
        import yaml

        Path(path).write_text(yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False))

    @classmethod
    def _checked(cls, values: Any, where: str) -> Self:
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            found = error.errors()  # a key that is missing may be the one that is misspelt: tell that first
            first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
            field = ".".join(map(str, first["loc"])) or "recipe"
            raise UsageError(f"{field}: {_said(first)}", where=where, got=str(first.get("input")), hint=_hint(first)) from error


_WORDS = {
    "extra_forbidden": "no such key",
    "tuple_type": "a list is needed",
    "model_type": "keys and their values are needed",
    "dict_type": "keys and their values are needed",
}


def _said(error: Mapping[str, Any]) -> str:
    """What pydantic found, in the words of a recipe."""
    return _WORDS.get(error["type"], str(error["msg"]).removeprefix("Value error, "))


def _hint(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return _nearest(str(error["loc"][-1]))
    if error["type"] == "literal_error":
        close = get_close_matches(str(error["input"]), re.findall(r"'([^']+)'", error["ctx"]["expected"]), 1, 0.6)
        return f"did you mean '{close[0]}'?" if close else ""
    if error["loc"] and error["loc"][-1] == "pattern" and isinstance(error["input"], int):
        return 'put it in quotes: pattern: "2:4"; YAML takes 2:4 for a number of base 60'
    return ""


def _nearest(word: str) -> str:
    """What was probably meant by a key that does not exist."""
    passes = (Equalize, Smooth, PruneChannels, OrderChannels, Prune, Factorize, QuantizeWeights, LayerForm, Cluster)
    models = (Recipe, Step, Int8, *passes)
    known = sorted({name for model in models for name in model.model_fields})
    close = get_close_matches(word, known, 1, 0.6)
    return f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(known)}"
