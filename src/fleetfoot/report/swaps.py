"""A swap of convolutions and its effect, as a card for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetfoot.measure.pair import PairTimes
from fleetfoot.report.counts import scaled
from fleetfoot.report.kit.terminal import Name
from fleetfoot.report.record_tables import print_fitting
from fleetfoot.report.summary import digits
from fleetfoot.transform.replacement import Replaced, Swapped, by_reason


class SwapColumn(NamedTuple):
    title: str
    text: Callable[[Replaced], str]
    spare: int = 0
    """Columns that do not fit are left out, the largest number first; 0 always stays."""


def _step(before: float, after: float, unit: str = "") -> str:
    return f"{scaled(before, unit)}→{scaled(after, unit)}"


COLUMNS = (
    SwapColumn("was", lambda row: row.was, 4),
    SwapColumn("is", lambda row: row.now),
    SwapColumn("params", lambda row: _step(row.before.params, row.after.params), 1),
    SwapColumn("MACs", lambda row: _step(row.before.macs, row.after.macs)),
    SwapColumn("moved", lambda row: _step(row.before.moved_bytes, row.after.moved_bytes, "B"), 2),
)
MISSED = SwapColumn(
    "missed", lambda row: "-" if row.fit_error is None else f"{row.fit_error:.2f}", 3
)


def print_swap(
    console: Console, swapped: Swapped, title: str, times: PairTimes | None = None
) -> None:
    """Prints totals and time, then a row for each replaced layer, then what was left and why."""
    console.print(Text(title, "bold"), soft_wrap=True)
    head = Table.grid(padding=(0, 2))
    for name, text in totals(swapped):
        head.add_row(Text(name, "dim"), Text(text))
    if times is not None:
        head.add_row(Text("latency", "dim"), Text(latency(times)))
    console.print(head)
    console.print()
    columns = COLUMNS if swapped.options.init == "fresh" else (*COLUMNS, MISSED)
    print_fitting(console, columns, lambda shown: _table(swapped.replaced, shown))
    between = [row for row in swapped.replaced if row.between]
    if between:
        kinds = sorted({", ".join(row.between) for row in between})
        console.print(
            Text(f"between {len(between)} PConvs and the 1×1 that follows: {'; '.join(kinds)}")
        )
    for text in by_reason(swapped.left):
        console.print(Text(f"left: {text}", "dim"), soft_wrap=True)


def totals(swapped: Swapped) -> list[tuple[str, str]]:
    """Lines at the top of the card: a name and a change in words."""
    before, after = swapped.before, swapped.after
    rows = [
        ("params", _change(before.params, after.params)),
        ("MACs", _change(before.macs, after.macs)),
        ("moved", _change(before.memory_access_bytes, after.memory_access_bytes, "B")),
        (
            "weights",
            f"{len(swapped.kept)} tensors kept bit for bit, {len(swapped.new)} new: to be trained",
        ),
        ("shapes", swapped.checked),
    ]
    if after.coverage < 1 or before.coverage < 1:
        rows.append(("note", "MACs are lower bounds: some operators have no formula"))
    return rows + [("note", note) for note in {before.note: None, after.note: None} if note]


def _change(before: int, after: int, unit: str = "") -> str:
    ratio = f", × {digits(after / before)}" if before else ""
    return f"{scaled(before, unit)} → {scaled(after, unit)}{ratio}"


def latency(times: PairTimes) -> str:
    """The ratio of times with its interval, or why there is none."""
    made = times.change
    if made is None:
        reasons = "; ".join(f"{one.model}: {one.reason}" for one in times.failures)
        engine = times.failures[0].engine if times.failures else "the engine"
        return f"not measured on {engine}: {reasons or 'no samples'}"
    cell = made.cell
    fold = "folded" if cell.folded else "as they are"
    text = (
        f"{digits(made.before_s * 1e3)} ms → {digits(made.after_s * 1e3)} ms, × {made.ratio:.3f} "
        f"(95 %: {made.ci95[0]:.3f} to {made.ci95[1]:.3f}), {made.verdict}; {cell.engine}, "
        f"{cell.threads} thread{'s' * (cell.threads > 1)}, batch {cell.batch}, both {fold}, in "
        "turns"
    )
    return "; ".join((text, *made.notes))


def _table(rows: Sequence[Replaced], columns: Sequence[SwapColumn]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold")
    for column in columns:
        words = column.title in ("was", "is")
        table.add_column(
            column.title,
            justify="left" if words else "right",
            no_wrap=not words,
            overflow="fold" if words else "ellipsis",
        )
    for row in rows:
        table.add_row(Name(row.path), *(Text(column.text(row)) for column in columns))
    return table
