"""The tables of docs/detectors.md are what the code gives, and near what is printed elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fleetfoot.report import update_between_markers
from tools import detectors

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_document_is_current(tmp_path):
    copy = Path(shutil.copy(ROOT / "docs" / "detectors.md", tmp_path))
    assert not update_between_markers(copy, detectors.markdown())


@pytest.mark.slow
def test_whole_counts_are_the_papers():
    for row in detectors.compare():
        assert round(row.found.params / 1e6, 1) == row.printed.params
        # printed without digits after the point
        assert abs(row.in_their_way / 1e9 - row.printed.gmacs) < 0.5


def test_parameters_are_torchvisions():
    lines = detectors.beside_torchvision().splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert len(cells) == 3
    assert all(row[-1] == row[-2] for row in cells)


def test_parts_that_do_not_add_up_are_an_error(monkeypatch):
    row = detectors.Compared(
        printed=detectors.FASTERNET[0], found=detectors.counted("fasterrcnn:fasternet_t0")
    )
    detectors.parts([row])
    monkeypatch.delitem(detectors.PARTS, "boxes")
    with pytest.raises(ValueError, match="its parts are not its"):
        detectors.parts([row])
