"""Names in a table wrap at their words, and lose no letter."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetfoot.report.kit.terminal import Name


def lines(name: str | Text, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    return ["".join(s.text for s in line).rstrip() for line in console.render_lines(Name(name))]


@pytest.mark.parametrize(
    ("width", "wrapped"),
    [
        (40, ["timm:mobilenetv3_large_100"]),
        (26, ["timm:mobilenetv3_large_100"]),
        (25, ["timm:mobilenetv3_large_", "100"]),
        (12, ["timm:", "mobilenetv3_", "large_100"]),
        (8, ["timm:", "mobilene", "tv3_", "large_", "100"]),
    ],
)
def test_a_name_goes_on_in_the_next_line_after_a_sign(width, wrapped):
    assert lines("timm:mobilenetv3_large_100", width) == wrapped


def test_what_stands_below_a_name_stays_below_it_and_keeps_its_style():
    name = Text("fasternet_t0").append("\nunstable: spread 31 %", "yellow")
    assert lines(name, 12) == ["fasternet_t0", "unstable:", "spread 31 %"]
    assert lines("", 10) == [""]


def test_a_narrow_table_shows_whole_words_and_whole_figures():
    table = Table(box=None)
    table.add_column("network")
    for _ in range(3):
        table.add_column("ms", justify="right", no_wrap=True)
    table.add_row(Name("timm:mobilenetv3_large_100"), "1234.56", "1234.56", "1234.56")
    text = io.StringIO()
    Console(file=text, width=45).print(table)
    rows = [line.split() for line in text.getvalue().splitlines()[1:]]
    assert rows[0][1:] == ["1234.56"] * 3
    assert "".join(row[0] for row in rows if row) == "timm:mobilenetv3_large_100"
    assert all(row[0].endswith(("_", ":", "100")) for row in rows if row)
