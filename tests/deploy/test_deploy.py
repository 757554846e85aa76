"""The main job of deployment: build, send, prove, switch, measure; on a device over ssh and under emulation."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy_devices import SshDevice

from edgezip.cli import context
from edgezip.cli.main import main
from edgezip.deploy import deploy as deploy_module
from edgezip.deploy.deploy import BenchOptions, deploy
from edgezip.deploy.transports.local import LocalTransport
from edgezip.deploy.transports.qemu import QemuTransport
from edgezip.errors import DeviceError, ToolError
from edgezip.target import Target, load_target

OPTIONS = BenchOptions(warmup=1, runs=7, per_layer=True)


def put(program: Any, target: Target, transport: Any, dest: Path, **rest: Any) -> deploy_module.Deployment:
    return deploy(
        program, "demo", target, transport, dest=str(dest), cache_dir=context.current.cache_dir, bench=OPTIONS, **rest
    )  # fmt: skip


def other_bits(program: Any) -> Any:
    """The same program with one wrong byte in an expected output."""
    from copy import deepcopy

    bent = deepcopy(program)
    expected = np.array(bent.vectors[-1][-1])
    expected.view(np.uint8).reshape(-1)[0] ^= 1
    bent.vectors[-1][-1] = expected
    return bent


def without_vectors_but_one(program: Any) -> Any:
    """Another version of the same program."""
    from copy import copy

    other = copy(program)
    other.vectors = program.vectors[:1]
    return other


@pytest.mark.xdist_group("sshd")
def test_on_a_device_over_ssh_the_program_is_proved_and_measured(demo_programs, ssh_device: SshDevice, tmp_path: Path) -> None:
    program = demo_programs("host")
    transport = ssh_device.transport()
    stages: list[str] = []
    done = put(program, load_target("host"), transport, tmp_path, on_stage=lambda stage, *_: stages.append(stage))
    assert stages == ["build", "send", "verify", "bench"]
    assert done.verify.is_proof
    assert done.verify.vectors == len(program.vectors) > 0
    assert done.bench is not None
    assert done.bench.latency_us.n == 7
    assert done.bench.peak_memory_bytes > done.verify.arena_bytes
    assert [layer.name for layer in done.bench.layers or []] == [step.name for step in program.steps]
    manifest = json.loads((tmp_path / "demo/current/manifest.json").read_text())
    assert manifest["target"] == "host"
    assert set(manifest["files"]) == {"ez_run", "model.ez"}
    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=tmp_path / "demo/current", check=True)
    again = put(program, load_target("host"), transport, tmp_path)
    assert not again.installed.sent
    transport.close()


def test_a_program_that_computes_other_bits_never_goes_into_service(demo_programs, tmp_path: Path) -> None:
    """The planted fault: one byte of an expected output."""
    program, here = demo_programs("host"), LocalTransport(tmp_path)
    old = put(program, load_target("host"), here, Path("dest")).installed
    with pytest.raises(DeviceError, match=r"other bits.*1 bytes differ") as caught:
        put(other_bits(program), load_target("host"), here, Path("dest"))
    assert caught.value.exit_code == 1
    assert (tmp_path / "dest/demo/current").readlink().name == old.version
    assert len(list((tmp_path / "dest/demo").glob("????????????"))) == 1


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.xdist_group("cross")
def test_for_the_raspberry_pi_4_under_its_emulated_cpu_it_is_proved_and_never_timed(
    demo_programs, tmp_path: Path, require_tools
) -> None:
    require_tools("qemu-aarch64")
    target = load_target("rpi4")
    done = put(demo_programs("rpi4"), target, QemuTransport(target, tmp_path), Path("dest"))
    assert done.verify.is_proof
    assert done.verify.isa == "neon"
    assert done.bench is None
    assert done.runner_bytes < 440_000  # as tests/deploy/test_build.py says


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.xdist_group("cross")
def test_a_runner_built_for_a_newer_cpu_is_named_and_the_old_version_stays(
    demo_programs, tmp_path: Path, require_tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault: compiled for SVE, run on an A72."""
    require_tools("qemu-aarch64", "aarch64-linux-gnu-gcc")
    rpi4 = load_target("rpi4")
    device = QemuTransport(rpi4, tmp_path)
    old = put(demo_programs("rpi4"), rpi4, device, Path("dest")).installed
    monkeypatch.setenv("EDGEZIP_COMPILER", "gcc")
    newer = rpi4.model_copy(update={"gcc_flags": ("-march=armv8.2-a+sve",)})
    with pytest.raises(DeviceError, match=r"illegal instruction \(SIGILL\).*check --target"):
        put(demo_programs("rpi4"), newer, device, Path("dest"))
    assert (tmp_path / "dest/demo/current").readlink().name == old.version


def test_a_missing_emulator_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt install qemu-user"):
        QemuTransport(load_target("rpi4"), tmp_path)


def test_a_target_without_an_emulator_says_so(tmp_path: Path) -> None:
    target = load_target("rpi4").model_copy(update={"emulator": None})
    with pytest.raises(ToolError, match="no emulator"):
        QemuTransport(target, tmp_path)


class TestVerb:
    """``edgezip deploy`` from argument list to exit code."""

    pytestmark = pytest.mark.xdist_group("sshd")

    @pytest.fixture
    def model(self, demo_programs, tmp_path: Path) -> Path:
        path = tmp_path / "demo.ez"
        path.write_bytes(demo_programs("host").to_bytes())
        return path

    @pytest.fixture
    def there(self, ssh_device: SshDevice, tmp_path: Path) -> list[str]:
        config = str(ssh_device.config())
        return ["--host", ssh_device.host, "-p", str(ssh_device.port), "--ssh-config", config, "--dest", str(tmp_path / "dest")]

    def test_json_of_a_deployment_and_of_its_rollback(self, model: Path, there: list[str], tmp_path: Path, capsys) -> None:
        assert main(["deploy", str(model), *there, "--runs", "5", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["bitexact"]
        assert facts["latency_us"]["n"] == 5
        assert facts["power_source"] == "no sensor"
        assert Path(facts["folder"]) == tmp_path / "dest/demo" / facts["version"]
        assert main(["deploy", str(model), *there, "--rollback"]) == 1, "there is no earlier version"

    def test_rollback_names_the_model_or_takes_the_only_one(self, demo_programs, model: Path, tmp_path: Path, capsys) -> None:
        to = ["--dest", str(tmp_path / "dest")]
        assert main(["deploy", "--rollback", *to]) == 2
        assert "got none" in capsys.readouterr().err
        versions = []
        for program in (demo_programs("host"), without_vectors_but_one(demo_programs("host"))):
            model.write_bytes(program.to_bytes())
            assert main(["deploy", str(model), *to, "--json"]) == 0
            versions.append(json.loads(capsys.readouterr().out)["version"])
        assert main(["deploy", "--rollback", *to, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["name"], facts["version"], facts["replaced"]) == ("demo", versions[0], versions[1])
        model.unlink()
        assert main(["deploy", "demo", "--rollback", *to]) == 0
        assert versions[1] in capsys.readouterr().out
        (tmp_path / "dest/other").mkdir()
        (tmp_path / "dest/other/current").symlink_to("x")
        assert main(["deploy", "--rollback", *to]) == 2
        assert "demo, other" in capsys.readouterr().err

    def test_a_name_of_other_letters_gets_a_folder_of_its_own(self, model: Path, tmp_path: Path, capsys) -> None:
        named = model.rename(tmp_path / "模.ez")
        assert main(["deploy", str(named), "--dest", str(tmp_path / "dest"), "--json"]) == 0
        assert Path(json.loads(capsys.readouterr().out)["folder"]).parent.name.startswith("model-")
        assert main(["deploy", str(named), "--dest", str(tmp_path / "dest"), "--name", "digits", "--json"]) == 0
        assert Path(json.loads(capsys.readouterr().out)["folder"]).parent.name == "digits"

    def test_dry_run_in_json(self, model: Path, capsys) -> None:
        assert main(["deploy", str(model), "--dry-run", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["dry_run"]
        assert facts["runner_bytes"] > 0

    def test_an_onnx_model_for_a_device_needs_its_kind(self, capsys) -> None:
        from edgezip.data import DEMO_MODEL

        assert main(["deploy", str(DEMO_MODEL), "--host", "pi@raspberrypi.invalid"]) == 2
        assert "--target rpi4" in capsys.readouterr().err

    def test_a_device_that_does_not_answer_is_exit_code_4(self, model: Path, there: list[str], capsys) -> None:
        assert main(["deploy", str(model), *there, "-p", "1"]) == 4
        assert "refused" in capsys.readouterr().err

    def test_an_unknown_host_key_is_exit_code_4(self, model: Path, ssh_device: SshDevice, there: list[str]) -> None:
        assert main(["deploy", str(model), *there, "--ssh-config", str(ssh_device.config(None))]) == 4

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (["--target", "rpi44"], 2, "rpi4"), (["--target", "rpi4"], 2, "--host"), (["--host", "a b"], 2, "--host"),
            (["--dest", "a b"], 2, "--dest"),
            (["--host", "u@h", "--emulate"], 2, "leave one out"), (["--keep", "0"], 2, "keep"),
        ],
    )  # fmt: skip
    def test_wrong_use_is_one_clear_message(self, model: Path, arguments: list[str], code: int, said: str, capsys) -> None:
        assert main(["deploy", str(model), *arguments]) == code
        out, err = capsys.readouterr()
        assert said in err
        assert len(err.strip().splitlines()) == 1
        assert out == ""

    def test_a_model_that_is_not_there_or_not_a_program(self, tmp_path: Path, capsys) -> None:
        assert main(["deploy", str(tmp_path / "no.ez")]) == 1
        (tmp_path / "bad.ez").write_bytes(os.urandom(100))
        assert main(["deploy", str(tmp_path / "bad.ez")]) == 1
        assert "Traceback" not in capsys.readouterr().err

    def test_ctrl_c_says_so_with_exit_code_130(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
    ) -> None:
        def interrupted(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(deploy_module.Runner, "verify", interrupted)
        assert main(["deploy", str(model), "--dest", str(tmp_path / "dest")]) == 130
        assert "interrupted" in capsys.readouterr().err
        assert not (tmp_path / "dest/demo/current").exists()
        assert not [path for path in (tmp_path / "dest/demo").iterdir() if path.name.startswith(".")]
