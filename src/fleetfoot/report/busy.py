"""What is left of each engine beside busy cores: the same cells with and without other processes
on the cores. The terminal and the page show the same table and sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fleetfoot.measure.record import Measurement
from fleetfoot.report.summary import OWN, digits

TITLE = "Beside busy cores, ms a batch"

Cells = dict[tuple[Any, ...], dict[int, Measurement]]


def busy_rows(measurements: Sequence[Measurement]) -> tuple[list[str], list[list[str]]]:
    """Titles, and a row for each network, engine and number of threads that ran beside busy cores;
    nothing if none did. "-" if there is no figure."""
    cells = _cells(measurements)
    cores = sorted({number for row in cells.values() for number in row})
    titles = ["network", "engine", "threads, batch", *(_title(number) for number in cores)]
    rows = [
        [
            model,
            engine,
            f"{threads}, {batch}",
            *(digits(row[n].median_s * 1e3) if n in row else "-" for n in cores),
        ]
        for (model, engine, threads, batch, *_), row in cells.items()
    ]
    return (titles, rows) if rows else ([], [])


def busy_sentences(measurements: Sequence[Measurement]) -> list[str]:
    """What fleetfoot's own engine gains by more threads beside busy cores, and how the fastest
    other engine does at the same number of threads; a sentence for each number of busy cores."""
    cells = _cells(measurements)
    numbers = sorted({n for row in cells.values() for n in row if n})
    found = []
    for number in numbers:
        gains, peers = [], []
        for (model, engine, threads, *rest), row in cells.items():
            if engine != OWN or threads == 1 or number not in row:
                continue
            single = cells.get((model, OWN, 1, *rest), {}).get(number)
            if single is not None:
                gains.append(row[number].median_s / single.median_s)
            others = [
                other[number].median_s
                for (its, name, count, *its_rest), other in cells.items()
                if (its, count, its_rest) == (model, threads, rest) and name != OWN
                if number in other
            ]
            if others:
                peers.append(min(others) / row[number].median_s)
        if gains:
            said = (
                f"Beside {_cores(number)}, {OWN} on several threads takes "
                f"{_range(gains)} times as long as on one"
            )
            if peers:
                said += (
                    f"; the fastest other engine on as many threads takes {_range(peers)} times as "
                    "long as it"
                )
            found.append(said + " (medians).")
    return found


def _cells(measurements: Sequence[Measurement]) -> Cells:
    """Measurements by number of busy cores, for each cell that ran beside some."""
    found: Cells = {}
    for m in sorted(measurements, key=lambda m: (m.model, m.engine, m.threads)):
        key = (m.model, m.engine, m.threads, m.batch, m.size, m.folded, m.precision, m.device)
        found.setdefault(key, {})[m.beside] = m
    return {key: row for key, row in found.items() if any(row)}


def _title(number: int) -> str:
    return f"beside {number}" if number else "alone"


def _cores(number: int) -> str:
    return f"{number} busy core{'s' if number > 1 else ''}"


def _range(ratios: Sequence[float]) -> str:
    low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    return low if low == high else f"{low} to {high}"
