"""Recipes as data: YAML there and back, and wrong fields told by name."""

from __future__ import annotations

from pathlib import Path

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


HOSTILE = {
    "- a": "keys and their values are needed",
    "5": "keys and their values are needed",
    "pases: []": "no such key .*did you mean 'passes'",
    "passes: {prune: {sparsity: 0.5}}": "passes: a list is needed",
    "passes: [prune]": "keys and their values are needed",
    "passes: [{prune: }]": "sparsity: Field required",
    "passes: [{prune: {sparsity: 0.5, pattern: 2:4}}]": 'put it in quotes: pattern: "2:4"',
    "passes: [{prune: {sparsity: .nan}}]": "less than 1",
    "passes: [{cluster: {table: [0]}}]": "at least 2 different whole numbers",
    "passes: [{cluster: {table: []}}]": "at least 2 different whole numbers",
    "passes: [{cluster: {table: [0, 200]}}]": "at least 2 different whole numbers",
    "passes: [{cluster: {table: [0.5, 1]}}]": "at least 2 different whole numbers",
    "passes: [{cluster: {table: [true, false]}}]": "at least 2 different whole numbers",
    "passes: [{cluster: {table: kmean}}]": "did you mean 'kmeans'",
    "passes: [{quantize_weights: {method: gtpq}}]": "did you mean 'gptq'",
    "passes: [{quantize_weights: {keep: Gemm}}]": "keep: a list is needed",
    "passes: [{cluster: {}}]\npasses: [{cluster: {count: 4}}]": "the key 'passes' stands twice",
    "? [a, b]\n: 1": "not YAML",
    "!!map foo": "not YAML",
    "passes: !!python/object/apply:os.system ['true']": "not YAML",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_recipe_that_is_none_says_what_is_wrong_with_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=HOSTILE[text]):
        Recipe.load(path)


def test_a_file_that_is_no_text_is_refused_and_a_pass_without_options_has_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match="not YAML"):
        Recipe.load(path)
    path.write_text("passes:\n  - equalize:\n  - cluster: {table: [-100, 0, 3]}\n")
    loaded = Recipe.load(path)
    assert loaded == Recipe.of([{"equalize": {}}, {"cluster": {"table": (-100, 0, 3)}}])
    loaded.save(path)
    assert Recipe.load(path) == loaded
