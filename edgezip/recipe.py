"""What to do with a model, as data: saved as YAML, read back, hashed. Flags of ``edgezip compress`` are short recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgezip.errors import MissingFileError, UsageError


class Int8(BaseModel):
    """Post-training int8: how ranges are found and what stays in float."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["auto", "minmax", "percentile", "mse", "entropy"] = "auto"  # auto: the one of best output SQNR
    keep: tuple[str, ...] = ()  # names of nodes, operators, or patterns of them, that stay in float
    correct_bias: bool = True
    num_samples: int = Field(default=0, ge=0)  # 0: all


class Recipe(BaseModel):
    """Passes in the order in which they run; absent ones do not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quantize: Int8 | None = None

    @classmethod
    def int8(cls, method: str = "auto", *, keep: tuple[str, ...] = (), correct_bias: bool = True, num_samples: int = 0) -> Self:
        """Post-training int8. Raises UsageError on an unknown method."""
        values = {"method": method, "keep": keep, "correct_bias": correct_bias, "num_samples": num_samples}
        return cls._checked({"quantize": values}, "recipe")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a YAML file. Raises MissingFileError, UsageError."""
        import yaml

        path = Path(path)
        if not path.is_file():
            raise MissingFileError("no such recipe", where=str(path))
        try:
            held = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise UsageError(f"not YAML: {error}", where=str(path)) from error
        return cls._checked(held or {}, str(path))

    def save(self, path: str | Path) -> None:
        """Write a YAML file that ``load`` reads back to an equal recipe."""
        import yaml

        Path(path).write_text(yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False))

    @classmethod
    def _checked(cls, values: Any, where: str) -> Self:
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise UsageError(f"{field}: {first['msg']}", where=where, got=str(first.get("input"))) from error
