"""The console that tables are printed on."""

from __future__ import annotations

import os

from rich.console import Console

WIDE = 120


def console(*, stderr: bool = False) -> Console:
    """As wide as the terminal; in a pipe or a file, where nobody said how wide, wide enough for
    every column. Names are printed as they are: no markup, no highlighting."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = WIDE
    return made
