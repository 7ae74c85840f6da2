"""``fleetfoot eval`` and ``compare`` of evaluations: figures, files, forms, and clear refusals."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image
from typer.testing import CliRunner

from fleetfoot.cli import app
from fleetfoot.data.layouts import open_dataset
from fleetfoot.engines import available
from fleetfoot.engines.native import save_plan
from fleetfoot.evaluate.record import read
from fleetfoot.interrupts import exit_code
from fleetfoot.models import create_model
from fleetfoot.report.evaluations import TIMM_COLUMNS
from fleetfoot.train import checkpoint
from fleetfoot.train.config import Recipe, Run
from fleetfoot.weights.pretrained import untrained

OWN = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, classes=3, swapped=False):
        linear = nn.Linear(3, classes, bias=False)
        with torch.no_grad():
            linear.weight.copy_(torch.eye(classes, 3))
            if swapped:
                linear.weight[:2] = linear.weight[[1, 0]]
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
"""
COLOURS = {"red": "red", "green": "lime", "indigo": "blue"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A network, and a folder with two pictures of each colour, one of them in a wrong folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "labels.txt").write_text("red\ngreen\nindigo\n")
    for name, colour in COLOURS.items():
        folder = tmp_path / "data" / "test" / name
        folder.mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (40, 40), colour).save(folder / f"{number}.png")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "data" / "test" / "green" / "red.png")
    return tmp_path


def run(*arguments: str):
    return CliRunner().invoke(
        app,
        ["eval", "own.py:Net", "data", "--size", "32", "--engine", "eager", "--threads", "1",
         "--labels", "labels.txt", *arguments],
        env={"COLUMNS": "200"},
    )  # fmt: skip


def test_the_card_says_what_was_found(place):
    result = run("--output", "out")
    assert result.exit_code == 0, result.output
    said = result.stdout
    assert "own.py:Net on data, test" in said
    assert "7 pictures, 3 classes, matched by name" in said
    assert "85.71 % (48.69 to 97.43)" in said  # 6 of 7, Wilson's interval
    assert "32 px; crop 0.875; bilinear; mean 0.485, 0.456, 0.406" in said
    assert sorted(os.listdir(place / "out")) == ["evaluation.json", "index.html", "pictures.csv"]
    record, answers = read(place / "out")
    assert (record.top1.right, record.top1.images) == (6, 7)
    assert [one.picture for one in answers if not one.right] == ["test/green/red.png"]
    page = (place / "out" / "index.html").read_text()
    assert "85.71 %" in page
    assert page.count("<img") == 1


def test_pictures_that_are_in_no_parts_are_all_judged(place):
    result = run("data/test", "--output", "out")
    assert result.exit_code == 2  # one data set alone
    done = CliRunner().invoke(
        app,
        ["eval", "own.py:Net", "data/test", "--size", "32", "--engine", "eager",
         "--labels", "labels.txt", "--output", "out"],
    )  # fmt: skip
    assert "own.py:Net on test, all" in done.stdout
    assert "7 pictures, 3 classes" in done.stdout


def test_json_is_the_record(place):
    raw = json.loads(run("--json", "--output", "out").stdout)
    assert raw["top1"] == {"right": 6, "images": 7}
    assert raw == json.loads((place / "out" / "evaluation.json").read_text())


def test_several_engines_stand_side_by_side(place):
    if (reason := available()["native"]) is not None:
        pytest.skip(reason)
    result = run("--engine", "eager,native", "--output", "out", "--csv", "results.csv")
    assert result.exit_code == 0, result.output
    assert "The engines name the same class for every picture." in result.stdout
    assert "within noise" in result.stdout
    assert sorted(os.listdir(place / "out")) == ["eager", "index.html", "native"]
    assert read(place / "out" / "native").record.top1.right == 6
    refused = CliRunner().invoke(app, ["compare", "out", "out/eager"], env={"COLUMNS": "200"})
    assert "name one: out/eager, out/native" in " ".join(refused.stderr.split())
    rows = list(csv.DictReader((place / "results.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["own.py:Net (eager)", "own.py:Net (native)"]


def test_the_table_has_timms_columns_and_grows(place):
    run("--csv", "results.csv", "--output", "a")
    run("--csv", "results.csv", "--output", "b")
    done = CliRunner().invoke(
        app,
        ["eval", "own.py:Net(swapped=True)", "data", "--size", "24", "--crop-pct", "1", "--engine",
         "eager", "--labels", "labels.txt", "--csv", "results.csv", "--output", "c"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    head, *rows = csv.reader((place / "results.csv").read_text().splitlines())
    assert tuple(head) == TIMM_COLUMNS
    assert rows == [
        ["own.py:Net", "85.714", "14.286", "100.000", "0.000", "0.00", "32", "0.875", "bilinear"],
        ["own.py:Net(swapped=True)", "42.857", "57.143", "100.000", "0.000", "0.00", "24", "1",
         "bilinear"],
    ]  # fmt: skip
    (place / "other.csv").write_text("a,b\n")
    result = run("--csv", "other.csv", "--output", "d")
    assert result.exit_code != 0
    assert (place / "other.csv").read_text() == "a,b\n"


def test_without_data_it_is_the_digits_which_imagenets_classes_are_not(place):
    pytest.importorskip("sklearn")
    result = CliRunner().invoke(app, ["eval", "own.py:Net(classes=1000)", "--size", "32"])
    message = str(result.exception)
    assert "digits has 10 classes: '0', '1', '2', '3' and 6 more" in message
    assert "own.py:Net(classes=1000) has 1000 classes: 'tench'" in message
    assert not (place / "eval-results").exists()
    done = CliRunner().invoke(
        app,
        ["eval", "own.py:Net(classes=10)", "--size", "8", "--engine", "eager", "--batch", "360"],
    )
    assert done.exit_code == 0, done.output
    assert "own.py:Net(classes=10) on digits, test" in done.stdout
    (folder,) = (place / "eval-results").iterdir()
    assert folder.name.endswith("-own-Net-classes-10")


def test_a_picture_that_cannot_be_read_stops_or_is_named(place):
    (place / "data" / "test" / "red" / "broken.png").write_bytes(b"no picture")
    result = run("--output", "out")
    assert result.exit_code != 0
    assert "broken.png" in str(result.exception)
    assert not (place / "out").exists()
    result = run("--output", "out", "--on-bad-image", "skip")
    assert result.exit_code == 0, result.output
    assert "1 picture could not be read, and are in no figure" in result.stdout
    assert "broken.png: not a picture" in result.stdout
    assert "85.71 %" in result.stdout
    record, _ = read(place / "out")
    assert (record.top1.images, record.unreadable) == (7, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--form", "half"), "--form is folded or training, not 'half'"),
        (("--engine", "nothing"), "computes nothing"),
        (("--split", "val"), "--split val: data has"),
        (("--output", "data"), "--output data is not empty"),
        (("--among", "all"), "--among is network or data"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(place, arguments, message):
    result = run("--output", "out", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (place / "out").exists()


def test_classes_are_mapped_by_a_file(place):
    (place / "other.txt").write_text("rot\ngruen\nblau\n")
    (place / "map.csv").write_text("red,rot\ngreen,gruen\nindigo,blau\n")
    result = run("--labels", "other.txt", "--output", "out")
    assert "data has 3 classes: 'green', 'indigo', 'red'" in str(result.exception)
    result = run("--labels", "other.txt", "--classes", "map.csv", "--output", "out")
    assert result.exit_code == 0, result.output
    assert "matched by map.csv" in result.stdout
    assert "85.71 %" in result.stdout


def test_a_plan_is_judged(place):
    if (reason := available()["native"]) is not None:
        pytest.skip(reason)
    import torch

    sys.path.insert(0, str(place))
    try:
        from own import Net
    finally:
        sys.path.pop(0)
        sys.modules.pop("own", None)
    save_plan(Net().eval(), torch.zeros(1, 3, 32, 32), place / "net.plan")
    result = CliRunner().invoke(
        app, ["eval", "net.plan", "data", "--labels", "labels.txt", "--output", "out"]
    )
    assert result.exit_code == 0, result.output
    assert "85.71 %" in result.stdout
    assert "the file states no preprocessing" in " ".join(result.stdout.split())
    refused = CliRunner().invoke(app, ["eval", "net.plan", "data", "--engine", "eager"])
    assert "is compiled; it takes no --engine" in " ".join(refused.stderr.split())


@pytest.fixture
def trained(place):
    """A checkpoint that says it was trained on the folder, with validation split off by seed 3."""
    for number in range(10):
        for name, colour in COLOURS.items():
            folder = place / "train" / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), colour).save(folder / f"{number}.png")
    data = open_dataset("train", val_share=0.2, seed=3)
    options = {"width": 8, "depths": (1, 1, 1, 1), "head_width": 16}
    model = create_model("fasternet_t0", num_classes=3, **options)
    checkpoint.write(
        place / "run.safetensors",
        checkpoint.Checkpoint(
            model="fasternet_t0",
            options=options,
            preprocessing=untrained(32),
            training=checkpoint.Training(
                update=1,
                epochs=1,
                recipe=Recipe(seed=3, val_share=0.2),
                run=Run(),
                data=checkpoint.Data(
                    name="train", classes=data.classes, train=data.train.fingerprint
                ),
            ),
            weights=model.state_dict(),
            average={},
            optimiser={},
        ),
    )
    return data


def test_a_checkpoint_is_judged_on_what_its_training_kept_for_validation(place, trained):
    given = ["eval", "run.safetensors", "--engine", "eager", "--form", "training"]
    result = CliRunner().invoke(app, [*given, "--output", "out"])
    assert result.exit_code == 0, result.output
    assert "run.safetensors on train, val" in result.stdout
    assert "trained on these pictures" not in result.stderr
    record, _ = read(place / "out")
    assert record.fingerprint == trained.val.fingerprint
    assert record.top1.images == 6
    assert (record.size, record.classes, record.matched) == (32, trained.classes, "by name")
    result = CliRunner().invoke(app, [*given, "--split", "train"])
    assert "the network was trained on these pictures" in result.stderr


def test_two_evaluations_are_compared(place):
    run("--output", "before")
    CliRunner().invoke(
        app,
        ["eval", "own.py:Net(swapped=True)", "data", "--size", "32", "--engine", "eager",
         "--labels", "labels.txt", "--output", "after"],
    )  # fmt: skip
    result = CliRunner().invoke(app, ["compare", "before", "after"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    # both red ones and both green ones are lost, and the red one among the green is gained
    assert "after is -42.86 points against before" in result.stdout
    assert "within noise; they differ on 5 of 7 pictures" in result.stdout
    raw = json.loads(CliRunner().invoke(app, ["compare", "before", "after", "--json"]).stdout)
    assert (raw["only_before"], raw["only_after"], raw["verdict"]) == (4, 1, "noise")
    assert raw["p_value"] == 2 * (1 + 5) / 32
    refused = CliRunner().invoke(app, ["compare", "before", "after", "--fail-if-slower", "1"])
    assert "evaluations hold no times" in " ".join(refused.stderr.split())


@pytest.mark.slow
def test_ctrl_c_keeps_nothing_and_says_so(place):
    """Many pictures, and the signal comes when the first of them are being judged."""
    for number in range(3000):
        link = place / "data" / "test" / "red" / f"more{number}.png"
        link.symlink_to("0.png")
    with subprocess.Popen(
        [sys.executable, "-m", "fleetfoot", "eval", "own.py:Net", "data", "--size", "32",
         "--engine", "eager", "--labels", "labels.txt", "--batch", "1", "--output", "out"],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while "pictures" not in (line := process.stderr.readline()):
            assert line, "it ended before it began"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    if "record, pictures and page" in said:
        pytest.skip("the machine was done before the signal came")
    assert process.returncode == exit_code("SIGINT")
    assert "ended by SIGINT after" in said
    assert "of 3,007 pictures; nothing was written" in said
    assert sorted(os.listdir(place)) == ["data", "labels.txt", "own.py"]
