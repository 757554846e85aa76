"""Coded program files: a plain ``.ez``, entropy-coded; ``csrc/include/edgezip/ez_coded.h`` has the format.

Every range of the file is cut into planes of bytes (the four bytes of float32 numbers behave differently). A plane takes the
model that codes it in the fewest bytes, the model itself counted: one of those that earlier planes brought along, one of its
own, with contexts for packed weights or without, or none, and then it is stored as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgezip.errors import ProgramError
from edgezip.kernels import rans

Array = np.ndarray[Any, Any]

MAGIC = b"EDGEZIPC"
VERSION = 1
PADDING = 16
MAX_BITS = 14
MAX_RATIO = 4096
MAX_STRIDE = 8
CONTEXTS_PAY = 0.01  # they decode at half the speed: not for less than this share of the bytes
HEADER = np.dtype(
    [
        ("magic", "S8"), ("version", "<u4"), ("body_crc32", "<u4"), ("plain_bytes", "<u8"), ("file_bytes", "<u8"),
        ("n_models", "<u4"), ("n_segments", "<u4"), ("model_bytes", "<u4"), ("segment_bytes", "<u4"),
        ("reserved", "<u4", (3,)), ("crc32", "<u4"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Range:
    """Bytes of a plain file that belong together: elements of ``stride`` bytes; packed int8 weights say panel and k step."""

    offset: int
    bytes: int
    stride: int = 1
    panel: int = 0
    step: int = 0


@dataclass
class Model:
    """Frequencies (contexts, 256) that add up to 2^bits, and the context of each of the 16 activity levels."""

    bits: int
    frequencies: Array
    of_level: Array
    cost: Array = field(init=False)  # (contexts, 256) in bits; infinite where a symbol has no code

    def __post_init__(self) -> None:
        with np.errstate(divide="ignore"):
            self.cost = self.bits - np.log2(self.frequencies)

    def size_of(self, counts: Array) -> float:
        """Bytes of symbols with these ``counts`` (levels, 256)."""
        per_level = self.cost[self.of_level[: len(counts)]] if len(counts) > 1 else self.cost[:1]
        return float(np.sum(np.where(counts > 0, counts, 0) * np.where(counts > 0, per_level, 0))) / 8

    def to_bytes(self) -> bytes:
        """As the file holds it."""
        out = bytearray([self.bits, len(self.frequencies)])
        if len(self.frequencies) > 1:
            out += bytes(int(low) | int(high) << 4 for low, high in self.of_level.reshape(8, 2))
        present = np.flatnonzero(self.frequencies.any(axis=0))
        out.append(len(present) - 1)
        mask = np.zeros(256, np.uint8)
        mask[present] = 1
        out += bytes(present.astype(np.uint8)) if len(present) <= 32 else np.packbits(mask, bitorder="little").tobytes()
        for row in self.frequencies:
            out += b"".join(_number(int(row[symbol])) for symbol in present)
        return bytes(out)


def _number(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def frequencies_of(counts: Array, bits: int) -> Array | None:
    """Whole frequencies of least cost for ``counts`` (256) that add up to 2^bits, none of a present symbol 0; None: too many."""
    present = counts > 0
    total = 1 << bits
    if present.sum() > total:
        return None
    found = np.where(present, np.maximum(1, np.rint(counts * (total / counts.sum()))), 0).astype(np.int64)
    while (
        excess := int(found.sum()) - total
    ) != 0:  # what a step up gains, a step down costs, in bits; half of the way at a time
        with np.errstate(divide="ignore", invalid="ignore"):
            if excess < 0:
                cost, able = -counts * np.log2((found + 1) / found), present
            else:
                cost, able = counts * np.log2(found / (found - 1)), found > 1
        order = np.argsort(np.where(able, cost, np.inf), kind="stable")[: min((abs(excess) + 1) // 2, int(able.sum()))]
        found[order] += 1 if excess < 0 else -1
    return found


def _fitted(counts: Array, contexts: int, bits: int) -> Model | None:
    """A model of ``counts`` (levels, 256) with that many contexts, each of about as many symbols."""
    of_level = np.zeros(rans.LEVELS, np.uint8)
    if contexts > 1:
        share = np.cumsum(counts.sum(axis=1)) - counts.sum(axis=1) / 2
        of_level = np.minimum(share / counts.sum() * contexts, contexts - 1).astype(np.uint8)
        of_level = np.unique(of_level, return_inverse=True)[1].astype(np.uint8)
    summed = [counts[of_level[: len(counts)] == c].sum(axis=0) for c in range(int(of_level.max()) + 1)]
    if len(summed) > 1 and min(row.sum() for row in summed) == 0:
        return None
    rows = [frequencies_of(row, bits) for row in summed]
    return None if any(row is None for row in rows) else Model(bits, np.stack([row for row in rows if row is not None]), of_level)


def _candidates(counts: Array) -> Iterator[Model]:
    """Models of one's own."""
    for contexts in (1, 2, 4, 8) if len(counts) > 1 else (1,):
        for bits in (8, 10, 12, MAX_BITS):
            model = _fitted(counts, contexts, bits)
            if model is not None and (contexts == 1 or len(model.frequencies) > 1):
                yield model


class _Writer:
    """The sections of a coded file while they grow."""

    def __init__(self) -> None:
        self.models: list[Model] = []
        self.n_segments, self.end = 0, 0
        self.segments, self.streams = bytearray(), bytearray()

    def add(self, plain: Array, at: Range) -> None:
        """Codes one range."""
        count = at.bytes // at.stride
        planes = [np.ascontiguousarray(plain[at.offset + p : at.offset + at.bytes : at.stride]) for p in range(at.stride)]
        record = _number(at.offset - self.end) + _number(count) + _number(at.stride)
        has_contexts = False
        for plane in planes:
            number, stream = self._coded(plane, at)
            has_contexts |= number > 0 and len(self.models[number - 1].frequencies) > 1
            record += _number(number) + _number(len(stream))
            self.streams += stream
        if has_contexts:
            record += _number(at.panel) + _number(at.step)
        self.segments += record
        self.n_segments, self.end = self.n_segments + 1, at.offset + at.bytes

    def _coded(self, plane: Array, at: Range) -> tuple[int, bytes]:
        """Number of the model (0: stored) and the stream of one plane."""
        levels = rans.levels(plane, at.panel, at.step) if at.panel else np.zeros(plane.size, np.uint8)
        counts = np.bincount(levels.astype(np.int64) * 256 + plane, minlength=rans.LEVELS * 256).reshape(rans.LEVELS, 256)
        counts = counts if at.panel else counts[:1]
        fixed = 4 * rans.states_of(plane.size)
        usable = [(i, model, 0) for i, model in enumerate(self.models) if at.panel or len(model.frequencies) == 1]
        usable += [(len(self.models), model, len(model.to_bytes())) for model in _candidates(counts)]
        sizes = [(model.size_of(counts) + own + fixed, i, model) for i, model, own in usable]
        size, number, model = min(
            sizes, key=lambda found: (found[0] * (1 if len(found[2].frequencies) == 1 else 1 + CONTEXTS_PAY), found[1])
        )
        if size >= plane.size:
            return 0, plane.tobytes()
        if number == len(self.models):
            self.models.append(model)
        return number + 1, rans.encode(plane, model.of_level[levels], model.frequencies, model.bits)

    def to_bytes(self, plain_bytes: int) -> bytes:
        """The file."""
        models = b"".join(model.to_bytes() for model in self.models)
        body = models + bytes(self.segments) + bytes(self.streams) + bytes(PADDING)
        header = np.zeros((), HEADER)
        header["magic"], header["version"], header["body_crc32"] = MAGIC, VERSION, zlib.crc32(body)
        header["plain_bytes"], header["file_bytes"] = plain_bytes, HEADER.itemsize + len(body)
        header["n_models"], header["n_segments"] = len(self.models), self.n_segments
        header["model_bytes"], header["segment_bytes"] = len(models), len(self.segments)
        header["crc32"] = zlib.crc32(header.tobytes()[:-4])
        return header.tobytes() + body


def encode(plain: bytes, ranges: Sequence[Range]) -> bytes:
    """The coded file of a plain one; ``ranges`` rise, do not overlap, and what lies between them is zeros.

    A file that would pack too well for a reader to believe it (``MAX_RATIO``) stays plain.
    """
    data, writer = np.frombuffer(plain, np.uint8), _Writer()
    for at in ranges:
        if data[at.offset : at.offset + at.bytes].any():
            writer.add(data, at)
    coded = writer.to_bytes(len(plain))
    return coded if len(plain) <= MAX_RATIO * len(coded) and len(coded) < len(plain) else plain


def is_coded(data: bytes) -> bool:
    """Whether the bytes begin as a coded file does."""
    return data.startswith(MAGIC)


class _Reader:
    """Bytes in order; ValueError past the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise ValueError("cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        value = 0
        for shift in range(0, 63, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number without an end")

    def model(self) -> Model:
        bits, contexts = self.take(2)
        if not 8 <= bits <= MAX_BITS or not 1 <= contexts <= 8:
            raise ValueError("a model that cannot be")
        of_level = np.zeros(rans.LEVELS, np.uint8)
        if contexts > 1:
            of_level = np.array([half for pair in self.take(8) for half in (pair & 15, pair >> 4)], np.uint8)
        count = self.take(1)[0] + 1
        if count <= 32:
            present: Array = np.frombuffer(self.take(count), np.uint8)
        else:
            present = np.flatnonzero(np.unpackbits(np.frombuffer(self.take(32), np.uint8), bitorder="little"))
        frequencies = np.zeros((contexts, 256), np.int64)
        for row in frequencies:
            row[present] = [self.number() for _ in range(count)] if len(present) == count else -1
        if of_level.max() >= contexts or np.any(frequencies.sum(axis=1) != 1 << bits):
            raise ValueError("a model that does not add up")
        return Model(bits, frequencies, of_level)


def decode(data: bytes, where: str = "program") -> bytes:
    """The plain file of a coded one. Raises ProgramError."""
    header = np.frombuffer(data, HEADER, 1)[0] if len(data) >= HEADER.itemsize else None
    if header is None or zlib.crc32(data[: HEADER.itemsize - 4]) != int(header["crc32"]):
        raise ProgramError(
            "header of the coded file is damaged (CRC-32 differs)", where=where, hint="compile or copy the file again"
        )
    if int(header["version"]) != VERSION:
        got = str(header["version"])
        raise ProgramError("coded file of another version", where=where, expected=str(VERSION), got=got, hint="compile it again")
    if int(header["file_bytes"]) != len(data) or zlib.crc32(data[HEADER.itemsize :]) != int(header["body_crc32"]):
        raise ProgramError(
            "the coded file is damaged (length or CRC-32 differs)", where=where, hint="compile or copy the file again"
        )
    if int(header["plain_bytes"]) > MAX_RATIO * len(data):
        raise ProgramError(
            "more than a coded file of this size can honestly hold", where=where, got=f"{header['plain_bytes']} bytes"
        )
    try:
        return _decoded(data, header)
    except (ValueError, IndexError, OverflowError) as error:
        raise ProgramError(f"contradictory coded file: {error}", where=where, hint="compile the model again") from error


def _decoded(data: bytes, header: Any) -> bytes:
    first = HEADER.itemsize + int(header["model_bytes"])
    second = first + int(header["segment_bytes"])
    reader, records = _Reader(data[HEADER.itemsize : first]), _Reader(data[first:second])
    streams = _Reader(data[second : len(data) - PADDING])
    models = [reader.model() for _ in range(int(header["n_models"]))]
    plain, end = np.zeros(int(header["plain_bytes"]), np.uint8), 0
    for _ in range(int(header["n_segments"])):
        end = _decode_segment(records, streams, models, plain, end)
    if any(part.at != len(part.data) for part in (reader, records, streams)):
        raise ValueError("bytes that belong to nothing")
    return plain.tobytes()


def _decode_segment(records: _Reader, streams: _Reader, models: list[Model], plain: Array, end: int) -> int:
    """Fills one range of ``plain``; where it ends."""
    start, count, stride = end + records.number(), records.number(), records.number()
    if not 1 <= stride <= MAX_STRIDE or not 1 <= count <= (len(plain) - start) // stride:
        raise ValueError("a segment outside of the file")
    planes = [(records.number(), records.number()) for _ in range(stride)]
    used = [models[number - 1] if number else None for number, _ in planes]
    panel, step = 0, 4
    if any(model and len(model.frequencies) > 1 for model in used):
        panel, step = records.number(), records.number()
        if step not in (4, 8) or not panel or panel % (16 * step) or count % panel:
            raise ValueError("panels that cannot be")
    for plane, (model, (_, size)) in enumerate(zip(used, planes, strict=True)):
        stream = streams.take(size)
        if model is None:
            symbols: Array | None = np.frombuffer(stream, np.uint8)
        else:
            own = (panel, step) if len(model.frequencies) > 1 else (0, 4)
            symbols = rans.decode(stream, count, model.frequencies, model.bits, model.of_level, *own)
        if symbols is None or len(symbols) != count:
            raise ValueError("a damaged stream")
        plain[start + plane : start + count * stride : stride] = symbols
    return start + count * stride
