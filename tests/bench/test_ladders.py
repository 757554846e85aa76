"""The ladders: how layers are averaged, and that a rung run again replaces only itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import ladders, protocol
from edgezip.passes.layer_change import LayerChange


def layer(error: float | None, signal: float | None = 1.0, reason: str = "") -> LayerChange:
    return LayerChange("conv", "Conv", "float32", 32, 0.5, 4, 4, signal, error, reason)


def test_layers_without_error_do_not_rule_the_average() -> None:
    assert ladders.mean_sqnr([layer(0.02), layer(0.0)]) == 20.0
    assert ladders.mean_sqnr([layer(0.01), layer(0.01)]) == 20.0
    assert ladders.mean_sqnr([layer(None), layer(0.0, 0.0)]) is None


def test_reasons_are_counted_without_their_figures() -> None:
    slower = [layer(0.0, reason=f"CP {rank}: predicted {rank}.0 us instead of 3.0 us") for rank in (8, 16)]
    assert ladders._left([*slower, layer(0.1), layer(0.0, reason="kept by request")]) == {
        "predicted to be slower": 2,
        "kept by request": 1,
    }


def test_a_rung_run_again_replaces_only_itself(tmp_path: Path) -> None:
    def run(**percents: float) -> list[dict[str, Any]]:
        rows = [{"task": "squeezenet", "recipe": "float", "pct": 63.3}]
        rows += [{"task": "squeezenet", "recipe": f"1x1 {name}", "pct": pct} for name, pct in percents.items()]
        made = ladders.with_older(rows, "pruning", tmp_path)
        protocol.merge("ladders", {"task": "squeezenet", "ladder": "pruning", "rows": made}, ("task", "ladder"), tmp_path)
        return made

    run(obs=60.0, nonsense=1.0)
    again = run(magnitude=10.0, obs=62.0)
    assert [(row["recipe"], row["pct"]) for row in again] == [("float", 63.3), ("1x1 magnitude", 10.0), ("1x1 obs", 62.0)]
    last = run(wanda=30.0)
    assert [row["recipe"] for row in last] == ["float", "1x1 magnitude", "1x1 wanda", "1x1 obs"]
    assert last[1]["commit"], "an older rung keeps the commit that gave it"


@pytest.mark.parametrize("ladder", list(ladders.LADDERS))
def test_every_rung_is_a_valid_recipe(ladder: str) -> None:
    for rung in ladders.LADDERS[ladder].values():
        assert ladders.Recipe.of(rung.passes, None, recover=rung.recover, force=True).passes
