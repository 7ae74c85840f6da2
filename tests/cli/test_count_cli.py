"""``fleetfoot count``: card, table, JSON, CSV, and a user's own file."""

from __future__ import annotations

import csv
import io
import json

import pytest
import typer
from typer.testing import CliRunner

from fleetfoot.cli.count import count
from fleetfoot.errors import FactoryError, UnknownNameError

app = typer.Typer()
app.command()(count)

OWN = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.Flatten()))

def wide():
    return nn.Conv2d(1, 4, 1)

class Odd(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return str(file)


def run(*arguments: str, width: int = 120):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": str(width)})


def test_the_card_has_the_totals_first_and_fits(own):
    for width in (120, 80):
        lines = run(f"{own}:build", "--size", "8", width=width).stdout.splitlines()
        assert "input (1, 3, 8, 8)" in "".join(lines[:2])
        text = "\n".join(lines)
        assert text.index("MACs") < text.index("module ")
        assert "3,888" in text  # 6·6·4 outputs of 27 products
        assert "100.0 % of 2 operators" in text
        table = lines[next(i for i, line in enumerate(lines) if "module " in line) :]
        assert max(map(len, table)) <= width


def test_depth_folds_the_table(own):
    folded = run(f"{own}:build", "--size", "8", "--depth", "1").stdout
    whole = run(f"{own}:build", "--size", "8", "--table").stdout
    bare = run(f"{own}:build", "--size", "8", "--depth", "0").stdout

    assert "1 Sequential" in folded
    assert "1.0 ReLU" in whole
    assert "module" not in bare


def test_json_carries_every_operator(own):
    found = json.loads(run(f"{own}:build", "--size", "8", "--batch", "2", "--json").stdout)

    assert found["macs"] == 2 * 3888
    assert found["mac_flops"] == 2 * found["macs"]
    assert found["exact_flops"] == 2 * (36 * 4 * (2 * 27) + 144)
    assert [op["module"] for op in found["operators"]] == ["0", "1.0"]
    assert sum(op["macs"] for op in found["operators"]) == found["macs"]
    assert sum(row["params"] for row in found["modules"]) == found["params"] == 112


def test_csv_has_a_line_an_operator(own):
    rows = list(csv.DictReader(io.StringIO(run(f"{own}:build", "--size", "8", "--csv").stdout)))

    assert [row["name"] for row in rows] == ["aten.convolution", "aten.relu"]
    assert rows[0]["input_shapes"] == "1x3x8x8 4x3x3x3 4"


def test_an_unknown_operator_makes_the_totals_lower_bounds(own):
    text = run(f"{own}:Odd", "--size", "8").stdout
    found = json.loads(run(f"{own}:Odd", "--size", "8", "--json").stdout)

    assert "≥ 0" in text
    assert "no formula has aten.special_bessel_j0" in text.replace("\n", " ")
    assert found["coverage"] == 0
    assert found["operators"][0]["macs"] is None


def test_channels_of_the_input(own):
    assert run(f"{own}:wide", "--size", "2", "--channels", "1").exit_code == 0
    assert "input (1, 1, 2, 4)" in run(f"{own}:wide", "--size", "2x4").stdout
    assert "cannot be counted at input (1, 3, 2, 2)" in str(
        run(f"{own}:wide", "--size", "2", "--channels", "3").exception
    )


def test_what_is_wrong_is_said(own):
    assert isinstance(run("fasternet_t9").exception, UnknownNameError)
    assert isinstance(run(f"{own}:nothing").exception, UnknownNameError)
    assert isinstance(run("absent.py:build").exception, FactoryError)
    assert run(f"{own}:build", "--json", "--csv").exit_code == 2


DETECTOR = """
from fleetfoot.tasks.catalogue import create_model

def build():
    return create_model(
        "fasterrcnn:fasternet_t0", channels=16, box_width=8, proposals=(20, 10), input_size=64
    )
"""


def test_a_detector_is_counted_with_its_second_stage(tmp_path):
    (tmp_path / "detector.py").write_text(DETECTOR)
    text = run(f"{tmp_path / 'detector.py'}:build").stdout
    assert "input (1, 3, 64, 64)" in text
    assert "10 regions a picture" in text
    assert "roi_heads.box_head" in text
