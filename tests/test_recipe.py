"""Recipes as data: YAML there and back, and wrong fields told by name."""

from __future__ import annotations

import pytest

from edgezip.errors import MissingFileError, UsageError
from edgezip.recipe import Recipe


def test_recipe_survives_yaml(tmp_path) -> None:
    recipe = Recipe.int8("entropy", keep=("Gemm", "c1*"), num_samples=7)
    recipe.save(tmp_path / "r.yaml")
    assert Recipe.load(tmp_path / "r.yaml") == recipe


@pytest.mark.parametrize("text", ["quantize: {method: best}", "quantise: {}", "quantize: {keep: 3}", "- a"])
def test_bad_recipe_names_the_field(tmp_path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"r\.yaml"):
        Recipe.load(tmp_path / "r.yaml")


def test_unknown_method_is_refused() -> None:
    with pytest.raises(UsageError, match="method"):
        Recipe.int8("best")


def test_missing_recipe_is_named(tmp_path) -> None:
    with pytest.raises(MissingFileError, match=r"none\.yaml"):
        Recipe.load(tmp_path / "none.yaml")
