"""Progress of a run: in a terminal a bar over a table that fills, elsewhere a plain line now and
then. It goes to stderr, so that stdout has only the result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleetfoot.report.summary import digits

if TYPE_CHECKING:  # these load torch, which what is shown without it need not wait for
    from fleetfoot.choose.pick import Tracing
    from fleetfoot.measure.run import Case, Event

QUIET_S = 15.0
"""Least seconds between two lines of one stage without a terminal."""

STEPS_TO_KNOW = 4
"""Steps of a stage after which the time of the rest is estimated."""


View = TypeVar("View", bound="LiveView")


def duration(seconds: float) -> str:
    """A time in words, to the second below a minute and to the half minute above.

    >>> duration(8.3), duration(75), duration(600)
    ('8 s', '1.5 min', '10 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{math.ceil(seconds / 30) / 2:g} min"


class LiveView:
    """A context with a live display in its console, if that is a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def __enter__(self: View) -> View:
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


class Progress(LiveView):
    """A context that receives the events of a run and shows its progress."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._last = ("", float("-inf"))
        self._stage = ("", 0.0)

    def __call__(self, event: Event | Tracing) -> None:
        from fleetfoot.choose.pick import Tracing
        from fleetfoot.measure.run import Failed, Notice, Preparing, RoundDone

        if isinstance(event, Tracing):
            self._show("tracing", event.number, event.of, event.model, {})
        elif isinstance(event, Preparing):
            what = f"{event.case.model} on {event.case.engine}"
            self._show("preparing", event.number, event.of, what, {})
        elif isinstance(event, RoundDone):
            stage = f"group {event.group}, round" if event.group else "round"
            what = f"{event.elapsed_s:.0f} s so far"
            self._show(stage, event.number, event.of, what, event.medians_s)
        elif isinstance(event, Notice):
            self._console.print(Text(f"note: {event.text}"))
        elif isinstance(event, Failed):
            failed = event.failure
            text = f"{failed.model} on {failed.engine} does not run: {failed.reason}"
            self._console.print(Text(text))

    def _left(self, stage: str, done: int, total: int) -> str:
        """How long the rest of the stage takes, if it goes on as it did so far."""
        now = time.monotonic()
        if stage != self._stage[0]:
            self._stage = (stage, now)
        if done < STEPS_TO_KNOW:
            return ""
        left_s = (now - self._stage[1]) / (done - 1) * (total - done + 1)
        return f", about {duration(left_s)} left" if left_s >= 1 else ""

    def _show(
        self, stage: str, done: int, total: int, what: str, medians_s: Mapping[Case, float]
    ) -> None:
        words = f"{stage} {done} of {total}: {what}{self._left(stage, done, total)}"
        if self._live is not None:
            self._live.update(self._picture(words, done / max(total, 1), medians_s))
            return
        now = time.monotonic()
        if stage != self._last[0] or done == total or now - self._last[1] >= QUIET_S:
            self._last = (stage, now)
            self._console.print(Text(words))

    def _picture(self, words: str, share: float, medians_s: Mapping[Case, float]) -> RenderableType:
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=share, width=24)
        head.add_row(bar, Text(words, overflow="ellipsis", no_wrap=True))
        return Group(head, self._standings(medians_s)) if medians_s else head

    def _standings(self, medians_s: Mapping[Case, float]) -> RenderableType:
        """The engine with the least median so far, for each network and setting, as many as fit on
        the screen."""
        best: dict[tuple[object, ...], Case] = {}
        for case in sorted(medians_s, key=lambda case: medians_s[case]):
            best.setdefault((case.model, *case.setting), case)
        settings = len({(case.threads, case.batch, case.beside) for case in medians_s}) > 1
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("network")
        if settings:
            table.add_column("threads, batch", justify="right", no_wrap=True)
        table.add_column("latency ms", justify="right", no_wrap=True)
        table.add_column("least median so far")
        room = max(1, self._console.height - 5)
        for case in list(best.values())[:room]:
            table.add_row(
                Text(case.model),
                *(
                    [
                        f"{case.threads}, {case.batch}"
                        + (f", beside {case.beside}" if case.beside else "")
                    ]
                    if settings
                    else []
                ),
                digits(medians_s[case] * 1e3),
                Text(case.engine),
            )
        if len(best) <= room:
            return table
        return Group(table, Text(f"and {len(best) - room} more", "dim"))


class Counter:
    """A context that receives counts, "done of so many", and shows them: in a terminal a bar with
    the time that is left, elsewhere a line at the start of each stage and then now and then."""

    def __init__(self, console: Console, words: str) -> None:
        self._console = console
        self._words = words
        self._live: Live | None = None
        self._stage = ""
        self._began = (0, 0.0)
        self._said = 0.0

    def __enter__(self) -> Counter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, done: int, of: int, words: str = "") -> None:
        """Shows a state.

        Args:
            words: what is being done. Default: the words of the whole.
        """
        words = words or self._words
        now = time.monotonic()
        if words != self._stage:
            self._stage, self._began = words, (done, now)
            if not self._console.is_terminal:
                self._console.print(Text(words))
                self._said = now
        if not self._console.is_terminal:
            if now - self._said >= QUIET_S and done < of:
                self._said = now
                self._console.print(Text(f"{words}: {done:,} of {of:,}{self._left(done, of, now)}"))
            return
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        row = Table.grid(padding=(0, 1))
        text = f"{words}: {done:,} of {of:,}{self._left(done, of, now)}"
        row.add_row(ProgressBar(total=of, completed=done, width=24), Text(text))
        self._live.update(row)

    def _left(self, done: int, of: int, now: float) -> str:
        """How long the rest of the stage takes, if it goes on as it did since its first state."""
        first, began = self._began
        if done - first < STEPS_TO_KNOW:
            return ""
        left_s = (now - began) / (done - first) * (of - done)
        return f", about {duration(left_s)} left" if left_s >= 1 else ""
