"""``fleetfoot count``: parameters, operations, bytes and memory of a network."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from fleetfoot.cli.network import Channels, Inputs, Key, Model, Option, Size, Weights, resolved
from fleetfoot.cli.status import working
from fleetfoot.streams import echo_data, echo_json


def count(
    model: Model,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    key: Key = None,
    option: Option = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size, in images.")] = 1,
    depth: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Depth of the table: modules below this level are added up. Default: 2 on the "
            "card; no limit in --table, --json and --csv.",
        ),
    ] = None,
    as_table: Annotated[
        bool, typer.Option("--table", help="Print only the table of modules.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record with every operator.")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV, one line for each operator.")
    ] = False,
) -> None:
    """Count a network's parameters, operations, memory traffic and activation memory.

    A detector is counted whole: the card says on how many regions its second stage runs.

    The weights are random and the image is black. This matters only if shapes depend on values, for
    example in a detector; the card then says so.
    """
    if as_table + as_json + as_csv > 1:
        raise typer.BadParameter("--table, --json and --csv exclude each other")

    with working(f"counting {model}"):
        from fleetfoot.count import trace
        from fleetfoot.report.counts import print_card, print_modules, record, to_csv
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.tasks.network import TaskNetwork

        made = resolved(
            model,
            size=size,
            inputs=inputs,
            channels=channels,
            batch=batch,
            weights=weights,
            key=key,
            option=option,
        )
        module = made.module.whole() if isinstance(made.module, TaskNetwork) else made.module
        found = trace(module, made.arguments)
        if (note := getattr(module, "note", "")) and not found.note:
            found = replace(found, note=note)
    if as_json:
        echo_json({**made.record(), **record(found, depth)})
    elif as_csv:
        echo_data(to_csv(found), end="")
    elif as_table:
        print_modules(console(), found, depth)
    else:
        title = f"{model}, input {made.describe()}"
        print_card(console(), found, title, 2 if depth is None else depth)
