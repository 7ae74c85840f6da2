"""The streams of a command: results on standard output, everything else on standard error.

Text is printed as well as the terminal can show it: a sign that its encoding lacks becomes a plain
substitute, for example ``x`` for ``×``. While a command runs, only its results reach standard
output; what a user's file, torch or a C library prints there goes to standard error.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import IO, Any, TextIO

from fleetfoot.errors import printable

PLAIN = {
    "×": "x", "÷": "/", "±": "+/-", "−": "-", "–": "-", "—": "-", "·": ".", "…": "...",
    "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "≈": "~", "√": "sqrt", "µ": "u", "½": "1/2",
    "¹": "^1", "²": "^2", "³": "^3", "⁴": "^4", "⁶": "^6", "⁷": "^7", "⁹": "^9", "⁻": "^-",
    "α": "alpha", "β": "beta", "λ": "lambda", "ρ": "rho", "ᵀ": "^T", "°": " deg",
    "✓": "yes", "✗": "no", "•": "*",
    "‘": "'", "’": "'", "“": '"', "”": '"', "\N{NO-BREAK SPACE}": " ",
    "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "=", "▍": "-", "▎": "-", "▏": "-",
    "─": "-", "━": "-", "│": "|", "┃": "|", "╸": "-", "╺": " ",
    "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "┬": "+", "┴": "+", "┼": "+",
    "╭": "+", "╮": "+", "╰": "+", "╯": "+",
}  # fmt: skip
"""Substitutes for signs that an encoding lacks."""

ERRORS = "fleetfoot.plain"
"""Name of the error handler of encodings that writes ``PLAIN`` substitutes."""

STANDARD_OUTPUT = "standard output"
"""``filename`` of an ``OSError`` that writing a result raised."""

_results: TextIO | None = None
"""Stream of results while ``results_apart`` lasts."""


def substitute(sign: str) -> str:
    r"""A sign in ASCII: the substitute in ``PLAIN``, or else an escape; a byte of a path that is
    not text, which Python holds as a lone surrogate, becomes an escape of this byte.

    >>> substitute("×"), substitute("é"), substitute("\udcff")
    ('x', '\\xe9', '\\xff')
    """
    if sign in PLAIN:
        return PLAIN[sign]
    if "\udc80" <= sign <= "\udcff":
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("ascii", "backslashreplace").decode("ascii")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(substitute, error.object[error.start : error.end])), error.end


codecs.register_error(ERRORS, _plain)


def results() -> TextIO | None:
    """The stream that results go to; None if standard output is closed."""
    return sys.stdout if _results is None else _results


def echo(text: str = "", *, err: bool = False, end: str = "\n") -> None:
    """Prints text as a result, or on standard error: at once, and in any encoding. Control
    characters are escaped, except the ends of lines."""
    _write(printable(text), end, err=err)


def echo_data(text: str, *, end: str = "\n") -> None:
    """Prints a result for programs, for example CSV, as it is."""
    _write(text, end, err=False)


def echo_json(value: Any) -> None:
    """Prints a value as one line of JSON in ASCII, so that every encoding can hold it. Text is
    taken for JSON already, and only brought into ASCII."""
    value = json.loads(value) if isinstance(value, str) else value
    _write(json.dumps(value, allow_nan=False), "\n", err=False)


def _write(text: str, end: str, *, err: bool) -> None:
    stream = sys.stderr if err else results()
    if stream is not None:
        tolerate(stream)
        stream.write(text + end)
        stream.flush()


def tolerate(stream: IO[str] | None) -> None:
    """Lets ``stream`` take signs that its encoding lacks."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors != ERRORS:
        stream.reconfigure(errors=ERRORS)


class _Results(io.FileIO):
    """Standard output whose errors name it. After the first one it takes everything and keeps
    nothing, so that ending the process raises no second one."""

    _failed = False

    def write(self, data: Any) -> int:
        if self._failed:
            return memoryview(data).nbytes
        try:
            return super().write(data)  # None, if it would block, is for the buffer to handle
        except OSError as error:
            self._failed = True
            raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from None


class _Messages(io.FileIO):
    """Standard error: a message that cannot be written is lost, and the work goes on."""

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes


def prepare_streams() -> None:
    """Prepares this process's standard streams for a command. They take signs that their encodings
    lack. Errors of standard error are ignored, and those of standard output name it. A closed one
    of the three is opened to nowhere: the next file to be opened would get its number, and would
    then hold what a library prints.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
    sys.stdout = _own(sys.stdout, 1, _Results)
    sys.stderr = _own(sys.stderr, 2, _Messages)


def _own(stream: TextIO | None, number: int, kind: type[io.FileIO]) -> TextIO:
    """A stream in the place of ``stream``, which has the file's ``number``, or is None for a closed
    one; another stream, for example a test's or a console of Windows, only gets the handler of
    errors."""
    if stream is not None and (_number(stream) != number or sys.platform == "win32"):
        tolerate(stream)
        return stream
    encoding = "utf-8" if stream is None else stream.encoding
    return _text(kind(number, "w", closefd=False), encoding)


def _text(raw: io.FileIO, encoding: str) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors=ERRORS, write_through=True,
        line_buffering=True,
    )  # fmt: skip


def _number(stream: IO[str]) -> int:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # a stream in memory
        return -1


@contextlib.contextmanager
def results_apart() -> Iterator[None]:
    """While this lasts, ``results`` is standard output, and what others print there, from Python
    or from C, goes to standard error."""
    global _results
    before, own = _results, sys.stdout
    if own is None:
        yield
        return
    kept = None
    if _number(own) == 1 and sys.platform != "win32":
        own.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
        _results = _text(_Results(kept, "w"), own.encoding)
    else:
        tolerate(own)
        _results = own
    tolerate(sys.stderr)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        apart, _results, sys.stdout = _results, before, own
        if kept is not None:
            own.flush()
            os.dup2(kept, 1)
            apart.close()


@contextlib.contextmanager
def results_inherited() -> Iterator[None]:
    """While this lasts within ``results_apart``, processes that are started here print their
    results on this one's standard output."""
    stream = results()
    number = -1 if stream is None else _number(stream)
    if number in (-1, 1):
        yield
        return
    kept = os.dup(1)
    os.dup2(number, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
