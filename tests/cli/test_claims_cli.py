"""``fleetfoot claims``: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from fleetfoot.cli.claims import claims
from fleetfoot.errors import RecordError, UnknownNameError
from fleetfoot.measure.record import read

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(claims)


def run(*arguments: object):
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


SHORT = ("g4", "--engines", "eager", "--seconds", "0.5")
"""One experiment in its fewest rounds, 2 s: it begins in time on a busy machine, and no other."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("claims") / "out"
    return folder, run(*SHORT, "--output", folder, "--json")


def test_a_short_run_measures_one_experiment_and_says_what_it_left(measured):
    folder, result = measured
    assert result.exit_code == 0
    rows = read(folder)
    assert {m.model for m in rows} == {
        f"g4/{name}, ARM channels x1"
        for name in ("ReLU and shortcut", "ReLU only", "shortcut only", "neither")
    }
    assert {(m.engine, m.threads, m.batch, m.size, m.protocol) for m in rows} == {
        ("eager", 1, 1, 56, "claims")
    }
    assert all(len(m.samples_s) >= 8 for m in rows)
    assert "no time for 2 experiments" in result.stderr
    assert "--resume" in result.stderr


def test_json_is_one_record_with_the_papers_figure_and_the_verdict(measured):
    (found,) = json.loads(measured[1].stdout)
    assert found["claim"] == "g4"
    first = found["ratios"][0]
    assert first["asserted"] == pytest.approx(61.9 / 56.7)
    assert first["here"] > 0
    assert first["word"] in ("holds", "holds partly", "does not hold", "not clear")


def test_a_record_is_judged_again_without_measuring(measured, tmp_path):
    folder, _ = measured
    before = (folder / "measurements.jsonl").read_bytes()
    result = run("g4", "--record", folder, "--page", tmp_path / "claims.md", "--times")
    assert "verdict: " in result.stdout
    assert "ReLU only / neither" not in result.stdout  # only against the first row
    assert "# What the papers claim, tried again" in (tmp_path / "claims.md").read_text()
    assert (folder / "g4.png").exists()
    assert (folder / "measurements.jsonl").read_bytes() == before


def test_the_list_measures_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = run("--list").stdout
    assert "pconv-stack" in said
    assert "repmixer-skip" in said
    (g4,) = json.loads(run("g4", "--list", "--json").stdout)
    assert [e["name"] for e in g4["experiments"]] == [f"ARM channels x{x}" for x in (1, 2, 4)]
    assert not list(tmp_path.iterdir())


def test_errors_name_what_is_wrong(measured, tmp_path):
    with pytest.raises(UnknownNameError, match="unknown claim 'pair'; did you mean 'pairs'"):
        run("pair")
    with pytest.raises(UnknownNameError, match="unknown engine 'onnx'"):
        run("g4", "--engines", "onnx", "--output", tmp_path / "x")
    with pytest.raises(RecordError, match="there is no record at"):
        run("--record", tmp_path)
    assert run("--resume").exit_code == 2
    assert run("--record", measured[0], "--output", tmp_path).exit_code == 2
    full = run("g4", "--output", measured[0])
    assert full.exit_code == 2
    assert "not empty" in full.stderr
