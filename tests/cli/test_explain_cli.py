"""``fleetfoot explain``: card, JSON, a user's own file, and what it refuses."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from fleetfoot.cli.explain import explain
from fleetfoot.errors import EngineError, UnknownNameError
from fleetfoot.explain.explanation import from_json
from layers_by_hand import machine

app = typer.Typer()
app.command()(explain)

OWN = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fleetfoot.machine.measured.machine", lambda threads, **options: machine(threads)
    )
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return f"{file}:build"


def run(*arguments: str):
    fast = ("--engine", "eager", "--size", "16", "--seconds", "0.1")
    return CliRunner().invoke(app, [*fast, *arguments], catch_exceptions=False)


def test_the_card_of_a_users_network(own):
    result = run(own)
    assert result.exit_code == 0
    assert "input 1 × 3 × 16 × 16, folded" in result.stdout
    assert "conv 3×3 3→4" in result.stdout
    assert "native_batch_norm" not in result.stdout


def test_without_the_fold_its_batch_norm_is_a_layer(own):
    assert "not folded" in run(own, "--no-fold").stdout
    found = from_json(run(own, "--no-fold", "--json").stdout)
    assert not found.folded
    assert [layer.module_type for layer in found.layers][:2] == ["Conv2d", "BatchNorm2d"]


def test_json_is_the_record_and_nothing_else(own):
    found = from_json(run(own, "--json", "--batch", "2").stdout)
    assert (found.batch, found.input_shape, found.folded) == (2, (2, 3, 16, 16), True)
    assert found.engine.name == "eager"
    assert {layer.module for layer in found.layers} == {"0", "2", "3"}


def test_depth_adds_up(own):
    text = run(own, "--depth", "0").stdout
    assert "(itself)" in text
    assert "3 layers" in text


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("fasternet_t5",), UnknownNameError, "did you mean"),
        (("--engine", "eagre"), UnknownNameError, "did you mean 'eager'"),
        (("--engine", "ncnn"), EngineError, "ncnn"),
    ],
)
def test_what_does_not_exist_is_named(own, arguments, error, said):
    name = () if arguments[0] == "fasternet_t5" else (own,)
    with pytest.raises(error, match=said):
        run(*name, *arguments)
