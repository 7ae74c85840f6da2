"""The tables of docs/counting.md are what the code gives, and nothing in them is unexplained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fleetfoot.report import update_between_markers
from tools import counting

ROOT = Path(__file__).resolve().parents[2]
RECORD = json.loads((ROOT / "benchmarks" / "other-counters.json").read_text())


def test_the_document_is_current(tmp_path):
    copy = Path(shutil.copy(ROOT / "docs" / "counting.md", tmp_path))

    assert not update_between_markers(copy, counting.markdown(RECORD))


def test_other_counters_leave_nothing_unexplained():
    lines = counting.other_counters(RECORD).splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    places = [i for i, title in enumerate(table[0]) if title == "unexplained"]

    assert len(places) == 2
    assert len(table) == 2 + len(RECORD["rows"])
    assert {row[i] for row in table[2:] for i in places} == {"0"}


def test_a_formula_that_does_not_hold_is_an_error(monkeypatch):
    layer = counting.layers()[0]
    wrong = counting.Layer(layer.name, layer.module, layer.params, ("K", 1), layer.elements)
    monkeypatch.setattr(counting, "layers", lambda: [wrong])

    with pytest.raises(ValueError, match="convolution: MACs: the formula gives 1, the trace 260,"):
        counting.layer_tables()
