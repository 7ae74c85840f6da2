"""What a process of several does on the command line: which folder it takes, and who is heard."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fleetfoot.cli.launching import TogetherCommand, agreed_folder, hushed
from fleetfoot.streams import echo
from fleetfoot.train import place as places
from fleetfoot.train.place import Place


def place(rank=0, attempt=0, job="a"):
    return Place(rank=rank, world=1, local_rank=0, local_world=1, attempt=attempt, job=job)


def test_a_restarted_job_takes_the_folder_that_it_began_in(tmp_path):
    for name, job in (("digits-1", "other"), ("digits-2", "a")):
        (tmp_path / name).mkdir()
        places.mark(place(job=job), tmp_path / name)
    free = tmp_path / "digits-3"

    def folder(here, given=None):
        return agreed_folder(here, None, given, tmp_path, free)

    assert folder(place(attempt=1)) == tmp_path / "digits-2"
    assert folder(place(attempt=0)) == free
    assert folder(place(attempt=1, job="new")) == free
    assert folder(None) == free
    assert folder(place(attempt=1), Path("mine")) == Path("mine")


@pytest.mark.parametrize(("rank", "shown"), [(0, "shown\n"), (1, "")])
def test_only_the_first_process_is_heard(rank, shown, capfd):
    with hushed(place(rank=rank)):
        print("shown", file=sys.stderr)
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == f"{shown}after\n"


@pytest.mark.parametrize(("rank", "heard"), [("0", True), ("1", False)])
def test_a_wrong_command_line_is_told_by_one_process(rank, heard, monkeypatch):
    app = typer.Typer()

    @app.command(cls=TogetherCommand)
    def train(epochs: int = 1) -> None: ...

    for name, value in (("RANK", rank), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"),
                        ("MASTER_PORT", "1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["--epochs", "many"])
    assert done.exit_code == 2
    assert ("Error" in done.output) == heard


def test_without_a_launcher_a_command_is_as_any_other():
    app = typer.Typer()

    @app.command(cls=TogetherCommand)
    def train(ctx: typer.Context, epochs: int = 1) -> None:
        echo(f"{epochs} {ctx.meta['place']} {ctx.meta['words']}")

    done = CliRunner().invoke(app, ["--epochs", "3"])
    assert done.stdout.strip() == "3 None ['--epochs', '3']"
