"""rANS, the coder of program files: one stream of byte symbols under a model of frequencies (Duda 2013, arXiv:1311.2540).

The plain statement of what ``csrc/core/rans.c`` decodes; ``csrc/include/edgezip/ez_coded.h`` describes states, words and
contexts. Encoder and decoder walk the same symbols, one backwards, the other forwards. Compiled by Numba.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, Any]

STATES = 8
MANY = 2048  # symbols from which on STATES states take turns
LEAST = 1 << 16
LEVELS = 16


def states_of(count: int) -> int:
    """States of a stream of ``count`` symbols."""
    return 1 if count < MANY else STATES


@numba.njit(cache=True)
def levels(symbols: Array, panel: int, step: int) -> Array:
    """The activity level u8 0..15 of each of u8 ``symbols``: weights in panels of ``panel`` bytes, ``step`` columns a group."""
    activity = np.zeros(panel // 16, np.int32)
    found = np.empty(symbols.size, np.uint8)
    group = 16 * step
    for i in range(symbols.size):
        column = i % panel // group * step + i % step
        found[i] = activity[column] >> 4
        activity[column] += ((255 if symbols[i] else 0) - activity[column]) >> 4
    return found


@numba.njit(cache=True)
def _encode(symbols: Array, contexts: Array, frequencies: Array, starts: Array, bits: int, states: Array, words: Array) -> int:
    """Fills ``words`` from its end and leaves the final states; the number of words."""
    at = words.size
    for i in range(symbols.size - 1, -1, -1):
        state, symbol, context = i & (states.size - 1), symbols[i], contexts[i]
        frequency = frequencies[context, symbol]
        x = states[state]
        if x >= ((np.uint64(LEAST) >> np.uint64(bits)) << np.uint64(16)) * frequency:
            at -= 1
            words[at] = x & np.uint64(0xFFFF)
            x >>= np.uint64(16)
        states[state] = ((x // frequency) << np.uint64(bits)) + x % frequency + starts[context, symbol]
    return words.size - at


def encode(symbols: Array, contexts: Array, frequencies: Array, bits: int) -> bytes:
    """The stream of u8 ``symbols``; ``contexts`` u8 of each, ``frequencies`` (contexts, 256) whose rows add up to 2^bits."""
    frequencies = frequencies.astype(np.uint64)
    starts = np.cumsum(frequencies, axis=1, dtype=np.uint64) - frequencies
    states = np.full(states_of(symbols.size), LEAST, np.uint64)
    words = np.empty(symbols.size, np.uint16)
    used = _encode(symbols, contexts, frequencies, starts, bits, states, words)
    return states.astype("<u4").tobytes() + words[words.size - used :].astype("<u2").tobytes()


@numba.njit(cache=True)
def _decode(
    words: Array, states: Array, frequencies: Array, starts: Array, slots: Array, bits: int, of_level: Array,
    panel: int, step: int, out: Array,
) -> bool:  # fmt: skip
    activity, group, at = np.zeros(max(panel // 16, 1), np.int32), 16 * step, 0
    shift, mask = np.uint64(bits), np.uint64((1 << bits) - 1)
    for i in range(out.size):
        column, context = 0, 0
        if panel:
            column = i % panel // group * step + i % step
            context = of_level[activity[column] >> 4]
        state = i & (states.size - 1)
        slot = states[state] & mask
        symbol = slots[context, slot]
        x = frequencies[context, symbol] * (states[state] >> shift) + slot - starts[context, symbol]
        if x < np.uint64(LEAST):
            if at == words.size:
                return False
            x = (x << np.uint64(16)) | np.uint64(words[at])
            at += 1
        states[state] = x
        out[i] = symbol
        if panel:
            activity[column] += ((255 if symbol else 0) - activity[column]) >> 4
    return bool(at == words.size and np.all(states == np.uint64(LEAST)))


def decode(
    stream: bytes, count: int, frequencies: Array, bits: int, of_level: Array, panel: int = 0, step: int = 4
) -> Array | None:
    """``count`` u8 symbols of a stream; ``of_level`` u8[16], with a ``panel``: the context of each level. None: damaged."""
    size = 4 * states_of(count)
    if len(stream) < size or (len(stream) - size) % 2:
        return None
    states = np.frombuffer(stream, "<u4", size // 4).astype(np.uint64)
    slots = np.stack([np.repeat(np.arange(256, dtype=np.uint8), row) for row in frequencies])
    wide = frequencies.astype(np.uint64)
    out = np.empty(count, np.uint8)
    words = np.frombuffer(stream, "<u2", offset=size)
    good = _decode(words, states, wide, np.cumsum(wide, axis=1, dtype=np.uint64) - wide, slots, bits, of_level, panel, step, out)
    return out if good else None
