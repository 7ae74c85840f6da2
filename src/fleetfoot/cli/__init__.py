"""The command ``fleetfoot``: each command parses, calls one function, prints a card or JSON.

Nothing heavy is imported here: torch and the engines load when a command needs them.
"""

from __future__ import annotations

import inspect
import logging
import os
import shutil
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from fleetfoot import __version__
from fleetfoot.cli import complete
from fleetfoot.cli.bench import bench, compare, report
from fleetfoot.cli.calibrate import calibrate
from fleetfoot.cli.claims import claims
from fleetfoot.cli.count import count
from fleetfoot.cli.explain import explain
from fleetfoot.cli.features import features
from fleetfoot.cli.lint import lint
from fleetfoot.cli.machine import machine
from fleetfoot.cli.models import compile_plan, engines, fuse, info, models
from fleetfoot.cli.pick import pick
from fleetfoot.cli.predict import predict
from fleetfoot.cli.swap import swap
from fleetfoot.cli.weights import weights_app
from fleetfoot.errors import FactoryError, FleetfootError, first_line

NARROW = 72
"""Least width for help in frames; below it they would cut names and words."""
STYLE: Literal["rich"] | None = "rich" if shutil.get_terminal_size().columns >= NARROW else None

app = typer.Typer(
    name="fleetfoot",
    help="Vision networks that are fast on your device, not on paper.",
    no_args_is_help=True,
    rich_markup_mode=STYLE,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleetfoot {__version__}")
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
):
    app.command(help=_help(command))(command)
app.command("compile")(compile_plan)
app.add_typer(weights_app)


class _Stderr(logging.Handler):
    """Prints on stderr as it is at the time: a line that shows progress there moves down."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 2, not a traceback."""
    handler = _Stderr()  # licences, and what was done with weights
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("fleetfoot")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    complete.join_colons(os.environ)
    try:
        app()
    except Exception as error:
        place = _place(error)
        if not place and not isinstance(error, FleetfootError | ValueError | OSError):
            raise
        said = str(error) if isinstance(error, FleetfootError | ValueError) else _named(error)
        shown = "" if isinstance(error, FactoryError) else place  # its message holds the place
        typer.echo(f"fleetfoot: {said}{shown}", err=True)
        sys.exit(2)


def _place(error: Exception) -> str:
    """The line of a user's file that an error passed through; "" if none was loaded."""
    user = sys.modules.get("fleetfoot.network.user")
    return "" if user is None else str(user.place_of(error))


def _named(error: Exception) -> str:
    if isinstance(error, OSError):
        return str(error)
    return f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
