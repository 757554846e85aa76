"""``python -m bench.cost_model``: how well the cost model predicts published latencies, board by board.

Each board's rows (profiles in targets/, table ``reference``) are split in halves so that each has every model and every thread
count; coefficients are fitted to one half and tested on the other, both ways. The error of a board is the median of |predicted
/ published - 1| over all its rows, each predicted by a fit that did not see it. The order of int8 and float is that of the fit
to all rows; pairs whose published times differ by less than 5 % count as equal. ``--write`` puts that fit into the profiles.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.cost_model.fit import Board, milliseconds
from bench.cost_model.networks import NETWORKS
from edgezip.target import FOLDER, Cost, Reference, load_target
from edgezip.target.files import toml

BOARDS = (
    "rpi-zero2w", "rpi3", "rpi4", "rpi5", "rk3588", "jetson-nano", "jetson-orin-nano", "android-a53", "x86-sse41", "visionfive2",
)  # fmt: skip
EQUAL = 0.05  # published times nearer than this have no order
NINE_IN_TEN = 0.9


def half_of(row: Reference) -> int:
    """Which half a row is in: thread counts and forms alternate from model to model."""
    return (sorted(NETWORKS).index(row.model) + (row.form == "int8") + (row.threads > 1)) % 2


def judge(name: str) -> dict[str, Any]:
    """Errors of a board over unseen rows, the order of forms, and the fit to all rows."""
    board = Board(load_target(name))
    errors = []
    for half in (0, 1):
        found = _Fit(board.cost(board.fit([row for row in board.rows if half_of(row) != half])))
        errors += [abs(milliseconds(row, found) / row.ms - 1) for row in board.rows if half_of(row) == half]
    spread = float(np.quantile(errors, NINE_IN_TEN))
    every = _Fit(board.cost(board.fit(board.rows), round(spread, 2)))
    right, pairs = order(board.rows, every)
    return {
        "board": name,
        "rows": len(board.rows),
        "median_error": float(np.median(errors)),
        "error_9_in_10": spread,
        "fitted_error": float(np.median([abs(milliseconds(row, every) / row.ms - 1) for row in board.rows])),
        "order_right": right,
        "pairs": pairs,
        "cost": {key: _rounded(value) for key, value in every.cost.model_dump(exclude_none=True).items()},
        "float_form": board.float_form,
    }


def _rounded(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


class _Fit:
    def __init__(self, cost: Cost) -> None:
        self.cost = cost


def order(rows: Sequence[Reference], target: Any) -> tuple[int, int]:
    """Pairs of float and int8 whose predicted order is the published one, and pairs with an order."""
    right = pairs = 0
    for row in rows:
        other = [o for o in rows if (o.model, o.threads) == (row.model, row.threads) and o.form == "int8"]
        if row.form == "int8" or not other or abs(other[0].ms / row.ms - 1) < EQUAL:
            continue
        pairs += 1
        right += (milliseconds(other[0], target) < milliseconds(row, target)) == (other[0].ms < row.ms)
    return right, pairs


def write(result: dict[str, Any]) -> None:
    """The fit as ``[cost]`` of the profile, without what EdgeZip's kernels do not do: Winograd for float, half precision."""
    cost = dict(result["cost"])
    half = result["float_form"] == "float16"
    for key in ("square_f32", "square_f32_weights"):
        del cost[key]
    if half:
        cost |= {key: float(f"{cost[key] / 2:.4g}") for key in ("f32_gmacs", "depthwise_f32_gmacs")}
    cost["source"] = (
        f"fit to {result['rows']} published latencies of ncnn on this board (reference above; python -m bench.cost_model)"
        + (", float at half of its half precision" if half else "")
        + "; EdgeZip itself was not measured on one"
    )
    path = FOLDER / f"{result['board']}.toml"
    text = re.sub(r"\n\[cost\]\n(?:[^\[\n].*\n)*", "", path.read_text()).rstrip("\n")
    path.write_text(f"{text}\n\n{toml({'cost': cost}).lstrip()}")


def main() -> None:
    """Prints the table; ``--json FILE`` keeps it."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost_model", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the fit to all rows into the profiles")
    parser.add_argument("--json", help="also write the figures to this file")
    wanted = parser.parse_args()
    results = [judge(name) for name in BOARDS]
    print(f"{'board':18}{'rows':>5}{'median error':>14}{'nine in ten':>13}{'fitted':>9}{'order right':>13}")
    for r in results:
        print(
            f"{r['board']:18}{r['rows']:5}{r['median_error']:14.1%}{r['error_9_in_10']:13.1%}{r['fitted_error']:9.1%}"
            f"{r['order_right']:9} of {r['pairs']}"
        )
    if wanted.json:
        Path(wanted.json).write_text(json.dumps(results, indent=1) + "\n")
    if wanted.write:
        for result in results:
            write(result)


if __name__ == "__main__":
    main()
