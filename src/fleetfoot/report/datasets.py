"""The report on a data set as a card; figures and sentences that the page shows too."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetfoot.data.concerns import concerns
from fleetfoot.data.inspection import Inspection
from fleetfoot.data.scene_inspection import SceneInspection
from fleetfoot.data.survey import KINDS, Level, Spread, Survey
from fleetfoot.errors import counted, visible
from fleetfoot.report import scenes
from fleetfoot.report.kit.terminal import rows
from fleetfoot.report.live import duration
from fleetfoot.report.summary import digits

STYLES: dict[Level, str] = {"wrong": "red", "doubt": "yellow", "note": "dim"}
UNREADABLE = 5
"""Pictures that cannot be read on the card; the page and ``--json`` have all."""


def title(found: Survey) -> str:
    """The size of the set, for example "81 classes, 5,421 pictures"."""
    if isinstance(found, SceneInspection):
        return scenes.title(found)
    classes = counted(len(found.classes), "class", "classes")
    return f"{classes}, {counted(found.pictures, 'picture')}"


def opened(found: Survey) -> str:
    """What was done, for example "5,421 pictures opened in 6 s"."""
    what = "headers of" if found.quick else "opened"
    number = counted(found.opened, "picture")
    said = f"{what} {number}" if found.quick else f"{number} {what}"
    if found.stopped:
        said += f" of {found.pictures:,} (stopped)"
    time = duration(found.seconds) if found.seconds >= 1 else "less than a second"
    return f"{said} in {time}"


def part_table(found: Survey) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The heads of the table of parts, and a row for each part."""
    if isinstance(found, SceneInspection):
        return scenes.titles(found), scenes.part_rows(found)
    assert isinstance(found, Inspection)
    return ("part", "pictures", "classes", "least", "median", "most"), _part_rows(found)


def _part_rows(found: Inspection) -> list[tuple[str, ...]]:
    """Rows of which the last three cells are pictures of a class, among those that have any."""
    made = []
    for name, counts in found.counts.items():
        full = sorted(number for number in counts if number)
        middle = (full[(len(full) - 1) // 2] + full[len(full) // 2]) / 2 if full else 0
        cells = (sum(counts), len(full), full[0] if full else 0, middle, full[-1] if full else 0)
        made.append((name, *(f"{cell:,g}" for cell in cells)))
    return made


def facts(found: Survey) -> dict[str, str]:
    """Sizes, formats and kinds of the pictures that were looked at, in words."""
    made = {"layout": found.layout, "looked at": opened(found)}
    if found.widths and found.heights and found.aspects and found.file_bytes:
        made["width"] = _spread(found.widths, "pixels")
        made["height"] = _spread(found.heights, "pixels")
        made["width / height"] = _spread(found.aspects)
        made["file"] = _spread(found.file_bytes, "kB", 1e-3)
    if isinstance(found, SceneInspection):
        made |= scenes.facts(found)
    made["formats"] = _counts(found.formats)
    if found.kinds:
        made["kinds"] = "; ".join(f"{n:,} {KINDS[kind]}" for kind, n in found.kinds.items())
    return made


def _spread(spread: Spread, unit: str = "", factor: float = 1.0) -> str:
    """Three figures in words, times ``factor``: whole numbers as they are, others to 3 digits."""
    figures = (value * factor for value in (spread.least, spread.median, spread.most))
    least, median, most = (f"{v:,.0f}" if v == round(v) else digits(v) for v in figures)
    unit = f" {unit}" if unit else ""
    return f"{least}{unit}" if least == most else f"{least} to {most}{unit}, median {median}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "none"


def print_card(console: Console, found: Survey) -> None:
    """Prints the whole card."""
    console.print(Text.assemble((visible(found.name), "bold"), f"  {title(found)}"))
    console.print()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    titles, cells = part_table(found)
    for name in titles:
        table.add_column(name, justify="left" if name == "part" else "right", no_wrap=True)
    for row in cells:
        table.add_row(*row)
    console.print(table)
    console.print(rows({name: visible(text) for name, text in facts(found).items()}))
    said = concerns(found)
    lines = Table.grid(padding=(0, 2, 0, 0))
    for one in said:
        lines.add_row(Text(one.level, STYLES[one.level]), Text(visible(one.text)))
    for bad in found.unreadable[1:UNREADABLE]:  # a sentence names the first
        lines.add_row("", Text(f"{visible(bad.place.name)}: {visible(bad.reason)}"))
    if len(found.unreadable) > UNREADABLE:
        lines.add_row("", Text(f"and {len(found.unreadable) - UNREADABLE:,} more", "dim"))
    if lines.row_count:
        console.print()
        console.print(lines)
    if all(one.level == "note" for one in said) and not found.quick and not found.stopped:
        console.print(Text("nothing wrong was found", "green"))
