"""``fleetfoot weights``: inspect a file of weights, or convert it to our own layout."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fleetfoot.cli.status import working
from fleetfoot.cli.values import check_output

Json = Annotated[bool, typer.Option("--json", help="Print one JSON record instead of a card.")]
File = Annotated[
    Path, typer.Argument(help="File of weights: .safetensors, .pth, .pth.tar, .pt, .npz or .h5.")
]

weights_app = typer.Typer(
    name="weights", help="Inspect and convert files of weights.", no_args_is_help=True
)


@weights_app.command()
def inspect(file: File, as_json: Json = False) -> None:
    """Show a file's format and layout, and the networks that its weights fit."""
    with working(f"reading {file}"):
        from fleetfoot.models import inspect_weights

        record = asdict(inspect_weights(file))
    if as_json:
        typer.echo(json.dumps(record))
        return
    named = {}
    for name, value in record.items():
        if name == "fits":
            value = [f"{fit['name']} ({fit['num_classes']} classes)" for fit in value]
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        named[name.replace("_", " ")] = text or "none"

    from fleetfoot.report.kit.terminal import console, rows

    console().print(rows(named))


@weights_app.command()
def convert(
    file: File,
    out: Annotated[Path, typer.Argument(help="Safetensors file to write.")],
    model: Annotated[
        str | None, typer.Option(help="Network of the weights. Default: recognised from the keys.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Write a file's weights as safetensors in our own layout."""
    check_output(out, option="OUT")
    with working(f"reading {file}"):
        from fleetfoot.models import convert as convert_file

        report = convert_file(file, out, model=model, overwrite=force)
    typer.echo(json.dumps({"out": str(out), **asdict(report)}) if as_json else f"{out}: {report}")
