"""The console for tables, and names that wrap at their words."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.text import Text

from fleetfoot.errors import printable
from fleetfoot.streams import results

WIDE = 120


class _Console(Console):
    """A console that escapes control characters in texts."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text
            if not (segment.control or text.isprintable() or text == "\n"):
                segment = segment._replace(text=printable(text))
            yield segment

    def on_broken_pipe(self) -> None:
        raise  # the command's frame ends it, and knows which stream it was


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; in a pipe or a file of unknown width, wide enough for
    every column. Names are printed unchanged: no markup, no highlighting."""
    file = sys.stderr if stderr else results()
    made = _Console(stderr=stderr, file=file, highlight=False, markup=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = WIDE
    return made


_PIECES = re.compile(r"[^_:\-./ ]*[_:\-./ ]|[^_:\-./ ]+")
"""A word of a name, with the sign that ends it: ``timm:``, ``mobilenetv3_``, ``100``."""


class Name:
    """The name of a network or module in a table. If the column is too narrow, it continues on the
    next line after one of its signs; a word is cut only if it is too long by itself."""

    def __init__(self, text: str | Text) -> None:
        self._lines = (text if isinstance(text, Text) else Text(text)).split("\n")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = max((len(piece) for line in self._lines for piece in _pieces(line)), default=0)
        widest = max((len(line) for line in self._lines), default=0)
        return Measurement(min(longest, options.max_width), min(widest, options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._lines:
            yield from line.divide(_breaks(line, options.max_width))


def _pieces(line: Text) -> list[str]:
    return _PIECES.findall(line.plain)


def _breaks(line: Text, width: int) -> list[int]:
    """Where to break ``line`` so that each part has at most ``width`` letters."""
    found: list[int] = []
    start = at = 0
    for piece in _pieces(line):
        if at > start and at + len(piece.rstrip(" ")) - start > width:
            found.append(at)
            start = at
        at += len(piece)
        while at - start > max(1, width):
            start += max(1, width)
            found.append(start)
    return [place for place in found if 0 < place < len(line)]
