"""Measuring: the protocol (warm-up, rounds, clocks, verdicts), the environment it ran in, sensors, sessions to measure."""
