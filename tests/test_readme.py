"""The README shows what the record gives and the rooms that there are."""

from __future__ import annotations

import shutil
from pathlib import Path

import fleetfoot
from fleetfoot.bench.record import read, read_failures, read_starts
from fleetfoot.bench.targets import verdicts
from fleetfoot.report import markdown, targets_markdown, update_between_markers

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "benchmarks" / "peers"


def test_the_table_is_the_one_that_the_record_gives(tmp_path):
    copy = Path(shutil.copy(ROOT / "README.md", tmp_path))

    assert not update_between_markers(copy, markdown(read(RECORD)))


def test_the_targets_on_the_engine_page_are_judged_from_the_record(tmp_path):
    copy = Path(shutil.copy(ROOT / "docs" / "engine.md", tmp_path))
    found = verdicts(read(RECORD), read_failures(RECORD), read_starts(RECORD))

    assert not update_between_markers(copy, targets_markdown(found))


def test_every_room_has_its_phrase_in_the_tree():
    package = Path(fleetfoot.__file__).parent
    rooms = {p.parent.name + "/" for p in package.glob("*/__init__.py")}
    rooms |= {p.name for p in package.glob("*.py") if not p.name.startswith("__")}
    tree = (ROOT / "README.md").read_text().partition("src/fleetfoot/\n")[2].partition("```")[0]

    assert {line.split()[0] for line in tree.splitlines() if line.startswith("  ")} == rooms
