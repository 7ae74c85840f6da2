"""``fleetfoot train --task``: a detector from pictures on disk, from the first word to the page."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleetfoot.cli.commands import app
from fleetfoot.cli.train import kind_of, network_of
from fleetfoot.data.hands import open_hands
from fleetfoot.errors import DatasetError, TrainingError
from fleetfoot.train import checkpoint
from pages import Tags, assert_loads_nothing
from scenes_on_disk import CLASSES, coco
from tiny_tasks import BACKBONE, known

SHORT = ("--workers", "0", "--threads", "1", "--batch", "2", "--size", "32", "--weights", "none",
         "--set", "updates=2")  # fmt: skip


@pytest.fixture
def fleetfoot(tmp_path, monkeypatch):
    known(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fleetfoot.train.journal.Journal.draw", lambda self, history: None)
    return lambda *words: CliRunner().invoke(app, [*words])


def test_a_detector_is_trained_on_a_set_and_goes_on(fleetfoot):
    coco(Path("fruit"))
    words = ("train", "fruit", "--task", "detect", "--model", "tiny_detector")
    made = fleetfoot(*words, "--backbone", BACKBONE, *SHORT, "--json")
    assert made.exit_code == 0, made.output
    outcome = json.loads(made.stdout)
    assert outcome["model"] == f"tiny_detector:{BACKBONE}"
    assert outcome["folder"] == f"runs/fruit-tiny_detector-{BACKBONE}-1"
    assert outcome["history"][-1]["figures"].keys() >= {"eval_ap", "ema_ap50"}
    assert "settings (finetune-detect):" in made.stderr
    assert f"{len(CLASSES)} classes; pictures:" in made.stderr
    page = (Path(outcome["folder"]) / "report.html").read_text()
    assert "Average precision" in page
    assert "Best AP:" in page
    Tags(page)
    assert_loads_nothing(page)

    more = fleetfoot("train", "--resume", outcome["folder"], "--set", "updates=3")
    assert more.exit_code == 0, more.output
    assert f"fleetfoot eval {outcome['folder']}/best.safetensors fruit --task detect" in more.output
    training = checkpoint.read(Path(outcome["folder"]) / "last.safetensors").training
    assert (training.update, training.data.task, training.data.classes) == (3, "detect", CLASSES)


def test_the_network_says_what_it_is_for(fleetfoot, monkeypatch):
    assert kind_of(None, None) == kind_of(None, "fasternet_t0") == "classify"
    assert kind_of(None, "tiny_segmenter") == "segment"
    assert network_of("detect", None, None) == "onestage:fasternet_t0"
    assert network_of("detect", None, "shufflenet_v2_x1_0") == "onestage:shufflenet_v2_x1_0"
    assert network_of("hand", "tiny_hand", None) == f"tiny_hand:{BACKBONE}"
    few = open_hands(size=48, counts={"train": 4, "val": 2, "test": 2})
    monkeypatch.setattr("fleetfoot.data.layouts.scenes.open_hands", lambda: few)
    made = fleetfoot("train", "--model", "tiny_hand", *SHORT, "--size", "32x48", "--output", "run")
    assert made.exit_code == 0, made.output
    assert checkpoint.read(Path("run/last.safetensors")).preprocessing.input_size == (32, 48)
    assert "PA-MPJPE" in made.output


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--task", "detekt"), "--task takes classify, detect, segment, hand, not 'detekt'"),
        (("--backbone", "fasternet_t0"), "--backbone is for a --task"),
        (("--size", "32x48"), "--size takes one number for classification"),
    ],
)
def test_words_that_do_not_fit_are_refused(fleetfoot, words, error):
    made = fleetfoot("train", *words)
    assert made.exit_code == 2
    assert error in " ".join(made.output.replace("│", "").split())


def test_what_is_missing_is_said(fleetfoot):
    made = fleetfoot("train", "--task", "detect", *SHORT)
    assert isinstance(made.exception, DatasetError)
    assert "the task detect has no built-in data set; name the place of one" in str(made.exception)
    coco(Path("fruit"))
    made = fleetfoot("train", "fruit", "--task", "detect", "--model", "tiny_detector", "--recipe",
                     "finetune-segment", *SHORT)  # fmt: skip
    assert isinstance(made.exception, TrainingError | ValueError)
    assert "finetune-segment is for segment" in str(made.exception)
    assert not os.path.exists("runs/x")
