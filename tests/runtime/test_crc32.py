"""The checksum of a program's sections: by instructions and by tables it is zlib's, whatever size and alignment."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from edgezip.runtime.session import load_native

DATA = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)


def crc(data: np.ndarray, is_table: int) -> int:
    ffi, lib = load_native()
    return int(lib.ez_crc32_by(is_table, ffi.from_buffer(data), data.nbytes))


@pytest.mark.parametrize("is_table", [0, 1], ids=["instructions", "tables"])
def test_it_is_the_crc_of_zlib(is_table: int) -> None:
    for size in [*range(300), 1000, 4095, 4096, 65537, 1 << 20]:
        for offset in (0, 1, 7, 63) if size < 70000 else (0,):
            part = DATA[offset : offset + size]
            assert crc(part, is_table) == zlib.crc32(part.tobytes()), (size, offset)


@pytest.mark.parametrize("is_table", [0, 1], ids=["instructions", "tables"])
@pytest.mark.parametrize("size", [1, 63, 64, 65, 200, 1000])
def test_every_flipped_bit_changes_it(size: int, is_table: int) -> None:
    data = DATA[:size].copy()
    whole = crc(data, is_table)
    for bit in range(8 * size):
        data[bit // 8] ^= 1 << bit % 8
        assert crc(data, is_table) != whole
        data[bit // 8] ^= 1 << bit % 8
