"""A command that several processes run together, each with the same arguments; one is heard."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fleetfoot.cli.process import Command
from fleetfoot.errors import ToldElsewhereError
from fleetfoot.streams import results_inherited
from fleetfoot.train import place as places
from fleetfoot.train.place import Place

if TYPE_CHECKING:
    from fleetfoot.train.launch import Team

FAILED = 2
"""Exit code of a process whose error another one tells."""


class TogetherCommand(Command):
    """A command that joins the other processes of its launcher, if there is one, before it does
    anything. Only the first process shows what it does; an error is told by one process alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        here = places.here()
        ctx.meta["words"], ctx.meta["place"] = list(args), here
        try:
            return super().parse_args(ctx, args)
        except Exception:
            if here is None or here.is_first:
                raise
            return ctx.exit(FAILED)  # the first process tells it

    def invoke(self, ctx: Any) -> Any:
        here: Place | None = ctx.meta["place"]
        if here is None:
            return super().invoke(ctx)
        from fleetfoot.train.launch import joined

        code = 0
        try:
            with hushed(here), joined(here) as team:
                ctx.meta["team"] = team
                try:
                    super().invoke(ctx)
                except typer.Exit as stop:  # no error: a signal that all have agreed on
                    code = stop.exit_code
        except ToldElsewhereError:
            code = FAILED
        return ctx.exit(code)


@contextlib.contextmanager
def hushed(here: Place) -> Iterator[None]:
    """Shows nothing while this lasts, except in the first process."""
    if here.is_first:
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stderr(nowhere),
        contextlib.redirect_stdout(nowhere),
    ):
        yield


def start_here(words: list[str], folder: Path, *, processes: int, restarts: int) -> None:
    """Runs ``fleetfoot train WORDS`` in several processes on this machine, and ends with their exit
    code."""
    from fleetfoot.train.launch import start

    named = [] if {"--output", "--resume"} & {word.partition("=")[0] for word in words} else [
        "--output", str(folder)
    ]  # fmt: skip
    with results_inherited():
        code = start(
            ["train", *words, *named], processes=processes, restarts=restarts, folder=folder
        )
    raise typer.Exit(code)


def agreed_folder(
    here: Place | None, team: Team | None, given: Path | None, runs: Path, free: Path
) -> Path:
    """The folder of a run: the one that was given; that of this job, if its launcher has started it
    again; otherwise ``free``. All processes take the first one's."""
    folder = given
    if folder is None:
        before = [at for at in sorted(runs.glob("*")) if places.goes_on(here, at)]
        folder = before[-1] if before else free
    return folder if team is None else Path(team.from_first(str(folder)))
