"""From a path to a set with boxes, masks or label maps: which layout it is."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fleetfoot.data.layouts import open_dataset, open_scenes
from fleetfoot.errors import DatasetError
from pictures_on_disk import write
from scenes_on_disk import CLASSES, OBJECTS, camvid, coco, pictures, save, voc, yolo

WRITERS = {"COCO": coco, "YOLO": yolo, "Pascal VOC": voc}


def refused(where, *given, **options) -> str:
    with pytest.raises(DatasetError) as caught:
        open_scenes(where, *given, **options)
    return str(caught.value)


def names(split):
    return [split.pictures.name(index) for index in range(len(split))]


@pytest.mark.parametrize("layout", WRITERS)
def test_one_set_in_three_layouts(tmp_path, layout):
    found = open_scenes(WRITERS[layout](tmp_path))
    assert found.layout.startswith(layout)
    assert (found.task, found.classes) == ("detect", CLASSES)
    assert [split.name for split in found.splits] == ["train", "val"]
    for split in found.splits:
        wanted = list(OBJECTS[split.name].items())
        assert [name.rpartition("/")[2] for name in names(split)] == [name for name, _ in wanted]
        for index, (_, objects) in enumerate(wanted):
            target = split.targets[index]
            boxes = np.array([box for _, box in objects]).reshape(-1, 4)
            assert target.boxes == pytest.approx(boxes, abs=1e-12)
            assert [CLASSES[number] for number in target.classes] == [name for name, _ in objects]
            areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
            assert target.areas == pytest.approx(areas, abs=1e-12)
            assert not target.crowd.any()
            assert (target.masks, target.size) == (None, (16, 20))
            assert split.pictures[index].size() == (16, 20)
        assert len(pickle.loads(pickle.dumps(split)).targets[0]) == len(wanted[0][1])


def test_label_maps_are_recognised(tmp_path):
    found = open_scenes(camvid(tmp_path))
    assert (found.task, found.classes) == ("segment", ("sky", "road"))
    assert refused(tmp_path, "detect").endswith("for --task segment, not for detect")


def test_the_validation_part_is_split_off_by_seed_and_name(tmp_path):
    objects = {f"{number}.png": OBJECTS["train"]["1.png"] for number in range(20)}
    root = yolo(tmp_path)
    for path in (root / "images/val", root / "images/train", root / "data.yaml"):
        path.rename(root / f"old-{path.name}")
    pictures(root, "images", list(objects))
    for name in objects:
        save(root / f"labels/{name[:-4]}.txt", "0 0.5 0.5 0.1 0.1\n")
    save(root / "classes.txt", "cat\n")
    found = open_scenes(root, val_share=0.2, seed=3)
    assert (len(found.train), len(found.val)) == (16, 4)
    assert found.layout.endswith("; val is a share of 0.2 of train (seed 3)")
    assert names(open_scenes(root, val_share=0.2, seed=3).val) == names(found.val)
    assert names(open_scenes(root, val_share=0.2, seed=4).val) != names(found.val)
    assert sorted(names(found.train) + names(found.val)) == sorted(f"images/{n}" for n in objects)
    assert open_scenes(root, val_share=0).val is None
    place = found.val.targets.place(0)
    assert place == names(found.val)[0].replace("images", "labels")[:-4] + ".txt, line 1"


def test_a_share_beside_a_validation_part_is_refused(tmp_path):
    assert "validation part of its own, of 1 picture" in refused(coco(tmp_path), val_share=0.1)
    with pytest.raises(ValueError, match="val_share"):
        open_scenes(tmp_path, val_share=1.0)


def test_two_layouts_in_one_folder_are_refused(tmp_path):
    coco(tmp_path)
    said = refused(yolo(tmp_path))
    assert "labels in two layouts" in said
    assert "annotations/instances_train.json" in said
    assert open_scenes(tmp_path / "annotations/instances_train.json").classes == CLASSES
    assert open_scenes(tmp_path / "data.yaml").layout.startswith("YOLO")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["a/1.png", "b/1.png"], "no boxes, masks, label maps or hands were recognised"),
        ([], "no boxes, masks, label maps or hands were recognised"),
    ],
)
def test_what_is_no_such_set_is_refused(tmp_path, files, said):
    assert said in refused(write(tmp_path, *files))


@pytest.mark.parametrize("where", ["https://x/y.zip", "pipe:cat", "", "nowhere"])
def test_what_is_no_path_is_refused(where):
    assert refused(where)


def test_a_classifier_is_sent_to_the_task(tmp_path):
    with pytest.raises(DatasetError, match="--task detect"):
        open_dataset(coco(tmp_path))


@pytest.mark.parametrize("name", ["coco128", "bccd", "camvid"])
def test_real_sets(name, real_data):
    found = open_scenes(real_data / name)
    sizes = {split.name: len(split) for split in found.splits}
    assert (
        sizes
        == {
            "coco128": {"train": 128, "val": 128},
            "bccd": {"train": 205, "val": 87, "test": 72},
            "camvid": {"train": 367, "val": 101, "test": 233},
        }[name]
    )
    assert len(found.classes) == {"coco128": 80, "bccd": 3, "camvid": 11}[name]
    if found.task == "detect":
        count = {split.name: len(split.targets.classes) for split in found.splits}
        assert (
            count
            == {
                "coco128": {"train": 939, "val": 903},
                "bccd": {"train": 2804, "val": 1137, "test": 945},
            }[name]
        )
    else:
        values = found.train.targets[0].drawn(*found.train.pictures[0].size())
        assert set(np.unique(values)) <= {*range(11), 255}


def test_real_maps_of_coco(real_data):
    found = open_scenes(real_data / "coco128", "segment")
    assert {split.name: len(split) for split in found.splits} == {"train": 100, "val": 100}
    for index in (0, 50, 99):
        values = found.val.targets[index].drawn(*found.val.pictures[index].size())
        assert values[values != 255].max() < len(found.classes)
