"""A kit: the folder with everything that peers are made from and held against, for one network.

| file | what |
|---|---|
| float.onnx | float32 as published; shapes fixed, constants folded by ONNX Runtime |
| u8s8.onnx, s8s8.onnx | int8 QDQ by ONNX Runtime's static quantiser (min-max, per channel), activations uint8 or int8 |
| ours.onnx | int8 QDQ by our own quantiser |
| int8.ez, float.ez | our programs, packed for this machine (``pack_ours``) |
| feed.npz, reference.npz | one input and its outputs in float32 |
| calibration.npz | the samples that every quantiser saw, "name:number" |
| stored.feed.npz, stored.reference.npz | only where the int8 files take and give integers (``bench.one_op``) |

Other peers add their own files. Whatever is there is kept: delete the folder to make it anew.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import edgezip
from bench import ours
from bench.peers import onnxruntime_quantizer
from bench.zoo.task import Array, Task
from edgezip.errors import UnsupportedModelError
from edgezip.measure.onnx_reference import OnnxSession

CALIBRATION_SAMPLES = 32  # of the zoo's tasks; random nets have eight


def make(task: Task, work: Path, root: Path) -> Path:
    """The task's kit below ``root``; ``work`` is the zoo's folder."""
    kit = root / task.name
    if (kit / "complete").exists():
        return kit
    kit.mkdir(parents=True, exist_ok=True)
    feed = ours.first_feed(task, work)
    fix_shapes(task.model(work), feed, kit / "float.onnx")
    model = edgezip.load(str(task.model(work)), shapes=ours.shapes_of(feed))
    calibration = list(islice(task.calibration(work), CALIBRATION_SAMPLES))
    _save(kit / "calibration.npz", {f"{n}:{i}": a for i, sample in enumerate(calibration) for n, a in sample.items()})
    save_reference(kit, feed)
    for name, activations in (("u8s8", "uint8"), ("s8s8", "int8")):
        onnxruntime_quantizer.quantize(kit / "float.onnx", calibration, "minmax", kit / f"{name}.onnx", activations)
    small: Any = edgezip.compress(model, edgezip.Recipe.int8(), calibration=calibration)
    small.save(kit / "ours.onnx")
    (kit / "complete").touch()
    return kit


def fix_shapes(source: Path, feed: dict[str, Array], target: Path) -> None:
    """``source`` for the shapes of ``feed``, its constants folded, no operator replaced: what every peer starts from.

    The tool is ONNX Runtime's, so that what our own front end recognises is ours alone. Raises UnsupportedModelError when it
    puts in an operator of its own.
    """
    import onnxruntime

    model = onnx.load(str(source))
    for value in model.graph.input:
        if value.name in feed:
            fixed = onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, feed[value.name].shape)
            value.CopyFrom(fixed)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = str(target)
    settings.log_severity_level = 3
    # MatMul and bias as Reshape, Gemm, Reshape would suit its kernels, not everybody's
    kept = {"disabled_optimizers": ["MatMulAddFusion"], "providers": ["CPUExecutionProvider"]}
    onnxruntime.InferenceSession(model.SerializeToString(), settings, **kept)
    folded = onnx.load(str(target))
    own = sorted({node.op_type for node in folded.graph.node if node.domain not in ("", "ai.onnx")})
    if own:
        raise UnsupportedModelError("ONNX Runtime put in operators of its own", where=str(source), got=", ".join(own))
    standard = [item for item in folded.opset_import if item.domain in ("", "ai.onnx")]
    del folded.opset_import[:]
    folded.opset_import.extend(standard)
    onnx.save(onnx.shape_inference.infer_shapes(folded), str(target))


def pack_ours(kit: Path) -> None:
    """Packs both of our programs anew: kernels and layouts may have changed since the kit was made."""
    for source, program in (("ours.onnx", "int8.ez"), ("float.onnx", "float.ez")):
        edgezip.compile(str(kit / source), "host", vectors=0).save(kit / program)


def save_reference(kit: Path, feed: dict[str, Array]) -> None:
    """feed.npz and what float32 answers to it."""
    _save(kit / "feed.npz", feed)
    _save(kit / "reference.npz", OnnxSession(kit / "float.onnx").run(feed))


def _save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)
