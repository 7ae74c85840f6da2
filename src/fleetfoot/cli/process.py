"""What surrounds every command: streams, signals, and how an error is told."""

from __future__ import annotations

import atexit
import functools
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

from typer import Option, Typer
from typer.core import TyperCommand, TyperGroup

from fleetfoot import interrupts, streams
from fleetfoot.cli import complete
from fleetfoot.errors import FactoryError, FleetfootError, first_line

TRACEBACK = "--traceback"


class Group(TyperGroup):
    """All commands; their help and errors are printed in any encoding."""

    def main(self, *given: Any, **named: Any) -> Any:
        streams.tolerate(sys.stdout)
        streams.tolerate(sys.stderr)
        return super().main(*given, **named)


class Command(TyperCommand):
    """A command that keeps its results apart from what strangers print, and ends by a signal with
    the exit code that shells expect."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with streams.results_apart():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            code = interrupts.exit_code(interrupts.name_of(stop))
        ctx.exit(code)


def with_traceback(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the option ``--traceback``, which ``run_app`` reads: an error may come
    before the command begins."""
    option = inspect.Parameter(
        "traceback",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[
            bool, Option(TRACEBACK, help="After an error, show the whole traceback too.")
        ],
    )

    @functools.wraps(command)
    def taking(*given: Any, traceback: bool, **named: Any) -> None:
        command(*given, **named)

    stated = inspect.signature(command, eval_str=True)
    whole = stated.replace(parameters=[*stated.parameters.values(), option])
    taking.__signature__ = whole  # type: ignore[attr-defined]
    taking.__annotations__ = {one.name: one.annotation for one in whole.parameters.values()}
    return taking


def run() -> NoReturn:
    """Runs the command of ``sys.argv``, and ends the process with its exit code."""
    streams.prepare_streams()
    with interrupts.handled(interrupts.leave_imports):
        from fleetfoot.cli.commands import app

        code = run_app(app)
    atexit.register(interrupts.handle, interrupts.leave)  # nothing is left to be kept
    sys.exit(code)


class _Stderr(logging.Handler):
    """Prints on stderr as it is at the time: a line that shows progress there moves down."""

    def emit(self, record: logging.LogRecord) -> None:
        streams.echo(self.format(record), err=True)


def run_app(app: Typer) -> int:
    """Runs ``app`` on ``sys.argv``. Errors are told on standard error, in one line each.

    Returns:
        The exit code: the command's own; 2 after an error; 1 if nobody reads the results any more.
    """
    handler = _Stderr()  # licences, and what was done with weights
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("fleetfoot")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    complete.join_colons(os.environ)
    try:
        app()
        return 0
    except SystemExit as ended:
        # its own traceback alone: a command may exit because of an error that it has told
        place = _place(SystemExit().with_traceback(ended.__traceback__))
        if not place:
            return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        return _told(ended, f"the file ends the program: {_named(ended)}{place}")
    except KeyboardInterrupt as stop:
        return interrupts.exit_code(interrupts.name_of(stop))
    except BrokenPipeError as error:
        if error.filename == streams.STANDARD_OUTPUT:
            return 1  # the reader, for example ``head``, has read enough
        return _told(error, _named(error))
    except Exception as error:
        place = "" if isinstance(error, FactoryError) else _place(error)  # its message has it
        if isinstance(error, FleetfootError | ValueError):
            return _told(error, f"{error}{place}")
        if isinstance(error, OSError):
            return _told(error, f"{_of_system(error)}{place}")
        return _told(error, f"{_named(error)}{place}; {TRACEBACK} shows where it happened")
    finally:
        logger.removeHandler(handler)


def _told(error: BaseException, text: str) -> int:
    if TRACEBACK in sys.argv:
        streams.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    streams.echo(f"fleetfoot: {text}", err=True)
    return 2


def _place(error: BaseException) -> str:
    """The line of a user's file that an error passed through; "" if none was loaded."""
    user = sys.modules.get("fleetfoot.network.user")
    return "" if user is None else str(user.place_of(error))


def _of_system(error: OSError) -> str:
    if error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
