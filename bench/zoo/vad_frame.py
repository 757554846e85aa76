"""Silero voice activity detector, one frame of 32 ms a run with its state, as a streaming device calls it."""

from bench.zoo.vad import VoiceActivity

TASK = VoiceActivity("vad_frame", 1)
