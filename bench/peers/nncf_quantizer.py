"""NNCF's post-training quantisation of an ONNX file: run by the Python of the ``openvino`` environment, which has NNCF.

    .work/peers/openvino/bin/python -m bench.peers.nncf_quantizer FLOAT.onnx CALIBRATION.npz OUT.onnx SETTING

CALIBRATION.npz holds the samples as "name:number". The result is QDQ ONNX, which any runtime runs. Settings: ``fast`` (its
default: fast bias correction), ``accurate`` (full bias correction), ``mixed`` (asymmetric activations, its MIXED preset),
``whole`` (full bias correction, and all eight bits in the first layer too: they saturate on old processors, not as we run it).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers import environments
from bench.zoo.task import Feed
from edgezip.errors import ToolError

SETTINGS: dict[str, dict[str, Any]] = {
    "fast": {},
    "accurate": {"fast_bias_correction": False},
    "mixed": {"preset": "mixed"},
    "whole": {"fast_bias_correction": False, "overflow_fix": "disable"},
}
PEER = "openvino"


def quantize(model: Path, calibration: Iterable[Feed], setting: str, output: Path) -> Path:
    """Writes the quantised model. Raises ToolError: NNCF is not installed, or refuses."""
    python = environments.python(PEER)
    if python is None:
        raise ToolError("NNCF is not installed", where=PEER, hint=f"python -m bench.peers setup {PEER}")
    samples = output.with_suffix(".calibration.npz")
    held: dict[str, Any] = {f"{name}:{i}": array for i, feed in enumerate(calibration) for name, array in feed.items()}
    np.savez(samples, **held)
    command = [str(python), "-m", "bench.peers.nncf_quantizer", str(model), str(samples), str(output), setting]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    if done.returncode:
        raise ToolError("NNCF failed", where=str(model), got=(done.stderr.strip().splitlines() or ["no message"])[-1][:300])
    return output


def main(model: str, samples: str, output: str, setting: str) -> None:
    """The other side, where NNCF can be imported."""
    import nncf
    import onnx

    held = np.load(samples)
    names = {key.rpartition(":")[0] for key in held.files}
    feeds = [{name: held[f"{name}:{i}"] for name in names} for i in range(len(held.files) // len(names))]
    loaded = onnx.load(model)
    options = dict(SETTINGS[setting])
    if "preset" in options:
        options["preset"] = nncf.QuantizationPreset(options["preset"])
    if "overflow_fix" in options:
        fix = nncf.quantization.advanced_parameters.OverflowFix(options.pop("overflow_fix"))
        options["advanced_parameters"] = nncf.AdvancedQuantizationParameters(overflow_fix=fix)
    if sum(node.op_type == "Softmax" for node in loaded.graph.node) > 1:
        options["model_type"] = nncf.ModelType.TRANSFORMER  # as its documentation asks for
    small = nncf.quantize(loaded, nncf.Dataset(feeds), subset_size=len(feeds), **options)
    onnx.save(small, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
