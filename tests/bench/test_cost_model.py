"""The cost model against published latencies, and that a model which is wrong is seen to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cost_model import __main__ as table
from bench.cost_model import networks
from bench.cost_model.fit import Board
from edgezip.target import FOLDER, files, load_target


@pytest.mark.parametrize(
    ("name", "macs", "params"),
    [  # of the papers, in millions; without biases and norms
        ("mobilenet", 569, 4.2),
        ("squeezenet", 388, 1.23),
        ("resnet18", 1814, 11.7),
        ("resnet50", 3858, 25.5),
        ("efficientnet_b0", 386, 5.3),
    ],
)
def test_networks_have_the_multiplications_and_parameters_of_their_papers(name: str, macs: float, params: float) -> None:
    layers = networks.NETWORKS[name]()
    assert sum(layer.macs for layer in layers) / 1e6 == pytest.approx(macs, rel=0.01)
    assert sum(layer.weights for layer in layers) / 1e6 == pytest.approx(params, rel=0.03)


def test_halves_have_every_model_and_thread_count() -> None:
    rows = Board(load_target("rpi4")).rows
    for half in (0, 1):
        mine = [row for row in rows if table.half_of(row) == half]
        assert {row.model for row in mine} == set(networks.NETWORKS)
        assert {(row.form, row.threads) for row in mine} == {(row.form, row.threads) for row in rows}


@pytest.mark.parametrize("name", ["rpi4", "rpi5", "x86-sse41", "visionfive2"])
def test_unseen_latencies_are_predicted_within_35_percent_and_forms_in_order(name: str) -> None:
    result = table.judge(name)
    assert result["median_error"] < 0.35
    assert result["order_right"] == result["pairs"] > 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rpi-zero2w", "rpi3", "rk3588", "jetson-nano", "jetson-orin-nano", "android-a53"])
def test_unseen_latencies_of_the_other_boards_are_predicted_within_35_percent(name: str) -> None:
    assert table.judge(name)["median_error"] < 0.35


def test_rows_that_no_coefficients_explain_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: every other row of one board is five times what it was."""
    target = load_target("rpi4")
    wrong = tuple(row.model_copy(update={"ms": row.ms * (5 if i % 2 else 1)}) for i, row in enumerate(target.reference))
    monkeypatch.setattr(table, "load_target", lambda name: target.model_copy(update={"reference": wrong}))
    assert table.judge("rpi4")["median_error"] > 0.35


def test_a_fit_written_into_a_profile_is_read_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("rpi5.toml", "arm64-dotprod.toml"):
        (tmp_path / name).write_text((FOLDER / name).read_text())
    result = table.judge("rpi5")
    monkeypatch.setattr(table, "FOLDER", tmp_path)
    table.write(result)
    cost = files.read_profile(tmp_path / "rpi5.toml").cost
    assert cost.s8_gmacs == result["cost"]["s8_gmacs"]
    assert cost.f32_gmacs == pytest.approx(result["cost"]["f32_gmacs"] / 2)  # the board's rows are of half precision
    assert (cost.square_f32, cost.square_f32_weights) == (None, None)
    assert cost == load_target("rpi5").cost, "python -m bench.cost_model --write was not run after a change of the model"
