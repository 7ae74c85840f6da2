"""A trace as a card for people, and as JSON and CSV that carry every operator."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetfoot.count.trace import ModuleCost, Operator, Trace
from fleetfoot.report.kit.terminal import Name
from fleetfoot.report.record_tables import print_fitting
from fleetfoot.report.summary import digits

UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def scaled(value: float, unit: str = "") -> str:
    """A value to three digits with a prefix: 335 M, 3.91 M, 40; with ``unit``, 40 B."""
    for size, prefix in UNITS:
        if value >= size:
            return f"{digits(value / size)} {prefix}{unit}"
    return f"{value:g} {unit}".rstrip()


class CountColumn(NamedTuple):
    title: str
    text: Callable[[ModuleCost, Trace], str]
    spare: int = 0
    """Columns that do not fit are left out, the largest number first; 0 always stays."""


COLUMNS = (
    CountColumn("params", lambda row, _: scaled(row.params) if row.params else "-"),
    CountColumn("MACs", lambda row, _: _macs(row)),
    CountColumn("MACs %", lambda row, trace: _share(row.macs, trace.macs), 1),
    CountColumn("exact FLOPs", lambda row, _: scaled(row.exact_flops), 4),
    CountColumn("moved", lambda row, _: scaled(row.memory_access_bytes, "B")),
    CountColumn(
        "moved %", lambda row, t: _share(row.memory_access_bytes, t.memory_access_bytes), 2
    ),
    CountColumn("MACs/byte", lambda row, _: _intensity(row), 3),
    CountColumn("peak", lambda row, _: scaled(row.peak_activation_bytes, "B"), 5),
    CountColumn("operators", lambda row, _: str(row.operators), 6),
)


def _macs(row: ModuleCost) -> str:
    text = scaled(row.macs) if row.macs else "-"
    return f"≥ {text}" if row.unknown else text


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if part and whole else "-"


def _intensity(row: ModuleCost) -> str:
    moved = row.memory_access_bytes
    return digits(row.macs / moved, 2) if row.macs and moved else "-"


def totals(trace: Trace) -> list[tuple[str, str]]:
    """Lines at the top of the card: a name and an amount in words."""
    bound = "≥ " if trace.coverage < 1 else ""
    exact_bound = "≥ " if trace.exact_coverage < 1 else ""
    learned = f"{_both(trace.params)}, {scaled(trace.weight_bytes, 'B')} with buffers"
    if trace.unread_params:
        learned += f"; {trace.unread_params:,} of them are read by no operator"
    rows = [
        ("form", form(trace)),
        ("params", learned),
        ("MACs", bound + _both(trace.macs)),
        ("FLOPs", f"{bound}{_both(trace.mac_flops)}, two a MAC"),
        (
            "exact FLOPs",
            f"{exact_bound}{_both(trace.exact_flops)}, with norms, activations and pooling",
        ),
        (
            "moved",
            f"{scaled(trace.memory_access_bytes, 'B')}: {scaled(trace.bytes_read, 'B')} read, "
            f"{scaled(trace.bytes_written, 'B')} written",
        ),
        ("activations", _peak(trace)),
        ("coverage", _coverage(trace)),
    ]
    if trace.note:
        rows.append(("note", trace.note))
    return rows


def form(trace: Trace) -> str:
    """Form of the network that was counted: MobileOne-S0 has 1.05 G MACs as given, 275 M
    folded."""
    norms = sum("batch_norm" in op.name for op in trace.operators)
    if not norms:
        return "as given, with no batch norm to fold"
    return (
        f"as given: {norms} batch norm{'s' if norms > 1 else ''} and any branches are counted; "
        "bench, explain and pick count the folded network"
    )


def _both(value: int) -> str:
    """A value rounded and exact: 301 M (300,774,272)."""
    return f"{scaled(value)} ({value:,})" if value >= 1000 else str(value)


def _peak(trace: Trace) -> str:
    text = f"{scaled(trace.peak_activation_bytes, 'B')} at their peak, the input included"
    if trace.operators:
        where = max(trace.operators, key=lambda op: op.live_activation_bytes)
        text += f", in {where.module or 'the network itself'}"
    return text


def _coverage(trace: Trace) -> str:
    text = f"{100 * trace.coverage:.1f} % of {len(trace.operators)} operators"
    if trace.unknown:
        text += f"; totals are lower bounds, since no formula has {', '.join(trace.unknown)}"
    missing = [name for name in trace.without_exact if name not in trace.unknown]
    if missing:
        text += (
            f"; exact operations {100 * trace.exact_coverage:.1f} %, without {', '.join(missing)}"
        )
    return text


def print_card(console: Console, trace: Trace, title: str, depth: int) -> None:
    """Prints totals, then a row for each module, down to ``depth``; at 0 only the totals."""
    console.print(Text(title, "bold"), soft_wrap=True)
    head = Table.grid(padding=(0, 2))
    for name, text in totals(trace):
        head.add_row(Text(name, "dim"), Text(text))
    console.print(head)
    if depth:
        print_modules(console, trace, depth)


def print_modules(console: Console, trace: Trace, depth: int | None) -> None:
    """Prints a row for each module; columns that do not fit are left out and named below."""
    rows = trace.by_module(depth)
    console.print()
    print_fitting(console, COLUMNS, lambda columns: _table(trace, rows, columns))


def _table(trace: Trace, rows: tuple[ModuleCost, ...], columns: Sequence[CountColumn]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("module", overflow="fold")
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    for row in rows:
        name = Text(row.module or "(itself)")
        if row.module_type:
            name.append(f" {row.module_type}", "dim")
        table.add_row(Name(name), *(column.text(row, trace) for column in columns))
    return table


def record(trace: Trace, depth: int | None = None) -> dict[str, Any]:
    """Totals, modules and every operator, for programs; unknown values are null."""
    names = (
        "params", "unread_params", "weight_bytes", "input_bytes", "macs", "mac_flops",
        "exact_flops", "memory_access_elements", "memory_access_bytes", "bytes_read",
        "bytes_written", "peak_activation_bytes", "coverage", "exact_coverage", "unknown",
        "without_exact", "device", "note",
    )  # fmt: skip
    return {
        **{name: getattr(trace, name) for name in names},
        "modules": [asdict(row) for row in trace.by_module(depth)],
        "operators": [operator_record(operator) for operator in trace.operators],
    }


def operator_record(operator: Operator) -> dict[str, Any]:
    return {**asdict(operator), "mac_flops": operator.mac_flops, "known": operator.known}


def to_csv(trace: Trace) -> str:
    """CSV with a line for each operator, in running order; unknown values are empty."""
    text = io.StringIO()
    rows = [operator_record(operator) for operator in trace.operators]
    if rows:
        for row in rows:
            row["shape"] = _sides(row["shape"])
            row["input_shapes"] = " ".join(map(_sides, row["input_shapes"]))
            for numbers in ("reads", "writes"):
                row[numbers] = " ".join(map(str, row[numbers]))
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
