"""``fleetfoot count``: parameters, operations, bytes and memory of a network."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from fleetfoot.cli.network import Channels, Inputs, Model, Option, Size, Weights, resolved


def count(
    model: Model,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    option: Option = None,
    batch: Annotated[int, typer.Option(min=1, help="Images a pass.")] = 1,
    depth: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Names of a module's path that are kept, those below added up: 2 on the card, "
            "all of them elsewhere.",
        ),
    ] = None,
    as_table: Annotated[bool, typer.Option("--table", help="The table of modules alone.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One record for programs, with every operator.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One CSV line an operator.")] = False,
) -> None:
    """Count a network: parameters, operations, bytes moved, and memory of activations.

    Weights are random and the image is black: this matters only to a network whose shapes follow
    from values, as a detector's, and the card says where it does.
    """
    if as_table + as_json + as_csv > 1:
        raise typer.BadParameter("--table, --json and --csv exclude each other")

    from fleetfoot.count import trace
    from fleetfoot.report.counts import print_card, print_modules, record, to_csv
    from fleetfoot.report.kit.terminal import console

    made = resolved(
        model,
        size=size,
        inputs=inputs,
        channels=channels,
        batch=batch,
        weights=weights,
        option=option,
    )
    found = trace(made.module, made.arguments)
    if as_json:
        typer.echo(json.dumps({**made.record(), **record(found, depth)}))
    elif as_csv:
        typer.echo(to_csv(found), nl=False)
    elif as_table:
        print_modules(console(), found, depth)
    else:
        title = f"{model}, input {made.describe()}"
        print_card(console(), found, title, 2 if depth is None else depth)
