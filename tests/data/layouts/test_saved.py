"""Hugging Face data sets that ``save_to_disk`` wrote."""

from __future__ import annotations

import pickle
import sys

import pytest

from fleetfoot.data.layouts import open_dataset
from fleetfoot.errors import DatasetError, MissingExtraError
from pictures_on_disk import picture, write

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


COLOURS = ["red", "green", "blue", "black"]


def table(labels, kind, column="label", **more):
    rows = {
        "image": [{"bytes": picture(colour), "path": None} for colour in COLOURS[: len(labels)]],
        column: labels,
    }
    features = {"image": datasets.Image(), column: kind}
    return datasets.Dataset.from_dict(rows, datasets.Features(features))


def saved(made, folder):
    made.save_to_disk(folder)
    return folder


def refused(folder) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(folder)
    return str(caught.value)


NAMED = datasets.ClassLabel(names=["zebra", "ape"])


def test_parts_with_named_classes(tmp_path):
    parts = {"train": table([0, 1, 1, 0], NAMED), "validation": table([1], NAMED)}
    found = open_dataset(saved(datasets.DatasetDict(parts), tmp_path / "set"))
    assert found.layout == "Hugging Face data set saved on disk, parts train, val"
    assert found.classes == ("zebra", "ape")
    assert found.train.labels.tolist() == [0, 1, 1, 0]
    assert found.val.labels.tolist() == [1]
    assert [source.read() for source, _ in found.train] == [picture(c) for c in COLOURS]
    assert found.train.pictures.sizes().tolist() == [len(picture(c)) for c in COLOURS]
    assert found.train.pictures.name(3) == "train/3"
    again = pickle.loads(pickle.dumps(found.train.pictures))
    assert again[-1].open().image.getpixel((0, 0)) == (0, 0, 0)
    with pytest.raises(IndexError):
        again[4]


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [(["b", "a", "b"], "string", ("a", "b")), ([7, 3, 7], "int64", ("3", "7"))],
)
def test_classes_without_names(tmp_path, labels, kind, classes):
    made = table(labels, datasets.Value(kind), "Category")
    found = open_dataset(saved(made, tmp_path / "set"), val_share=0)
    assert found.classes == classes
    assert found.train.labels.tolist() == [1, 0, 1]


def test_rows_that_were_chosen_before_saving(tmp_path):
    made = table([0, 1, 1, 0], NAMED).select([3, 1])
    found = open_dataset(saved(made, tmp_path / "set"), val_share=0)
    assert [source.read() for source, _ in found.train] == [picture("black"), picture("green")]
    assert found.train.pictures.sizes().tolist() == [len(picture(c)) for c in ("black", "green")]


def test_pictures_by_path_are_embedded_when_saved(tmp_path):
    write(tmp_path, "1.png", "2.png")
    rows = {"image": [str(tmp_path / "1.png"), str(tmp_path / "2.png")], "label": [0, 1]}
    made = datasets.Dataset.from_dict(
        rows, datasets.Features({"image": datasets.Image(), "label": NAMED})
    )
    found = open_dataset(saved(made, tmp_path / "set"), val_share=0)
    assert found.train.pictures[0].read() == (tmp_path / "1.png").read_bytes()


def test_what_is_wrong_is_said(tmp_path):
    made = table([0, 1], NAMED)
    text = refused(saved(made.remove_columns("image"), tmp_path / "a"))
    assert "expected one column of pictures, found none among 'label'" in text
    text = refused(saved(made.remove_columns("label"), tmp_path / "b"))
    assert "no column of classes among 'image'" in text
    two = made.add_column("other", [0, 1]).cast_column("other", NAMED).rename_column("label", "x")
    assert "several columns of classes, 'x', 'other'" in refused(saved(two, tmp_path / "c"))
    text = refused(saved(datasets.DatasetDict({"extra": made}), tmp_path / "d"))
    assert "no part is train, val or test; found: 'extra'" in text
    assert "have no class" in refused(saved(table([0, -1], NAMED), tmp_path / "e"))
    (tmp_path / "b/state.json").write_text("{")
    assert "the saved data set cannot be read" in refused(tmp_path / "b")


def test_without_the_library_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    folder = saved(table([0, 1], NAMED), tmp_path / "set")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install '.\[datasets\]'"):
        open_dataset(folder)
