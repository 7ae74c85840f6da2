"""Findings, verdicts, rules and prices as cards for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetfoot.explain.findings import Finding
from fleetfoot.explain.lint import Lint
from fleetfoot.explain.price_check import PriceCheck, PriceRecord
from fleetfoot.explain.rules import RULES
from fleetfoot.report.summary import digits


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Prints a paragraph for each finding: rule, price, module; what was found; what to change."""
    for one in findings:
        price = digits(one.price_s * 1e3)
        head = Text.assemble(
            (f"{one.rule} ", "bold"),
            (f"{price} ms ", "yellow"),
            f"{one.module or 'the network itself'}  {one.name}",
        )
        console.print(head, soft_wrap=True)
        console.print(Text(f"   {one.text}"), soft_wrap=True)
        console.print(Text(f"   {one.change}", "dim"), soft_wrap=True)


def print_lint(console: Console, lint: Lint) -> None:
    """Prints the findings, what was left out and why, and the verdict."""
    print_findings(console, lint.findings)
    for code, reason in lint.settings.disable.items():
        console.print(Text(f"disabled: {code}, {reason}", "dim"), soft_wrap=True)
    if lint.below_min_price:
        console.print(
            Text(
                f"{lint.below_min_price} more are worth less than {lint.settings.min_price_ms:g} ms"
            )
        )
    where = f"on {lint.engine}" if lint.engine else "at the layers' floors, without measuring"
    threads = f"{lint.threads} thread{'s' * (lint.threads > 1)}"
    latency = f"{digits(lint.latency_s * 1e3)} ms {where}, {threads}"
    if lint.settings.max_ms is not None:
        word = "more than" if lint.too_slow else "within"
        latency += f": {word} the {lint.settings.max_ms:g} ms allowed"
    console.print(Text(f"{lint.model}: {latency}"), soft_wrap=True)
    if lint.findings:
        counts = Counter(one.rule for one in lint.findings)
        words = ", ".join(f"{count} {code}" for code, count in counts.items())
        note = "" if lint.basis == "measured" else "; prices are modelled"
        total = len(lint.findings)
        console.print(Text(f"{total} finding{'s' * (total > 1)} ({words}){note}"), soft_wrap=True)
    console.print(Text("passed", "green") if lint.passed else Text("failed", "red"))


def print_rules(console: Console) -> None:
    """Prints a line for each rule."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("rule", "name", "what it looks for"):
        table.add_column(title, no_wrap=title != "what it looks for")
    for code, rule in RULES.items():
        table.add_row(code, rule.name, Text(" ".join(rule.what.split())))
    console.print(table)


PRICE_TITLES = ("rule", "broken ms", "mended ms", "predicted ms", "saved ms", "95 % interval")


def price_cells(check: PriceCheck) -> tuple[str, ...]:
    """Figures of one rule, under ``PRICE_TITLES``."""
    low, high = (digits(one * 1e3) for one in check.saved_ci95_s)
    predicted = digits(check.predicted_s * 1e3) if check.findings else "not found"
    broken, mended, saved = (
        digits(one * 1e3) for one in (check.broken_s, check.mended_s, check.saved_s)
    )
    return (check.rule, broken, mended, predicted, saved, f"{low} to {high}")


def print_prices(console: Console, record: PriceRecord) -> None:
    """Prints the predicted and the measured saving of each change."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in PRICE_TITLES:
        table.add_column(title, justify="left" if title == "rule" else "right", no_wrap=True)
    for check in record.checks:
        table.add_row(*price_cells(check))
    console.print(table)
    for code, reason in record.absent.items():
        console.print(Text(f"{code} not measured: {reason}"), soft_wrap=True)
    threads = f"{record.threads} thread{'s' * (record.threads > 1)}"
    console.print(Text(f"{record.engine}, {threads}, {record.machine.cpu}", "dim"))
