"""What surrounds a command: signals, strangers' errors, exits and prints, and broken streams."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from fleetfoot.cli import main

OWN = """
import sys
import torch
from torch import nn

print("the module prints")

class Prints(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 4, 1)
        print("the factory prints", file=sys.stdout)

    def forward(self, x):
        print("the forward prints", file=sys.stdout)
        return super().forward(x)

class Quits(nn.Conv2d):
    code = 0

    def __init__(self):
        super().__init__(3, 4, 1)

    def forward(self, x):
        y = super().forward(x)
        sys.exit(self.code)

def never():
    sys.exit(0)

class Multiplies(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 4, 1)

    def forward(self, x):
        return super().forward(x) @ torch.zeros(3, 3, 3)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEETFOOT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "quits.py").write_text("import sys\nsys.exit(0)\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs ``main`` with these words; its exit code, stdout and stderr."""

    def running(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["fleetfoot", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return running


@pytest.mark.parametrize(
    "words",
    [
        ["count", "own.py:Quits", "--size", "8"],
        ["fuse", "own.py:Quits", "--size", "8"],
        ["lint", "own.py:Quits", "--size", "8", "--no-measure"],
        ["swap", "own.py:Quits", "--size", "8", "--no-measure"],
        ["explain", "own.py:Quits", "--size", "8", "--engine", "eager", "--no-fold"],
        ["compile", "own.py:Quits", "--size", "8"],
        ["features", "own.py:Quits", "--size", "8", "--list"],
        ["lint", "own.py:never"],
        ["lint", "quits.py:Net"],
    ],
    ids=" ".join,
)
def test_an_exit_in_a_users_file_is_an_error_that_names_its_line(folder, run, words):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "sys.exit(" in err
    assert "line" in err
    (line,) = [one for one in err.splitlines() if one.startswith("fleetfoot: ")]
    assert ".py, line " in line
    assert "Traceback" not in err


def test_bench_goes_on_after_a_network_that_exits(folder, run):
    code, _, err = run(
        "bench", "own.py:Quits", "own.py:Prints", "--engines", "eager", "--threads", "1",
        "--size", "8", "--protocol", "quick", "--seconds", "0.2", "--output", "made",
    )  # fmt: skip
    assert code == 0
    assert "own.py:Quits on eager does not run: " in err


def test_a_strangers_error_is_one_line_and_traceback_shows_all(folder, run):
    words = ["count", "own.py:Multiplies", "--size", "8"]
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert "return super().forward(x) @ torch.zeros(3, 3, 3)" in err
    code, out, err = run(*words, "--traceback")
    assert (code, out) == (2, "")
    assert "Traceback (most recent call last):" in err
    assert "RuntimeError" in err


def test_what_a_users_file_prints_goes_to_standard_error(folder, run):
    code, out, err = run("count", "own.py:Prints", "--size", "8", "--json")
    assert code == 0
    assert json.loads(out)["model"] == "own.py:Prints"
    for place in ("module", "factory", "forward"):
        assert f"the {place} prints" in err


EARLY = """
import builtins, os, signal, sys
imported, real = {wanted!r}, builtins.__import__

def watched(name, *given, **named):
    if name == imported:
        signal.raise_signal(signal.{name})
    return real(name, *given, **named)

builtins.__import__ = watched
from fleetfoot.cli import main
sys.argv = ["fleetfoot", "count", "mobilenetv2_010", "--size", "32"]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("wanted", ["typer", "torch"])
def test_a_signal_while_modules_load_ends_in_silence(wanted, name):
    code = EARLY.format(wanted=wanted, name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 128 + getattr(signal, name)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_a_command_works_ends_it_with_the_code_of_shells(
    folder, run, monkeypatch, name
):
    from fleetfoot import count

    def interrupted(*given):
        signal.raise_signal(getattr(signal, name))

    monkeypatch.setattr(count, "trace", interrupted)
    assert run("count", "own.py:Prints", "--size", "8")[0] == 128 + getattr(signal, name)


def shell(words: str) -> subprocess.CompletedProcess[str]:
    command = f'"{sys.executable}" -m fleetfoot'
    return subprocess.run(
        ["sh", "-c", words.replace("fleetfoot", command)], capture_output=True, text=True
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_standard_output_is_one_line():
    done = shell("fleetfoot engines >/dev/full")
    assert done.returncode == 2
    assert done.stderr == "fleetfoot: standard output: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
def test_a_reader_that_ends_is_no_error_to_speak_of():
    done = shell("{ fleetfoot engines; echo $? >&2; } | true")
    assert (done.stdout, done.stderr.strip()) == ("", "1")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
def test_closed_streams_are_no_error():
    done = shell("fleetfoot models no_such_* >&-; echo $?")
    assert done.stdout == "1\n"
    assert done.stderr == "no model matches 'no_such_*'\n"
    assert shell("fleetfoot models mobileone_s0 2>&-").stdout == "mobileone_s0\n"
