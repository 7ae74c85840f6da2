"""Label maps beside pictures: where they lie, what their values mean, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fleetfoot.data.layouts import open_scenes
from fleetfoot.data.scenes import IGNORED
from fleetfoot.errors import DatasetError
from pictures_on_disk import write
from scenes_on_disk import camvid, drawn_map, pictures, save, save_map, voc_xml

ADE = "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.1\t9\t9\t1\twall\n2\t0.1\t9\t9\t1\tbuilding, house"


def refused(where) -> str:
    with pytest.raises(DatasetError) as caught:
        open_scenes(where, "segment", val_share=0)
    return str(caught.value)


def half(root, pictures_in: str, maps_in: str, *, ending: str = "", values=(0, 1, 2), mode="L"):
    """Two pictures and their maps."""
    pictures(root, pictures_in, ["1.png", "2.png"])
    for number in (1, 2):
        path = root / maps_in / f"{number}{ending}.png"
        save_map(path, drawn_map(number, values), mode)
    return root


@pytest.mark.parametrize(
    ("pictures_in", "maps_in", "names"),
    [
        ("train", "trainannot", "classes.txt"),
        ("images/training", "annotations/training", "objectInfo150.txt"),
        ("train/images", "train/masks", "train/classes.txt"),
        ("images", "labels", "labels.txt"),
        ("train2017", "annotations/semantic_train2017", "annotations/semantic_classes.txt"),
        ("images/train2017", "annotations/semantic_train2017", "classes.txt"),
        ("JPEGImages", "SegmentationClass", "class_names.txt"),
    ],
)
def test_where_pictures_maps_and_names_may_lie(tmp_path, pictures_in, maps_in, names):
    half(tmp_path, pictures_in, maps_in)
    save(tmp_path / names, ADE if names == "objectInfo150.txt" else "sky\nroad\ncar\n")
    found = open_scenes(tmp_path, "segment", val_share=0)
    values = drawn_map(1)
    if names == "objectInfo150.txt":
        assert found.classes == ("wall", "building, house")
        values = np.where(values == 0, IGNORED, values - 1)
    else:
        assert found.classes == ("sky", "road", "car")
    assert found.train.pictures.name(0) == f"{pictures_in}/1.png"
    assert (found.train.targets[0].drawn(16, 20) == values).all()


@pytest.mark.parametrize("ending", ["_mask", "_L", "_gt"])
def test_endings_of_the_names_of_maps(tmp_path, ending):
    half(tmp_path, "images", "masks", ending=ending)
    save(tmp_path / "classes.txt", "sky\nroad\ncar\n")
    found = open_scenes(tmp_path, val_share=0)
    assert found.train.targets[1].source.path.endswith(f"2{ending}.png")


@pytest.mark.parametrize(
    ("text", "classes", "of_value"),
    [
        ("sky\nvoid\nroad", ("sky", "road"), (0, IGNORED, 1)),
        ("sky\nroad\nUnlabelled", ("sky", "road"), (0, 1, IGNORED)),
        ("__ignore__\n_background_\ncar\nroad", ("_background_", "car", "road"), (0, 1, 2)),
        ("1 sky\n2 road", ("sky", "road"), (IGNORED, 0, 1)),
        ("2: sky\n1: road", ("road", "sky"), (IGNORED, 0, 1)),
    ],
)
def test_what_the_values_mean(tmp_path, text, classes, of_value):
    half(tmp_path, "images", "masks")
    save(tmp_path / "classes.txt", text)
    found = open_scenes(tmp_path, val_share=0)
    assert found.classes == classes
    drawn = found.train.targets[0].drawn(16, 20)
    assert (drawn == np.array(of_value)[drawn_map(1)]).all()


def test_a_palette_and_the_border_of_pascal_voc(tmp_path):
    half(tmp_path, "JPEGImages", "SegmentationClass", values=(0, 15, 255), mode="P")
    save(tmp_path / "Annotations/1.xml", voc_xml([("person", (1, 1, 5, 5))]))
    save(tmp_path / "ImageSets/Segmentation/train.txt", "1\n")
    save(tmp_path / "ImageSets/Segmentation/val.txt", "2\n")
    found = open_scenes(tmp_path, "segment")
    assert (len(found.classes), found.classes[15]) == (21, "person")
    assert [split.pictures.name(0) for split in found.splits] == [
        "JPEGImages/1.png", "JPEGImages/2.png"
    ]  # fmt: skip
    assert (found.val.targets[0].drawn(16, 20) == drawn_map(2, (0, 15, 255))).all()


def test_classes_that_are_not_pascal_vocs_need_a_list(tmp_path):
    half(tmp_path, "JPEGImages", "SegmentationClass")
    save(tmp_path / "Annotations/1.xml", voc_xml([("gearbox", (1, 1, 5, 5))]))
    said = refused(tmp_path)
    assert "no list of their classes; write classes.txt" in said
    assert said.endswith("Values in 2 of them: 0, 1, 2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the list of classes is empty"),
        ("sky\nvoid", "1 classes; a segmenter needs two"),
        ("sky\nsky\nroad", "two values have the name 'sky'"),
        ("1 sky\n1 road", "value '1' is not a number, or is listed twice"),
        ("300 sky\n1 road", "value 300 does not fit"),
        ("255 sky\n1 road", "255 marks pixels of no class"),
    ],
)
def test_a_list_of_classes_that_is_wrong(tmp_path, text, said):
    half(tmp_path, "images", "masks")
    save(tmp_path / "classes.txt", text)
    assert said in refused(tmp_path)


def test_maps_that_do_not_fit_at_all_are_refused(tmp_path):
    half(tmp_path, "images", "masks", values=(0, 9))
    save(tmp_path / "classes.txt", "sky\nroad\n")
    assert "none of 2 maps can be used" in refused(tmp_path)
    assert "values that are no class: 9" in refused(tmp_path)
    save_map(tmp_path / "masks/1.png", drawn_map(1, (0, 1)))
    found = open_scenes(tmp_path, val_share=0)  # one that fits: the report names the other
    assert len(found.train) == 2


def test_maps_of_another_size_are_refused(tmp_path):
    half(tmp_path, "images", "masks")
    pictures(tmp_path, "images", ["1.png", "2.png"], size=(20, 17))
    save(tmp_path / "classes.txt", "sky\nroad\ncar\n")
    assert "the map has 20 × 16 pixels, and its picture 20 × 17" in refused(tmp_path)


def test_maps_as_jpeg_are_refused(tmp_path):
    write(tmp_path, "images/1.png", "masks/1.jpg")
    save(tmp_path / "classes.txt", "sky\nroad\n")
    assert "as JPEG, '1.jpg', which changes values" in refused(tmp_path)


def test_names_that_do_not_meet_are_refused(tmp_path):
    write(tmp_path, "images/1.png", "masks/x.png")
    save(tmp_path / "classes.txt", "sky\nroad\n")
    said = refused(tmp_path)
    assert "no map in masks has the name of a picture in images: found 'x.png' and '1.png'" in said


def test_pictures_without_a_map_and_the_other_way_round_are_noted(tmp_path):
    camvid(tmp_path)
    pictures(tmp_path, "train", ["3.png"])
    save_map(tmp_path / "trainannot/4.png", drawn_map(4))
    found = open_scenes(tmp_path)
    assert len(found.train) == 2
    text = " ".join(found.notes)
    assert "not used: 1 picture of train without a map in trainannot: '3.png'" in text
    assert "not used: 1 map in trainannot without a picture in train: '4.png'" in text
    assert "pixels of 'void' (value 2) are neither trained on nor judged" in text


def test_the_validation_part_of_maps_is_split_off(tmp_path):
    pictures(tmp_path, "images", [f"{number}.png" for number in range(10)])
    for number in range(10):
        save_map(tmp_path / f"masks/{number}.png", drawn_map(number))
    save(tmp_path / "classes.txt", "sky\nroad\ncar\n")
    found = open_scenes(tmp_path, val_share=0.3)
    assert (len(found.train), len(found.val)) == (7, 3)
    for split in found.splits:
        for index in range(len(split)):
            number = split.pictures.name(index)[len("images/") : -len(".png")]
            assert split.targets[index].source.path.endswith(f"masks/{number}.png")
            assert (split.targets[index].drawn(16, 20) == drawn_map(int(number))).all()
