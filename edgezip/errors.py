"""Every exception that EdgeZip raises on purpose, each with the exit code of the command line.

A message answers four questions: what went wrong, where (file, node or tensor), what was expected and what was got, and what
to do. Classes derive from the built-in that a caller would already catch. Exit codes: 1 error, 2 usage, 3 a gate failed,
4 device unreachable, 5 unsupported model, 130 interrupted (see ``ux.md`` of the design).
"""

from __future__ import annotations


class EdgeZipError(Exception):
    """Base of all; ``exit_code`` is what the command line returns."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", expected: str = "", got: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.hint = hint
        super().__init__(self._message())

    def _message(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        facts = [f"{word} {value}" for word, value in (("expected", self.expected), ("got", self.got)) if value]
        text += f" ({', '.join(facts)})" if facts else ""
        return f"{text}; {self.hint}" if self.hint else text

    def as_dict(self) -> dict[str, str]:
        """The parts of the message, for ``--json``."""
        parts = {"error": type(self).__name__, "what": self.what, "where": self.where}
        return {**parts, "expected": self.expected, "got": self.got, "hint": self.hint}


class UsageError(EdgeZipError, ValueError):
    """A flag, an argument or a combination of them makes no sense."""

    exit_code = 2


class MissingFileError(EdgeZipError, FileNotFoundError):
    """A file or folder named by the user is not there or cannot be read."""


class InvalidModelError(EdgeZipError, ValueError):
    """The model file is malformed, contradictory or hostile."""


class UnsupportedModelError(EdgeZipError, NotImplementedError):
    """The model is valid, and uses something that EdgeZip cannot run."""

    exit_code = 5


class ShapeError(EdgeZipError, ValueError):
    """A shape or a dtype does not fit."""


class SampleError(EdgeZipError, ValueError):
    """A file of input arrays cannot be read, is empty or lacks an input."""


class CalibrationError(SampleError):
    """Calibration data is empty or not finite."""


class NumericsError(EdgeZipError, ArithmeticError):
    """A value would leave the range that EZ-N1 guarantees (accumulator, bias, scale)."""


class ProgramError(EdgeZipError, ValueError):
    """A program file (.ez) is damaged, or of another version, or not for this machine."""


class TargetError(EdgeZipError, LookupError):
    """A target profile does not exist or is invalid."""

    exit_code = 2


class ToolError(EdgeZipError, RuntimeError):
    """A program that EdgeZip needs (compiler, emulator, ssh, adb) is missing or failed."""


class RuntimeUnavailableError(EdgeZipError, ImportError):
    """The compiled extension or an optional package is not installed."""


class DeviceUnreachableError(EdgeZipError, ConnectionError):
    """The device does not answer, refuses the login, or the connection broke."""

    exit_code = 4


class DeviceError(EdgeZipError, RuntimeError):
    """The device answered and something on it failed: full disk, bad reply, wrong result, killed run."""


class GateError(EdgeZipError, AssertionError):
    """A limit that the user set (accuracy, latency, size) was missed."""

    exit_code = 3
