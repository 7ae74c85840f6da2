"""``fleetfoot train``: a whole run by one command, its outcome, and what is said of wrong words."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from fleetfoot.cli.commands import app
from fleetfoot.cli.train import free_folder, split_flags
from fleetfoot.errors import CheckpointError, UnknownNameError
from fleetfoot.interrupts import exit_code
from fleetfoot.train import checkpoint
from fleetfoot.train.recipes import recipe as recipe_named
from fleetfoot.train.settings import from_yaml

DIGITS = recipe_named("digits")
SHORT = ("--workers", "0", "--threads", "1", "--batch", "16", "--size", "32")


@pytest.fixture
def fleetfoot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fleetfoot.train.journal.Journal.draw", lambda self, history: None)

    def call(*words: str):
        return CliRunner().invoke(app, [*words])

    return call


def test_without_arguments_it_trains_on_digits_and_the_weights_work(fleetfoot):
    made = fleetfoot("train", "--set", "updates=3", "--set", "run.eval_every=9", *SHORT, "--json")
    assert made.exit_code == 0, made.output
    outcome = json.loads(made.stdout)
    assert outcome["finished"]
    assert (outcome["update"], outcome["interrupted"]) == (3, "")
    assert outcome["folder"] == "runs/digits-fasternet_t0-1"
    assert outcome["test"]["images"] == 359
    assert re.search(rf"\n  optim: .*\blr={DIGITS.optim.lr} ", made.stderr)
    assert "10 classes; pictures: 1,259 train, 179 val, 359 test" in made.stderr
    folder = Path(outcome["folder"])
    assert {"args.yaml", "summary.csv", "events.jsonl", "report.html"} <= set(os.listdir(folder))
    assert from_yaml((folder / "args.yaml").read_text()).recipe.updates == 3

    Image.new("L", (8, 8)).save("black.png")
    named = fleetfoot("predict", outcome["checkpoint"], "black.png", "--json", "--threads", "1")
    assert named.exit_code == 0, named.output
    assert {guess["label"] for guess in json.loads(named.stdout)["topk"]} < set("0123456789")
    assert free_folder("digits", "fasternet_t0") == Path("runs/digits-fasternet_t0-2")


def test_a_run_goes_on_with_its_own_settings_and_those_given(fleetfoot):
    first = fleetfoot("train", "--set", "updates=2", *SHORT, "--output", "run")
    assert first.exit_code == 0, first.output
    assert "fleetfoot eval run/best.safetensors" in first.stdout
    more = fleetfoot("train", "--resume", "run", "--set", "updates=4", "--lr", "1e-4")
    assert more.exit_code == 0, more.output
    assert f"changed, and the result with it: optim.lr: {DIGITS.optim.lr} -> 0.0001" in more.stderr
    training = checkpoint.read(Path("run/last.safetensors")).training
    assert (training.update, training.recipe.batch, training.run.workers) == (4, 16, 0)


def test_flags_of_timm_are_settings(fleetfoot):
    made = fleetfoot(
        "train", "--opt", "sgd", "--momentum", "0.5", "-b", "16", "-j", "0", "--model-ema",
        "--model-ema-decay=0.5", "--set", "updates=1", "--size", "32", "--output", "run",
        "--threads", "1",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    recipe = checkpoint.read(Path("run/last.safetensors")).training.recipe
    assert (recipe.optim.name, recipe.optim.momentum, recipe.batch) == ("sgd", 0.5, 16)
    assert recipe.ema.decay == 0.5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--epocs", "3"), "unknown option '--epocs'; did you mean '--epochs'"),
        (("--mixupp", "1"), "unknown option '--mixupp'; did you mean '--mixup"),
        (("--set", "optim.lrr=1"), "unknown setting 'optim.lrr'; did you mean 'optim.lr"),
        (("--recipe", "quik"), "unknown recipe 'quik'; did you mean 'quick'"),
    ],
)
def test_a_typo_is_an_error_with_the_nearest_name(fleetfoot, words, said):
    made = fleetfoot("train", *words)
    assert isinstance(made.exception, UnknownNameError)
    assert said in str(made.exception)


def test_words_are_sorted_into_ours_and_timms():
    own = {"--set": True, "--lr": True, "--json": False}
    words = ["--opt", "adamw", "data", "--set", "a=1", "--amp", "--lr", "1", "--", "--opt"]
    assert split_flags(words, own) == (
        ["data", "--set", "a=1", "--lr", "1", "--", "--opt"], ["--opt", "adamw", "--amp"],
    )  # fmt: skip
    assert split_flags(["--json", "data", "--lr", "-1"], own) == (
        ["--json", "data", "--lr", "-1"],
        [],
    )


def test_a_network_of_a_users_file_must_be_named_again(fleetfoot):
    Path("net.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 10, 8, 8), "
        "nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    words = ("--set", "updates=1", *SHORT, "--output", "run")
    first = fleetfoot("train", "--model", "net.py:build", *words)
    assert first.exit_code == 0, first.output
    assert "predict 'net.py:build' --weights run/best.safetensors" in first.stdout
    again = fleetfoot("train", "--resume", "run")
    assert isinstance(again.exception, CheckpointError)
    assert "--resume run --model 'net.py:build'" in str(again.exception)
    more = fleetfoot("train", "--resume", "run", "--model", "net.py:build", "--set", "updates=2")
    assert more.exit_code == 0, more.output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_command_with_its_exit_code_and_says_how_to_go_on(name, tmp_path):
    words = [sys.executable, "-m", "fleetfoot", "train", *SHORT, "--epochs", "1000"]
    process = subprocess.Popen(
        [*words, "--output", "run"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while not (tmp_path / "run" / "summary.csv").exists():
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=120)
    assert process.returncode == exit_code(name), err
    assert "fleetfoot train --resume run" in out
