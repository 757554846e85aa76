"""Coded program files: NumPy and C decode what was encoded, close to the entropy bound, and refuse what is damaged."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dynamic_graphs import dynamic_graph
from recurrent_program import recurrent_program
from small_program import small_program
from state_program import state_program

from edgezip import coded
from edgezip import program as programs
from edgezip.compilation import compile
from edgezip.errors import ProgramError
from edgezip.kernels import rans
from edgezip.program import Layout, Program
from edgezip.runtime.session import Session

Array = np.ndarray[Any, Any]


def c_answers(data: bytes, program: Program) -> list[Array]:
    """What the C runtime makes of a file's bytes, on its first test vector."""
    names = [program.tensors[index].name for index in program.inputs]
    with Session(data) as session:
        results = session.run(dict(zip(names, program.vectors[0], strict=False)))
        return [results[program.tensors[index].name] for index in program.outputs]


def dynamic_program() -> Program:
    return compile(dynamic_graph("image", 1), "x86-64", dims={"n": (1, 2), "w": (8, 12)}, vectors=1)


PROGRAMS = {
    "K4N16": lambda: small_program(Layout.K4N16, 0x80, 0, 1),
    "K8N16": lambda: small_program(Layout.K8N16, 0, 0, 1),
    "states": lambda: state_program(vectors=2),
    "recurrent": lambda: recurrent_program("lstm", True),
    "dynamic": dynamic_program,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_coded_file_is_the_plain_one_again(name: str, tmp_path: Path) -> None:
    program = PROGRAMS[name]()
    plain = program.to_bytes()
    program.coded = True
    program.save(tmp_path / "coded.ez")
    data = (tmp_path / "coded.ez").read_bytes()
    assert len(data) < len(plain)
    assert coded.decode(data) == plain
    back = programs.read(tmp_path / "coded.ez")
    assert back.coded
    assert back.to_bytes() == data
    if program.vectors and program.shapes is None:
        for from_file, from_plain in zip(c_answers(data, program), c_answers(plain, program), strict=True):
            assert from_file.tobytes() == from_plain.tobytes()
    Session(tmp_path / "coded.ez").close()  # through ez_program_open_file


def decoded_by_c(plain: bytes, ranges: list[coded.Range]) -> str:
    """What C says of a coded file that holds no program: its complaint about the plain bytes."""
    data = coded.encode(plain, ranges)
    assert coded.decode(data) == plain
    with pytest.raises(ProgramError) as refused:
        Session(data)
    return str(refused.value)


def columns(generator: np.random.Generator, panels: int, groups: int, step: int) -> Array:
    """Packed weights whose columns are kept with chances of their own, as pruned networks have them."""
    chance = generator.random((1, groups, 1, step)) ** 6
    kept = generator.random((panels, groups, 16, step)) < chance
    return np.where(kept, generator.integers(-20, 21, kept.shape), 0).astype(np.int8).view(np.uint8).reshape(-1)


@pytest.mark.parametrize(("panels", "groups", "step"), [(1, 1, 4), (3, 7, 4), (2, 5, 8), (8, 50, 4), (4, 33, 8)])
def test_c_and_numba_decode_contexts_alike(panels: int, groups: int, step: int) -> None:
    weights = columns(np.random.default_rng(panels), panels, groups, step)
    header = small_program(vectors=0).to_bytes()  # so that C finds a program in front, and what we added as bytes behind it
    plain = header + weights.tobytes()
    ranges = [coded.Range(0, len(header)), coded.Range(len(header), len(weights), 1, groups * 16 * step, step)]
    assert "file_bytes" in decoded_by_c(plain, ranges)


def test_contexts_of_columns_take_fewer_bytes_than_the_order_0_bound() -> None:
    weights = columns(np.random.default_rng(0), 16, 64, 4)
    counts = np.bincount(weights, minlength=256)
    share = counts[counts > 0] / counts.sum()
    bound = -(share * np.log2(share)).sum() * len(weights) / 8
    with_contexts = len(coded.encode(weights.tobytes(), [coded.Range(0, len(weights), 1, 64 * 64, 4)]))
    assert with_contexts < 0.9 * bound


def test_laplace_weights_of_compression_md_take_24_kilobytes() -> None:
    """266,200 Laplace weights, 8 % kept, 64 codes: the plain order-0 bound is 23.5 kB."""
    generator = np.random.default_rng(0)
    weights = generator.laplace(size=266_200)
    limit = np.quantile(np.abs(weights), 0.92)
    kept = np.abs(weights) > limit
    edges = np.linspace(weights[kept].min(), weights[kept].max(), 65)
    codes = np.where(kept, np.clip(np.digitize(weights, edges), 1, 64), 0).astype(np.uint8)
    counts = np.bincount(codes, minlength=256)
    share = counts[counts > 0] / counts.sum()
    bound = -(share * np.log2(share)).sum() * len(codes) / 8
    size = len(coded.encode(codes.tobytes(), [coded.Range(0, len(codes))]))
    assert size < 1.01 * bound + 300  # one per cent, the header and the table of 65 frequencies
    assert size <= 24 * 1024


@pytest.mark.parametrize("spread", [0.3, 2.0, 20.0, 60.0])
@pytest.mark.parametrize("count", [20_000, 300_000])
def test_overhead_over_the_order_0_entropy_is_below_one_per_cent(spread: float, count: int) -> None:
    generator = np.random.default_rng(int(spread * 10))
    symbols = np.clip(np.rint(generator.normal(0, spread, count)), -127, 127).astype(np.int8).view(np.uint8)
    counts = np.bincount(symbols, minlength=256)
    frequencies = coded.frequencies_of(counts, 14)
    assert frequencies is not None
    stream = rans.encode(symbols, np.zeros(count, np.uint8), frequencies[None], 14)
    share = counts[counts > 0] / count
    bound = -(share * np.log2(share)).sum() * count / 8
    assert len(stream) - 4 * rans.STATES < 1.01 * bound
    back = rans.decode(stream, count, frequencies[None], 14, np.zeros(16, np.uint8))
    assert back is not None
    assert back.tobytes() == symbols.tobytes()


@pytest.mark.parametrize("symbols", [np.zeros(5000, np.uint8), np.full(3, 7, np.uint8), np.arange(256, dtype=np.uint8)])
def test_one_symbol_and_all_symbols(symbols: Array) -> None:
    data = symbols.tobytes() + bytes(100_000)
    found = coded.encode(data, [coded.Range(0, len(symbols))])
    assert (coded.decode(found) if coded.is_coded(found) else found) == data


def test_frequencies_add_up_and_leave_no_symbol_out() -> None:
    generator = np.random.default_rng(1)
    for bits in (8, 10, 14):
        counts = np.where(generator.random(256) < 0.5, np.rint(generator.pareto(0.5, 256) * 10) + 1, 0).astype(np.int64)
        found = coded.frequencies_of(counts, bits)
        assert found is not None
        assert found.sum() == 1 << bits
        assert np.array_equal(found > 0, counts > 0)


def repaired(data: bytearray) -> bytes:
    """With right checksums."""
    header = np.frombuffer(bytes(data[: coded.HEADER.itemsize]), coded.HEADER, 1).copy()[0]
    header["body_crc32"] = zlib.crc32(bytes(data[coded.HEADER.itemsize :]))
    header["crc32"] = zlib.crc32(header.tobytes()[:-4])
    return header.tobytes() + bytes(data[coded.HEADER.itemsize :])


def test_numba_and_c_agree_on_what_is_damaged() -> None:
    program = small_program(vectors=1)
    program.coded = True
    data, generator = program.to_bytes(), np.random.default_rng(5)
    refused = 0
    for _ in range(300):
        changed = bytearray(data)
        changed[int(generator.integers(coded.HEADER.itemsize, len(data) - coded.PADDING))] ^= 1 << int(generator.integers(8))
        hostile, verdicts = repaired(changed), []
        for opened in (lambda hostile=hostile: programs.read(hostile), lambda hostile=hostile: Session(hostile).close()):
            try:
                opened()
                verdicts.append(True)
            except ProgramError:
                verdicts.append(False)
        refused += not verdicts[1]
        assert verdicts[0] >= verdicts[1]  # C also proves the records
    assert refused > 250


@pytest.mark.parametrize(
    "field", ["plain_bytes", "file_bytes", "n_models", "n_segments", "model_bytes", "segment_bytes", "version"]
)
def test_a_header_that_lies_is_refused(field: str) -> None:
    program = small_program(vectors=1)
    program.coded = True
    data = bytearray(program.to_bytes())
    for value in (0, 3, 2**20, 2**32 - 1):
        header = np.frombuffer(bytes(data[: coded.HEADER.itemsize]), coded.HEADER, 1).copy()
        header[0][field] = value
        hostile = repaired(bytearray(header.tobytes() + bytes(data[coded.HEADER.itemsize :])))
        with pytest.raises(ProgramError):
            programs.read(hostile)
        with pytest.raises(ProgramError):
            Session(hostile)


def test_a_bomb_is_refused_before_memory_is_taken() -> None:
    """64 GB of one symbol would take a few bytes."""
    header = np.zeros((), coded.HEADER)
    program = small_program(vectors=0)
    program.coded = True
    data = program.to_bytes()
    header = np.frombuffer(data, coded.HEADER, 1).copy()
    header[0]["plain_bytes"] = 2**36
    hostile = repaired(bytearray(header.tobytes() + data[coded.HEADER.itemsize :]))
    for opened in (lambda: programs.read(hostile), lambda: Session(hostile)):
        with pytest.raises(ProgramError, match="honestly"):
            opened()
