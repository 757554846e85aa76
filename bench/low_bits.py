"""Products with weights of 4 and 2 bits, one row and few: ours against ONNX Runtime's MatMulNBits and against reading alone.

    python -m bench.low_bits [--rounds 15] [--k 4096] [--n 4096] [--rows 1]

Every round takes each candidate in turn on one thread; ratios are medians over rounds of the fastest of a few runs. Reading: one
pass over a buffer of the size of our int4 weights (bench/read_speed.c). Writes bench/results/<date>-<host>-low-bits.json.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bench import protocol
from edgezip.kernels import codes, native
from edgezip.kernels.codes import Codes, Form
from edgezip.pack.layouts import pad_outputs
from edgezip.program import HEADER, DType, Layout, Op, Place, Program, Step, Tensor

Array = np.ndarray[Any, Any]
NF4 = (-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127)
UNIFORM, INT2 = tuple(range(-8, 8)), (-2, -1, 0, 1)
REPEATS = 8


def ours(form: Form, rows: int, k: int, n: int) -> tuple[Callable[[], float], int]:
    """Seconds of the fastest of REPEATS runs of the step, and the bytes of its weights."""
    random = np.random.default_rng(0)
    weights = Codes(random.choice(np.array(form.table, np.int8), (n, k)), np.ones((n, -(-k // form.block)), np.float32))
    arrays = [codes.pack(weights, form), pad_outputs(np.ones(n, np.float32)), pad_outputs(np.zeros(n, np.float32))]
    tensors = [Tensor(name, DType.F32, Place.ARENA, (rows, size), 0) for name, size in (("x", k), ("y", n))]
    dtypes = (DType.U8, DType.F32, DType.F32)
    tensors += [Tensor("w", dtype, Place.WEIGHTS, each.shape, 0) for each, dtype in zip(arrays, dtypes, strict=True)]
    step = Step("product", Op.CODES, (0, 2, 3, 4), (1,), form.params())
    raw = Program(Layout.K4N16, 0x80, 64, 0, tensors, [step], [], []).to_bytes()
    sections = np.frombuffer(raw, HEADER, 1)[0]["sections"]
    step_record, tensor_records = (raw[s["offset"] : s["offset"] + s["bytes"]] for s in sections[:2])
    x, y = random.standard_normal((rows, k)).astype(np.float32), np.zeros((rows, n), np.float32)
    data = [native.readable(array) for array in (x, y, *arrays)]

    def fastest() -> float:
        layout, sign = Layout.K4N16, 0x80
        return native.run_step(step_record, tensor_records, data, layout=layout, act_sign=sign, repeats=REPEATS) / 1e9

    return fastest, arrays[0].nbytes


def matmul_nbits(rows: int, k: int, n: int, block: int) -> Callable[[], float]:
    """ONNX Runtime's int4 product with int8 activations (accuracy level 4), arrays bound, one thread."""
    random = np.random.default_rng(0)
    constants: dict[str, Array] = {
        "b": random.integers(0, 256, (n, k // block, block // 2)).astype(np.uint8),
        "s": random.uniform(0.001, 0.01, n * (k // block)).astype(np.float32),
    }
    node = helper.make_node(
        "MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft", K=k, N=n, bits=4, block_size=block, accuracy_level=4
    )
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, size]) for name, size in (("x", k), ("y", n))]
    made = helper.make_graph([node], "g", info[:1], info[1:], [numpy_helper.from_array(v, name) for name, v in constants.items()])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    raw = helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString()
    session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", random.standard_normal((rows, k)).astype(np.float32))
    binding.bind_output("y")

    def fastest() -> float:
        least = float("inf")
        for _ in range(REPEATS):
            start = time.perf_counter()
            session.run_with_iobinding(binding)
            least = min(least, time.perf_counter() - start)
        return least

    return fastest


def reading(size: int) -> Callable[[], float]:
    """Seconds to read ``size`` bytes once."""
    folder = tempfile.mkdtemp()
    library = Path(folder) / "read_speed.so"
    source = Path(__file__).parent / "read_speed.c"
    subprocess.run(["gcc", "-O3", "-mavx2", "-shared", "-fPIC", source, "-o", library], check=True)
    read_ns = ctypes.CDLL(str(library)).read_ns
    read_ns.restype = ctypes.c_uint64
    buffer, sink = np.ones(-(-size // 256) * 256 + 4096, np.uint8), ctypes.c_uint64()
    at = ctypes.c_void_p(buffer.ctypes.data)
    return lambda: read_ns(at, ctypes.c_uint64(len(buffer) - 4096), REPEATS, ctypes.byref(sink)) / 1e9


def candidates(rows: int, k: int, n: int) -> tuple[dict[str, Callable[[], float]], dict[str, int]]:
    """What runs in turn, and the bytes that it reads."""
    forms = {f"int4 block {block}": Form(4, block, UNIFORM) for block in (32, 128)}
    forms |= {f"nf4 block {block}": Form(4, block, NF4) for block in (32, 128)} | {"int2 block 32": Form(2, 32, INT2)}
    made = {name: ours(form, rows, k, n) for name, form in forms.items()}
    runs: dict[str, Callable[[], float]] = {f"MatMulNBits block {block}": matmul_nbits(rows, k, n, block) for block in (32, 128)}
    size = made["int4 block 32"][1]
    sizes = {name: each for name, (_, each) in made.items()} | {"reading": size}
    return runs | {name: run for name, (run, _) in made.items()} | {"reading": reading(size)}, sizes


def main() -> int:
    """Prints and saves one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rounds", 15), ("rows", 1), ("k", 4096), ("n", 4096)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    runs, sizes = candidates(given.rows, given.k, given.n)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(given.rounds):
        for name, run in runs.items():
            times[name].append(run())
    rows = []
    for name, seen in times.items():
        row: dict[str, Any] = {"candidate": name, "us": round(1e6 * statistics.median(seen), 1)}
        if name in sizes:
            row["gb_s"] = round(sizes[name] / statistics.median(seen) / 1e9, 2)
            shares = [sizes[name] / own / (sizes["reading"] / read) for own, read in zip(seen, times["reading"], strict=True)]
            row["of_reading"] = round(statistics.median(shares), 3)
        peer = times["MatMulNBits block " + name.split()[-1]] if name.startswith(("int", "nf")) else None
        if peer:
            row["peer_over_ours"] = round(statistics.median(theirs / own for own, theirs in zip(seen, peer, strict=True)), 2)
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    shape = {"rows": given.rows, "k": given.k, "n": given.n}
    print(protocol.merge("low-bits", {**shape, "isa": native.supported_isas()[0], "candidates": rows}, ("rows", "k", "n")))
    return 0


if __name__ == "__main__":
    protocol.run_command(main)
