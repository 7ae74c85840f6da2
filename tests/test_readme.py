"""The README shows what the record gives and the rooms that there are."""

from __future__ import annotations

import shutil
from pathlib import Path

import fleetfoot
from fleetfoot.measure.record import read
from fleetfoot.report import markdown, update_between_markers

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "benchmarks" / "peers"


def test_the_table_is_the_one_that_the_record_gives(tmp_path):
    copy = Path(shutil.copy(ROOT / "README.md", tmp_path))

    assert not update_between_markers(copy, markdown(read(RECORD)))


def test_every_room_has_its_phrase_in_the_tree():
    package = Path(fleetfoot.__file__).parent
    rooms = {p.parent.name + "/" for p in package.glob("*/__init__.py")}
    rooms |= {p.name for p in package.glob("*.py") if not p.name.startswith("__")}
    tree = (ROOT / "README.md").read_text().partition("src/fleetfoot/\n")[2].partition("```")[0]

    assert {line.split()[0] for line in tree.splitlines() if line.startswith("  ")} == rooms
