"""One line on a terminal that says what a command is doing, until it has something to print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Say = Callable[[str], None]


@contextmanager
def working(words: str) -> Iterator[Say]:
    """Shows ``words`` on stderr while the block runs, and then removes them. The block is given a
    function that shows other words. Nothing is shown if stderr is not a terminal.

    Nothing may be printed on stdout inside the block.
    """
    from rich.console import Console

    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_terminal:
        yield lambda words: None
        return
    # the frames of "line" are ASCII, which every terminal can show
    with console.status(words, spinner="line", refresh_per_second=4) as status:
        yield lambda words: status.update(words)
