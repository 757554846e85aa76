"""PyTorch modules and .pt2 files: the answers of torch, names kept, the module untouched, and errors with a way out."""

from __future__ import annotations

import copy
import importlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgezip
from edgezip import frontends, graph
from edgezip.errors import EdgeZipError, InvalidModelError, ShapeError, UnsupportedModelError, UsageError
from edgezip.frontends.torch.archive import is_arithmetic

# never skipped in CI for want of torch: `make test` installs it
torch = importlib.import_module("torch") if os.environ.get("EDGEZIP_REQUIRE_TOOLS") else pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402
from torch_nets import CASES, IMAGE, Residual, trained  # noqa: E402

Array = np.ndarray[Any, Any]
logging.getLogger("torch.__trace").propagate = False  # pytest would keep megabytes of it


def by_torch(module: nn.Module, inputs: Any) -> list[Array]:
    exact = copy.deepcopy(module).eval()
    with torch.no_grad():
        made = exact(**inputs) if isinstance(inputs, dict) else exact(*inputs)
    return [leaf.detach().numpy() for leaf in torch.utils._pytree.tree_leaves(made) if leaf is not None]


def feeds_of(model: Any, inputs: Any) -> dict[str, Array]:
    leaves = torch.utils._pytree.tree_leaves(inputs)
    names = [str(value.name) for value in graph.input_values(model)]
    return {name: leaf.numpy() for name, leaf in zip(names, leaves, strict=True)}


def close(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    scale = max(float(np.abs(want).max()), 1e-3)
    assert float(np.abs(got - want).max()) <= 1e-4 * scale


@pytest.mark.parametrize("name", CASES)
def test_the_model_answers_as_torch_does(name: str) -> None:
    make, inputs = CASES[name]
    module = trained(make)
    model = edgezip.load(module, example_inputs=inputs)
    session = edgezip.Session(edgezip.compile(model, vectors=0))
    got, wanted = session.run(feeds_of(model, inputs)), by_torch(module, inputs)
    for value, want in zip(graph.output_values(model), wanted, strict=True):
        close(got[str(value.name)], want)


class Chosen(nn.Module):
    """Rows by a mask, elements by a mask, as detection heads choose boxes."""

    def forward(self, x: Any, boxes: Any) -> Any:
        best, kind = x.max(1)
        sure = best > 0.6
        return boxes[sure], kind[sure], x[x > 0.5] * 2, torch.masked_select(x, x > 0.9), sure.nonzero()


def test_masks_give_counted_rows() -> None:
    x = torch.rand(20, 5, generator=torch.Generator().manual_seed(1))
    inputs = x, torch.randn(20, 4)
    got = edgezip.Session(edgezip.compile(Chosen(), example_inputs=inputs)).run({"x": x.numpy(), "boxes": inputs[1].numpy()})
    for number, want in enumerate(by_torch(Chosen(), inputs)):
        rows = got[f"output_{number}"][: int(got[f"output_{number}.count"][0])]
        assert np.array_equal(rows, want)


def test_compile_and_compress_take_a_module() -> None:
    module = trained(Residual)
    program = edgezip.compile(module, example_inputs=IMAGE, vectors=1)
    assert [program.tensors[i].name for i in program.outputs] == ["output"]
    samples = [{"x": np.random.default_rng(i).standard_normal((1, 3, 32, 32), np.float32)} for i in range(4)]
    small = edgezip.compress(module, example_inputs=IMAGE, calibration=samples)
    assert small.report.output_sqnr_db["output"] > 20
    with pytest.raises(UsageError, match="give example_inputs"):
        edgezip.compile(module)
    with pytest.raises(UsageError, match="not a model"):
        edgezip.compile(3)


# ---------------------------------------------------------------- the module stays as it was


def state_of(module: nn.Module) -> Any:
    tensors = {name: value.clone() for name, value in module.state_dict().items()}
    facts = [(id(part), part.training, list(part._forward_pre_hooks), sorted(vars(part))) for part in module.modules()]
    return tensors, facts, [id(parameter) for parameter in module.parameters()]


def unchanged(module: nn.Module, before: Any) -> None:
    tensors, facts, parameters = state_of(module)
    assert facts == before[1]
    assert parameters == before[2]
    assert all(torch.equal(tensors[name], value) for name, value in before[0].items())


class Slim(nn.Module):
    """One layer of each kind that the utilities below rewrite."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear, self.norm = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(self.conv(x)).mean((2, 3)))


class EveryThird(prune.BasePruningMethod):
    """A pruning method of the user's own."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: torch.Tensor, default_mask: torch.Tensor) -> torch.Tensor:
        mask = default_mask.clone()
        mask.view(-1)[::3] = 0
        return mask


def _pruned(module: Slim) -> None:
    prune.l1_unstructured(module.conv, "weight", 0.5)
    prune.random_structured(module.linear, "weight", 0.4, dim=0)
    prune.l1_unstructured(module.linear, "bias", 2)


def _masked(module: Slim) -> None:
    prune.custom_from_mask(module.conv, "weight", (module.conv.weight.abs() > 0.1).float())
    EveryThird.apply(module.linear, "weight")
    prune.l1_unstructured(module.linear, "weight", 2)  # a second one over the first


def _old_hooks(module: Slim) -> None:
    torch.nn.utils.weight_norm(module.conv)
    torch.nn.utils.spectral_norm(module.linear)
    module(*IMAGE)  # the power iteration has run


def _parametrized(module: Slim) -> None:
    parametrizations.weight_norm(module.conv)
    parametrizations.spectral_norm(module.linear)


@pytest.mark.parametrize("slim", [_pruned, _masked, _old_hooks, _parametrized])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_masks_and_parametrizations_are_made_permanent_under_the_names_of_the_weights(slim: Callable[[Slim], None]) -> None:
    module = Slim().train()
    slim(module)
    before = state_of(module)
    model = frontends.load_torch(module, IMAGE)
    unchanged(module, before)
    found = {str(value.name): graph.constant(value) for value in graph.initializers(model)}
    module.eval()
    factor = (module.norm.weight / torch.sqrt(module.norm.running_var + module.norm.eps)).detach()  # BatchNorm is folded in
    expected = (module.conv.weight * factor[:, None, None, None]).detach().numpy()
    np.testing.assert_allclose(found["conv.weight"], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found["linear.weight"], module.linear.weight.detach().numpy(), rtol=1e-5, atol=1e-7)
    assert not any("orig" in name or "mask" in name or "parametrizations" in name for name in found)
    if slim in (_pruned, _masked):
        assert np.count_nonzero(found["conv.weight"] == 0) == int((module.conv.weight == 0).sum()) > 10


def test_training_mode_is_read_as_evaluation_and_left_as_it_was() -> None:
    module = trained(Residual).train()
    module.norm_a.eval()  # frozen, as in fine-tuning
    before = state_of(module)
    program = edgezip.compile(module, example_inputs=IMAGE, vectors=0)
    unchanged(module, before)
    close(edgezip.Session(program).run({"x": IMAGE[0].numpy()})["output"], by_torch(module, IMAGE)[0])


def test_equal_weights_stay_two_and_folded_ones_keep_their_names() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    module[2].load_state_dict(module[0].state_dict())
    model = frontends.load_torch(module, (torch.randn(2, 3, 4),))  # of rank 3: the exporter transposes the weights
    names = {str(value.name) for value in graph.initializers(model)}
    assert {"0.weight", "0.bias", "2.weight", "2.bias"} <= names
    kept = next(value for value in graph.initializers(model) if value.name == "2.weight")
    assert graph.get_metadata(kept, "edgezip.parameters") == "2.weight"
    np.testing.assert_array_equal(graph.constant(kept), module[2].weight.detach().numpy().T)


# ---------------------------------------------------------------- inputs, outputs, dimensions


class Tree(nn.Module):
    """Nested inputs and outputs; an input handed through, a constant, the same value twice, an input that is not read."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0, 3.0]))

    def forward(self, pair: Any, unread: torch.Tensor, factor: float = 2.0) -> Any:
        a, b = pair["a"], pair["rest"][0]
        y = a * factor + b
        return {"sum": y, "again": [y, a], "scale": self.scale, "none": None}


def test_nested_inputs_and_outputs_have_names() -> None:
    inputs = ({"a": torch.randn(1, 2), "rest": (torch.randn(1, 2),)}, torch.randn(1, 1), 3.0)
    model = frontends.load_torch(Tree(), inputs)
    assert [value.name for value in graph.input_values(model)] == ["pair_a", "pair_rest_0", "unread"]
    assert [value.name for value in graph.output_values(model)] == ["sum", "again_0", "again_1", "scale_out"]
    feeds = dict(
        zip(
            ("pair_a", "pair_rest_0", "unread"),
            (t.numpy() for t in (inputs[0]["a"], inputs[0]["rest"][0], inputs[1])),
            strict=True,
        )
    )
    got = graph.run(model, feeds, ["sum", "again_0", "again_1", "scale_out"])
    for name, want in zip(got, by_torch(Tree(), inputs), strict=True):
        np.testing.assert_allclose(got[name], want, rtol=1e-6)


@pytest.mark.parametrize("named", ["batch", "Dim"])
def test_dynamic_dimensions_keep_their_names_and_take_a_size(named: str) -> None:
    width = "width" if named == "batch" else torch.export.Dim("width", min=4, max=64)
    module = nn.Conv2d(3, 4, 3)
    dynamic = {"input": {0: "batch", 3: width}}
    with pytest.raises(ShapeError, match=r"input 'input' has unknown dimensions .*batchx3x16xwidth"):
        frontends.load_torch(module, (torch.randn(2, 3, 16, 20),), dynamic_shapes=dynamic)
    model = frontends.load_torch(module, (torch.randn(2, 3, 16, 20),), dynamic_shapes=dynamic, shapes={"input": (1, 3, 16, 40)})
    assert graph.shape(graph.output_values(model)[0]) == (1, 4, 14, 38)
    with pytest.raises(ShapeError, match="dynamic_shapes do not fit"):
        frontends.load_torch(nn.Linear(4, 4), (torch.randn(2, 4),), dynamic_shapes={"input": {1: width}})


def test_a_program_of_a_module_runs_every_size_within_its_bounds() -> None:
    module = nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 2, 1)).eval()
    program = edgezip.compile(
        module, example_inputs=(torch.randn(1, 3, 20),), dynamic_shapes={"input": {2: "time"}}, dims={"time": "4..40"}
    )
    session = edgezip.Session(program)
    for size in (4, 17, 40):
        x = torch.randn(1, 3, size)
        close(session.run({"input": x.numpy()})["output"], by_torch(module, (x,))[0])
    with pytest.raises(UsageError, match="the torch module with dynamic_shapes"):
        edgezip.compile(frontends.load_torch(module, (torch.randn(1, 3, 20),)), dims={"time": "4..40"})


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_modules_of_other_floats_are_computed_in_float32(kind: torch.dtype) -> None:
    module = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)).to(kind)
    x = torch.randn(2, 6, dtype=kind)
    got = edgezip.Session(edgezip.compile(module, example_inputs=(x,), vectors=0)).run({"input": x.float().numpy()})["output"]
    assert got.dtype == np.float32
    wanted = module.float()(x.float()).detach().numpy()  # the weights have been rounded to the kind already
    close(got, wanted)


# ---------------------------------------------------------------- what is refused


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x - 1


class Counts(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.arange(int(x.max().item())) + 1


class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(1, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + self.last
        self.last.copy_(x)
        return y


class Holds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = (i for i in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@torch.library.custom_op("edgeziptest::twice", mutates_args=())
def _twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@_twice.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


class Custom(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _twice(x) + 1


class Spectrum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svd(x)[1]


REFUSED: dict[str, tuple[Callable[[], nn.Module], Any, type[EdgeZipError], str]] = {
    "control flow": (Branches, (torch.ones(1, 4),), UnsupportedModelError, r"depends on the data; torch.export says .*where"),
    "a size from data": (Counts, (torch.ones(1, 4),), UnsupportedModelError, "torch.export says|no kernel|depend on the data"),
    "a written buffer": (Remembers, (torch.ones(1, 4),), UnsupportedModelError, r"forward writes last.*an input and an output"),
    "no copy": (Holds, (torch.ones(1, 4),), UnsupportedModelError, "cannot be copied: cannot pickle 'generator'"),
    "a custom operator": (Custom, (torch.ones(1, 4),), UnsupportedModelError, r"other libraries: edgeziptest\.twice\.default"),
    "no ONNX form": (Spectrum, (torch.ones(4, 4),), UnsupportedModelError, "no ONNX form of aten|has no kernel"),
    "a wrong shape": (Residual, (torch.ones(1, 4, 8, 8),), UsageError, "forward fails on the example inputs: Runtime.*channels"),
    "too few inputs": (Tree, (torch.ones(1, 4),), UsageError, "missing 1 required positional argument"),
    "no tensor": (Residual, (3,), UsageError, "no tensor among the example inputs"),
    "nothing": (Residual, None, UsageError, "give example_inputs"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taken_is_refused_with_what_torch_said(case: str) -> None:
    make, inputs, kind, says = REFUSED[case]
    with pytest.raises(kind, match=says):
        edgezip.compile(make(), example_inputs=inputs)


def test_torchscript_is_refused_with_the_way_out() -> None:
    with pytest.raises(UnsupportedModelError, match=r"TorchScript.*nn\.Module"):
        frontends.load_torch(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), (torch.ones(1, 2),))


# ---------------------------------------------------------------- files


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "net.pt2"
    torch.export.save(torch.export.export(trained(Residual).eval(), IMAGE), path)
    return path


def test_a_saved_program_is_compiled_from_its_file(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edgezip.cli.main import main

    assert main(["compile", str(saved), "-o", str(tmp_path / "net.ez"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["path"] == str(saved)
    session = edgezip.Session(tmp_path / "net.ez")
    close(session.run({"x": IMAGE[0].numpy()})["output"], by_torch(trained(Residual), IMAGE)[0])


def test_a_saved_program_is_its_own_reference(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edgezip.cli.main import main

    assert main(["verify", str(saved), "--metric", "sqnr", "--min", "90"]) == 0
    assert "against " in capsys.readouterr().out
    assert main(["bench", str(saved), "--compare", "onnxruntime", "--runs", "2", "--min-time", "0", "--json"]) == 0
    assert "net.pt2" in capsys.readouterr().out


def test_a_saved_program_with_a_dynamic_dimension_takes_a_size(tmp_path: Path) -> None:
    module, dim = nn.Linear(4, 3).eval(), torch.export.Dim("batch", min=1, max=16)
    torch.export.save(torch.export.export(module, (torch.randn(2, 4),), dynamic_shapes=({0: dim},)), tmp_path / "net.pt2")
    model = edgezip.load(tmp_path / "net.pt2", shapes={"input": (5, 4)})
    assert graph.shape(graph.output_values(model)[0]) == (5, 3)
    program = edgezip.compile(tmp_path / "net.pt2", dims={"input_dim_0": "1..8"})
    x = torch.randn(7, 4)
    close(edgezip.Session(program).run({"input": x.numpy()})["output"], by_torch(module, (x,))[0])


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("s77", True),
        ("Symbol('s77', positive=True, integer=True)", True),
        ("2*Symbol('s0', integer=True) + FloorDiv(u1, 3) - 1", True),
        ("Max(1, s0) <= 4", True),
        ("__import__('os').system('true')", False),
        ("s0.__class__", False),
        ("open('x')", False),
        ("(lambda: 1)()", False),
        ("Symbol('__import__')", False),
        ("Symbol(open('x'))", False),
        ("[s0][0]", False),
        ("'text'", False),
        ("s0 +", False),
        ("(" * 400 + "1" + ")" * 400, False),
    ],
)
def test_only_arithmetic_of_dimensions_is_evaluated(text: str, is_plain: bool) -> None:
    assert is_arithmetic(text) is is_plain


def rewritten(
    source: Path, path: Path, change: Callable[[str, bytes], bytes | None], compression: int = zipfile.ZIP_STORED
) -> Path:
    """The archive with each entry as ``change`` gives it; None drops it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for entry in old.infolist():
            data = change(entry.filename.partition("/")[2], old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data)
    return path


class Marker:
    """Pickled, it would leave a file behind when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def _replaced(name: str, old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    def change(entry: str, data: bytes) -> bytes:
        if entry != name:
            return data
        assert old in data
        return data.replace(old, new)

    return change


WEIGHTS, CONSTANTS, GRAPH = (
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
    "models/model.json",
)
OPAQUE = b'{"a": {"path_name": "opaque_obj_0", "use_pickle": true, "tensor_meta": null}}'
CODE = b"""{"as_expr": {"expr_str": "__import__('os').getpid()", "hint": null}}"""
HOSTILE: dict[str, tuple[Callable[[str, bytes], bytes | None], str]] = {
    "a pickled weight": (_replaced(WEIGHTS, b'"use_pickle": false', b'"use_pickle": true'), "unpickle it"),
    "an opaque constant": (_replaced(CONSTANTS, b"{}", OPAQUE), "unpickle it"),
    "a huge weight": (_replaced(WEIGHTS, b'"as_int": 10}', b'"as_int": 99999999999}'), "larger than the file"),
    "a call of another function": (_replaced(GRAPH, b"torch.ops.aten.relu.default", b"torch.hub.load"), "not one of torch's own"),
    "code in an expression": (_replaced(GRAPH, b'{"as_int": 32}', CODE), "no arithmetic"),
    "no weights": (lambda name, data: None if name == WEIGHTS else data, "damaged"),
    "no format": (lambda name, data: None if name == "archive_format" else data, "another kind"),
    "compiled code": (lambda name, data: data, "AOTInductor"),
    "broken JSON": (_replaced(GRAPH, b'"graph_module"', b'"graph_module'), "damaged"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_would_run_code_or_lies_is_refused_before_torch_sees_it(case: str, saved: Path, tmp_path: Path) -> None:
    change, says = HOSTILE[case]
    path = rewritten(saved, tmp_path / "bad.pt2", change)
    if case == "compiled code":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("net/data/aotinductor/model/model.so", b"\x7fELF")
    with pytest.raises((InvalidModelError, UnsupportedModelError), match=says):
        edgezip.load(path)


def test_pickled_example_inputs_are_not_loaded(saved: Path, tmp_path: Path) -> None:
    buffer, mark = io.BytesIO(), tmp_path / "mark"
    torch.save((Marker(mark),), buffer)
    path = rewritten(
        saved, tmp_path / "bad.pt2", lambda name, data: buffer.getvalue() if name.startswith("data/sample") else data
    )
    with pytest.raises(UnsupportedModelError, match="example inputs are not plain tensors"):
        edgezip.load(path)
    assert not mark.exists()


def test_compressed_entries_are_refused(saved: Path, tmp_path: Path) -> None:
    path = rewritten(saved, tmp_path / "bad.pt2", lambda name, data: data, zipfile.ZIP_DEFLATED)
    with pytest.raises(InvalidModelError, match="compressed"):
        edgezip.load(path)


def test_damaged_files_give_a_typed_error(saved: Path, tmp_path: Path) -> None:
    data, rng, path = saved.read_bytes(), np.random.default_rng(3), tmp_path / "bad.pt2"
    for length in np.linspace(0, len(data) - 1, 40).astype(int):
        path.write_bytes(data[:length])
        with pytest.raises(EdgeZipError):
            edgezip.load(path)
    with zipfile.ZipFile(saved) as archive:  # mutations inside of an archive whose checksums are right
        graph_of = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    texts = [name for name in graph_of if name.endswith(".json")]
    refused = 0
    for number in range(60):
        name = texts[number % len(texts)]
        changed = bytearray(graph_of[name])
        for _ in range(3):
            changed[int(rng.integers(len(changed)))] = int(rng.integers(32, 127))
        rewritten(saved, path, lambda entry, old, n=name, new=bytes(changed): new if n.endswith(entry) else old)
        try:
            edgezip.load(path)
        except EdgeZipError:
            refused += 1
    assert refused > 20
