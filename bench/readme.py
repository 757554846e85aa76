"""The README's tables of speed, agreement and ladders: this script copies the figures of the newest results, nobody's hand.

    python -m bench.readme [--results bench/results]            # prints them
    python -m bench.readme --write README.md                    # replaces what stands between the two marks

Ratios are a peer's time over ours (above 1 we are faster), of medians, with that of the least times in brackets. Each folder in
the results' is another machine, with a table of models of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import kernels, protocol, ratios
from edgezip.errors import MissingFileError

BEGIN, END = "<!-- speed: begin, written by python -m bench.readme -->", "<!-- speed: end -->"
AGREEMENT_BEGIN = "<!-- agreement: begin, written by python -m bench.readme -->"
AGREEMENT_END = "<!-- agreement: end -->"
LADDERS_BEGIN, LADDERS_END = "<!-- ladders: begin, written by python -m bench.readme -->", "<!-- ladders: end -->"
EXACT_DB = 100.0  # a layer that sees fewer samples than it has inputs left is fitted to them to the last bit
TITLES = {
    "mobilenet_v2": "MobileNetV2, 224x224",
    "mobilenet_v1": "MobileNet-v1 1.0, 224x224",
    "mobilenet_v1_025": "MobileNet-v1 0.25, 96x96",
    "efflite0": "EfficientNet-Lite0, 224x224",
    "resnet18": "ResNet-18, 224x224",
    "squeezenet": "SqueezeNet 1.1, 227x227",
    "yolo_nano": "YOLO-like detector with SiLU, 320x320",
    "ds_cnn": "DS-CNN, 49x10",
    "ocr_det": "PP-OCRv4 detector, 480x640",
    "ocr_rec": "PP-OCRv4 recogniser, 48x320",
    "minilm": "MiniLM, 128 tokens",
    "vad": "Silero voice activity, 32 frames",
    "vad_frame": "Silero voice activity, one frame",
    "magika": "magika, 2048 bytes",
    "lenet300_fashion": "LeNet-300-100, Fashion-MNIST",
    "lenet5_fashion": "LeNet-5, Fashion-MNIST",
    "demo": "demo network, Fashion-MNIST",
}
GROUP_TITLES = {
    "gemm": "int8 products, 11 layer shapes",
    "gemv": "int8 products of one row",
    "depthwise": "int8 depthwise 3x3 and 5x5",
    "conv": "int8 convolutions 3x3, 7x7",
}


def newest(kind: str, folder: Path) -> dict[str, Any]:
    """The latest result of that kind; raises MissingFileError."""
    found = sorted(folder.glob(f"*-{kind}.json"))
    if not found:
        raise MissingFileError("no such result", where=str(folder), expected=f"*-{kind}.json", hint=f"python -m bench.{kind}")
    return protocol.load(found[-1])


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def duration(us: float) -> str:
    """Three digits: 49.9 us, 2.19 ms."""
    value, unit = (us, "us") if us < 1000 else (us / 1000, "ms")
    return f"{value:.{max(0, 3 - len(str(int(value))))}f} {unit}"


def ratio_of(result: dict[str, Any], ours: str, against: str) -> str:
    """ "1.32 (1.30) litert int8", or "-" when there is none."""
    for item in result["ratios"]:
        if (item["ours"], item["against"]) == (ours, against):
            return f"{item['median']:.2f} ({item['least']:.2f}) {item['peer']}"
    return "-"


def models_table(results: Sequence[dict[str, Any]], level: str) -> str:
    """Ours beside the best peers, all free or all held to ``level``."""
    suffix = f" {level}" if level else ""
    int8, float32 = f"edgezip int8{suffix}", f"edgezip float32{suffix}"
    rows = []
    for result in results:
        mine = result["candidates"].get(int8, {})
        if "median_us" not in mine:
            continue
        pairs = [(int8, "best int8 peer"), (int8, "best float32 peer"), (float32, "best float32 peer"), (int8, "our float32")]
        cells = [ratio_of(result, ours, against) for ours, against in pairs]
        cells[3] = cells[3].split(" ")[0]
        rows.append((TITLES.get(result["task"], result["task"]), duration(mine["median_us"]), *cells))
    means = {(row["ours"], row["against"]): row for row in ratios.geomeans(results)}
    last = [means.get((int8, "best int8 peer")), means.get((int8, "best float32 peer"))]
    last += [means.get((float32, "best float32 peer")), means.get((int8, "our float32"))]
    rows.append(("geometric mean", "", *(f"{row['median']:.2f} ({row['least']:.2f})" if row else "-" for row in last)))
    columns = ("model", "EdgeZip int8", "best int8 peer / ours", "best float32 peer / ours")
    return markdown((*columns, "best float32 peer / our float32", "our float32 / our int8"), rows)


def threads_table(results: Sequence[dict[str, Any]]) -> str:
    """How much two threads bring, and against the peers' two."""
    single = {result["task"]: result for result in results if result["threads"] == 1}
    rows = []
    for result in results:
        mine = result["candidates"].get("edgezip int8", {})
        if result["threads"] != 2 or "median_us" not in mine or result["task"] not in single:
            continue
        alone = single[result["task"]]["candidates"]["edgezip int8"]
        gain = f"{alone['median_us'] / mine['median_us']:.2f} ({alone['least_us'] / mine['least_us']:.2f})"
        title, time = TITLES.get(result["task"], result["task"]), duration(mine["median_us"])
        rows.append((title, time, gain, ratio_of(result, "edgezip int8", "best int8 peer")))
    return markdown(("model", "two threads", "one thread / two", "best int8 peer / ours"), rows)


def kernels_table(results: Sequence[dict[str, Any]]) -> str:
    """A line for each group of operators and ISA."""
    rows = []
    for group, operators in kernels.GROUPS.items():
        mine = [result for result in results if result["task"] in {operator.name for operator in operators}]
        for row in ratios.geomeans(mine):
            if row["against"] != "best int8 peer":
                continue
            found = [result["candidates"][row["ours"]] for result in mine if row["ours"] in result["candidates"]]
            gops = f"{min(f['gops'] for f in found):.0f} to {max(f['gops'] for f in found):.0f}"
            percent = f"{min(f['percent_of_peak'] for f in found):.0f} to {max(f['percent_of_peak'] for f in found):.0f}"
            least = f"{row['worst']:.2f} ({row['worst_task']})"
            isa = found[0]["version"].split()[-1]
            rows.append((GROUP_TITLES[group], isa, gops, percent, f"{row['median']:.2f} ({row['least']:.2f})", least))
    return markdown(("kernels", "ISA", "GOPS", "% of the peak", "best int8 peer / ours, geomean", "smallest ratio"), rows)


def agreement_table(rows: Iterable[dict[str, Any]]) -> str:
    """Metric, counts and SQNR of int8 on each task, beside other quantisers at their best."""
    lines = []
    for row in rows:
        mine = row["edgezip"]
        moved = f"{mine['paired']['worse']} / {mine['paired']['better']}"
        peers = [best_peer(row.get(peer, {})) for peer in ("onnxruntime", "nncf")]
        name, percents = TITLES.get(row["task"], row["task"]), [f"{value:.2f}" for value in (row["float_pct"], mine["pct"])]
        lines.append((name, f"{row['metric']} %", f"{row['samples']:,}", *percents, moved, f"{mine['sqnr_db']:.1f}", *peers))
    columns = ("task", "metric", "n", "float", "int8", "worse / better", "outputs dB", "ONNX Runtime's best", "NNCF's best")
    return markdown(columns, lines)


def best_peer(settings: dict[str, dict[str, Any]]) -> str:
    """ "18.1 dB entropy (87.22)": SQNR, setting and metric of the one with the best SQNR; "" where none was tried."""
    able = {name: found for name, found in settings.items() if "sqnr_db" in found}
    if not able:
        return "fails" if settings else ""
    name = max(able, key=lambda name: float(able[name]["sqnr_db"]))
    return f"{able[name]['sqnr_db']:.1f} dB {name} ({able[name]['pct']:.2f})"


def ladder_rows(found: dict[str, Any]) -> Iterable[Sequence[object]]:
    """The rungs of one ladder on one task, float first."""
    for row in found["rows"]:
        if "pct" not in row:
            continue
        paired = row.get("paired")
        moved = f"{paired['worse']} / {paired['better']}" if paired else ""
        outputs = f"{row['sqnr_db']:.1f}" if row.get("sqnr_db") is not None else ""
        faster = f"{row['times_as_fast']:.2f}" if row.get("times_as_fast") else ""
        name = f"{TITLES.get(found['task'], found['task'])}: {found['ladder']}" if row["recipe"] == "float" else ""
        yield (name, row["recipe"], f"{row['pct']:.2f}", moved, outputs, layers_cell(row), faster)


def layers_cell(row: dict[str, Any]) -> str:
    """ "18.5 (conv 19.0, depthwise 12.3)" dB, and "3 of 26" where some layers were left as they were."""
    if row.get("layers_sqnr_db") is None:
        return ""
    kinds = row.get("by_kind_db", {})
    shown = (f"{kind} {'exact' if value > EXACT_DB else f'{value:.1f}'}" for kind, value in kinds.items())
    each = f" ({', '.join(shown)})" if len(kinds) > 1 else ""
    changed, left = row.get("layers_changed", 0), sum(row.get("left_as_they_were", {}).values())
    return f"{row['layers_sqnr_db']:.1f}{each}{f', {changed} of {changed + left}' if left else ''}"


def ladders_table(ladders: dict[str, Any]) -> str:
    """What each recipe of passes costs and brings."""
    columns = ("task: ladder", "recipe", "metric %", "worse / better", "outputs dB", "layers dB", "times as fast")
    return markdown(columns, [row for found in ladders["results"] for row in ladder_rows(found)])


def circumstances(models: dict[str, Any]) -> str:
    """When, where, beside whom."""
    rows = [row for result in models["results"] for row in result["candidates"].values() if row["peer"] != "edgezip"]
    versions = sorted({f"{row['peer']} {row['version'].split('-')[0]}" for row in rows if "version" in row})
    where = f"{models['environment']['cpu']}, {models['environment']['cores']} cores"
    return f"Measured {models['date'][:10]}, {where}; one thread in processor time. Beside: {', '.join(versions)}."


def section(folder: Path) -> str:
    """All tables, with the circumstances in front."""
    models, operators = newest("models", folder), newest("kernels", folder)
    single = [result for result in models["results"] if result["threads"] == 1]
    parts = [circumstances(models), "`python -m bench.models`", models_table(single, "")]
    for level in ratios.LEVELS[1:]:
        if any(f"edgezip int8 {level}" in result["candidates"] for result in single):
            parts += [f"Held to {level}, peers too: `python -m bench.models --isa {level}`", models_table(single, level)]
    if any(result["threads"] == 2 for result in models["results"]):
        parts += ["`python -m bench.models --threads 1,2` (wall clock)", threads_table(models["results"])]
    parts += ["`python -m bench.kernels`", kernels_table(operators["results"])]
    for other in sorted({path.parent for path in folder.glob("*/*-models.json")}):
        models = newest("models", other)
        alone = [result for result in models["results"] if result["threads"] == 1]
        parts += [f"Another machine. {circumstances(models)}", "`python -m bench.models`", models_table(alone, "")]
    return "\n\n".join(parts)


def replaced(text: str, tables: str, begin: str = BEGIN, end: str = END) -> str:
    """``text`` with ``tables`` between the marks; raises MissingFileError when it has no marks."""
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise MissingFileError("the text has no place for the tables", where="README", expected=f"{begin} ... {end}")
    return f"{before}{begin}\n\n{tables}\n\n{end}{after}"


def main() -> int:
    """Prints, or writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=protocol.RESULTS)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    tables, ladders = section(arguments.results), ladders_table(newest("ladders", arguments.results))
    agreement = agreement_table(newest("agreement", arguments.results)["rows"])
    if arguments.write:
        text = replaced(arguments.write.read_text(), tables)
        text = replaced(text, agreement, AGREEMENT_BEGIN, AGREEMENT_END)
        arguments.write.write_text(replaced(text, ladders, LADDERS_BEGIN, LADDERS_END))
    else:
        print(f"{agreement}\n\n{tables}\n\n{ladders}")
    return 0


if __name__ == "__main__":
    protocol.run_command(main)
