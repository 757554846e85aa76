"""What each compression pass costs on real models: ladders of recipes, every one scored on its task.

    python -m bench.ladders [--work .work/zoo] [--samples 40] [--ladder weights4|data_free|pruning|...] [task]

Each recipe runs on the task's calibration samples; the result, plain ONNX, is scored in ONNX Runtime on samples that calibration
never saw. Columns: metric, paired counts against float, output SQNR, SQNR of the layers, bytes of the weights, how many times as
fast the network became on our float32 kernels (one thread, runs interleaved with those of the untouched network, ratio of the
medians; ladders that make the graph smaller only), seconds that the recipe took. A layer's SQNR is of that layer alone, on
calibration samples, before recovery; the column is of the mean of their relative errors, so that layers of hardly any error
do not rule it. Merged into bench/results/<date>-<host>-ladders.json, each rung replacing its older one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgezip
from bench import ours, protocol
from bench.agreement import figures
from bench.rescale import rescaled
from bench.zoo import TASKS, load_task
from bench.zoo.runners import RUNNERS
from bench.zoo.task import Feed, Score, Task
from edgezip.errors import EdgeZipError, UsageError
from edgezip.passes.layer_change import LayerChange
from edgezip.passes.measure_sqnr import decibels
from edgezip.passes.products import find_products
from edgezip.pipeline import final_rows
from edgezip.recipe import Recipe
from edgezip.report import text

COLUMNS = ("task", "ladder", "recipe", "metric", "worse/better", "SQNR dB", "layers dB", "weights kB", "times as fast", "seconds")
Steps = list[dict[str, Any]]
TIMED = {"channels", "windows", "low_rank"}
ROUNDS = 15
ROUND_SECONDS = 0.05


@dataclass(frozen=True)
class Rung:
    """``passes``, then int8 activations on request; ``recover`` and ``target`` as in ``edgezip.compress``.

    ``free``: without calibration data. ``rescaled``: of the network of ``bench.rescale`` instead of the published one.
    """

    passes: Steps
    int8: bool = False
    recover: str = "refit"
    target: str | None = None
    free: bool = False
    rescaled: bool = False


def _weights(method: str, *before: dict[str, Any], int8: bool = False, **options: Any) -> Rung:
    """Without recovery: the methods fit themselves, and rounding to nearest is to be the plain one."""
    return Rung([*before, {"quantize_weights": {"bits": 4, "method": method, **options}}], int8=int8, recover="none")


def _pruned(pattern: str, method: str, recover: str = "none", **options: Any) -> Rung:
    return Rung(
        [{"prune": {"pattern": pattern, "sparsity": 0.5, "method": method, "permute": False, **options}}], recover=recover
    )


def _channels(macs: float, recover: str = "refit", **options: Any) -> Rung:
    return Rung([{"prune_channels": {"macs": macs, **options}}], recover=recover)


def _thin(method: str, share: float, recover: str = "none", target: str | None = None, **options: Any) -> Rung:
    prefer = "time" if target else "size"
    return Rung(
        [{"factorize": {"method": method, "rank_by": "ratio", "rank": share, "prefer": prefer, **options}}],
        recover=recover,
        target=target,
    )


def _per_tensor(*before: dict[str, Any], rescaled: bool = False) -> Rung:
    step = {"quantize_weights": {"bits": 8, "per": "tensor", "method": "nearest"}}
    return Rung([*before, step], free=True, rescaled=rescaled)


# A square matrix must lose half of its rank before its chain is smaller, and with it MiniLM: its attention stays.
SQUARE = ("*attention*",)
AWQ = {"smooth": {"method": "awq"}}
LADDERS: dict[str, dict[str, Rung]] = {
    "weights4": {
        "nearest, block 32": _weights("nearest"),
        "adaround, block 32": _weights("adaround"),
        "gptq, block 32": _weights("gptq"),
        "clips of awq, block 32": _weights("awq"),
        "awq, block 32": _weights("awq", AWQ),
        "awq + gptq, block 32": _weights("gptq", AWQ),
        "min-max, channel, int8": _weights("nearest", int8=True, per="channel", scales="minmax"),
        "nearest, channel, int8": _weights("nearest", int8=True, per="channel"),
        "adaround, channel, int8": _weights("adaround", int8=True, per="channel"),
        "gptq, channel, int8": _weights("gptq", int8=True, per="channel"),
    },
    "data_free": {
        "int8 per tensor": _per_tensor(),
        "equalize, int8 per tensor": _per_tensor({"equalize": {}}),
        "rescaled, int8 per tensor": _per_tensor(rescaled=True),
        "rescaled, equalize, int8 per tensor": _per_tensor({"equalize": {}}, rescaled=True),
    },
    "pruning": {
        **{
            f"{pattern} {method}": _pruned(pattern, method)
            for pattern in ("1x1", "2:4", "4x16")
            for method in ("magnitude", "wanda", "obs")
        },
        "2:4 obs, channels ordered": _pruned("2:4", "obs", permute=True),
        **{f"{pattern} obs, refit": _pruned(pattern, "obs", "refit") for pattern in ("1x1", "4x16")},
        "2:4 obs, channels ordered, refit": _pruned("2:4", "obs", "refit", permute=True),
    },
    "channels": {
        **{f"{macs:.0%} of MACs": _channels(macs, "none") for macs in (0.1, 0.25, 0.5)},
        **{f"{macs:.0%} of MACs, refit": _channels(macs) for macs in (0.1, 0.25, 0.5)},
        "50% of MACs, 4 rounds, refit": _channels(0.5, rounds=4),
    },
    "shared": {
        "k-means 16": Rung([{"cluster": {"count": 16}}]),
        "k-means 64": Rung([{"cluster": {"count": 64}}]),
        "powers of two": Rung([{"cluster": {"table": "powers", "count": 15}}]),
        "NF4": Rung([{"cluster": {"table": "nf4"}}]),
        "k-means 16, int8": Rung([{"cluster": {"count": 16}}], int8=True),
    },
    "low_rank": {
        **{
            f"svd of {share:.0%} of wide layers, {'whitened' if whiten else 'plain'}": _thin(
                "svd", share, whiten=whiten, keep=SQUARE
            )
            for share in (0.95, 0.8, 0.65, 0.5)
            for whiten in (False, True)
        },
        **{
            f"svd of {share:.0%} of wide layers, whitened, refit": _thin("svd", share, "refit", keep=SQUARE)
            for share in (0.95, 0.8, 0.65, 0.5)
        },
        "budget of 85%, refit": Rung([{"factorize": {"rank_by": "budget", "rank": 0.85, "prefer": "size"}}]),
    },
    "windows": {
        f"{method} of {share:.0%} of the weights, refit": _thin(method, share, "refit", "host")
        for method in ("tucker", "spatial", "cp")
        for share in (0.5, 0.3, 0.15)
    },
}  # fmt: skip


def spread(feeds: list[Feed], count: int) -> list[Feed]:
    """So many of ``feeds``, evenly from all: neighbours are crops of one picture."""
    return feeds if len(feeds) <= count else [feeds[i * len(feeds) // count] for i in range(count)]


def rung(task: Task, work: Path, reference: Score, rung: Rung, samples: int, *, timed: bool) -> dict[str, Any]:
    """Figures of one recipe on one task; an error is kept as its text."""
    feed = ours.first_feed(task, work)
    model = edgezip.load(str(task.model(work)), shapes=ours.shapes_of(feed))
    model = rescaled(model) if rung.rescaled else model
    recipe = Recipe.of(rung.passes, Recipe.int8("mse") if rung.int8 else None, recover=rung.recover, force=True)
    calibration = None if rung.free else spread(list(task.calibration(work)), samples)
    started = time.perf_counter()
    try:
        small: Any = edgezip.compress(model, recipe, calibration=calibration, target=rung.target)
    except EdgeZipError as error:
        return {"refused": str(error)[:200]}
    seconds = time.perf_counter() - started
    rows = final_rows(small.report.passes)
    changed = [row for row in rows if row.sqnr_db is not None and not row.reason]
    return {
        **_scored(task, work, small, feed, reference),
        "layers_sqnr_db": mean_sqnr(changed),
        "by_kind_db": _by_kind(model, changed),
        "layers_changed": len(changed),
        "left_as_they_were": _left(rows),
        "bytes_before": sum(row.bytes_before for row in rows),
        "bytes_after": sum(row.bytes_after for row in rows),
        **({"times_as_fast": round(times_as_fast(model, small.model, feed), 3)} if timed else {}),
        "samples": 0 if rung.free else min(samples, len(calibration or ())),
        "seconds": round(seconds, 1),
    }


def _scored(task: Task, work: Path, small: Any, feed: Feed, reference: Score) -> dict[str, Any]:
    """In ONNX Runtime, from a file of its own: two ladders may run on one task."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        path = Path(folder) / f"{task.name}.onnx"
        small.save(path)
        return figures(reference, task.score(work, RUNNERS["ort"](path, feed)))


def mean_sqnr(rows: Sequence[LayerChange]) -> float | None:
    """Decibels of the mean relative error; a mean of decibels would be ruled by layers of hardly any error."""
    errors = [row.error / row.signal for row in rows if row.error is not None and row.signal]
    return round(decibels(1.0, statistics.mean(errors)), 2) if errors else None


def _by_kind(model: Any, rows: Sequence[LayerChange]) -> dict[str, float | None]:
    """The same of each kind of layer: convolutions, depthwise (any grouped) ones, linear ones."""
    grouped = {product.name for product in find_products(model) if product.groups > 1}
    kinds: dict[str, list[LayerChange]] = {}
    for row in rows:
        kind = "depthwise" if row.name in grouped else "conv" if "Conv" in row.op else "linear"
        kinds.setdefault(kind, []).append(row)
    return {kind: mean_sqnr(each) for kind, each in kinds.items()}


def _left(rows: Sequence[LayerChange]) -> dict[str, int]:
    """How many layers were left as they were, by the reason (without its figures)."""
    found: dict[str, int] = {}
    for row in rows:
        if row.reason:
            reason = row.reason.rpartition(": ")[2] if "predicted" not in row.reason else "predicted to be slower"
            found[reason] = found.get(reason, 0) + 1
    return found


def times_as_fast(model: Any, small: Any, feed: Feed) -> float:
    """Median processor time of ``model`` over that of ``small``, both float32 on our kernels, one thread, turn about."""
    sessions = [edgezip.Session(edgezip.compile(each, "host", vectors=0), threads=1) for each in (model, small)]
    for session in sessions:
        session.run(feed)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for session, taken in zip(sessions, times, strict=True):
            started, count = time.process_time(), 0
            while (now := time.process_time()) - started < ROUND_SECONDS or count < 2:
                session.run(feed)
                count += 1
            taken.append((now - started) / max(count, 1))
    return statistics.median(times[0]) / statistics.median(times[1])


def climb(task: Task, work: Path, ladder: str, samples: int, only: list[str] | None = None) -> Iterator[list[dict[str, Any]]]:
    """The rungs of a ladder (``only``: those) on one task, float first: all rows so far, after each."""
    feed = ours.first_feed(task, work)
    reference = task.score(work, RUNNERS["ort"](task.model(work), feed))
    rows = [
        {"task": task.name, "ladder": ladder, "recipe": "float", "metric": reference.metric, "pct": round(reference.percent, 2)}
    ]
    for name, steps in LADDERS[ladder].items():
        if only and name not in only:
            continue
        found = rung(task, work, reference, steps, samples, timed=ladder in TIMED)
        row = {"task": task.name, "ladder": ladder, "recipe": name, "metric": reference.metric, **found}
        rows.append(row | protocol.stamp())
        print(table(rows[-1:]), flush=True)
        yield rows


def with_older(rows: list[dict[str, Any]], ladder: str, folder: Path) -> list[dict[str, Any]]:
    """``rows`` and those of today's file that they do not replace, in the ladder's order; recipes that are no more go."""
    path = protocol.path_of("ladders", folder)
    older = protocol.load(path)["results"] if path.exists() else []
    same = [found for found in older if (found["task"], found["ladder"]) == (rows[0]["task"], ladder)]
    stamped = [{"commit": found["commit"], "at": found["at"], **row} for found in same for row in found["rows"]]
    held = {row["recipe"]: row for row in (*stamped, *rows)}
    return [held[recipe] for recipe in ("float", *LADDERS[ladder]) if recipe in held]


def table(rows: list[dict[str, Any]]) -> str:
    """One line a recipe."""
    lines = []
    for row in rows:
        paired = row.get("paired", {})
        moved = f"{paired['worse']}/{paired['better']}" if paired else "-"
        numbers = [row.get(key) for key in ("sqnr_db", "layers_sqnr_db")]
        size = f"{row['bytes_after'] / 1000:,.0f}" if "bytes_after" in row else "-"
        shown = ["-" if number is None else f"{number:.2f}" for number in numbers]
        metric = row.get("refused") or f"{row['pct']:.2f}"
        ends = [str(row.get(key, "-")) for key in ("times_as_fast", "seconds")]
        lines.append((row["task"], row["ladder"], row["recipe"], metric, moved, *shown, size, *ends))
    return text.table(COLUMNS, lines)


def main() -> int:
    """Runs the named ladders on the named tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=["efflite0", "minilm"], metavar="task", help=", ".join(TASKS))
    parser.add_argument("--ladder", action="append", choices=tuple(LADDERS), help="default: all")
    parser.add_argument("--rung", action="append", help="only this one; repeatable")
    parser.add_argument("--samples", type=int, default=40, help="calibration samples")
    parser.add_argument("--work", type=Path, default=Path(".work/zoo"))
    parser.add_argument("--results", type=Path, default=protocol.RESULTS)
    arguments = parser.parse_args()
    ladders = arguments.ladder or list(LADDERS)
    known = [name for ladder in ladders for name in LADDERS[ladder]]
    for wanted in arguments.rung or ():
        if wanted not in known:
            raise UsageError("no such rung", where="--rung", expected="; ".join(known), got=wanted)
    for name in arguments.tasks:
        for ladder in ladders:
            for rows in climb(load_task(name), arguments.work, ladder, arguments.samples, arguments.rung):
                result = {"task": name, "ladder": ladder, "rows": with_older(rows, ladder, arguments.results)}
                path = protocol.merge("ladders", result, ("task", "ladder"), arguments.results)
            print(f"\n{table(rows)}\nwrote {path}\n", flush=True)
    return 0


if __name__ == "__main__":
    protocol.run_command(main)
