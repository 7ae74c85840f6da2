"""``docs/floors.md``: networks beside their floors, from saved explanations.

``fleetfoot explain MODEL --json > FOLDER/MODEL-1.json`` writes one; then
``python -m tools.floors docs/floors.md FOLDER``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean

from fleetfoot.errors import RecordError
from fleetfoot.explain.explanation import Explanation, from_json
from fleetfoot.report import update_between_markers
from fleetfoot.report.record_tables import markdown_table
from fleetfoot.report.summary import digits

TITLES = ("network", "latency ms", "floor ms", "× floor", "GFLOP/s", "of peak %", "memory-bound %")


def read(folder: Path) -> list[Explanation]:
    """Reads every ``*.json`` of a folder.

    Raises:
        RecordError: there is none, or one is not an explanation; the file is named.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise RecordError(
            f"there are no explanations in {folder}; fleetfoot explain --json makes one"
        )
    found = []
    for file in files:
        try:
            found.append(from_json(file.read_text(encoding="utf-8")))
        except RecordError as error:
            raise RecordError(f"{file}: {error}") from None
    return found


def markdown(explanations: Sequence[Explanation]) -> str:
    """A table for each engine and number of threads: fewest operations first, the mean last."""
    groups: dict[tuple[str, int], list[Explanation]] = {}
    for one in sorted(explanations, key=lambda e: (e.engine.name, e.engine.threads, e.macs)):
        groups.setdefault((one.engine.name, one.engine.threads), []).append(one)
    return "\n\n".join(_table(group) for group in groups.values())


def _table(group: Sequence[Explanation]) -> str:
    first = group[0]
    engine, machine = first.engine, first.machine
    threads = f"{engine.threads} thread{'s' * (engine.threads > 1)}"
    head = (
        f"**{engine.name} {engine.version}, {threads}**, {machine.cpu}, "
        f"{digits(first.peak_flops_per_s / 1e9)} GFLOP/s, {first.started[:10]}"
    )
    rows = [
        (
            e.model,
            digits(e.latency_s * 1e3),
            digits(e.floor_s * 1e3),
            f"{e.latency_s / e.floor_s:.2f}",
            digits(e.flops_per_s / 1e9),
            f"{100 * e.flops_per_s / e.peak_flops_per_s:.0f}",
            f"{100 * e.bound_shares['memory']:.0f}",
        )
        for e in group
    ]
    mean = geometric_mean(e.latency_s / e.floor_s for e in group)
    rows.append(("geometric mean", "", "", f"{mean:.2f}", "", "", ""))
    return "\n".join([head, "", *markdown_table(TITLES, rows)])


def main(document: str, folder: str) -> None:
    """Puts the tables between the markers of ``document``."""
    changed = update_between_markers(document, markdown(read(Path(folder))))
    print(f"{document}: {'updated' if changed else 'already what the records give'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
