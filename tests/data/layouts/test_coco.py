"""COCO's JSON: what is read, and what is said of faults."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from fleetfoot.data.layouts import open_scenes
from fleetfoot.data.layouts.scenes.coco import part_within
from fleetfoot.data.masks import Polygons, Runs
from fleetfoot.errors import DatasetError
from pictures_on_disk import write
from scenes_on_disk import CLASSES, OBJECTS, coco, coco_json, pictures, save

TRIANGLE = [2.0, 2.0, 8.0, 2.0, 8.0, 8.0]


def one(root, **changes):
    """A set of one picture with one annotation, which has these changes; a value of ... means that
    the field is left out."""
    raw = coco_json({"1.png": [("cat", (2, 2, 8, 8))]}, extra=changes)
    raw["annotations"] = [
        {name: value for name, value in row.items() if value is not ...}
        for row in raw["annotations"]
    ]
    pictures(root, "", ["1.png"])
    return save(root / "labels.json", raw)


def target(path):
    return open_scenes(path, val_share=0).train.targets[0]


def refused(where) -> str:
    with pytest.raises(DatasetError) as caught:
        open_scenes(where)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("instances_train2017.json", "train"), ("instances_val.json", "val"), ("valid.json", "val"),
        ("My-Test_set.json", "test"), ("trainer.json", None), ("train_val.json", None),
    ],
)  # fmt: skip
def test_the_part_that_a_name_states(name, part):
    assert part_within(name) == part


@pytest.mark.parametrize(
    ("pictures_in", "json_at"),
    [
        ("train2017", "annotations/instances_train2017.json"),
        ("images/train2017", "annotations/instances_train2017.json"),
        ("images/train", "annotations/instances_train2017.json"),
        ("images", "annotations/train.json"),
        ("", "annotations/instances_train.json"),
        ("train", "train/_annotations.coco.json"),
        ("data", "train_annotations.json"),
        ("images", "annotations.json"),
    ],
)
def test_where_files_and_pictures_may_lie(tmp_path, pictures_in, json_at):
    pictures(tmp_path, pictures_in, list(OBJECTS["train"]))
    save(tmp_path / json_at, coco_json(OBJECTS["train"]))
    for where in (tmp_path, tmp_path / json_at):
        found = open_scenes(where, val_share=0)
        assert found.train.pictures[0].open().image.size == (20, 16)
        assert found.train.targets[0].boxes.tolist() == [[2, 3, 10, 8], [0, 0, 20, 16]]


def test_files_of_other_kinds_beside_instances_are_passed_over(tmp_path):
    coco(tmp_path)
    for name in ("captions_train.json", "person_keypoints_train.json", "image_info_test.json"):
        save(tmp_path / "annotations" / name, {})
    assert len(open_scenes(tmp_path).splits) == 2


def test_polygons_and_run_lengths(tmp_path):
    found = target(one(tmp_path, segmentation=[TRIANGLE, [0, 0, 1, 0, 1, 1]]))
    assert isinstance(found.masks[0], Polygons)
    assert [len(ring) for ring in found.masks[0].rings] == [3, 3]
    runs = {"counts": [40, 3, 277], "size": [16, 20]}
    found = target(one(tmp_path, segmentation=runs, iscrowd=1))
    assert isinstance(found.masks[0], Runs)
    assert found.masks[0].drawn(16, 20).sum() == 3
    assert found.crowd.tolist() == [True]
    packed = {"counts": "X13e8", "size": [16, 20]}
    drawn = target(one(tmp_path, segmentation=packed)).masks[0].drawn(16, 20)
    assert np.flatnonzero(drawn.T).tolist() == [40, 41, 42]


@pytest.mark.parametrize("segmentation", [[], None, ...])
def test_an_object_without_a_mask(tmp_path, segmentation):
    assert target(one(tmp_path, segmentation=segmentation)).masks is None
    raw = coco_json({"1.png": [("cat", (2, 2, 8, 8))] * 2})
    raw["annotations"][0]["segmentation"] = [TRIANGLE]
    if segmentation is not ...:
        raw["annotations"][1]["segmentation"] = segmentation
    found = target(save(tmp_path / "labels.json", raw))
    assert [mask is None for mask in found.masks] == [False, True]


def test_what_is_derived_if_it_is_not_stated(tmp_path):
    found = target(one(tmp_path, area=..., iscrowd=..., bbox=..., segmentation=[TRIANGLE]))
    assert found.boxes.tolist() == [[2, 2, 8, 8]]
    assert found.areas.tolist() == [18]
    assert found.crowd.tolist() == [False]
    assert target(one(tmp_path, area=...)).areas.tolist() == [36]
    runs = {"counts": [40, 3, 277], "size": [16, 20]}
    assert target(one(tmp_path, area=..., segmentation=runs)).areas.tolist() == [3]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"category_id": 4}, "category_id 4 is none of the 2 in 'categories'"),
        ({"category_id": ...}, "no field 'category_id'"),
        ({"bbox": [1, 2, 3]}, r"its bbox is \[1, 2, 3\], not left, top, width and height"),
        ({"bbox": [1, 2, 3, "4"]}, "holds '4', which is not a number"),
        ({"bbox": ...}, "neither a bbox nor polygons"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "7 numbers, which are not pairs"),
        ({"segmentation": [1.0, 2.0]}, "not a list of polygons"),
        ({"segmentation": [["a"] * 6]}, "must be real number"),
        ({"segmentation": {"counts": [4], "size": [16, 20]}}, "cover 4 pixels"),
        ({"segmentation": {"counts": [320]}}, "mask's size is None"),
        ({"segmentation": {"counts": None, "size": [16, 20]}}, "neither a list nor COCO's text"),
        ({"segmentation": {"counts": "1P", "size": [16, 20]}}, "cut off"),
        ({"segmentation": {"counts": [-1, 321], "size": [16, 20]}}, "negative|less than"),
        ({"area": "9"}, "must be real number"),
        ({"id": "x"}, "its id is 'x'"),
    ],
)
def test_a_fault_names_the_file_and_the_annotation(tmp_path, changes, said):
    path = one(tmp_path, **changes)
    number = changes.get("id", 1)
    with pytest.raises(DatasetError, match=rf"labels\.json, annotation {number}: .*{said}"):
        open_scenes(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ([], "a list"),
        ({"images": []}, "found the fields 'images'"),
        ({"images": [{"id": 1}], "annotations": [], "categories": []}, "no field 'file_name'"),
        ({"images": [], "annotations": [{"segments_info": []}], "categories": []}, "panoptic"),
        ({"images": [], "annotations": [], "categories": []}, "no pictures were found"),
        ({"images": [3], "annotations": [], "categories": []}, "not as COCO writes it"),
        (
            {"images": [], "annotations": [],
             "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]},
            "one id or one name",
        ),
    ],
)  # fmt: skip
def test_other_content_is_refused(tmp_path, content, said):
    path = save(tmp_path / "labels.json", content)
    with pytest.raises(DatasetError, match=rf"labels\.json: .*{said}"):
        open_scenes(path)


def test_a_picture_that_is_listed_twice(tmp_path):
    raw = coco_json(OBJECTS["train"])
    raw["images"][1]["file_name"] = "1.png"
    pictures(tmp_path, "", ["1.png"])
    assert "image 101, '1.png', is listed twice" in refused(save(tmp_path / "labels.json", raw))


def test_pictures_that_are_nowhere(tmp_path):
    path = save(tmp_path / "annotations/instances_train.json", coco_json(OBJECTS["train"]))
    said = refused(path)
    assert "its pictures, for example '1.png', are not there" in said
    assert "looked in 'annotations', '.'" in said


def test_a_missing_picture_and_one_that_is_not_listed_are_noted(tmp_path):
    coco(tmp_path)
    (tmp_path / "train/2.png").unlink()
    write(tmp_path, "train/extra.png")
    found = open_scenes(tmp_path)
    assert "1 picture of the 3 of train that the labels list is not there: '2.png'" in found.notes
    assert any(note.startswith("not used: 1 picture in train") for note in found.notes)
    assert found.train.pictures.sizes().tolist()[1] == -1


def test_objects_that_cannot_be_used_are_noted_with_their_place(tmp_path):
    coco(tmp_path)
    objects = {
        "1.png": [("cat", (2, 3, 2, 8)), ("dog", (0, 0, 20, 16))],
        "2.png": [("cat", (20, 3, 25, 8)), ("cat", (0, 0, float("nan"), 8))],
    }
    save(tmp_path / "annotations/instances_train.json", json.dumps(coco_json(objects)))
    found = open_scenes(tmp_path)
    assert [note for note in found.notes if note.startswith("left out")] == [
        f"left out: 1 object of train whose box {what}, the first at "
        f"annotations/instances_train.json, annotation {number}; correct or remove them"
        for what, number in [
            ("is not four finite numbers", 4), ("has no area", 1), ("lies outside the picture", 3),
        ]
    ]  # fmt: skip
    assert [len(found.train.targets[index]) for index in (0, 1)] == [1, 0]
    assert "train has no object of 1 class, 'cat': the network cannot learn them" in found.notes


def test_annotations_without_a_picture_and_short_polygons_are_noted(tmp_path):
    coco(tmp_path)
    raw = coco_json(OBJECTS["train"])
    raw["annotations"][0] |= {"segmentation": [[1, 1, 2, 2], TRIANGLE]}
    raw["annotations"][2]["image_id"] = 999
    save(tmp_path / "annotations/instances_train.json", raw)
    found = open_scenes(tmp_path)
    assert any("1 annotation" in n and "the first 3 for image 999" in n for n in found.notes)
    assert any("fewer than three corners in 1 annotation" in note for note in found.notes)
    assert len(found.train.targets[0].masks[0].rings) == 1


def test_classes_go_by_name_over_parts(tmp_path):
    coco(tmp_path)
    raw = coco_json(OBJECTS["val"], classes=("dog", "cat", "horse"))  # other ids, one more class
    save(tmp_path / "annotations/instances_val.json", raw)
    found = open_scenes(tmp_path)
    assert found.classes == CLASSES
    assert found.val.targets[0].classes.tolist() == [1, 0]
    assert any("val lists 1 class that train lacks, 'horse'" in note for note in found.notes)


def test_an_object_of_a_class_that_train_lacks_is_refused(tmp_path):
    coco(tmp_path)
    raw = coco_json({"4.png": [("horse", (1, 1, 2, 2))]}, classes=("cat", "horse"))
    save(tmp_path / "annotations/instances_val.json", raw)
    said = refused(tmp_path)
    assert "val has objects of 1 class not among the 2 classes of train" in said
    assert "'horse', the first at annotations/instances_val.json, annotation 1" in said


def test_two_files_for_one_part_are_refused(tmp_path):
    coco(tmp_path)
    annotations = tmp_path / "annotations"
    shutil.copy(annotations / "instances_train.json", annotations / "instances_train2014.json")
    assert "both seem to hold the part train" in refused(tmp_path)
