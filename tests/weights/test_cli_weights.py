"""``fleetfoot weights``: the commands are the library's functions with a card or JSON."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from fleetfoot import create_model
from fleetfoot.cli.weights import weights_app
from fleetfoot.errors import WeightsError
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
