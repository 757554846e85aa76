"""Entry point of ``edgezip``: finds the verb, loads only its file, and turns errors into messages and exit codes.

Typer is imported after the verb is known, and the list of verbs is plain text, so that ``edgezip --help`` stays quick.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from edgezip import __version__
from edgezip.cli import context
from edgezip.errors import EdgeZipError, UsageError

VERBS = {
    "inspect": "operators, shapes, parameters, MACs and bytes of a model",
    "compress": "compression passes; writes a valid ONNX model and a per-layer report",
    "sensitivity": "which layers the answer hangs on most",
    "compile": "packs a model for a target into a program (.ez)",
    "run": "one inference",
    "verify": "answers against a reference; --bitexact: every ISA path, byte for byte",
    "bench": "latency here, or on a device",
    "deploy": "compress, compile, send, verify and bench on a device, in one line",
    "report": "one offline HTML file from the JSON of other verbs",
    "targets": "device profiles: list, show, detect",
    "doctor": "compiler, emulator, ssh, sensors: found, or how to get them",
}
_GLOBALS = """global options:
  -v, --verbose        say more               --no-progress        no progress bars
  -q, --quiet          results only           --color auto|always|never
  --json               one JSON object        --cache-dir DIR      builds and results kept (EDGEZIP_CACHE)
  --seed N             default 0              -j, --jobs N         processes, default all cores
  --version

exit codes: 0 ok, 1 error, 2 usage, 3 a gate failed, 4 device unreachable, 5 unsupported model, 130 interrupted"""


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    context.current = context.Context(json="--json" in arguments)
    stopped: list[int] = []  # the signal that ended us; native code may turn the exception that it raised into another
    try:
        with _stoppable(stopped):
            return _dispatch(_take_globals(arguments, context.current))
    except EdgeZipError as error:
        return _interrupted(stopped) if stopped else _fail(error)
    except KeyboardInterrupt:
        return _interrupted(stopped)
    except BrokenPipeError:
        _silence(sys.stdout)
        return 141
    except OSError as error:
        return _interrupted(stopped) if stopped else _fail(_from_os_error(error))
    except Exception as error:
        return _interrupted(stopped) if stopped else _fail(_unexpected(error))


@contextmanager
def _stoppable(stopped: list[int]) -> Iterator[None]:
    """SIGTERM and a hang-up clean up as Ctrl-C does; handlers are those of before afterwards."""

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with suppress(ValueError):  # another thread than the main one, in a program that embeds us
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupted(stopped: list[int]) -> int:
    print("interrupted; nothing was left half written", file=sys.stderr)
    return 128 + (stopped[0] if stopped else signal.SIGINT)


def _silence(stream: Any) -> None:
    """What is still in the buffer goes nowhere: the interpreter would fail to write it at its end, and say so."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(error: EdgeZipError) -> int:
    if context.current.json and not context.current.printed:
        try:
            print(json.dumps({"edgezip": __version__, **error.as_dict()}), flush=True)
        except OSError:  # stdout is what failed
            _silence(sys.stdout)
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


def _unexpected(error: Exception) -> EdgeZipError:
    """A fault of ours: one line, and with -v where it came from."""
    if context.current.verbose:
        import traceback

        traceback.print_exception(error)
    text = " ".join(str(error).split())[:300]
    hint = "please report it with the model" + ("" if context.current.verbose else "; -v shows where")
    return EdgeZipError(f"internal error: {type(error).__name__}: {text}", hint=hint)


def _from_os_error(error: OSError) -> EdgeZipError:
    return EdgeZipError(
        error.strerror or str(error), where=str(error.filename or ""), hint="check the path, its permissions and the free space"
    )


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {text}" for verb, text in VERBS.items())
    first = "  edgezip deploy model.onnx --target rpi4 --calib images/ --host pi@raspberrypi.local"
    tail = f"first step:\n{first}\n\n`edgezip VERB --help` explains a verb."
    return f"usage: edgezip VERB MODEL [options]\n\n{verbs}\n\n{_GLOBALS}\n\n{tail}"


def _take_globals(arguments: list[str], out: context.Context) -> list[str]:
    """Remove the global options wherever they stand (``--json`` stays: verbs declare it too)."""
    setters: dict[str, Callable[[str], None]] = {
        "--color": lambda v: setattr(out, "color", _one_of("--color", v, ("auto", "always", "never"))),
        "--cache-dir": lambda v: setattr(out, "cache_dir", Path(v)),
        "--seed": lambda v: setattr(out, "seed", _whole("--seed", v)),
        "-j": lambda v: setattr(out, "jobs", _whole("-j", v)),
        "--jobs": lambda v: setattr(out, "jobs", _whole("--jobs", v)),
    }
    flags = {"-v": "verbose", "--verbose": "verbose", "-q": "quiet", "--quiet": "quiet"}
    rest: list[str] = []
    items = iter(arguments)
    for item in items:
        name, equals, value = item.partition("=")
        if item in flags:
            setattr(out, flags[item], True)
        elif item == "--no-progress":
            out.progress = False
        elif name in setters:
            found = value if equals else next(items, None)
            if found is None:
                raise UsageError(f"{name} needs a value")
            setters[name](found)
        else:
            rest.append(item)
    return rest


def _whole(name: str, text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"{name} takes a whole number", got=text)
    return int(text)


def _one_of(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise UsageError(f"{name} takes one of {', '.join(choices)}", got=text)
    return text


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["--json"] and len(arguments) > 1:  # a global option may stand before the verb
        arguments = [*arguments[1:], "--json"]
    verb = arguments[0] if arguments else "--help"
    if verb in ("--help", "-h", "help"):
        print(_help())
        return 0
    if verb == "--version":
        print(json.dumps({"edgezip": __version__}) if context.current.json else f"edgezip {__version__}")
        return 0
    if verb not in VERBS:
        from difflib import get_close_matches

        near = get_close_matches(verb, VERBS, 1)
        raise UsageError("unknown verb", got=verb, hint=f"did you mean {near[0]}?" if near else "see: edgezip --help")
    rest = [item for item in arguments[1:] if item != "--json"] if verb == "targets" else arguments[1:]
    return _run(verb, rest)


def _run(verb: str, arguments: list[str]) -> int:
    import typer

    module = import_module(f"edgezip.cli.{verb}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command()(module.command)
    click_error = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    try:
        result = app(args=arguments, prog_name=f"edgezip {verb}", standalone_mode=False)
        sys.stdout.flush()  # a full disk is told here, not by the interpreter at its end
    except typer.Abort:
        raise KeyboardInterrupt from None
    except typer.Exit as error:
        return int(error.exit_code)
    except Exception as error:
        if isinstance(error, click_error):
            raise _usage(verb, error) from None
        raise
    if result == 130:  # what newer typers make of Ctrl-C
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _usage(verb: str, error: Any) -> UsageError:
    return UsageError(error.format_message(), hint=f"see: edgezip {verb} --help")


if __name__ == "__main__":
    sys.exit(main())
