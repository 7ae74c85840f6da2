"""``fleetfoot features``: the picture, the card and the errors."""

from __future__ import annotations

import json

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from fleetfoot.cli.features import features
from fleetfoot.errors import UnknownNameError, WeightsError

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(features)


def run(*arguments: object):
    result = CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "gradient.png"
    Image.linear_gradient("L").convert("RGB").save(path)
    return path


@pytest.mark.parametrize("model", ["fasternet_t0", "timm:resnet18", "torchvision:mobilenet_v2"])
def test_random_weights_are_drawn_and_said(model, picture, tmp_path):
    out = tmp_path / "out.png"
    result = run(model, picture, "--no-pretrained", "--size", 64, "--output", out)
    assert "RANDOM WEIGHTS" in result.stdout
    assert "maps of 8 × 8" in result.stdout
    with Image.open(out) as drawn:
        assert drawn.width > 1000


def test_json_is_one_record(picture, tmp_path):
    out = tmp_path / "out.png"
    asked = ("--layer", "stages.0.blocks.0.pconv", "--no-pretrained", "--size", 64)
    found = json.loads(run("fasternet_t0", picture, *asked, "--output", out, "--json").stdout)
    assert found["shape"] == [40, 16, 16]
    assert found["layer"] == "stages.0.blocks.0.pconv"
    assert 0 <= found["neighbour_similarity"] <= 1


def test_layers_are_listed_without_a_picture():
    lines = run("fasternet_t0", "--list", "--size", 64).stdout.splitlines()
    assert "stages.0.blocks.0.pconv  PConv  40 × 16 × 16" in lines


def test_a_users_own_network(picture, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=8), nn.ReLU(), nn.Flatten())\n"
    )
    out = tmp_path / "out.png"
    said = run(f"{file}:build", picture, "--layer", "0", "--output", out).stdout
    assert "6 maps of 28 × 28" in said
    assert "weights from the factory" in said
    with pytest.raises(ValueError, match=r"takes its options as arguments: .*build\(depth=2\)"):
        run(f"{file}:build", picture, "--option", "depth=2")
    with pytest.raises(WeightsError, match=r"w\.pth"):
        run(f"{file}:build", picture, "--weights", "w.pth")


def test_errors_name_what_is_wrong(picture):
    assert "name a picture, or --list" in run("fasternet_t0").stderr
    with pytest.raises(UnknownNameError, match=r"unknown layer 'stages\.9'; did you mean 'stages"):
        run("fasternet_t0", picture, "--no-pretrained", "--layer", "stages.9")


def test_learnt_weights_are_named(picture, tmp_path, real_data):
    weights = real_data / "weights" / "mobileone_s0_authors_folded.pth"
    out = tmp_path / "out.png"
    said = run("mobileone_s0", picture, "--weights", weights, "--output", out).stdout
    assert "weights of mobileone_s0_authors_folded.pth" in said
