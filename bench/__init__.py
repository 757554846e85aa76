"""Benchmarks and the model zoo: commands behind the figures of the README. Not part of the installed package."""
