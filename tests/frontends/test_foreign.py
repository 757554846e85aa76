"""Files that are not read: each is called by its name and comes with the way to one that is."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import edgezip
from edgezip.cli.main import main
from edgezip.errors import MissingFileError, UnsupportedModelError

FILES = {
    "model.h5": ("a Keras file", "export('model.onnx', format='onnx')"),
    "model.keras": ("a Keras file", "TFLiteConverter.from_keras_model"),
    "frozen.pb": ("a TensorFlow graph", "tf2onnx"),
    "net.pth": ("runs whatever code it holds", "torch.export.save"),
    "net.pt": ("runs whatever code it holds", "edgezip.compile(module, example_inputs=(...))"),
    "net.safetensors": ("weights without a graph", "weights alone are no model"),
    "llama.gguf": ("a language model in GGUF", "weights alone are no model"),
    "net.mlmodel": ("a Core ML model", "what it was converted from"),
    "net.pkl": ("a pickle", "torch.export.save"),
    "net.ort": ("ONNX Runtime format", ".onnx file it was converted from"),
    "net.foo": ("files of type '.foo'", "export the model to ONNX"),
    "net": ("files of type 'none'", "export the model to ONNX"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_named_with_the_way_out(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x80\x02 something")
    for verb in (["inspect"], ["compile", "-o", str(tmp_path / "m.ez")], ["bench"], ["run", "--input", "x.npy"], ["deploy"]):
        assert main([verb[0], str(path), *verb[1:]]) == 5, verb
        said = capsys.readouterr().err
        assert all(word in said for word in (name, *FILES[name])), said


def test_archives_of_torch_are_told_apart_without_unpickling(tmp_path: Path) -> None:
    for name, entry, says in (
        ("script.pt", "net/code/__torch__.py", "TorchScript"),
        ("program.pt", "net/archive_format", "rename it to .pt2"),
        ("module.pt", "net/data.pkl", "a module or its weights"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(entry, b"")
        with pytest.raises(UnsupportedModelError, match=says):
            edgezip.load(tmp_path / name)


def test_folders_and_missing_files_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    with pytest.raises(UnsupportedModelError, match="a folder, not a model file"):
        edgezip.load(saved)
    (saved / "config.json").touch()
    with pytest.raises(UnsupportedModelError, match="transformers model"):
        edgezip.load(saved)
    (saved / "saved_model.pb").touch()
    assert main(["compile", str(saved), "-o", str(tmp_path / "m.ez")]) == 5
    assert "SavedModel" in capsys.readouterr().err
    for name in ("none.onnx", "none.pt2", "none.tflite", "none.foo", "none.ez"):
        with pytest.raises(MissingFileError):
            edgezip.load(tmp_path / name)
        assert main(["bench", str(tmp_path / name)]) == 1
