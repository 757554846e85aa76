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


def test_steps_survive_yaml_in_their_order(tmp_path) -> None:
    steps = [{"factorize": {"rank": 0.8}}, {"prune": {"sparsity": 0.5, "pattern": "2:4"}}, {"cluster": {"table": [-127, 0, 127]}}]
    recipe = Recipe.of(steps, Recipe.int8("mse"))
    recipe.save(tmp_path / "r.yaml")
    read = Recipe.load(tmp_path / "r.yaml")
    assert read == recipe
    assert [step.name for step in read.passes] == ["factorize", "prune", "cluster"]
    assert read.quantize is not None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("passes: [{prune: {sparsity: 0.5, patern: 2:4}}]", "did you mean 'pattern'"),
        ("passes: [{prunne: {sparsity: 0.5}}]", "did you mean 'prune'"),
        ("passes: [{prune: {sparsity: 0.5}, cluster: {}}]", "a step is one pass"),
        ("passes: [{prune: {sparsity: 1.5}}]", "less than 1"),
        ("passes: [{}]", "a step is one pass"),
        ("quantize: {sorted: 1}", "known keys"),
    ],
)
def test_a_wrong_key_is_told_with_what_was_meant(tmp_path, text: str, word: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UsageError, match=word):
        Recipe.load(tmp_path / "r.yaml")
