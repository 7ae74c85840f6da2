"""``fleetfoot weights``: the commands are the library's functions with a card or JSON."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from fleetfoot import create_model
from fleetfoot.cli.weights import weights_app
from fleetfoot.errors import KeyMismatchError, WeightsError
from fleetfoot.weights.files import read

NAME = "shufflenet_v2_x0_5"


def run(*arguments):
    result = CliRunner().invoke(weights_app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def checkpoint(tmp_path):
    state = create_model(NAME, num_classes=10).state_dict()
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 1}, path)
    return path


def test_inspect_prints_a_card_and_the_same_record(checkpoint):
    card = run("inspect", checkpoint)
    assert f"{NAME} (10 classes)" in card
    assert "unknown" in card
    record = json.loads(run("inspect", checkpoint, "--json"))
    assert record["format"] == "torch"
    assert record["wrappers"] == ["['state_dict']", "module."]
    assert record["beside"] == ["epoch"]
    assert record["fits"] == [{"name": NAME, "layout": "fleetfoot", "num_classes": 10}]


def test_convert_writes_our_layout_and_says_what_it_did(checkpoint, tmp_path):
    out = tmp_path / "out.safetensors"
    assert "unwrapped from" in run("convert", checkpoint, out)
    assert read(out).metadata["model"] == NAME
    loaded = create_model(NAME, weights=out)
    assert loaded.num_classes == 10
    with pytest.raises(WeightsError, match="--force"):
        run("convert", checkpoint, out)
    record = json.loads(run("convert", checkpoint, out, "--force", "--model", NAME, "--json"))
    assert record["out"] == str(out)


def test_key_chooses_the_part_of_a_file(tmp_path):
    first, other = (create_model(NAME, num_classes=n).state_dict() for n in (10, 5))
    path, out = tmp_path / "checkpoint.pth", tmp_path / "out.safetensors"
    torch.save({"model": first, "ema": other}, path)
    assert f"{NAME} (5 classes)" in run("inspect", path)
    assert f"{NAME} (10 classes)" in run("inspect", path, "--key", "model")
    run("convert", path, out, "--key", "model")
    assert create_model(NAME, weights=out).num_classes == 10


@pytest.mark.parametrize(
    "command", ["compile", "count", "explain", "features", "fuse", "lint", "predict", "swap"]
)
def test_every_command_with_weights_has_key(command, checkpoint, tmp_path):
    from fleetfoot.cli.commands import app

    more = {
        "compile": ["--output", str(tmp_path / "out.plan")],
        "features": [str(tmp_path / "none.jpg")],
        "predict": [str(tmp_path / "none.jpg")],
        "swap": ["--conv", "pconv"],
    }
    arguments = [command, NAME, *more.get(command, [])]
    result = CliRunner().invoke(app, [*arguments, "--weights", str(checkpoint), "--key", "nothing"])
    assert isinstance(result.exception, KeyMismatchError)
    assert "has no part 'nothing'; it has state_dict" in str(result.exception)
