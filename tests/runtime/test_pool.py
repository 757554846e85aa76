"""The thread pool: a C check under three sanitizers and without futex, idle processor time, and which steps are shared."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_program import small_program

from edgezip.errors import UsageError
from edgezip.program import Layout
from edgezip.runtime.session import Session

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / f"csrc/core/{name}.c" for name in ("pool", "futex", "affinity")] + [Path(__file__).parent / "c/pool_check.c"]
FLAGS = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-O1",
    "-g1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pthread",
    f"-I{ROOT}/csrc",
    f"-I{ROOT}/csrc/include",
]
THREAD = ["-fsanitize=thread"]
BUILDS = {
    "plain": [],
    "thread": THREAD,
    "memory": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "no-futex": ["-DEZ_NO_FUTEX", *THREAD],
}


def build(folder: Path, extra: list[str], compiler: str = "gcc") -> Path:
    out = folder / "pool_check"
    subprocess.run([compiler, *FLAGS, *extra, *SOURCES, "-o", out], check=True)
    return out


def run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", BUILDS)
def test_every_item_runs_once_whatever_the_threads_do(tmp_path: Path, kind: str) -> None:
    done = run([build(tmp_path, BUILDS[kind]), "--rounds", "300" if kind == "plain" else "60"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong=0 " in done.stdout


def test_the_thread_sanitizer_sees_a_planted_race(tmp_path: Path) -> None:
    done = run([build(tmp_path, THREAD), "--rounds", "60", "--plant", "race"])
    assert done.returncode != 0
    assert "data race" in done.stderr


@pytest.mark.emulated
def test_the_pool_works_on_arm(require_tools: Callable[..., None], tmp_path: Path) -> None:
    require_tools("qemu-aarch64", "aarch64-linux-gnu-gcc")
    done = run(["qemu-aarch64", build(tmp_path, ["-static"], "aarch64-linux-gnu-gcc"), "--rounds", "20"])
    assert done.returncode == 0, done.stdout + done.stderr


# --- sessions -------------------------------------------------------------------------------------------------------------------


def feeds(channels: int, seed: int = 5) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((1, channels, 6, 6)).astype(np.float32)}


@pytest.mark.parametrize(("layout", "act_sign"), [(Layout.K4N16, 0x80), (Layout.K8N16, 0)], ids=["K4N16", "K8N16"])
def test_one_to_eight_threads_give_the_same_bits(layout: Layout, act_sign: int) -> None:
    for channels in (4, 33, 120):
        program = small_program(layout, act_sign, channels=channels)
        program.scratch_bytes = 1 << 20
        one = Session(program).run(feeds(channels))
        for threads in range(1, 9):
            for solo_us in (0, None):
                with Session(program, threads=threads, solo_us=solo_us) as session:
                    for _ in range(5):
                        got = session.run(feeds(channels))
                        assert all(got[name].tobytes() == one[name].tobytes() for name in one)


IDLE = """
import sys, time
import numpy as np
from edgezip.runtime.session import Session
with Session(sys.argv[1], threads=4, solo_us=0) as session:
    x = np.zeros(session.inputs[0].shape, np.float32)
    for _ in range(200):
        session.run({session.inputs[0].name: x})
    time.sleep(0.05)  # the spin is over by then
    before = time.process_time()
    time.sleep(1.0)
    print(time.process_time() - before)
"""


def test_an_idle_session_takes_less_than_a_hundredth_of_a_core(tmp_path: Path) -> None:
    small_program().save(tmp_path / "p.ez")  # a process of its own: nothing else in it takes time
    command = [sys.executable, "-c", IDLE, str(tmp_path / "p.ez")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert float(done.stdout) < 0.01


def test_short_steps_stay_on_one_thread_and_all_are_shared_on_request() -> None:
    program = small_program()
    assert set(Session(program, threads=8).step_threads()) == {1}
    assert set(Session(program, threads=8, solo_us=0).step_threads()) == {8}


def test_longer_steps_get_more_threads() -> None:
    program = small_program(channels=120)  # its 3x3 convolution makes 4.7 million products
    program.scratch_bytes = 1 << 20
    session = Session(program, threads=8, isa="portable")
    by_op = dict(zip((step.op.name for step in program.steps), session.step_threads(), strict=True))
    assert by_op["CONV"] == 8
    assert by_op["GATHER"] == 1
    assert Session(program, threads=3, isa="portable").step_threads()[1] == 3


@pytest.mark.parametrize("name", ["spin_us", "solo_us"])
@pytest.mark.parametrize("value", [-1, 1_000_001, "soon"])
def test_times_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        Session(small_program(), **{name: value})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def watched_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ez_run`` under the thread sanitizer, with the portable kernels."""
    folder = tmp_path_factory.mktemp("tsan")
    sources = sorted(path for part in ("core", "ops", "tools", "isa/portable") for path in (ROOT / "csrc" / part).glob("*.c"))
    objects = [folder / f"{source.parent.name}_{source.stem}.o" for source in sources]

    def compile_one(pair: tuple[Path, Path]) -> None:
        subprocess.run(["gcc", *FLAGS, "-Wno-error", "-ffp-contract=off", *THREAD, "-c", pair[0], "-o", pair[1]], check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, zip(sources, objects, strict=True)))
    subprocess.run(["gcc", *THREAD, *objects, "-lm", "-pthread", "-o", folder / "ez_run"], check=True)
    return folder / "ez_run"


@pytest.mark.parametrize("channels", [4, 33, 120])
def test_no_operator_races_with_itself(watched_runner: Path, tmp_path: Path, channels: int) -> None:
    program = small_program(channels=channels, vectors=1)
    program.scratch_bytes = 1 << 20
    program.save(tmp_path / "p.ez")
    for threads in ("2", "8"):
        done = run([watched_runner, "verify", tmp_path / "p.ez", "--threads", threads, "--solo-us", "-1", "--spin-us", "200"])
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
