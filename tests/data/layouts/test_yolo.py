"""YOLO's text files: what is read, and what is said of faults."""

from __future__ import annotations

import numpy as np
import pytest

from fleetfoot.data.layouts import open_scenes
from fleetfoot.errors import DatasetError
from pictures_on_disk import picture, write
from scenes_on_disk import CLASSES, OBJECTS, pictures, save, yolo


def line(root, text: str):
    """A set of one picture with these lines."""
    pictures(root, "images", ["1.png"])
    save(root / "labels/1.txt", text)
    return save(root / "classes.txt", "cat\ndog\n").parent


def refused(where) -> str:
    with pytest.raises(DatasetError) as caught:
        open_scenes(where, val_share=0)
    return str(caught.value)


def test_a_box_and_a_polygon(tmp_path):
    polygon = "1 0.1 0.25 0.5 0.25 0.5 0.75"
    found = open_scenes(line(tmp_path, f"0 0.5 0.5 0.2 0.25\n\n{polygon}\n"), val_share=0)
    target = found.train.targets[0]
    assert target.boxes == pytest.approx(np.array([[8, 6, 12, 10], [2, 4, 10, 12]]), abs=1e-12)
    assert target.classes.tolist() == [0, 1]
    assert target.areas == pytest.approx([16, 32], abs=1e-12)
    assert target.masks[0] is None
    assert target.masks[1].rings[0] == pytest.approx(np.array([[2, 4], [10, 4], [10, 12]]))
    assert found.train.targets.place(1) == "labels/1.txt, line 3"
    assert found.layout.startswith("YOLO: boxes and masks, described by classes.txt")


def test_a_picture_without_a_label_file_has_no_objects(tmp_path):
    found = open_scenes(yolo(tmp_path))
    assert "1 picture of train without a label file" in found.notes[0]
    assert len(found.train.targets[1]) == 0


def test_pictures_turned_by_exif_are_measured_upright(tmp_path):
    line(tmp_path, "0 0.5 0.5 1 1\n")
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 16)).save(tmp_path / "images/1.jpg", exif=exif)
    (tmp_path / "images/1.png").unlink()
    found = open_scenes(tmp_path, val_share=0)
    assert found.train.targets[0].boxes.tolist() == [[0, 0, 16, 20]]
    assert found.train.pictures[0].open().image.size == (16, 20)


def test_a_picture_that_cannot_be_read_keeps_its_place(tmp_path):
    yolo(tmp_path)
    write(tmp_path, "images/train/1.png", data=b"no picture")
    found = open_scenes(tmp_path)
    assert [len(found.train.targets[i]) for i in range(3)] == [0, 0, 1]
    assert found.train.targets[0].size is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2 0.5 0.5 0.1 0.1", "class 2 is none of the 2 that classes.txt names"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 is none"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is none"),
        ("0 0.5 0.5 0.1", "4 numbers, where a box has five"),
        ("0 0.5 0.5 0.1 0.1 0.9", "a sixth number, as a confidence in predictions"),
        ("0 0.5 0.5 0.1 0.1 0.1 0.1 0.1", "8 numbers"),
        ("0 320 240 10 20", "divide pixels by them"),
        ("0 nan 0.5 0.1 0.1", "not shares"),
        ("cat 0.5 0.5 0.1 0.1", "could not convert"),
    ],
)
def test_a_fault_names_the_file_and_the_line(tmp_path, text, said):
    found = refused(line(tmp_path, f"0 0.5 0.5 0.1 0.1\n{text}\n"))
    assert f"labels/1.txt, line 2, '{text}': " in found
    assert said in found


def test_faulty_boxes_are_left_out_and_named(tmp_path):
    text = "0 0.5 0.5 0 0.1\n0 1.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1\n"
    found = open_scenes(line(tmp_path, text), val_share=0)
    assert len(found.train.targets[0]) == 1
    assert any("has no area, the first at labels/1.txt, line 1" in n for n in found.notes)
    assert any("outside the picture, the first at labels/1.txt, line 2" in n for n in found.notes)


@pytest.mark.parametrize(
    ("train", "layout"),
    [("images/train", "parts within"), ("../images/train", "written elsewhere"), ("list", "list")],
)
def test_how_data_yaml_names_the_pictures(tmp_path, train, layout):
    yolo(tmp_path)
    if layout == "list":
        train = "train.txt"
        save(tmp_path / train, "".join(f"./images/train/{name}\n" for name in OBJECTS["train"]))
    names = "{0: cat, 1: dog}"
    save(tmp_path / "data.yaml", f"train: {train}\nval: [images/val]\nnc: 2\nnames: {names}\n")
    for where in (tmp_path, tmp_path / "data.yaml"):
        found = open_scenes(where)
        assert found.classes == CLASSES
        assert [len(found.train.targets[i]) for i in range(3)] == [2, 0, 1]


def test_a_path_in_data_yaml_that_is_not_here_is_passed_over(tmp_path):
    yolo(tmp_path)
    save(
        tmp_path / "data.yaml",
        "path: /somewhere/else\ntrain: images/train\nval: images/val\ntest: images/test\n"
        "names: [cat, dog]\n",
    )
    found = open_scenes(tmp_path)
    assert len(found.train) == 3
    assert any(note.startswith("not used: test of") for note in found.notes)


def test_a_validation_part_that_is_the_training_part_is_left_out(tmp_path):
    yolo(tmp_path)
    save(tmp_path / "data.yaml", "train: images/train\nval: images/train\nnames: [cat, dog]\n")
    found = open_scenes(tmp_path)
    assert len(found.train) + len(found.val) == 3
    assert any("which names the pictures of train" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: [", "not YAML"),
        ("names: [a]", "not YOLO's description"),
        ("train: images/train\n", "the classes are None"),
        ("train: images/train\nnames: {1: a, 2: b}", "not a name for each number from 0 on"),
        ("train: images/train\nnames: [a]\nnc: 2", "nc is 2, and names has 1"),
        ("train: images/nothing\nnames: [a]", "train names 'images/nothing', which is not there"),
    ],
)
def test_a_fault_of_data_yaml_is_named(tmp_path, text, said):
    yolo(tmp_path)
    save(tmp_path / "data.yaml", text)
    assert said in refused(tmp_path)


def test_labels_without_names_of_classes_are_refused(tmp_path):
    assert "write data.yaml with the names, or classes.txt" in refused(yolo(tmp_path, yaml=False))


def test_pictures_without_any_label_are_refused(tmp_path):
    yolo(tmp_path)
    for name in ("1", "3"):
        (tmp_path / f"labels/train/{name}.txt").unlink()
    said = refused(tmp_path)
    assert "no picture of train has a label file" in said
    assert "would be in labels/train/1.txt" in said


def test_keypoints_after_a_box_are_passed_over(tmp_path):
    yolo(tmp_path)
    save(tmp_path / "labels/val/4.txt", "0 0.5 0.5 0.1 0.25 0.1 0.1 2 0.2 0.2 2\n")
    text = "train: images/train\nval: images/val\nnames: [cat, dog]\nkpt_shape: [2, 3]\n"
    save(tmp_path / "data.yaml", text)
    target = open_scenes(tmp_path).val.targets[0]
    assert target.masks is None
    assert target.boxes == pytest.approx(np.array([[9, 6, 11, 10]]), abs=1e-12)


def test_parts_that_hold_images_and_labels(tmp_path):
    write(tmp_path, "train/images/1.png", "valid/images/2.png", data=picture(size=(20, 16)))
    for file in ("train/labels/1.txt", "valid/labels/2.txt"):
        save(tmp_path / file, "0 0.5 0.5 0.1 0.25\n")
    save(tmp_path / "classes.txt", "cat\n")
    found = open_scenes(tmp_path)
    assert [split.name for split in found.splits] == ["train", "val"]
    assert found.val.pictures.name(0) == "valid/images/2.png"
    assert len(found.val.targets[0]) == 1
