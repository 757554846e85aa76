"""Files that are models of something else: what each is, and how to get from it to a file that is read."""

from __future__ import annotations

import zipfile
from pathlib import Path

from edgezip.errors import EdgeZipError, MissingFileError, UnsupportedModelError

READ = ".onnx, .tflite or .pt2"
TO_ONNX = "export the model to ONNX, opset 1 to 28, and name the file .onnx"
FROM_KERAS = (
    "in Keras: keras.models.load_model(FILE).export('model.onnx', format='onnx'), or "
    "tf.lite.TFLiteConverter.from_keras_model(model).convert()"
)
FROM_SAVED_MODEL = (
    "python -m tf2onnx.convert --saved-model FOLDER --output model.onnx, "
    "or tf.lite.TFLiteConverter.from_saved_model(FOLDER).convert()"
)
FROM_TORCH = (
    "load it in Python with the code that defines the module, then edgezip.compile(module, example_inputs=(...)), or "
    "torch.export.save(torch.export.export(module.eval(), example_inputs), 'model.pt2')"
)
FROM_WEIGHTS = f"weights alone are no model: {FROM_TORCH}"
KINDS: dict[str, tuple[str, str]] = {
    ".h5": ("a Keras file", FROM_KERAS),
    ".hdf5": ("a Keras file", FROM_KERAS),
    ".keras": ("a Keras file", FROM_KERAS),
    ".pb": ("a TensorFlow graph", FROM_SAVED_MODEL),
    ".pkl": ("a pickle: loading it runs whatever code it holds", FROM_TORCH),
    ".pickle": ("a pickle: loading it runs whatever code it holds", FROM_TORCH),
    ".joblib": ("a pickle: loading it runs whatever code it holds", "convert it with skl2onnx, hummingbird-ml or alike"),
    ".ckpt": ("a checkpoint", FROM_WEIGHTS),
    ".bin": ("weights without a graph", FROM_WEIGHTS),
    ".safetensors": ("weights without a graph", FROM_WEIGHTS),
    ".npz": ("arrays without a graph", FROM_WEIGHTS),
    ".gguf": ("a language model in GGUF, weights without a graph", FROM_WEIGHTS),
    ".ggml": ("a language model in GGML, weights without a graph", FROM_WEIGHTS),
    ".mlmodel": ("a Core ML model", f"go back to what it was converted from: {TO_ONNX}"),
    ".mlpackage": ("a Core ML model", f"go back to what it was converted from: {TO_ONNX}"),
    ".pte": ("an ExecuTorch program", f"go back to the module: {FROM_TORCH}"),
    ".ptl": ("a TorchScript file for mobile", f"go back to the module: {FROM_TORCH}"),
    ".xml": ("an OpenVINO graph", f"go back to what it was converted from: {TO_ONNX}"),
    ".param": ("an ncnn graph", f"go back to what it was converted from: {TO_ONNX}"),
    ".mnn": ("an MNN model", f"go back to what it was converted from: {TO_ONNX}"),
    ".ort": ("an ONNX Runtime format file", "give the .onnx file it was converted from"),
    ".engine": ("a TensorRT engine", "give the .onnx file it was built from"),
    ".plan": ("a TensorRT engine", "give the .onnx file it was built from"),
    ".trt": ("a TensorRT engine", "give the .onnx file it was built from"),
    ".caffemodel": ("a Caffe model", TO_ONNX),
    ".prototxt": ("a Caffe graph", TO_ONNX),
    ".pdmodel": ("a Paddle model", "paddle2onnx --model_dir FOLDER --model_filename model.pdmodel --save_file model.onnx"),
    ".mlir": ("an MLIR module", TO_ONNX),
}
PICKLES = {".pt", ".pth"}


def refusal(path: Path) -> EdgeZipError:
    """The error to raise for a path whose suffix is none of those that are read."""
    suffix, where = path.suffix.lower(), str(path)
    if path.is_dir():
        what, hint = _folder(path)
    elif not path.exists():
        return MissingFileError("no such model", where=where, expected=f"a {READ} file", hint="check the path")
    elif suffix in PICKLES:
        what, hint = _torch_file(path)
    else:
        what, hint = KINDS.get(suffix, (f"files of type '{suffix or 'none'}' are not read", TO_ONNX))
    return UnsupportedModelError(what, where=where, expected=READ, hint=hint)


def _folder(path: Path) -> tuple[str, str]:
    if (path / "saved_model.pb").is_file():
        return "a TensorFlow SavedModel", FROM_SAVED_MODEL
    if (path / "config.json").is_file():
        return "a folder of a transformers model", f"optimum-cli export onnx --model {path} OUT, or {FROM_TORCH}"
    if path.suffix.lower() in KINDS:
        return KINDS[path.suffix.lower()]
    return "a folder, not a model file", TO_ONNX


def _torch_file(path: Path) -> tuple[str, str]:
    """What a .pt or .pth file is, by the names of its entries: nothing of it is unpickled."""
    if not zipfile.is_zipfile(path):
        return "a pickle of torch: loading it runs whatever code it holds", FROM_TORCH
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        return f"a damaged archive of torch ({error})", FROM_TORCH
    if "archive_format" in names:
        return "an exported program under another name", "rename it to .pt2"
    if any(name.startswith("code/") for name in names):
        return "a TorchScript file", f"go back to the module: {FROM_TORCH}"
    return "a pickle of torch, a module or its weights: loading it runs whatever code it holds", FROM_TORCH
