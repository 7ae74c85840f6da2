"""``fleetfoot sweep``: its card, JSON and page, and the line to copy."""

from __future__ import annotations

import csv
import json
import shlex

import pytest
import typer
from typer.testing import CliRunner

from fake_training import Trainer
from fleetfoot.cli.sweep import sweep
from fleetfoot.train import sweep as room

app = typer.Typer()
app.command()(sweep)


@pytest.fixture
def run(tmp_path, monkeypatch):
    trainer = Trainer(fails=1)
    monkeypatch.setattr(room, "train", trainer)
    monkeypatch.setattr(room, "history", trainer.history)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(
            app,
            ["--space", "optim.lr=log:1e-4:1", "--space", "optim.name=choice:sgd,adamw",
             "--trials", "8", "--epochs", "3", "--output", "s", *arguments],
        )  # fmt: skip

    return call


def test_the_card_ends_with_a_command_of_the_best_settings(run, tmp_path):
    text = run("--set", "mix.mixup=0.1").stdout
    line = next(line for line in text.splitlines() if "fleetfoot train" in line)
    best = max(
        csv.DictReader((tmp_path / "s" / "summary.csv").read_text().splitlines()),
        key=lambda row: float(row["top1"] or 0),
    )
    assert shlex.split(line) == [
        "fleetfoot", "train", "--epochs", "3", "--set", "mix.mixup=0.1",
        "--set", f"optim.lr={best['optim.lr']}", "--set", f"optim.name={best['optim.name']}",
    ]  # fmt: skip
    assert "1 failed" in text
    page = (tmp_path / "s" / "report.html").read_text()
    assert f"--set optim.lr={best['optim.lr']}" in page
    assert "failed: the loss of update 3 is not finite" in page
    assert page.count("<circle") == 2 * 7  # wide and narrow, one for each trial with a figure


def test_json_has_all_trials_and_the_line(run):
    raw = json.loads(run("--json").stdout)
    assert len(raw["trials"]) == raw["wanted"] == 8
    assert raw["trials"][1]["reason"] == "the loss of update 3 is not finite"
    assert raw["set"] == " ".join(f"--set {k}={v}" for k, v in raw["best"]["values"].items())
    assert raw["weights"].endswith("best.safetensors")


def test_the_same_command_again_adds_nothing(run):
    first = run("--json").stdout
    assert run("--json").stdout == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--seed", "3"], "seed 0 there, 3 here"), (["--space", "optim.lr=log:1:2"], "twice")],
)
def test_what_cannot_be_done_is_said(arguments, message, run):
    run()
    outcome = run(*arguments)
    assert outcome.exit_code != 0
    assert message in str(outcome.exception)
