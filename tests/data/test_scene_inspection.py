"""The report on a set with boxes, masks or label maps."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fleetfoot.data.concerns import concerns
from fleetfoot.data.layouts import open_scenes
from fleetfoot.data.scene_inspection import FAULTS, SceneInspection, duplicates, inspect_scenes
from fleetfoot.files import parsed, plain
from pictures_on_disk import picture, write
from scenes_on_disk import OBJECTS, camvid, coco, coco_json, drawn_map, pictures, save, save_map

BAD = {
    "1.png": [
        ("cat", (2, 3, 10, 8)), ("cat", (2, 3, 10, 8.2)), ("dog", (2, 3, 10, 8)),
        ("cat", (4, 4, 4, 9)), ("dog", (15, 2, 24, 9)),
    ],
    "2.png": [("cat", (30, 2, 34, 9)), ("dog", (float("nan"), 2, 4, 9))],
    "3.png": [("dog", (5, 5, 20.9, 7))],  # over the edge by less than a pixel
}  # fmt: skip
"""Objects of train of which each kind of fault has one."""


@pytest.fixture
def bad(tmp_path):
    coco(tmp_path)
    raw = coco_json(BAD)
    raw["annotations"][0]["segmentation"] = {"counts": [300], "size": [15, 20]}
    save(tmp_path / "annotations/instances_train.json", raw)
    write(tmp_path, "train/3.png", data=picture(size=(16, 20)))
    return tmp_path


def test_objects_are_counted(tmp_path):
    found = inspect_scenes(open_scenes(coco(tmp_path)), threads=2)
    assert (found.lengths, found.pictures, found.opened) == ({"train": 3, "val": 1}, 4, 4)
    assert found.counts == {"train": (1, 2), "val": (1, 1)}
    assert found.holding == {"train": (1, 2), "val": (1, 1)}
    assert found.empty == {"train": 1, "val": 0}
    assert found.crowds == found.masked == {"train": 0, "val": 0}
    assert found.object_sizes == (5, 0, 0)
    assert (found.per_picture.least, found.per_picture.most) == (0, 2)
    assert found.faults == ()
    assert found.formats == {"PNG": 4}


def test_crowds_and_masks_are_counted(tmp_path):
    coco(tmp_path)
    raw = coco_json(OBJECTS["train"])
    raw["annotations"][0]["iscrowd"] = 1
    raw["annotations"][1]["segmentation"] = [[0, 0, 5, 0, 5, 5]]
    save(tmp_path / "annotations/instances_train.json", raw)
    found = inspect_scenes(open_scenes(tmp_path))
    assert found.counts["train"] == (0, 2)
    assert (found.crowds["train"], found.masked["train"]) == (1, 1)


def test_each_fault_is_named_with_its_place(bad):
    found = inspect_scenes(open_scenes(bad))
    where = "annotations/instances_train.json"
    assert [(one.kind, one.place.name, one.where) for one in found.faults] == [
        ("not finite", "train/2.png", f"{where}, annotation 7"),
        ("no area", "train/1.png", f"{where}, annotation 4"),
        ("outside", "train/2.png", f"{where}, annotation 6"),
        ("other size", "train/3.png", where),
        ("mask size", "train/1.png", f"{where}, annotation 1"),
        ("over the edge", "train/1.png", f"{where}, annotation 5"),
        ("duplicate", "train/1.png", f"{where}, annotation 2"),
        ("two classes", "train/1.png", f"{where}, annotation 3"),
        ("two classes", "train/1.png", f"{where}, annotation 3"),
    ]
    texts = {one.kind: one.text for one in found.faults}
    assert texts["other size"] == "the picture has 16 × 20 pixels, the labels state 20 × 16"
    assert texts["mask size"] == "a mask of 20 × 15 pixels on a picture of 20 × 16"
    assert texts["over the edge"] == "4 pixels over the edge, from (15, 2) to (24, 9)"
    assert texts["duplicate"] == (
        "'cat' from (2, 3) to (10, 8.2), 96 % in common with annotation 1"
    )
    assert texts["two classes"].endswith("96 % in common with annotation 2, 'cat'")
    (fault,) = [one for one in found.faults if one.kind == "duplicate"]
    assert fault.boxes == ((2, 3, 10, 8.2), (2, 3, 10, 8))
    assert found.counts["train"] == (2, 3)  # what is left out is not counted


def test_every_kind_of_fault_is_made_by_a_test(bad):
    kinds = {one.kind for one in inspect_scenes(open_scenes(bad)).faults}
    assert kinds | {"bad map", "joints outside"} == set(FAULTS)  # which others make


def test_faults_become_one_sentence_a_kind(bad):
    said = [(one.level, one.text) for one in concerns(inspect_scenes(open_scenes(bad)))]
    faults = [text for _, text in said if " label" in text]
    assert len(faults) == 8
    assert faults[1] == (
        "1 label: the box has no area; it is left out, for example train/1.png "
        "(annotations/instances_train.json, annotation 4): from (4, 4) to (4, 9); correct or "
        "remove them"
    )
    assert not any(text.startswith("left out") for _, text in said)
    levels = [level for level, _ in said]
    assert levels == sorted(levels, key=("wrong", "doubt", "note").index)


def test_what_is_said_of_a_sound_set(tmp_path):
    said = [(one.level, one.text) for one in concerns(inspect_scenes(open_scenes(coco(tmp_path))))]
    assert ("note", "1 of 3 pictures of train without an object") in said
    assert ("doubt", "2 classes of train with fewer than 10 objects, for example 'cat'") in said
    assert "wrong" not in [level for level, _ in said]


def test_pixels_are_counted(tmp_path):
    found = inspect_scenes(open_scenes(camvid(tmp_path)))
    maps = [drawn_map(1), drawn_map(2)]
    assert found.counts["train"] == tuple(sum((one == n).sum() for one in maps) for n in (0, 1))
    assert found.ignored["train"] == sum((one == 2).sum() for one in maps)
    assert found.holding["train"] == (2, 2)
    assert (found.faults, found.per_picture) == ((), None)
    quick = inspect_scenes(open_scenes(tmp_path), quick=True)
    assert quick.counts["train"] == (0, 0)


def test_a_map_that_cannot_be_used_is_a_fault(tmp_path):
    camvid(tmp_path)
    save_map(tmp_path / "trainannot/2.png", np.zeros((4, 4)))
    save_map(tmp_path / "valannot/1.png", drawn_map(1, (0, 1, 9)))
    found = inspect_scenes(open_scenes(tmp_path))
    assert [(one.kind, one.place.name) for one in found.faults] == [
        ("bad map", "train/2.png"), ("bad map", "val/1.png")
    ]  # fmt: skip
    assert "the map has 4 × 4 pixels, and its picture 20 × 16" in found.faults[0].text
    assert "values that are no class: 9" in found.faults[1].text
    assert found.faults[0].where == str(tmp_path / "trainannot/2.png")


def test_a_map_without_a_labelled_pixel_is_counted(tmp_path):
    camvid(tmp_path)
    save_map(tmp_path / "trainannot/2.png", np.full((16, 20), 255))
    assert inspect_scenes(open_scenes(tmp_path)).empty == {"train": 1, "val": 0}


def test_copies_across_parts_and_unreadable_pictures_are_found_too(tmp_path):
    coco(tmp_path)
    write(tmp_path, "train/2.png", data=b"")
    write(tmp_path, "val/4.png", data=(tmp_path / "train/1.png").read_bytes())
    found = inspect_scenes(open_scenes(tmp_path))
    assert [one.place.name for one in found.unreadable] == ["train/2.png"]
    assert found.leaks[0].equal == 1
    assert found.groups[0].classes == frozenset()


def test_the_record_is_json_that_can_be_read_back(bad):
    found = inspect_scenes(open_scenes(bad))
    text = json.dumps(plain(found.record()), allow_nan=False)
    assert parsed(json.loads(text), SceneInspection) == found


def test_nearly_equal_boxes_are_paired_within_a_picture_only(tmp_path):
    box = (2.0, 3.0, 10.0, 8.0)
    objects = {"1.png": [("cat", box)], "2.png": [("cat", box), ("cat", (2, 3, 10, 7.4))]}
    pictures(tmp_path, "", list(objects))
    save(tmp_path / "labels.json", coco_json(objects))
    table = open_scenes(tmp_path / "labels.json", val_share=0).train.targets
    assert list(duplicates(table)) == []  # 0.88 in common
    objects["2.png"][1] = ("cat", (2, 3, 10, 7.6))
    save(tmp_path / "labels.json", coco_json(objects))
    table = open_scenes(tmp_path / "labels.json", val_share=0).train.targets
    assert list(duplicates(table)) == [(1, 2, pytest.approx(0.92))]


def test_it_can_be_stopped(tmp_path):
    seen = []
    found = inspect_scenes(
        open_scenes(camvid(tmp_path)),
        threads=1,
        on_progress=lambda words, done, of: seen.append(words),
        stop=lambda: True,
    )
    assert found.stopped
    assert found.opened == 0
    assert found.counts["train"] == (0, 0)
