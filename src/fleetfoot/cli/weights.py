"""``fleetfoot weights``: inspect a file of weights, or convert it to our own layout."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fleetfoot.cli.process import Command, with_traceback
from fleetfoot.cli.status import working
from fleetfoot.cli.values import check_output
from fleetfoot.streams import echo, echo_json

Json = Annotated[bool, typer.Option("--json", help="Print one JSON record instead of a card.")]
File = Annotated[
    Path,
    typer.Argument(help="File of weights: .safetensors, .pth, .pth.tar, .pt, .npz, .h5 or .keras."),
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="ENTRY",
        help="Part of the file, for example model_ema. Default: the part that a layout knows; "
        "averaged weights before others.",
    ),
]

weights_app = typer.Typer(
    name="weights", help="Inspect and convert files of weights.", no_args_is_help=True
)


@weights_app.command(cls=Command)
@with_traceback
def inspect(file: File, key: Key = None, as_json: Json = False) -> None:
    """Show a file's format and layout, and the networks that its weights fit."""
    with working(f"reading {file}"):
        from fleetfoot.errors import visible
        from fleetfoot.models import inspect_weights

        record = asdict(inspect_weights(file, key))
    if as_json:
        echo_json(record)
        return
    named = {}
    for name, value in record.items():
        if not value and name in ("trunks", "nearest", "keys", "notes"):
            continue
        if name == "fits":
            value = [f"{fit['name']} ({fit['num_classes']} classes)" for fit in value]
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        named[name.replace("_", " ")] = visible(text) or "none"

    from fleetfoot.report.kit.terminal import console, rows

    console().print(rows(named))


@weights_app.command(cls=Command)
@with_traceback
def convert(
    file: File,
    out: Annotated[Path, typer.Argument(help="Safetensors file to write.")],
    model: Annotated[
        str | None, typer.Option(help="Network of the weights. Default: recognised from the keys.")
    ] = None,
    key: Key = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Write a file's weights as safetensors in our own layout."""
    check_output(out, option="OUT")
    with working(f"reading {file}"):
        from fleetfoot.errors import visible
        from fleetfoot.models import convert as convert_file

        report = convert_file(file, out, model=model, key=key, overwrite=force)
    if as_json:
        echo_json({"out": str(out), **asdict(report)})
    else:
        echo(f"{visible(out)}: {report}")
