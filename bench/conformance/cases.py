"""The public cases: Debian's ``libonnx-testdata`` and what the installed ``onnx`` brings along.

A data set is a name and a list of cases; a case is a model and one or more pairs of inputs and expected outputs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgezip.errors import MissingFileError

Array = np.ndarray[Any, Any]
PACKAGE = "libonnx-testdata"
INSTALLED = Path("/usr/share/libonnx-testdata/data")
FOLDERS = ("node", "simple", "pytorch-converted", "pytorch-operator")
RTOL, ATOL = 1e-3, 1e-7  # of onnx/backend/test/loader


@dataclass(slots=True)
class Case:
    """One case. ``pairs`` are (inputs, expected outputs) in the order of the graph; None stands for what is no tensor."""

    data_set: str
    name: str
    model: onnx.ModelProto
    pairs: list[tuple[list[Array | None], list[Array | None]]] = field(default_factory=list)
    rtol: float = RTOL
    atol: float = ATOL

    @property
    def operator(self) -> str:
        """What the case is about: the operator of a node case, else the data set."""
        domains = {node.domain for node in self.model.graph.node}
        types = [node.op_type for node in self.model.graph.node if node.op_type != "Constant"]
        if len(types) == 1 and domains <= {"", "ai.onnx"}:
            return str(types[0])
        found = re.match(r"test_(.+)_expanded", self.name)
        return f"{len(types)} nodes" if not found else "function body"


def debian_data(work: Path) -> Path:
    """The folder of Debian's test data: the installed package, or one fetched with apt and unpacked under ``work`` (no root).

    Raises MissingFileError when there is neither.
    """
    if INSTALLED.is_dir():
        return INSTALLED
    unpacked = work / "debian"
    data = unpacked / INSTALLED.relative_to("/")
    if data.is_dir():
        return data
    work.mkdir(parents=True, exist_ok=True)
    try:
        fetched = subprocess.run(["apt-get", "-q", "download", PACKAGE], cwd=work, capture_output=True, text=True, check=False)
        archives = sorted(work.glob(f"{PACKAGE}_*.deb"))
        if archives:
            subprocess.run(["dpkg", "-x", str(archives[-1]), str(unpacked)], check=True, capture_output=True)
        reason = fetched.stderr.strip()[-200:]
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(error)
    if not data.is_dir():
        raise MissingFileError(f"no test data: {reason}", where=str(data), hint=f"apt install {PACKAGE}, or run this on Debian")
    return data


def wheel_data() -> Path:
    """The folder of test data inside the installed onnx."""
    return Path(onnx.__file__).parent / "backend" / "test" / "data"


def data_sets(work: Path) -> dict[str, list[Case]]:
    """Every case of every data set, by name of the set."""
    debian, wheel = debian_data(work), wheel_data()
    sets = {f"debian {folder}": list(_stored(f"debian {folder}", debian / folder)) for folder in FOLDERS}
    sets |= {f"onnx {folder}": list(_stored(f"onnx {folder}", wheel / folder)) for folder in FOLDERS if (wheel / folder).is_dir()}
    sets["onnx node"] = list(_generated())
    sets["onnx light"] = list(_light(wheel / "light"))
    return sets


def _stored(data_set: str, folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("*/model.onnx")):
        model = onnx.load(path)
        limits = path.with_name("data.json")
        held = json.loads(limits.read_text()) if limits.is_file() else {}
        case = Case(data_set, path.parent.name, model, rtol=held.get("rtol", RTOL), atol=held.get("atol", ATOL))
        for pair in sorted(path.parent.glob("test_data_set_*")):
            inputs = _read(pair, "input", list(model.graph.input))
            case.pairs.append((inputs, _read(pair, "output", list(model.graph.output))))
        yield case


def _read(folder: Path, kind: str, declared: list[onnx.ValueInfoProto]) -> list[Array | None]:
    count = len(list(folder.glob(f"{kind}_*.pb")))
    return [_tensor((folder / f"{kind}_{i}.pb").read_bytes(), declared[i]) for i in range(count)]


def _tensor(data: bytes, info: onnx.ValueInfoProto) -> Array | None:
    if info.type.WhichOneof("value") != "tensor_type":
        return None
    return np.asarray(numpy_helper.to_array(onnx.TensorProto.FromString(data)))


def _generated() -> Iterator[Case]:
    """The node cases of the installed onnx: its own code makes them, newest operator sets included."""
    from onnx.backend.test.case.node import collect_testcases

    np.random.seed(0)  # noqa: NPY002 (the cases draw from the legacy generator)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for made in found:
        if made.model is None:
            continue
        case = Case("onnx node", made.name, made.model, rtol=made.rtol, atol=made.atol)
        for inputs, outputs in made.data_sets or []:
            case.pairs.append(([_array(x) for x in inputs], [_array(y) for y in outputs]))
        yield case


def _array(value: Any) -> Array | None:
    if isinstance(value, onnx.TensorProto):
        return np.asarray(numpy_helper.to_array(value))
    return np.asarray(value) if isinstance(value, (np.ndarray, np.generic, float, int)) else None


def _light(folder: Path) -> Iterator[Case]:
    """Whole networks with made-up weights; the input is the ramp that onnx's own runner feeds them."""
    for path in sorted(folder.glob("*.onnx")):
        model = onnx.load(path)
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs: list[Array | None] = []
        for info in model.graph.input:
            if info.name in constants:
                continue
            dims = [dim.dim_value or 1 for dim in info.type.tensor_type.shape.dim]
            count = int(np.prod(dims))
            inputs.append((np.arange(count).reshape(dims) / count).astype(np.float32))
        stored = _tensor(path.with_name(f"{path.stem}_output_0.pb").read_bytes(), model.graph.output[0])
        yield Case("onnx light", path.stem, model, [(inputs, [stored])])


def default_work() -> Path:
    """Where fetched data goes unless told otherwise."""
    return Path(os.environ.get("EDGEZIP_WORK", ".work")) / "conformance"
