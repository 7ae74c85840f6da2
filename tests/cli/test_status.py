"""On a terminal each command says at once what it is doing; its output is checked beforehand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fleetfoot.cli.status import working
from fleetfoot.cli.values import check_output

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

FIRST_WORDS = {
    "count fasternet_t0": "counting fasternet_t0",
    "fuse fasternet_t0": "loading fasternet_t0",
    "explain fasternet_t0": "loading fasternet_t0",
    "lint fasternet_t0": "loading fasternet_t0",
    "swap fasternet_t0": "loading fasternet_t0",
    "info fasternet_t0": "reading about fasternet_t0",
    "compile fasternet_t0": "loading fasternet_t0",
    "predict fasternet_t0 a.png": "loading fasternet_t0",
    "eval fasternet_t0 a": "loading fasternet_t0",
    "features fasternet_t0 a.png": "loading fasternet_t0",
    "pick --max-ms 10": "loading the networks",
    "bench fasternet_t0": "loading the networks",
    "claims": "loading",
    "calibrate": "loading",
    "machine": "loading",
}


@pytest.mark.parametrize("command", FIRST_WORDS)
def test_the_first_thing_on_a_terminal_says_what_is_being_done(command, tmp_path):
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-m", "fleetfoot", *command.split()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=tmp_path,
        env=env,
    ) as process:
        os.close(theirs)
        text = b""
        try:
            while b"loading" not in text and FIRST_WORDS[command].encode() not in text:
                if not (more := _read(ours)):
                    break
                text += more
        finally:
            process.kill()
            os.close(ours)
    assert FIRST_WORDS[command] in text.decode()
    assert not list(tmp_path.iterdir())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1024)
    except OSError:  # Linux's answer when the other side is closed
        return b""


def test_nothing_is_said_in_a_pipe(capfd):
    with working("loading") as say:
        say("folding")
    assert capfd.readouterr() == ("", "")


def refused(path: Path, **options) -> str:
    with pytest.raises(typer.BadParameter) as caught:
        check_output(path, **options)
    return str(caught.value)


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a folder; name a file in it" in refused(tmp_path)
    assert "is a file, not a folder" in refused(tmp_path / "file", folder=True)
    assert "file is not a folder" in refused(tmp_path / "file" / "a.plan")
    assert "--html" in refused(tmp_path, option="--html")
    check_output(None)
    check_output(tmp_path / "new" / "folders" / "a.plan")
    check_output(tmp_path / "new", folder=True)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"no permission in {tmp_path}" in refused(tmp_path / "new" / "a.plan")


@pytest.mark.parametrize(
    "command",
    [
        "compile fasternet_t0 --output {}",
        "explain fasternet_t0 --html {}",
        "swap fasternet_t0 --output {} --force",
        "features fasternet_t0 a.png --output {}",
        "calibrate --output {}",
        "claims --page {}",
        "weights convert a.pth {} --force",
    ],
)
def test_every_command_checks_its_output_before_the_work(command, tmp_path, monkeypatch):
    from fleetfoot.cli import app

    monkeypatch.setitem(sys.modules, "torch", None)  # the work would need it
    for path in (tmp_path, Path(__file__) / "a"):
        result = CliRunner().invoke(app, command.format(path).split())
        assert result.exit_code == 2, result.output
        assert "folder" in result.stderr
