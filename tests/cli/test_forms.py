"""Every command that takes a network takes every form of it, by the same options."""

from __future__ import annotations

import json
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from fleetfoot.cli import app, main
from fleetfoot.errors import EngineError
from fleetfoot.models import create_model
from fleetfoot.weights.files import write

OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, channels=3, classes=4):
        super().__init__(
            nn.Conv2d(channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, classes, 1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, image, scale):
        return self.conv(image) * scale

class Fails(nn.Module):
    def forward(self, x):
        return x.no_such_method()
"""
TWO = "image=1x3x8x6,scale=1x4x8x6"


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "own.py").write_text(OWN)
    Image.new("RGB", (20, 30), "red").save(tmp_path / "picture.png")
    weights = create_model("mobilenetv2_010", num_classes=5)
    write(tmp_path / "some.safetensors", weights.state_dict())
    return tmp_path


COMMANDS = {
    "count": ("--json",),
    "fuse": ("--json",),
    "lint": ("--no-measure", "--json", "--min-price-ms", "9999"),
    "swap": ("--no-measure", "--json"),
    "explain": ("--engine", "eager", "--seconds", "0.1", "--json"),
    "compile": ("--no-pretrained", "--output", "made.plan"),
    "predict": ("picture.png", "--no-pretrained", "--json", "--labels", "labels.txt"),
    "features": ("--list", "--json"),
    "bench": (
        "--engines", "eager", "--threads", "1", "--batch", "1", "--seconds", "1",
        "--protocol", "quick", "--output", "made", "--json",
    ),
}  # fmt: skip
FORMS = {
    "own.py:Net": 4,
    "own.py:Net(channels=1, classes=2)": 2,
    "some.safetensors": 5,
    "mobilenetv2_010": 1000,
}
SLOW = {"explain", "bench"}


def run(*arguments: str):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


@pytest.mark.parametrize(
    ("command", "form"),
    [
        pytest.param(command, form, marks=[pytest.mark.slow] if command in SLOW else [])
        for command in COMMANDS
        for form in FORMS
    ],
)
def test_every_command_takes_every_form_at_a_height_other_than_the_width(tiny, command, form):
    (tiny / "labels.txt").write_text("".join(f"class {i}\n" for i in range(FORMS[form])))
    options = list(COMMANDS[command])
    result = run(command, form, *options, "--size", "64x32")

    assert result.exit_code == 0, result.output + repr(result.exception)
    if command == "compile":
        channels = 1 if "channels=1" in form else 3
        assert f"input (B, {channels}, 64, 32)" in result.stdout
    elif command in ("count", "swap"):
        assert json.loads(result.stdout)["size"] == [64, 32]
    elif command == "predict":
        assert len(json.loads(result.stdout)["topk"]) == min(5, FORMS[form])
    elif command == "bench":
        assert json.loads(result.stdout.splitlines()[0])["size"] == [64, 32]
    else:
        assert json.loads(result.stdout)


def test_several_inputs_are_counted_and_folded(tiny):
    asked = ("own.py:Two", "--inputs", TWO)
    found = json.loads(run("count", *asked, "--json").stdout)
    assert found["inputs"]["scale"] == {"shape": [1, 4, 8, 6], "dtype": "float32"}
    assert found["macs"] == 8 * 6 * 3 * 4
    assert run("fuse", *asked, "--json").exit_code == 0
    assert run("lint", *asked, "--no-measure", "--min-price-ms", "9999").exit_code == 0
    assert "takes scale; give the shape" in str(run("count", "own.py:Two").exception)


@pytest.mark.parametrize("command", ["lint", "swap", "explain", "compile", "predict", "features"])
def test_what_runs_one_image_only_names_what_cannot_run_two(tiny, command):
    options = [one for one in COMMANDS[command] if one != "--no-measure"]
    result = run(command, "own.py:Two", "--inputs", TWO, *options)
    assert isinstance(result.exception, EngineError)
    assert "runs networks of one input (B, C, H, W) in float32; own.py:Two takes image" in str(
        result.exception
    )


def test_a_size_that_is_none_is_said(tiny):
    for command in COMMANDS:
        options = COMMANDS[command]
        raised = run(command, "own.py:Net", *options, "--size", "8x").exception
        assert "size must be 256 or 256x192" in str(raised), command


def test_an_error_in_a_forward_is_one_line_with_the_users_line(tiny, monkeypatch, capsys):
    for command in ("count", "fuse", "swap"):
        options = (*COMMANDS[command], "--size", "8")
        monkeypatch.setattr(sys, "argv", ["fleetfoot", command, "own.py:Fails", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code, said.out) == (2, "")
        assert "(own.py, line 22: return x.no_such_method())" in said.err
        assert "Traceback" not in said.err


@pytest.mark.parametrize("command", ["count", "fuse", "lint", "swap", "compile"])
def test_a_network_of_four_channels_is_taken(tiny, command):
    options = [one for one in COMMANDS[command] if one != "--no-pretrained"]
    result = run(command, "own.py:Net(channels=4)", *options, "--size", "16x24")
    assert result.exit_code == 0, result.output + repr(result.exception)
    if command == "count":
        assert json.loads(result.stdout)["channels"] == 4
    elif command == "compile":
        assert "input (B, 4, 16, 24)" in result.stdout


@pytest.mark.parametrize("command", ["predict", "features"])
def test_a_picture_does_not_fit_four_channels_and_the_error_says_how_to_go_on(tiny, command):
    words = ["own.py:Net(channels=4)", "picture.png", "--size", "16x24"]
    raised = run(command, *words).exception
    assert isinstance(raised, ValueError)
    assert "takes 4 channels; a picture has 3, or 1 in grey. Run it on tensors of" in str(raised)
    assert "\n" not in str(raised)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_second_argument_without_a_default_is_asked_for(tiny, command):
    raised = run(command, "own.py:Two", *COMMANDS[command], "--size", "8").exception
    assert "takes scale; give the shape and type of each input, for example --inputs" in str(raised)
