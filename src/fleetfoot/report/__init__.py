"""Tables, pictures and pages made from records; nothing here measures.

``read_joined`` reads a record with the accuracies beside it; ``save`` makes everything from it;
``markdown`` and ``update_between_markers`` keep a README's table equal to its record.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fleetfoot.files import read_text, write_text
from fleetfoot.measure.record import Failure, Start
from fleetfoot.report import plots, record_page
from fleetfoot.report.joined import Joined, join, read_joined
from fleetfoot.report.record_tables import (
    markdown,
    print_comparison,
    print_starts,
    print_tables,
    to_csv,
)

__all__ = [
    "Joined",
    "join",
    "markdown",
    "print_comparison",
    "print_starts",
    "print_tables",
    "read_joined",
    "save",
    "to_csv",
    "update_between_markers",
]

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def save(
    measurements: Sequence[Joined],
    failures: Sequence[Failure],
    folder: str | Path,
    starts: Sequence[Start] = (),
) -> list[Path]:
    """Writes ``results.csv``, the plots and ``index.html`` into ``folder``; returns the files."""
    folder = Path(folder)
    table, site = folder / "results.csv", folder / "index.html"
    write_text(table, to_csv(measurements))
    write_text(site, record_page.html(measurements, failures, starts))
    return [table, *plots.save(measurements, folder), site]


def update_between_markers(path: str | Path, text: str) -> bool:
    """Puts ``text`` between the lines ``<!-- results:begin -->`` and ``<!-- results:end -->`` of a
    file. Returns whether the file changed.

    Raises:
        ValueError: the file does not contain each marker once, in this order.
    """
    path = Path(path)
    before = read_text(path)
    if (
        before.count(BEGIN) != 1
        or before.count(END) != 1
        or before.index(BEGIN) > before.index(END)
    ):
        raise ValueError(f"{path} must hold {BEGIN} and, below it, {END}, each once")
    head, rest = before.split(BEGIN)
    after = f"{head}{BEGIN}\n{text.strip()}\n{END}{rest.split(END)[1]}"
    if after != before:
        write_text(path, after)
    return after != before
