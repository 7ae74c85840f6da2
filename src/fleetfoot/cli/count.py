"""``fleetfoot count``: parameters, operations, bytes and memory of a network."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def count(
    model: Annotated[
        str,
        typer.Argument(
            help="A name, as 'fasternet_t0' or 'timm:resnet18', or your own as 'path.py:factory'."
        ),
    ],
    size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Input height and width; the network's own without it, or else 224."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images a pass.")] = 1,
    channels: Annotated[int, typer.Option(min=1, help="Channels of the input.")] = 3,
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

    import torch

    from fleetfoot.count import trace
    from fleetfoot.network import is_file, native_size, network
    from fleetfoot.report.counts import print_card, print_modules, record, to_csv
    from fleetfoot.report.kit.terminal import console

    torch.manual_seed(0)
    made = network(model)
    pixels = size or (224 if is_file(model) else native_size(model))
    found = trace(made, torch.zeros(batch, channels, pixels, pixels))
    if as_json:
        given = {"model": model, "batch": batch, "channels": channels, "size": pixels}
        typer.echo(json.dumps({**given, **record(found, depth)}))
    elif as_csv:
        typer.echo(to_csv(found), nl=False)
    elif as_table:
        print_modules(console(), found, depth)
    else:
        title = f"{model}, input ({batch}, {channels}, {pixels}, {pixels})"
        print_card(console(), found, title, 2 if depth is None else depth)
