"""Every command's text in an encoding that lacks its signs: plain substitutes, and no error."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fleetfoot.cli.commands import app
from fleetfoot.measure.record import write as write_record
from fleetfoot.models import create_model
from fleetfoot.weights.files import write
from records import measurement

OWN = """
import torch
from torch import nn

class Net(nn.Sequential):
    \"\"\"naïve × net\"\"\"
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1, groups=1), nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Conv2d(8, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )

class Odd(nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x)  # an operator without a formula
"""
ENCODINGS = ("ascii", "cp1252", "gbk")
LEAVES = (
    ["lint", "--rules"],
    ["claims", "--list"],
    ["engines"],
    ["models"],
    ["info", "mobilenetv2_010"],
    ["info", "own.py:Net"],
    ["count", "own.py:Net", "--size", "16"],
    ["count", "own.py:Odd", "--size", "16"],
    ["count", "own.py:Net", "--size", "16", "--csv"],
    ["fuse", "own.py:Net", "--size", "16"],
    ["swap", "own.py:Net", "--size", "16", "--no-measure"],
    ["compile", "own.py:Net", "--size", "16", "--output", "made.plan"],
    ["predict", "own.py:Net", "caf\xe9\u732b.png", "no\xe9.png", "--size", "16"],
    ["predict", "own.py:Net", "caf\xe9\u732b.png", "--size", "16", "--csv"],
    ["features", "own.py:Net", "caf\xe9\u732b.png", "--layer", "0", "--size", "16"],
    ["features", "own.py:Net", "--list", "--size", "16"],
    ["weights", "inspect", "some.safetensors"],
    ["compare", "before", "after"],
    ["report", "before", "--output", "pages"],
)
"""Words of commands that print tables, cards, notes and errors of their own."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEETFOOT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    Image.new("RGB", (20, 30), "red").save(tmp_path / "caf\xe9\u732b.png")
    torch.manual_seed(0)
    write(
        tmp_path / "some.safetensors",
        create_model("mobilenetv2_010", num_classes=5).state_dict(),
    )
    for name in ("before", "after"):
        write_record(tmp_path / name / "measurements.jsonl", [measurement()])
    return tmp_path


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_output_is_in_the_terminals_encoding(folder, words):
    for encoding in ENCODINGS:
        runner = CliRunner(charset=encoding, env={"COLUMNS": "80"})
        done = runner.invoke(app, words)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        (done.stdout_bytes + done.stderr_bytes).decode(encoding)
        if encoding == "ascii":
            assert b"\\xd7" not in done.stdout_bytes  # the multiplication sign has a substitute


@pytest.mark.parametrize(
    "command",
    [
        None,
        *(one.name or one.callback.__name__ for one in app.registered_commands),
        "weights inspect",
    ],
)
def test_help_is_in_the_terminals_encoding(command):
    words = [*(command or "").split(), "--help"]
    done = CliRunner(charset="ascii", env={"COLUMNS": "80"}).invoke(app, words)
    assert done.exit_code == 0, done.exception
    said = done.stdout_bytes.decode("ascii")
    assert "\\x" not in said
    assert "\\u" not in said
    if command is not None:
        assert "--traceback" in said


def test_json_is_ascii_and_says_the_same(folder):
    words = ["predict", "own.py:Net", "caf\xe9\u732b.png", "--size", "16", "--json"]
    done = CliRunner(charset="ascii").invoke(app, words)
    assert json.loads(done.stdout_bytes.decode("ascii"))["path"] == "caf\xe9\u732b.png"
