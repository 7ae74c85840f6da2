"""Names in a table wrap at their words, and lose no letter."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetfoot.report.kit.terminal import FittingConsole, Name, rows


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


def wide_table() -> Table:
    table = Table(title="a title", box=None)
    table.add_column("network")
    for _ in range(4):
        table.add_column("time\nms", justify="right", no_wrap=True)
    table.add_column("what was said of it")
    table.add_row(Name("timm:mobilenetv3_large_100"), *["1234.56"] * 4, "faster than all others")
    table.add_row("second", "1", "", "3", "4", "")
    return table


def printed(width: int, *objects, monkeypatch, **options) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    made = FittingConsole(file=io.StringIO(), width=width, markup=False, highlight=False)
    made.print(*objects, **options)
    return [line.rstrip() for line in made.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 60])
def test_a_table_that_does_not_fit_is_printed_row_by_row(width, monkeypatch):
    lines = printed(width, wide_table(), monkeypatch=monkeypatch)
    assert lines[:2] == ["a title", "network"]
    assert "faster than all others" in " ".join(" ".join(lines).split())
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text
    assert text.count("1234.56") == 4
    assert f"  time ms{' ' * 14}1234.56" in lines
    assert lines[-4:-1] == ["second", *(f"  time ms{' ' * 14}{ms}" for ms in (1, 3))]


def test_a_table_that_fits_stays_a_table(monkeypatch):
    lines = printed(100, wide_table(), monkeypatch=monkeypatch)
    assert any(line.count("1234.56") == 4 for line in lines)


def test_prose_wraps_at_words_where_the_width_is_known(monkeypatch):
    said = "words " * 20
    lines = printed(40, said, soft_wrap=True, monkeypatch=monkeypatch)
    assert max(map(len, lines)) <= 40
    assert {word for line in lines for word in line.split()} == {"words"}

    monkeypatch.delenv("COLUMNS")
    pipe = FittingConsole(file=io.StringIO(), width=40)
    pipe.print(said, soft_wrap=True)
    assert len(pipe.file.getvalue().splitlines()) == 1  # a pipe is not wrapped


def test_names_and_texts_stand_beside_each_other(monkeypatch):
    lines = printed(30, rows({"paper": "a", "options": "one, two, three, four"}),
                    monkeypatch=monkeypatch)  # fmt: skip
    assert lines == ["paper    a", "options  one, two, three, four"]
    assert max(map(len, lines)) <= 30
