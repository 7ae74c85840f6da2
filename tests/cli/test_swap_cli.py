"""``fleetfoot swap``: card, JSON, the file of weights, and what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import typer
from typer.testing import CliRunner

import fake_bench
from fleetfoot.cli.swap import swap
from fleetfoot.errors import FactoryError, SwapError, UnknownNameError, WeightsError
from fleetfoot.measure import pair
from fleetfoot.network import create
from fleetfoot.transform import swap_file
from fleetfoot.weights.files import read

app = typer.Typer()
app.command()(swap)

OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 4, 1),
            nn.Flatten(),
        )
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return f"{file}:Net"


def run(*arguments: str, width: int = 120):
    return CliRunner().invoke(app, ["--size", "8", *arguments], env={"COLUMNS": str(width)})


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(pair, "PACE", replace(pair.PACE, rounds=3, fewest_rounds=2, warmup_s=0.01))
    monkeypatch.setattr(pair.Tools, "probe", fake_bench.Probe)


def test_the_card_has_totals_then_layers_then_what_was_left(own):
    for width in (120, 80):
        result = run(own, "--no-measure", width=width)
        assert result.exit_code == 0, result.output
        text = result.stdout
        order = ["input (1, 3, 8, 8)", "params", "kept bit for bit", "layer ", "left: its 3 chan"]
        prose = " ".join(text.split())  # a long path may wrap
        places = [prose.index(part) for part in order]
        assert places == sorted(places)
        assert "PConv 3×3 2/8 + 1×1 8→8" in text
        assert "4.61 k→6.40 k" in text  # 64·9·8, 64·(9·2·2 + 8·8)
        assert "latency" not in text
        table = text[text.index("layer ") : text.index("left:")].splitlines()
        assert max(map(len, table)) <= width


def test_json_is_the_librarys_record(own):
    found = json.loads(run(own, "--no-measure", "--json", "--pointwise", "own").stdout)

    assert found["model"] == own
    assert found["latency"] is None
    assert found["replaced"][0]["pointwise"] == "4"
    assert found["replaced"][0]["between"] == ["BatchNorm2d", "ReLU"]
    assert found["left"][0]["path"] == "0"
    assert found["new"] == ["1.conv.weight"]


def test_times_of_both_are_taken_in_turns(own, quick):
    text = " ".join(run(own, "--engine", "eager").stdout.split())
    assert "eager, 1 thread, batch 1, both folded, in turns" in text

    found = json.loads(run(own, "--engine", "eager", "--json").stdout)["latency"]
    assert [m["model"] for m in found["measurements"]] == [own, f"{own}, swapped"]
    assert all(m["samples_s"] for m in found["measurements"])
    assert found["change"]["ci95"][0] <= found["change"]["ratio"] <= found["change"]["ci95"][1]


def test_the_file_is_the_new_networks(own, tmp_path):
    output = tmp_path / "new.safetensors"
    assert run(own, "--no-measure", "--output", str(output)).exit_code == 0

    torch.manual_seed(1)  # other weights, which the file replaces
    made = swap_file.load(output, create(own))
    state = read(output).state
    assert all(torch.equal(tensor, state[key]) for key, tensor in made.state_dict().items())
    assert run(own, "--no-measure", "--output", str(output)).exit_code == 2
    assert run(own, "--no-measure", "--output", str(output), "--force").exit_code == 0


def test_weights_of_a_file_are_kept(own, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    given = create(own)
    from fleetfoot.weights.files import write

    write(first, given.state_dict())
    assert run(own, "--no-measure", "--weights", str(first), "--output", str(second)).exit_code == 0
    assert torch.equal(read(second).state["0.weight"], given[0].weight)


def test_what_is_wrong_is_said(own, tmp_path):
    nothing = run(own, "--no-measure", "--which", "grouped").exception
    assert isinstance(nothing, SwapError)
    assert "it is depthwise, and grouped was asked for: 1" in str(nothing)
    assert isinstance(run(own, "--which", "deep").exception, UnknownNameError)
    assert isinstance(run(own, "--conv", "dconv").exception, UnknownNameError)
    assert isinstance(run(own, "--engine", "egaer").exception, UnknownNameError)
    assert isinstance(run(own, "--only", "9.*", "--no-measure").exception, ValueError)
    assert isinstance(run(own, "--kernel", "4").exception, ValueError)
    assert isinstance(run(own, "--threads", "100000").exception, ValueError)
    assert isinstance(run("absent.py:build").exception, FactoryError)
    absent = str(tmp_path / "absent.pth")
    assert isinstance(run(own, "--weights", absent).exception, WeightsError)
    assert "nobody published weights" in run(own, "--pretrained").output
    refused = run(own, "--channels", "1", "--no-measure").exception
    assert "at input (1, 1, 8, 8)" in str(refused)
