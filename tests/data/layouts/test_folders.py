"""Data sets as folders: which layouts are read, and what is said of all others."""

from __future__ import annotations

import os

import pytest

from fleetfoot.data.layouts import open_dataset
from fleetfoot.errors import DatasetError
from pictures_on_disk import write

PARTS = [
    "train/cat/1.png", "train/cat/deep/2.JPG", "train/dog/1.png",
    "val/dog/1.png", "val/cat/1.png", "test/cat/1.png", "test/dog/1.png",
]  # fmt: skip
CLASSES = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(10)]


def names(split):
    return [split.pictures.name(i) for i in range(len(split))]


def refused(where, **options) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(where, **options)
    assert str(where) in str(caught.value)
    return str(caught.value)


def test_parts_with_classes(tmp_path):
    found = open_dataset(write(tmp_path, *PARTS))
    assert found.layout == "folders train/<class>, val/<class>, test/<class>"
    assert found.classes == ("cat", "dog")
    assert found.notes == ()
    assert names(found.train) == PARTS[:3]
    assert found.train.labels.tolist() == [0, 0, 1]
    assert names(found.val) == ["val/cat/1.png", "val/dog/1.png"]
    assert found.val.labels.tolist() == found.test.labels.tolist() == [0, 1]
    assert found.test.pictures[1].open().image.size == (8, 6)
    assert found.train.pictures.sizes().tolist() == [
        (tmp_path / name).stat().st_size for name in PARTS[:3]
    ]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Validation", "VAL"])
def test_names_of_the_validation_part(tmp_path, val):
    found = open_dataset(write(tmp_path, "Train/a/1.png", "Train/b/1.png", f"{val}/a/2.png"))
    assert [split.name for split in found.splits] == ["train", "val"]
    assert names(found.val) == [f"{val}/a/2.png"]
    assert "val has no picture of 1 class, 'b'" in found.notes[0]


def test_one_folder_of_classes_is_split_by_names_and_seed_alone(tmp_path):
    first = open_dataset(write(tmp_path / "one", *CLASSES), val_share=0.2, seed=5)
    again = open_dataset(write(tmp_path / "two", *reversed(CLASSES)), val_share=0.2, seed=5)
    assert names(first.val) == names(again.val)
    assert first.val.labels.tolist() == [0, 0, 1, 1]  # a fifth of each class
    assert sorted(names(first.val) + names(first.train)) == sorted(CLASSES)
    other = open_dataset(tmp_path / "one", val_share=0.2, seed=6)
    assert names(other.val) != names(first.val)
    assert first.layout.endswith("; val is a share of 0.2 of train (seed 5)")
    assert open_dataset(tmp_path / "one", val_share=0).val is None
    assert len(open_dataset(tmp_path / "one").val) == 2  # the default: a tenth of each class


def test_the_split_is_the_same_as_on_every_machine_before(tmp_path):
    """Written down, because a change would put validation pictures of a running project into
    training."""
    found = open_dataset(write(tmp_path, *CLASSES), val_share=0.3, seed=0)
    chosen = [(name, i) for name, numbers in {"cat": "457", "dog": "238"}.items() for i in numbers]
    assert names(found.val) == [f"{name}/{i}.png" for name, i in chosen]


def test_adding_pictures_moves_few(tmp_path):
    before = set(names(open_dataset(write(tmp_path, *CLASSES), val_share=0.2).val))
    after = names(open_dataset(write(tmp_path, "cat/x.png", "dog/x.png"), val_share=0.2).val)
    assert len(before.intersection(after)) >= 2


def test_a_share_for_a_set_with_its_own_part(tmp_path):
    assert "validation part of its own, of 2 pictures" in refused(
        write(tmp_path, *PARTS), val_share=0.1
    )
    with pytest.raises(ValueError, match="below 1 and not below 0, not 1"):
        open_dataset(tmp_path, val_share=1.0)


def test_every_class_keeps_a_picture_in_train(tmp_path):
    found = open_dataset(write(tmp_path, "a/1.png", "b/1.png", "b/2.png"), val_share=0.9)
    assert found.train.labels.tolist() == [0, 1]
    assert found.val.labels.tolist() == [1]
    assert "1 class with a single picture" in found.notes[0]
    text = refused(write(tmp_path / "few", "a/1.png", "b/1.png"), val_share=0.5)
    assert "every class has a single picture" in text


def test_the_fingerprint_is_of_names_sizes_and_classes(tmp_path):
    one, two = (open_dataset(write(tmp_path / n, *PARTS)).train.fingerprint for n in "ab")
    assert one == two
    (tmp_path / "a/train/cat/1.png").write_bytes(b"other")
    assert open_dataset(tmp_path / "a").train.fingerprint != one
    (tmp_path / "b/train/cat/1.png").rename(tmp_path / "b/train/cat/0.png")
    assert open_dataset(tmp_path / "b").train.fingerprint != one


def test_numeric_names_are_sorted_as_text_and_this_is_said(tmp_path):
    found = open_dataset(write(tmp_path, "1/a.png", "2/a.png", "10/a.png"), val_share=0)
    assert found.classes == ("1", "10", "2")
    assert "class 1 is '10', not '2'" in found.notes[0]
    padded = open_dataset(write(tmp_path / "p", "01/a.png", "02/a.png", "10/a.png"), val_share=0)
    assert padded.notes == ()


def test_hidden_files_and_those_of_systems_are_no_classes(tmp_path):
    left = [".DS_Store", "a/Thumbs.db", "b/._1.png", ".ipynb_checkpoints/1.png", "__MACOSX/1.png"]
    found = open_dataset(write(tmp_path, "a/1.png", "b/1.png", *left), val_share=0)
    assert found.classes == ("a", "b")
    assert len(found.train) == 2
    assert found.notes == (
        "passed over: 2 hidden or left behind by a system, 'Thumbs.db', '._1.png'",
    )


def test_files_of_other_kinds_are_counted(tmp_path):
    write(tmp_path, "a/1.png", "b/1.png", "a/1.txt", "a/2.txt", "b/1.heic", "b/LICENSE")
    notes = open_dataset(tmp_path, val_share=0).notes
    assert notes[0].startswith("passed over: 2 .txt, 1 without suffix,")
    assert "1 file .heic: HEIF" in notes[1]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["1.png", "2.png"], "2 pictures without folders"),
        (["1.png", "labels.csv"], "if labels.csv lists them, give"),
        (["notes.txt"], "files 'notes.txt' without folders"),
        (["a/1.png"], "only one class, 'a'"),
        (["all/a/1.png", "all/b/1.png"], "the folder 'all', which holds the folders 'a', 'b'"),
        (["x/train/a/1.png", "x/val/a/1.png"], "if these are the parts, give"),
        (["a/train/1.png", "b/train/1.png"], "the parts must lie above the classes"),
        (["train/1.png", "test/2.png"], "(test: 1 picture; train: 1 picture)"),
        (["train/a/1.png", "train/b/1.png", "val/1.png"], "val holds 1 picture and no class"),
        (["train/a/1.png", "train/b/1.png", "val/c/1.png"], "val has 1 class not among"),
        (["train/a/1.png", "train/b/1.png", "val/A/1.png"], "'A' and 'a' differ only in capitals"),
        (
            ["train/caf\u00e9/1.png", "train/b/1.png", "val/cafe\u0301/1.png"],
            "in the form of their accents",
        ),
        (["train/a/1.png", "val/a/1.png", "valid/a/1.png"], "'val', 'valid' are all val"),
        (["a/1.png", "b/1.txt", "b/2.txt"], "1 of 2 class folders hold no picture: 'b (2 .txt)'"),
        (["a/x.npy", "b/x.npy"], "none of them holds a picture"),
        (["train2017/1.png", "val2017/1.png"], "look like parts of a data set, not classes"),
        (["images/train/1.png", "labels/train/1.txt"], "looks like YOLO (images and labels)"),
        (["train/images/1.png", "train/labels/1.txt"], "YOLO (train/images and train/labels)"),
        (["data.yaml", "x/1.png"], "looks like YOLO (data.yaml)"),
        (["annotations/instances_train.json", "train/1.png"], "looks like COCO"),
        (["train/_annotations.coco.json", "train/1.png"], "looks like COCO"),
        (["JPEGImages/1.jpg", "Annotations/1.xml"], "looks like Pascal VOC"),
        (["annotations/1.xml", "images/1.png"], "looks like Pascal VOC"),
        (["Images/1.jpg", "Masks/1.png"], "boxes or masks beside pictures (masks and images)"),
        (["images/1.jpg", "labels.csv"], "if labels.csv lists their classes, give"),
        (["train/1.png", "train/metadata.csv"], "'train/metadata.csv' may list the classes"),
        (["train/1.png", "trainannot/1.png"], "segmentation (train and trainannot)"),
        (["data_batch_1", "test_batch", "batches.meta"], "CIFAR as Python pickles"),
        (["cifar-10-batches-py/data_batch_1"], "CIFAR as Python pickles"),
        (["train-images-idx3-ubyte.gz"], "MNIST's idx files"),
        (["data/train-00000-of-00001.parquet", "README.md"], "save_to_disk"),
    ],
)  # fmt: skip
def test_what_looks_like_another_layout_is_refused_by_name(tmp_path, files, said):
    assert said in refused(write(tmp_path, *files))


def test_an_empty_folder_and_none(tmp_path):
    assert "the folder is empty" in refused(tmp_path)
    (tmp_path / "grocery").mkdir()
    text = refused(tmp_path / "grocerie")
    assert f"did you mean {tmp_path / 'grocery'}?" in text


def test_a_class_folder_given_for_the_set(tmp_path):
    write(tmp_path, *CLASSES)
    text = refused(tmp_path / "cat")
    assert f"the folder above it, {tmp_path}, has 2 folders with pictures" in text


def test_one_part_given_for_the_set_is_noted(tmp_path):
    found = open_dataset(write(tmp_path, *PARTS) / "train", val_share=0)
    assert found.notes[0].startswith("beside train lie 'test', 'val'; to use them")


def test_a_test_part_without_classes_is_not_used(tmp_path):
    found = open_dataset(write(tmp_path, *PARTS[:3], "test/1.png", "test/2.png"), val_share=0)
    assert found.test is None
    assert found.notes[0].startswith("not used: test holds 2 pictures and no class folders")


def test_other_folders_beside_the_parts_are_noted(tmp_path):
    found = open_dataset(write(tmp_path, *PARTS, "extra/a/1.png"))
    assert found.notes == ("not used: 'extra' beside test, train, val",)


def test_a_tar_from_which_the_folders_were_unpacked_is_not_the_set(tmp_path):
    write(tmp_path, *PARTS, "pets.tar", "labels.csv")
    found = open_dataset(tmp_path)
    assert len(found.train) == 3
    assert found.notes == ("not used: 'labels.csv', 'pets.tar', beside the folders",)
    found = open_dataset(write(tmp_path / "flat", *CLASSES, "pets.tar"))
    assert found.notes == ("not used: 'pets.tar', beside the folders",)


def test_a_class_named_train_among_others_is_a_class(tmp_path):
    found = open_dataset(write(tmp_path, "train/1.png", "bus/1.png", "tram/1.png"), val_share=0)
    assert found.classes == ("bus", "train", "tram")


def test_classes_that_differ_only_in_capitals_are_noted(tmp_path):
    found = open_dataset(write(tmp_path, "Cat/1.png", "cat/2.png", "dog/1.png"), val_share=0)
    if len(found.classes) == 2:
        pytest.skip("this file system ignores case")
    assert "classes 'Cat', 'cat' differ only in capitals" in found.notes[0]


def test_links_are_followed_but_not_in_circles(tmp_path):
    write(tmp_path / "elsewhere", "1.png")
    root = write(tmp_path / "set", "a/1.png", "b/1.png")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "a/back").symlink_to(root / "a")
    (root / "a/itself").symlink_to("itself")
    (root / "b/gone.png").symlink_to(tmp_path / "nowhere.png")
    found = open_dataset(root, val_share=0)
    assert names(found.train) == ["a/1.png", "b/1.png", "b/gone.png", "c/1.png"]
    said = "\n".join(found.notes)
    assert "links to a folder above them are not followed: 'a/back'" in said
    assert "1 picture linked to a file that is not there: 'b/gone.png'" in said
    assert found.train.pictures.sizes().tolist()[2] == -1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_class_that_may_not_be_read_is_refused(tmp_path):
    write(tmp_path, *CLASSES)
    (tmp_path / "cat").chmod(0)
    text = refused(tmp_path)
    (tmp_path / "cat").chmod(0o755)
    assert "cannot be read: Permission denied; correct its permissions" in text


def test_names_that_are_no_text(tmp_path):
    root = os.fsencode(write(tmp_path, "a/1.png", "b/1.png"))
    os.rename(root + b"/a/1.png", root + b"/a/\xff.png")
    found = open_dataset(tmp_path, val_share=0)
    assert "1 picture with a name that is not UTF-8, the first 'a/\\xff.png'" in found.notes[0]
    assert found.train.pictures[0].open().image.size == (8, 6)
    assert found.train.fingerprint
    os.rename(root + b"/a", root + b"/\xfe")
    assert "the name of this class is not UTF-8" in refused(tmp_path)
