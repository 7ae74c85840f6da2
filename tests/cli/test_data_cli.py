"""``fleetfoot data``: what it prints where, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from typer.testing import CliRunner

from fleetfoot.cli import app
from fleetfoot.cli.process import run_app
from pictures_on_disk import write
from scenes_on_disk import camvid, coco


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FLEETFOOT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(12)))


def run(*arguments: object):
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_the_card(folder):
    done = run(folder, "--val-share", "0.25", "--seed", "4")
    assert done.exit_code == 0, done.output
    assert "2 classes, 24 pictures" in done.stdout
    assert "val is a share of 0.25 of train (seed 4)" in " ".join(done.stdout.split())
    assert "opening pictures" in done.stderr


def test_json_and_page(folder, tmp_path_factory):
    page = tmp_path_factory.mktemp("out") / "new" / "page.html"
    done = run(folder, "--json", "--html", page, "--size", "4")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["counts"] == {"train": [11, 11], "val": [1, 1]}
    assert record["smaller"] == 0
    assert [one["level"] for one in record["concerns"]] == ["note"]
    assert f"page: {page}" in done.stderr
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_default_set():
    done = run("--quick")
    assert done.exit_code == 0, done.output
    assert "digits  10 classes, 1,797 pictures" in done.stdout


def test_exit_code_1_if_something_is_wrong(folder):
    write(folder, "a/bad.png", data=b"")
    done = run(folder, "--val-share", "0")
    assert done.exit_code == 1
    assert "a/bad.png: empty file" in done.stdout


@pytest.mark.parametrize("arguments", [["--html", "."], ["--size", "0"], ["--val-share", "1"]])
def test_exit_code_2_for_wrong_options(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2
    assert arguments[0] in done.output


def test_exit_code_2_for_what_is_no_data_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fleetfoot", "data", str(tmp_path)])
    assert run_app(app) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1] == f"fleetfoot: {tmp_path}: the folder is empty"


SLOW_PICTURES = """
import sys, time
from fleetfoot.data import survey
real = survey._look
def slow(*given):
    print("looking", file=sys.stderr, flush=True)
    time.sleep(0.05)
    return real(*given)
survey._look, survey.CHUNK = slow, 1
sys.argv[1:] = ["data", sys.argv[1], "--json", "--threads", "1"]
from fleetfoot.cli import main
main()
"""


@pytest.mark.slow  # a process of its own
def test_an_interrupt_reports_what_was_seen(folder):
    command = [sys.executable, "-c", textwrap.dedent(SLOW_PICTURES), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.strip() == "looking":
            break
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    record = json.loads(out)
    assert record["stopped"]
    assert record["opened"] < 24
    assert any("stopped after" in one["text"] for one in record["concerns"])


def test_a_set_with_boxes_is_recognised(tmp_path, tmp_path_factory):
    page = tmp_path_factory.mktemp("out") / "page.html"
    done = run(coco(tmp_path), "--json", "--html", page)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["task"] == "detect"
    assert record["counts"] == {"train": [1, 2], "val": [1, 1]}
    assert record["faults"] == []
    assert "Pictures with their labels" in page.read_text(encoding="utf-8")
    done = run(tmp_path)
    assert "2 classes, 4 pictures, 5 objects" in " ".join(done.stdout.split())


def test_the_task_can_be_stated(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["fleetfoot", "data", str(coco(tmp_path)), "--task", "classify"]
    )
    assert run_app(app) == 2
    assert "this looks like COCO" in capsys.readouterr().err
    assert "none of classify, detect, segment, hand" in run(tmp_path, "--task", "pose").output
    assert json.loads(run(camvid(tmp_path / "maps"), "--json").stdout)["task"] == "segment"
