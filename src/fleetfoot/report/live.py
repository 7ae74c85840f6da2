"""What a run shows while it goes on: in a terminal a bar over a table that fills, elsewhere a plain
line now and then. It writes to stderr, so that stdout holds the result alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleetfoot.report.summary import digits

QUIET_S = 15.0
"""Least time between two lines where there is no terminal."""


class Standing(NamedTuple):
    """Where one cell is by now."""

    model: str
    engine: str
    threads: int
    batch: int
    median_s: float
    samples: int


class Progress:
    """A context in which a run tells how far it is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._last_line = float("-inf")
        self._last_stage = ""

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(
        self, stage: str, done: int, total: int, detail: str, cells: Sequence[Standing]
    ) -> None:
        """Shows ``done`` of ``total`` steps of a stage ("preparing", "measuring"), what is at hand,
        and the cells so far."""
        if self._live is not None:
            self._live.update(self._picture(stage, done, total, detail, cells))
            return
        now = time.monotonic()
        if stage != self._last_stage or done == total or now - self._last_line >= QUIET_S:
            self._last_stage, self._last_line = stage, now
            self._console.print(Text(_words(stage, done, total, detail)))

    def _picture(
        self, stage: str, done: int, total: int, detail: str, cells: Sequence[Standing]
    ) -> RenderableType:
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=max(total, 1), completed=done, width=24),
            Text(_words(stage, done, total, detail), overflow="ellipsis", no_wrap=True),
        )
        return Group(head, self._standings(cells)) if cells else head

    def _standings(self, cells: Sequence[Standing]) -> RenderableType:
        """The fastest cell of each network and setting by now, as many as the screen has lines."""
        best: dict[tuple[str, int, int], Standing] = {}
        for cell in sorted(cells, key=lambda c: c.median_s):
            best.setdefault((cell.model, cell.threads, cell.batch), cell)
        room = max(1, self._console.height - 6)
        settings = len({(c.threads, c.batch) for c in cells}) > 1
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("network")
        if settings:
            table.add_column("threads, batch", justify="right")
        for title in ("latency ms", "samples"):
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("fastest engine by now")
        for cell in list(best.values())[:room]:
            table.add_row(
                Text(cell.model),
                *([f"{cell.threads}, {cell.batch}"] if settings else []),
                digits(cell.median_s * 1e3),
                str(cell.samples),
                Text(cell.engine),
            )
        if len(best) <= room:
            return table
        return Group(table, Text(f"and {len(best) - room} more", "dim"))


def _words(stage: str, done: int, total: int, detail: str) -> str:
    return f"{stage} {done} of {total}{f': {detail}' if detail else ''}"
