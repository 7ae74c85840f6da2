"""The result of ``choose.pick``, as a card and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetfoot.choose.pick import Candidate, Limits, Pick
from fleetfoot.report.kit.terminal import Name
from fleetfoot.report.summary import digits


def limits_text(limits: Limits) -> str:
    """The limits, for example "within 10 ms, top-1 of 75 % or more, weights of 20 MB or less"."""
    parts = [f"within {1e3 * limits.max_s:g} ms"]
    if limits.min_top1:
        parts.append(f"top-1 of {limits.min_top1:g} % or more")
    if limits.max_bytes is not None:
        parts.append(f"weights of {limits.max_bytes / 1e6:g} MB or less")
    return ", ".join(parts)


def print_card(console: Console, made: Pick) -> None:
    """Prints the front, from fast to slow; below it the other measured networks, and notes."""
    threads = f"{made.threads} thread{'s' if made.threads > 1 else ''}"
    title = f"{limits_text(made.limits)}: {made.engine}, {threads}, batch {made.batch}"
    console.print(Text(title, "bold"), soft_wrap=True)
    console.print(_table(made.front, made.predictor))
    best = made.front[-1]
    words = (
        f"Most accurate within the limits: {best.model}, top-1 {best.top1:g} % (published: "
        f"{best.top1_source}), {digits(1e3 * best.latency_s)} ms ({best.basis})."
    )
    console.print(Text(words), soft_wrap=True)
    if made.others:
        console.print(Text("\nmeasured too, and not on the front", "bold"))
        console.print(_table(made.others, made.predictor))
    for line in notes(made):
        console.print(Text(line, "dim"), soft_wrap=True)


def _table(rows: Sequence[Candidate], predictor: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("network")
    for head in (
        "latency ms\nmeasured", f"latency ms\npredicted by {predictor}", "top-1 %\npublished",
        "weights MB\ncounted", "MACs M\ncounted", "pixels",
    ):  # fmt: skip
        table.add_column(head, justify="right", no_wrap=True)
    for one in rows:
        table.add_row(
            Name(one.model),
            "-" if one.measured_s is None else digits(1e3 * one.measured_s),
            digits(1e3 * one.predicted_s),
            f"{one.top1:g}",
            digits(one.weight_bytes / 1e6),
            digits(one.macs / 1e6),
            str(one.size),
        )
    return table


def notes(made: Pick) -> list[str]:
    """Notes on what the answer leaves out."""
    lines = [
        f"{made.considered} networks with a published top-1 were predicted by the "
        f"{made.predictor}; those that may be on the front were measured."
    ]
    if made.predictor == "roofline":
        lines.append(
            "A roofline is a floor, not a forecast: leave out --no-calibrate for a better choice "
            "of what to measure."
        )
    if left := len(made.without_top1):
        words = (
            "networks have no published top-1 and are"
            if left > 1
            else ("network has no published top-1 and is")
        )
        lines.append(f"{left} {words} left out.")
    lines += [f"{name} is left out: {why}" for name, why in made.failures.items()]
    return lines


def record(made: Pick) -> dict[str, Any]:
    """The result as plain values for programs; each latency says whether it is measured."""
    return {
        **asdict(made),
        "front": [_row(one) for one in made.front],
        "others": [_row(one) for one in made.others],
    }


def _row(one: Candidate) -> dict[str, Any]:
    return {**asdict(one), "latency_s": one.latency_s, "latency_basis": one.basis,
            "top1_basis": "published"}  # fmt: skip
