"""``fleetfoot compare`` and ``report``: what records that are there already say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def compare(
    before: Annotated[Path, typer.Argument(help="A record, or the folder of a run.")],
    after: Annotated[Path, typer.Argument(help="Another, of the same cells.")],
    across_machines: Annotated[
        bool, typer.Option("--across-machines", help="The machines may differ.")
    ] = False,
    fail_if_slower: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            min=0,
            help="Exit with 1 where a cell is slower by more, beyond noise.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One record for programs instead of a table.")
    ] = False,
) -> None:
    """Say what is faster, by how much, and whether that is more than noise."""
    from fleetfoot.bench.compare import compare as compare_records
    from fleetfoot.bench.record import read
    from fleetfoot.report import print_comparison
    from fleetfoot.report.terminal import console

    found = compare_records(read(before), read(after), across_machines=across_machines)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        print_comparison(console(), found)
    if fail_if_slower is not None and (slower := found.slower_than(fail_if_slower)):
        typer.echo(f"{len(slower)} cells are slower by more than {fail_if_slower:g} %", err=True)
        raise typer.Exit(1)


def report(
    record: Annotated[Path, typer.Argument(help="A record, or the folder of a run.")],
    output: Annotated[
        Path | None, typer.Option(help="Where to; the record's own folder without it.")
    ] = None,
    readme: Annotated[
        Path | None,
        typer.Option(help="Put the table between the results markers of this file, and no more."),
    ] = None,
    all_engines: Annotated[
        bool, typer.Option("--all", help="Every engine, not only the fastest of each network.")
    ] = False,
) -> None:
    """Make the tables, plots and page again from a record."""
    from fleetfoot.bench.record import read, read_failures
    from fleetfoot.report import markdown, print_tables, save, update_between_markers
    from fleetfoot.report.terminal import console

    measurements, failures = read(record), read_failures(record)
    if readme is not None:
        changed = update_between_markers(readme, markdown(measurements))
        typer.echo(f"{readme}: {'updated' if changed else 'already what the record gives'}")
        return
    print_tables(console(), measurements, failures, all_engines=all_engines)
    folder = output or (record if record.is_dir() else record.parent)
    for file in save(measurements, failures, folder):
        typer.echo(f"wrote {file}", err=True)
