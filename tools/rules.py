"""The page of the rules, made from the rules themselves.

    python -m tools.rules docs/rules.md benchmarks/prices

Each rule's example is judged on an example machine with round numbers, by the code that judges a
user's network; what the changes save is read from the records of ``fleetfoot lint --check-prices``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from fleetfoot.count import trace
from fleetfoot.explain import price_check
from fleetfoot.explain.denormals import denormals
from fleetfoot.explain.findings import Finding
from fleetfoot.explain.price_check import PriceRecord
from fleetfoot.explain.rules import RULES, Rule, findings
from fleetfoot.explain.rules.examples import EXAMPLES, REPEATS, ROUND, Example
from fleetfoot.explain.rules.pricing import modelled_layers
from fleetfoot.report import update_between_markers
from fleetfoot.report.findings import PRICE_TITLES, price_cells
from fleetfoot.report.record_tables import markdown_table
from fleetfoot.report.summary import digits

SECTIONS = (
    ("What it does", "what"),
    ("Why is this bad", "why"),
    ("Price", "price"),
    ("Known problems", "known_problems"),
    ("Instead", "instead"),
)


def example_finding(example: Example) -> Finding:
    """The first finding of the rule on one block of its example."""
    network = example.broken().eval()
    traced = trace(network, torch.empty(example.shape, device="meta"))
    layers = None
    if example.times_floor:
        rows = modelled_layers(traced, ROUND)
        layers = [replace(row, time_s=row.time_s * example.times_floor) for row in rows]
    held = denormals(network, torch.zeros(example.shape)) if example.denormals else None
    found = findings(
        traced,
        ROUND,
        layers=layers,
        engine="executorch",
        engine_note=example.engine_note,
        denormals=held,
    )
    return next(one for one in found if one.rule == example.rule)


def _section(rule: Rule) -> str:
    example = EXAMPLES[rule.code]
    found = example_finding(example)
    parts = [f"### {rule.code} {rule.name}"]
    parts += [f"**{title}.** {_line(getattr(rule, name))}" for title, name in SECTIONS]
    parts.append(f"```python\n{inspect.getsource(example.broken).strip()}\n```")
    module = f"`{found.module}`: " if found.module else ""
    said = f"At {example.shape}: {module}{found.text} {found.change}"
    if example.times_floor:
        said = f"{said[:-1]}, were each layer to take {example.times_floor:g} times its floor."
    parts.append(f"{said} Price {digits(found.price_s * 1e6)} µs.")
    parts.append(f"**Reference.** {_line(rule.reference)}")
    return "\n\n".join(parts)


def _line(text: str) -> str:
    return " ".join(text.split())


def _checked(records: Sequence[PriceRecord]) -> str:
    if not records:
        return "No record is kept here yet; `fleetfoot lint --check-prices --output` makes one."
    parts = []
    for record in records:
        threads = f"{record.threads} thread{'s' * (record.threads > 1)}"
        head = (
            f"**{record.engine} {record.engine_version}, {threads}, {record.machine.cpu}**, "
            f"{record.started[:10]}, {record.repeats} blocks"
        )
        rows = [price_cells(check) for check in record.checks]
        absent = [f"- {code} not measured: {reason}" for code, reason in record.absent.items()]
        parts.append(
            "\n".join([head, "", *markdown_table(PRICE_TITLES, rows), "", *absent]).strip()
        )
    return "\n\n".join(parts)


def markdown(records: Sequence[PriceRecord]) -> str:
    """The page: a table of rules, their prices beside the measured savings, a section a rule."""
    overview = markdown_table(
        ("rule", "name", "price of its example, µs"),
        (
            (code, f"[{rule.name}](#{code.lower()}-{rule.name})", digits(1e6 * price))
            for code, rule in RULES.items()
            for price in (example_finding(EXAMPLES[code]).price_s,)
        ),
        left=(0, 1),
    )
    return "\n\n".join(
        (
            "\n".join(overview),
            "## Prices beside what was saved",
            f"For each rule {REPEATS} blocks of its example and {REPEATS} with the change made, "
            "measured in turns. Predicted: the rule's prices on the first, from its measured "
            "layers, less those that are left on the second. Saved: the difference of the medians.",
            _checked(records),
            "## Rules",
            *map(_section, RULES.values()),
        )
    )


def main(document: str, folder: str) -> None:
    """Puts the page between the markers of ``document``."""
    changed = update_between_markers(document, markdown(price_check.read(Path(folder))))
    print(f"{document}: {'updated' if changed else 'already what the code gives'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
