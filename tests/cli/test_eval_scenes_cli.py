"""``fleetfoot eval --task`` and ``compare`` of what it writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer import BadParameter
from typer.testing import CliRunner

from fleetfoot.cli import app
from fleetfoot.cli.eval_scenes import _data, stated_task
from fleetfoot.evaluate.task_record import read
from tests import spots

pytest.importorskip("faster_coco_eval")

OWN = """
import torch
from tests.spots import SpotDetector

def net(blind=False):
    made = SpotDetector()
    if blind:
        with torch.no_grad():
            made.head.bias[0] = -99.0
    return made
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A detector, and a COCO set of five pictures."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    pictures = tmp_path / "data" / "test"
    pictures.mkdir(parents=True)
    images, objects = [], []
    for number, (shown, said) in enumerate(spots.FIVE):
        (pictures / f"{number}.png").write_bytes(spots.picture(shown))
        images.append({"id": number, "file_name": f"{number}.png", "width": spots.WIDTH,
                       "height": spots.HEIGHT})  # fmt: skip
        for spot in said:
            left, top, right, bottom = spots.box_of(spot)
            objects.append({
                "id": len(objects) + 1, "image_id": number, "category_id": spot[2] + 1,
                "bbox": [left, top, right - left, bottom - top], "iscrowd": 0,
                "area": (right - left) * (bottom - top),
            })  # fmt: skip
    names = [{"id": n + 1, "name": name} for n, name in enumerate(spots.CLASSES)]
    (tmp_path / "data" / "annotations").mkdir()
    (tmp_path / "data" / "annotations" / "instances_test.json").write_text(
        json.dumps({"images": images, "annotations": objects, "categories": names})
    )
    return tmp_path


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def evaluated(name: str, output: str, *more: str):
    return run("eval", name, "data", "--task", "detect", "--engine", "eager", "--threads", "1",
               "--output", output, *more)  # fmt: skip


def test_a_detector_is_judged_from_beginning_to_end(place):
    result = evaluated("own.py:net", "out")
    assert result.exit_code == 0, result.output
    assert "AP50" in result.stdout
    assert "5 pictures, 3 classes, matched by name" in result.stdout
    assert sorted(os.listdir("out")) == [
        "answers.json", "evaluation.json", "index.html", "pictures.csv",
    ]  # fmt: skip
    found = read(Path("out"))
    assert found.record.figures["ap"] == pytest.approx(100 * (67 / 101 + 1 / 2 + 1) / 3)
    assert found.record.data == "data"


def test_json_is_the_record(place):
    result = evaluated("own.py:net", "out", "--json", "--batch", "3")
    raw = json.loads(result.stdout)
    assert raw == json.loads(Path("out/evaluation.json").read_text())
    assert (raw["task"], raw["batch"], raw["images"]) == ("detect", 3, 5)


def test_a_network_that_is_blind_for_red_is_worse(place):
    assert evaluated("own.py:net", "before").exit_code == 0
    assert evaluated("own.py:net(blind=True)", "after").exit_code == 0
    result = run("compare", "before", "after")
    assert result.exit_code == 0, result.output
    assert "AP50" in result.stdout
    raw = json.loads(run("compare", "before", "after", "--json").stdout)
    assert raw["figures"][0]["difference"] == pytest.approx(-100 * 67 / 101 / 3)
    worse = run("compare", "before", "after", "--fail-if-worse")
    assert worse.exit_code == (raw["verdict"] == "worse")
    refused = run("compare", "before", "after", "--across-machines")
    assert refused.exit_code == 2


def test_without_data_hands_are_drawn_and_others_are_asked_for():
    scenes, part = _data(None, "hand", None, None)
    assert (scenes.name, part.name) == ("hands", "test")
    with pytest.raises(BadParameter, match=r"name the data .* for --task detect"):
        _data(None, "detect", None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "guess"), "--task is classify or detect or segment or hand"),
        (("--task", "detect", "--csv", "a.csv"), "--csv is for --task classify"),
        (("--task", "detect", "--split", "val"), "--split val: data has test"),
        (("--task", "segment"), "which is for --task detect, not for segment"),
    ],
)
def test_what_does_not_fit_is_refused(place, arguments, message):
    result = run("eval", "own.py:net", "data", *arguments)
    assert result.exit_code != 0
    assert message in " ".join((result.output + str(result.exception or "")).split())
    assert not Path("eval-results").exists()


def test_evaluations_of_different_tasks_are_not_compared(tmp_path):
    for task in ("detect", "hand"):
        (tmp_path / task).mkdir()
        (tmp_path / task / "evaluation.json").write_text(json.dumps({"task": task}))
    result = run("compare", str(tmp_path / "detect"), str(tmp_path / "hand"))
    assert result.exit_code == 2
    said = " ".join(result.output.replace("│", " ").split())
    assert "an evaluation of detect, and" in said
    assert "one of hand; compare two of one task" in said


def test_the_task_is_that_of_the_name_or_of_the_files_header(tmp_path):
    assert stated_task("ssdlite", None) == stated_task("fcos:timm:resnet18", None) == "detect"
    assert stated_task("lraspp:mobilenetv3_small_100", None) == "segment"
    assert stated_task("handmesh", None) == "hand"
    assert stated_task("mobilenetv2_010", None) == "classify"
    for name, task in (("onestage:mobilenetv2_010", "detect"), ("mobilenetv2_010", "classify")):
        file = tmp_path / "run.safetensors"
        save_file({"x": torch.zeros(1)}, file, {"model": name})
        assert stated_task(str(file), file) == task
    file.write_bytes(b"broken")
    assert stated_task(str(file), file) == "classify"  # whoever reads it says what is wrong
