"""Labels that are kept in the cache until their file changes."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fleetfoot.data.layouts import open_scenes
from fleetfoot.data.layouts.scenes import coco, kept
from fleetfoot.files import cache_folder
from scenes_on_disk import OBJECTS, coco_json, pictures, save


@pytest.fixture
def labels(tmp_path, monkeypatch):
    """A file of labels with boxes, polygons, run lengths and notes, which is large enough."""
    monkeypatch.setattr(kept, "LEAST_BYTES", 0)
    raw = coco_json(OBJECTS["train"])
    raw["annotations"][0]["segmentation"] = [[1, 1, 5, 1, 5, 5], [1, 1, 2, 2]]
    raw["annotations"][1] |= {"segmentation": {"counts": [300, 20], "size": [16, 20]}, "iscrowd": 1}
    pictures(tmp_path, "", list(OBJECTS["train"]))
    return save(tmp_path / "labels.json", raw)


def opened(labels):
    found = open_scenes(labels, val_share=0)
    return found.train.fingerprint, found.classes, found.notes, found.train.targets.place(2)


def unread(monkeypatch):
    """Makes reading of the file an error."""
    monkeypatch.setattr(coco, "_loaded", None)


def test_what_was_kept_is_what_was_read(labels, monkeypatch):
    first = opened(labels)
    unread(monkeypatch)
    assert opened(labels) == first
    table = open_scenes(labels, val_share=0).train.targets
    assert [type(mask).__name__ for mask in table[0].masks] == ["Polygons", "Runs"]
    assert table[0].crowd.tolist() == [False, True]
    assert table.chosen(np.array([2]))[0].boxes.tolist() == [[5, 5, 6, 7]]


def test_a_file_that_changed_is_read_again(labels):
    first = opened(labels)
    save(labels, coco_json(OBJECTS["train"]))
    assert opened(labels) != first
    assert len(list((cache_folder() / "labels").iterdir())) == 1  # the old content is replaced


def test_what_is_kept_and_damaged_is_read_again(labels, caplog):
    first = opened(labels)
    (file,) = (cache_folder() / "labels").iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    assert opened(labels) == first
    assert "is not valid and will be replaced" in caplog.text
    caplog.clear()
    assert opened(labels) == first
    assert not caplog.text


def test_a_cache_that_cannot_be_written_is_said(labels, monkeypatch, caplog, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLEETFOOT_CACHE", str(tmp_path / "file"))
    first = opened(labels)
    assert "cannot be kept" in caplog.text
    assert opened(labels) == first


def test_a_small_file_is_not_kept(labels, monkeypatch):
    monkeypatch.setattr(kept, "LEAST_BYTES", os.path.getsize(labels) + 1)
    opened(labels)
    assert not (cache_folder() / "labels").exists()
