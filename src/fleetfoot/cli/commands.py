"""The commands of ``fleetfoot``, in the order of its help.

Nothing heavy is imported here: torch and the engines load when a command needs them.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from fleetfoot import __version__
from fleetfoot.cli.bench import bench, compare, report
from fleetfoot.cli.calibrate import calibrate
from fleetfoot.cli.claims import claims
from fleetfoot.cli.count import count
from fleetfoot.cli.data import data
from fleetfoot.cli.eval import evaluate
from fleetfoot.cli.explain import explain
from fleetfoot.cli.features import features
from fleetfoot.cli.lint import lint
from fleetfoot.cli.machine import machine
from fleetfoot.cli.models import compile_plan, engines, fuse, info, models
from fleetfoot.cli.pick import pick
from fleetfoot.cli.predict import predict
from fleetfoot.cli.process import Command, Group, with_traceback
from fleetfoot.cli.swap import swap
from fleetfoot.cli.sweep import sweep
from fleetfoot.cli.train import TrainCommand, train
from fleetfoot.cli.weights import weights_app
from fleetfoot.streams import echo

NARROW = 72
"""Least width for help in frames; below it they would cut names and words."""
STYLE: Literal["rich"] | None = "rich" if shutil.get_terminal_size().columns >= NARROW else None

app = typer.Typer(
    name="fleetfoot",
    cls=Group,
    help="Vision networks that are fast on your device, not on paper.",
    no_args_is_help=True,
    rich_markup_mode=STYLE,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        echo(f"fleetfoot {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version, and exit."
        ),
    ] = False,
) -> None:
    """Vision networks that are fast on your device, not on paper."""


def _help(command: Callable[..., Any]) -> str:
    """A command's docstring with each paragraph in one line: typer wraps the first one alone."""
    paragraphs = inspect.getdoc(command) or ""
    return "\n\n".join(" ".join(one.split()) for one in paragraphs.split("\n\n"))


for command in (
    bench,
    claims,
    compare,
    report,
    predict,
    features,
    data,
    models,
    info,
    count,
    explain,
    machine,
    calibrate,
    pick,
    engines,
    fuse,
    lint,
    swap,
    sweep,
):
    app.command(cls=Command, help=_help(command))(with_traceback(command))
app.command(cls=TrainCommand, help=_help(train))(with_traceback(train))
app.command("compile", cls=Command)(with_traceback(compile_plan))
app.command("eval", cls=Command, help=_help(evaluate))(with_traceback(evaluate))
app.add_typer(weights_app)
