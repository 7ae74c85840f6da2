"""``fleetfoot predict``: what it prints where, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from fleetfoot.cli.predict import predict
from fleetfoot.errors import UnknownNameError

app = typer.Typer()
app.command()(predict)

NETWORK = ["timm:test_resnet", "--no-pretrained", "--threads", "1"]
"""A few thousand random weights: what is printed is looked at, not whether it is right."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (30, 20), colour).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


def run(*arguments: str, stdin: bytes | None = None):
    return CliRunner().invoke(app, [*NETWORK, *arguments], input=stdin)


def test_json_is_a_line_a_picture_and_the_rest_goes_to_stderr(folder):
    result = run("a.png", "b.png", "--json", "--topk", "3")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [line["path"] for line in lines] == ["a.png", "b.png"]
    for line in lines:
        assert list(line) == ["path", "topk"]
        assert [list(guess) for guess in line["topk"]] == [["index", "label", "probability"]] * 3
        probabilities = [guess["probability"] for guess in line["topk"]]
        assert probabilities == sorted(probabilities, reverse=True)
    assert "2 named, 0 failed" in result.stderr
    assert "the weights are random" in result.stderr


def test_a_picture_that_cannot_be_used_is_a_line_of_its_own_and_exit_code_1(folder):
    result = run("a.png", "broken.jpg", "absent.jpg", "b.png", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert [("topk" in line, "error" in line) for line in lines] == [
        (True, False),
        (False, True),
        (False, True),
        (True, False),
    ]
    assert lines[2] == {"path": "absent.jpg", "error": "no such file"}
    assert "2 named, 2 failed" in result.stderr


def test_nothing_usable_is_exit_code_2_and_no_throughput(folder):
    result = run("broken.jpg")
    assert result.exit_code == 2
    assert "0 named, 1 failed\n" in result.stderr
    assert "images/s" not in result.stderr
    assert run("*.gif").exit_code == 2


def test_the_default_engine_is_named(folder):
    result = run("a.png")
    assert "images/s (eager, 1 thread)" in result.stderr


def test_csv_is_a_line_a_guess(folder):
    result = run(".", "--csv", "--topk", "2")
    header, *rows = csv.reader(io.StringIO(result.stdout))
    assert header == ["path", "rank", "index", "label", "probability", "error"]
    assert [row[:2] for row in rows] == [
        ["./a.png", "1"],
        ["./a.png", "2"],
        ["./b.png", "1"],
        ["./b.png", "2"],
        ["./broken.jpg", ""],
    ]
    assert rows[-1][-1].startswith("not a picture")


def test_the_card_shows_path_guesses_and_reason(folder):
    (folder / "names").write_text("\n".join(["cat"] + ["dog"] * 999))
    result = run(".", "--topk", "1", "--labels", "names")
    first, guess, *_ = result.stdout.splitlines()
    assert first == "./a.png"
    assert guess.strip().endswith(("cat", "dog"))
    assert "./broken.jpg\n  not a picture" in result.stdout


def test_a_name_cannot_steer_the_terminal(folder):
    (folder / "x\x1b[2J.png").write_bytes((folder / "a.png").read_bytes())
    result = run("x*")
    assert "\x1b" not in result.output
    assert r"x\x1b[2J.png" in result.output


def test_a_picture_on_standard_input(folder):
    result = run("-", "--json", stdin=(folder / "a.png").read_bytes())
    assert json.loads(result.stdout)["path"] == "-"


def test_paths_on_standard_input(folder):
    result = run("-", "--json", stdin=b"b.png\na.png\n")
    assert [json.loads(line)["path"] for line in result.stdout.splitlines()] == ["b.png", "a.png"]


def test_notes_go_to_stderr(folder):
    Image.new("RGBA", (9, 9)).save(folder / "clear.png")
    result = run("clear.png", "--json")
    assert "clear.png: transparent: laid over white" in result.stderr


def test_accuracy_is_reported_against_the_truth(folder):
    (folder / "truth.csv").write_text("a.png,0\nb.png,0\n")
    everything = ["--num-classes", "2", "--topk", "2"]
    result = run("a.png", "b.png", "--truth", "truth.csv", *everything)
    assert "top-2 100.0 % of 2 pictures" in result.stderr
    assert re.search(r"top-1 \d+\.0 % \(95 % interval \d+\.\d to \d+\.\d\), top-2", result.stderr)
    result = run("a.png", "b.png", "--truth", "stem", *everything)
    assert "2 of no known class, the first a.png" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "--csv"], "exclude each other"),
        (["--mean", "half"], "--mean takes numbers"),
        (["--option", "small"], "--option takes name=value"),
        (["--topk", "0"], "--topk"),
        (["--batch", "0"], "--batch"),
    ],
)
def test_a_wrong_option_is_named(folder, arguments, message):
    result = run("a.png", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--std", "0"], "std must not hold a zero"),
        (["--mean", "1,2"], "mean must be three numbers"),
        (["--crop-pct", "87.5"], "crop_pct is a share"),
        (["--labels", "absent"], "labels: cannot read absent"),
        (["--truth", "absent"], "truth must be 'stem', 'folder'"),
        (["--num-classes", "3", "--labels", "a.png"], "labels: cannot read a.png"),
    ],
)
def test_a_wrong_value_is_an_error_for_the_frame_to_print(folder, arguments, message):
    result = run("a.png", *arguments)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_an_unknown_network_is_an_error_for_the_frame_to_print(folder):
    result = CliRunner().invoke(app, ["timm:test_resnett", "a.png", "--no-pretrained"])
    assert isinstance(result.exception, UnknownNameError)


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command as a process of its own, with a network of ours: timm takes seconds to import."""
    code = "import typer; from fleetfoot.cli.predict import predict; typer.run(predict)"
    return subprocess.Popen(
        [sys.executable, "-c", code, "mobilenetv1_025", "--size", "32", *NETWORK[1:], *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_reader_that_leaves_early_is_no_error_message(folder):
    for number in range(300):
        (folder / f"many{number}.png").symlink_to("a.png")
    with start(".", "--json", "--topk", "1000", "--batch", "1") as process:
        assert '"path": "./a.png"' in process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert errors == "the weights are random, so the names mean nothing\n"


def test_ctrl_c_ends_with_a_summary(folder):
    for number in range(3000):
        (folder / f"many{number}.png").symlink_to("a.png")
    with start(".", "--json", "--batch", "1") as process:
        assert '"path": "./a.png"' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "not reached" in errors
    assert "Traceback" not in errors
