"""``fleetfoot explain --html`` writes the page of what it printed."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from explanations import machine
from fleetfoot.cli import app
from fleetfoot.explain.explanation import from_json
from fleetfoot.report.explain_page import html

NETWORK = (
    "from torch import nn\n\ndef tiny():\n    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())\n"
)


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Explains a network of two layers on a machine that was measured before."""
    monkeypatch.setattr("fleetfoot.machine.measured.machine", lambda threads, **_: machine())
    file = tmp_path / "mine.py"
    file.write_text(NETWORK)
    return ["explain", f"{file}:tiny", "--engine", "eager", "--size", "16", "--seconds", "0.2"]


def test_the_page_is_that_of_the_record(command, tmp_path):
    page = tmp_path / "new" / "why.html"
    done = CliRunner().invoke(app, [*command, "--json", "--html", str(page)])
    assert done.exit_code == 0, done.output
    assert page.read_text(encoding="utf-8") == html(from_json(done.stdout))
    assert f"page: {page}" in done.stderr
    assert json.loads(done.stdout)["macs"] == 3 * 9 * 8 * 14 * 14


def test_the_card_is_printed_beside_the_page(command, tmp_path):
    page = tmp_path / "why.html"
    done = CliRunner().invoke(app, [*command, "--html", str(page)])
    assert done.exit_code == 0, done.output
    (latency,) = re.findall(r"latency +([\d.]+) ms", done.stdout)
    assert f"takes {latency} ms</h1>" in page.read_text(encoding="utf-8")


def test_a_folder_is_refused_before_anything_runs(command, tmp_path):
    done = CliRunner().invoke(app, [*command, "--html", str(tmp_path)], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert "is a folder; name a file in it" in done.output
