"""Recorded English speech (prompts of the Asterisk telephone system, out of Debian's package; CC BY-SA 3.0) in noise."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.zoo import fetch

PACKAGE = fetch.Package(
    "apt",
    "asterisk-core-sounds-en-wav",
    "1.6.1-1",
    "asterisk-core-sounds-en-wav_1.6.1-1_all.deb",
    "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
)
RATE = 16_000
SHORTEST_BYTES = 24_000
PROMPTS = 3  # of a clip
NOISE_DB = (20, 10, 5, 0)  # speech over noise, one clip after another; every other clip's noise is pink
SPEECH_DB, SILENCE_DB = 28, 45  # under the loud frames of the clean clip: speech down to the first, silence from the second on
SPEECH, SILENCE, NEITHER = 1, 0, -1

Samples = NDArray[np.float32]


def clips(work: Path, seed: int, first: int, count: int, frame: int) -> Iterator[tuple[Samples, NDArray[np.int64]]]:
    """(samples at 16 kHz in -0.5..0.5; SPEECH, SILENCE or NEITHER for each ``frame`` of them) of ``count`` clips.

    They are made of every other prompt, beginning with number ``first``.
    """
    random = np.random.default_rng(seed)
    found = fetch.members(PACKAGE, lambda name: name.endswith(".wav") and "silence" not in name, "speech", work)
    files = [path for path in found if path.stat().st_size > SHORTEST_BYTES][first::2]
    order = random.permutation(len(files))
    for number in range(count):
        parts = []
        for part in range(PROMPTS):
            pause = int(RATE * random.uniform(0.3, 1.2))
            parts += [np.zeros(pause, np.float32), _read(files[order[(PROMPTS * number + part) % len(files)]])]
        clean = np.concatenate(parts)
        clean = clean[: len(clean) // frame * frame]
        truth = _truth(clean.reshape(-1, frame))
        noise = _noise(len(clean), bool(number % 2), random)
        loud = clean[np.repeat(truth == SPEECH, frame)]
        gain = np.sqrt((loud**2).mean() / (noise**2).mean() / 10 ** (NOISE_DB[number % len(NOISE_DB)] / 10))
        mixed = clean + noise * np.float32(gain)
        yield (mixed / np.abs(mixed).max() / 2).astype(np.float32), truth


def _truth(frames: Samples) -> NDArray[np.int64]:
    """From the energy of the clean frames."""
    decibel = 10 * np.log10((frames**2).mean(axis=1) + 1e-10)
    loudest = np.percentile(decibel, 95)
    return np.where(decibel > loudest - SPEECH_DB, SPEECH, np.where(decibel < loudest - SILENCE_DB, SILENCE, NEITHER))


def _noise(length: int, is_pink: bool, random: np.random.Generator) -> Samples:
    white = random.normal(size=length)
    if is_pink:
        white = np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.arange(length // 2 + 1) + 20), length)
    return white.astype(np.float32)


def _read(path: Path) -> Samples:
    """Mono samples in -1..1, brought to 16 kHz by their spectrum."""
    with wave.open(str(path)) as sound:
        rate = sound.getframerate()
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float32) / 32768
    length = round(len(samples) * RATE / rate)
    spectrum = np.fft.rfft(samples)
    wanted = np.zeros(length // 2 + 1, complex)
    shared = min(len(spectrum), len(wanted))
    wanted[:shared] = spectrum[:shared]
    return np.asarray(np.fft.irfft(wanted, length) * (length / len(samples)), np.float32)
