"""``fleetfoot lint``: exit codes, cards and JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from fleetfoot.cli.lint import lint
from fleetfoot.explain.rules import RULES
from fleetfoot.explain.rules.examples import ROUND
from fleetfoot.machine import measured as machine

app = typer.Typer()
app.command()(lint)

OWN = """
from torch import nn

def grouped():
    return nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 1, groups=8))

def plain():
    return nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 1))
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        machine, "machine", lambda threads, on_round: replace(ROUND, threads=threads)
    )
    options = ("--no-measure", "--size", "32")

    def call(factory, *arguments):
        return CliRunner().invoke(app, [f"own.py:{factory}", *options, *arguments])

    return call


def test_exit_codes(run):
    assert run("grouped").exit_code == 1
    assert run("plain").exit_code == 0
    assert run("plain", "--max-ms", "1e-6").exit_code == 1
    assert run("grouped", "--disable", "G2=measured with them").exit_code == 0
    assert run("grouped", "--min-price-ms", "10").exit_code == 0


def test_the_card_says_what_and_why(run):
    text = run("grouped").stdout
    assert "G2 " in text
    assert "8 groups" in text
    assert "prices are modelled" in text
    assert "failed" in text

    text = run("grouped", "--disable", 'G2="measured with them"', "--max-ms", "9").stdout
    assert "disabled: G2, measured with them" in text
    assert "within the 9 ms allowed" in text
    assert "passed" in text


def test_json_is_one_record(run):
    found = json.loads(run("grouped", "--json").stdout)

    assert found["passed"] is False
    assert [row["rule"] for row in found["findings"]] == ["G2"]
    assert found["findings"][0]["basis"] == "modelled"
    assert found["input_shape"] == [1, 3, 32, 32]


def test_a_reason_is_asked_for(run):
    error = run("grouped", "--disable", "G2").exception

    assert "G2 is disabled without a reason" in str(error)


def test_rules_are_listed():
    listed = CliRunner().invoke(app, ["--rules"], env={"COLUMNS": "120"}).stdout
    assert all(code in listed and rule.name in listed for code, rule in RULES.items())

    rows = json.loads(CliRunner().invoke(app, ["--rules", "--json"]).stdout)
    assert [row["code"] for row in rows] == list(RULES)


def test_what_does_not_go_together():
    assert CliRunner().invoke(app, []).exit_code == 2
    assert CliRunner().invoke(app, ["x", "--output", "y"]).exit_code == 2


def test_rates_from_a_file_give_the_same_verdict_everywhere(run, tmp_path, monkeypatch):
    file = tmp_path / "rates.json"
    file.write_text(machine.to_json(replace(ROUND, threads=1)) + "\n")
    monkeypatch.setattr(machine, "machine", None)  # nothing is measured
    texts = {run("grouped", "--machine", "rates.json", "--json").stdout for _ in range(2)}
    assert len(texts) == 1

    result = run("grouped", "--machine", "rates.json", "--threads", "2")
    assert "has no machine with 2 threads; it has 1" in str(result.exception)
    file.write_text("{}")
    assert "is not what" in str(run("grouped", "--machine", "rates.json").exception)
    assert "cannot be read" in str(run("grouped", "--machine", "absent.json").exception)
