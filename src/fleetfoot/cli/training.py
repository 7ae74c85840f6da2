"""The options by which ``train`` and ``sweep`` name what is trained and how."""

from __future__ import annotations

from typing import Annotated

import typer

from fleetfoot.cli import complete
from fleetfoot.cli.network import FORMS
from fleetfoot.cores import usable_cores

MODEL = "fasternet_t0"
"""The network, if none is named."""
RUNNING, DATA = "How it runs", "The data"
"""Panels of the help."""

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help=FORMS + f" Default: {MODEL}; for the digits, a smaller one of its kind.",
        autocompletion=complete.networks,
    ),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Passes over the pictures in a run.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Pictures of one update.")]
Size = Annotated[int | None, typer.Option(min=1, help="Height and width of the input, in pixels.")]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Weights to begin with: 'pretrained', a file, or 'none'. Default: the recipe's."
    ),
]
AcceptLicence = Annotated[
    bool, typer.Option("--accept-licence", help="Accept a licence that allows research only.")
]
Option = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="A field of the network's configuration, for example small_input=true; repeatable.",
    ),
]
ValShare = Annotated[
    float | None,
    typer.Option(
        help="Share of the training pictures that is evaluated instead, if the data set has no "
        "such part. Default: 0.1.",
        rich_help_panel=DATA,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0, help="Processes that decode pictures. Default: one a core.", rich_help_panel=DATA
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Device to run on, for example 'cpu' or 'cuda'. Default: cuda if there is one.",
        rich_help_panel=RUNNING,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Threads of the training process. Default: all usable cores; 1 for the digits' small "
        "network.",
        rich_help_panel=RUNNING,
    ),
]


def default_threads(data: str | None, model: str | None, *, processes: int = 1) -> int:
    """Threads of each of ``processes`` on this machine. The default network is so small that two
    threads gain nothing, and where another program holds a core they take many times as long."""
    if data is None and model is None:
        return 1
    return max(1, usable_cores() // processes)
