"""The console for tables and prose: both fit the width, and names wrap at their words."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from fleetfoot.errors import printable
from fleetfoot.streams import results

WIDE = 120


READABLE = 10
"""Least width, in letters, of a column of prose."""


class FittingConsole(Console):
    """A console that escapes control characters in texts; that prints a table row by row, each
    column on a line of its own, if it is too wide for the terminal; and that wraps prose at words,
    where a terminal would cut them."""

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        has_width = self.is_terminal or "COLUMNS" in os.environ
        fitting = [
            stacked(one) if isinstance(one, Table) and not fits(one, self) else one
            for one in objects
        ]
        super().print(*fitting, soft_wrap=soft_wrap and not has_width, **options)

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
    made = FittingConsole(stderr=stderr, file=file, highlight=False, markup=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = WIDE
    return made


def fits(table: Table, console: Console) -> bool:
    """Whether ``table`` can be shown in the width of ``console`` with whole words and figures, and
    with columns of prose of ``READABLE`` letters or more. A table without heads always fits."""
    if not table.show_header:
        return True
    wide = console.options.update(max_width=100_000)
    widest = [_extent(column, console, wide) for column in table.columns]
    frame = Measurement.get(console, wide, table).maximum - sum(most for _, most in widest)
    return frame + sum(least for least, _ in widest) <= console.width


def _extent(column: Column, console: Console, wide: ConsoleOptions) -> tuple[int, int]:
    """The least width at which a column can be read, and the width that it takes if it has room."""
    cells = [Measurement.get(console, wide, cell) for cell in (column.header, *column.cells)]
    most = max((*(cell.maximum for cell in cells), column.min_width or 0))
    if column.no_wrap:
        return most, most
    return max((min(most, READABLE), *(cell.minimum for cell in cells))), most


def stacked(table: Table) -> Group:
    """The rows of ``table`` below each other: the first cell, then a line for each other cell that
    is not empty, with the name of its column. The name of the first column stands above all."""
    head, *others = table.columns
    shown: list[RenderableType] = [text for text in (table.title, head.header) if text]
    cells = [list(column.cells) for column in others]
    names = [" ".join(str(column.header).split()) for column in others]
    most = max(map(len, names), default=0)
    for number, first in enumerate(head.cells):
        rows = Table.grid(padding=(0, 2, 0, 0))
        rows.add_column(style="dim", no_wrap=True)
        for name, values in zip(names, cells, strict=True):
            value = values[number]
            if value is not None and str(value).strip():
                rows.add_row(Text(f"  {name:{most}}"), value)
        shown += [Text(first) if isinstance(first, str) else first, rows]
    return Group(*shown, *((table.caption,) if table.caption else ()))


def rows(named: Mapping[str, str]) -> Table:
    """A line for each name and its text, which wraps beside the name."""
    made = Table.grid(padding=(0, 2, 0, 0))
    for name, text in named.items():
        made.add_row(Text(name), Text(text))
    return made


_PIECES = re.compile(r"[^_:\-./ ]*[_:\-./ ]|[^_:\-./ ]+")
"""A word of a name, with the sign that ends it: ``timm:``, ``mobilenetv3_``, ``100``."""


class Name:
    """The name of a network or module in a table. If the column is too narrow, it continues on the
    next line after one of its signs; a word is cut only if it is too long by itself."""

    def __init__(self, text: str | Text) -> None:
        self._text = str(text)
        self._lines = (text if isinstance(text, Text) else Text(text)).split("\n")

    def __str__(self) -> str:
        return self._text

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


def command_text(command: str) -> RenderableType:
    """A command to copy, which stays on one line however narrow the terminal is. Print it with
    ``crop=False``."""
    # in a group, because print joins texts into one that wraps
    return Group(Text(f"  {command}", no_wrap=True, overflow="ignore"))
