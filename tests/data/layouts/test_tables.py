"""Data sets that a CSV, TSV or JSON lines file lists."""

from __future__ import annotations

import json

import pytest

from fleetfoot.data.layouts import open_dataset
from fleetfoot.errors import DatasetError
from pictures_on_disk import write

NAMES = ["a1.png", "a2.png", "sub/b1.png", "sub/b2.png"]


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, *NAMES)


def listed(folder, text, name="labels.csv"):
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def read(folder, text, name="labels.csv"):
    found = open_dataset(listed(folder, text, name), val_share=0)
    return {
        split.name: [
            (split.pictures.name(i), found.classes[split.labels[i]]) for i in range(len(split))
        ]
        for split in found.splits
    }


def refused(folder, text, name="labels.csv"):
    with pytest.raises(DatasetError) as caught:
        open_dataset(listed(folder, text, name))
    return str(caught.value)


ALL = {"train": [(name, name.rpartition("/")[2][0]) for name in NAMES]}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("path,label\na1.png,a\na2.png,a\nsub/b1.png,b\nsub/b2.png,b\n", "x.csv"),
        ("\ufeffLabel;File\r\na;a1.png\r\na;a2.png\r\nb;sub/b1.png\r\nb;sub/b2.png", "x.csv"),
        ("a1.png,a\na2.png,a\nsub/b1.png,b\nsub/b2.png,b\n", "x.csv"),
        ("a,a1.png\na,a2.png\nb,sub/b1.png\nb,sub/b2.png\n", "x.CSV"),
        ("image\tclass\na1.png\ta\na2.png\ta\nsub/b1.png\tb\nsub/b2.png\tb\n", "x.tsv"),
        ('"path","label"\n\n"a1.png","a"\na2.png, a\nsub/b1.png,b\nsub/b2.png,b\n', "x.csv"),
        ("\n".join(json.dumps({"file": n, "label": n.rpartition("/")[2][0]}) for n in NAMES),
         "x.jsonl"),
    ],
)  # fmt: skip
def test_the_same_set_in_many_spellings(folder, text, name):
    assert read(folder, text, name) == ALL


@pytest.mark.parametrize(
    "text",
    [
        "path,label,split\na1.png,a,train\na2.png,a,Val\nsub/b1.png,b,training\nsub/b2.png,b,test\n",
        "a1.png,a,train\na2.png,a,valid\nsub/b1.png,b,train\nsub/b2.png,b,testing\n",
    ],
)
def test_a_column_of_parts(folder, text):
    assert read(folder, text) == {
        "train": [("a1.png", "a"), ("sub/b1.png", "b")],
        "val": [("a2.png", "a")],
        "test": [("sub/b2.png", "b")],
    }


def test_numbers_are_names_of_classes(folder):
    lines = [json.dumps({"path": name, "label": 7 + 3 * i}) for i, name in enumerate(NAMES[:2])]
    found = open_dataset(listed(folder, "\n".join(lines), "x.jsonl"), val_share=0)
    assert found.classes == ("10", "7")
    assert found.train.labels.tolist() == [1, 0]
    assert "numbers and are sorted as text" in found.notes[0]


def test_paths_are_relative_to_the_file_or_absolute(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    text = f"a1.png,a\n{folder / 'a2.png'},b\n"
    listed(folder, text)
    found = open_dataset(f"{folder.name}/labels.csv", val_share=0)
    assert all(source.open().image.size == (8, 6) for source, _ in found.train)


def test_missing_pictures_are_noted_unless_none_is_there(folder):
    found = open_dataset(listed(folder, "a1.png,a\ngone.png,a\nsub/b1.png,b\n"), val_share=0)
    assert found.notes == ("1 listed picture not there: 'gone.png'",)
    text = refused(folder, "x/1.png,a\nx/2.png,b\n")
    assert "none of 2 pictures is there; paths are relative to the file's own folder" in text
    assert text.endswith(f"the first would be {folder}/x/1.png")


def test_a_picture_listed_twice_is_noted_and_with_two_classes_refused(folder):
    notes = open_dataset(listed(folder, "a1.png,a\na1.png,a\na2.png,b\n"), val_share=0).notes
    assert notes == ("1 line for a picture that was listed before",)
    assert "a1.png is listed as 'a' and as 'b'" in refused(folder, "a1.png,a\na1.png,b\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("path,label\n", "no picture is listed"),
        ("photo,label\nx,1\n", "no column of paths; the first line is 'photo', 'label'. Name"),
        ("path,colour\na1.png,red\n", "no column of labels"),
        ("path,label,Label\na1.png,a,b\n", "two columns have the same name"),
        ("a1.png,a,b,c\n", "is neither a head nor path and label"),
        ("a1.png,a2.png\n", "is neither a head nor path and label"),
        ("path,label\na1.png,a\na2.png,b,c\n", "line 3: 3 columns, where the first line has 2"),
        ("path,label\na1.png,\n", "line 2: no label"),
        ("path,label,split\na1.png,a,dev\n", "the part is 'dev'; known: train, training, val"),
        ("path,label\nhttps://x.test/a.png,a\n", "is an address"),
        ("path,label\na1.png,a\na2.png,a\n", "only one class, 'a'"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_csv_is_said_with_its_line(folder, text, said):
    assert said in refused(folder, text)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1, 2]", "line 1: not an object"),
        ("{", "line 1: not JSON"),
        ("[" * 100_000, "line 1: not JSON"),
        ('{"path": "a1.png"}', "no column of labels; line 1 has 'path'"),
        ('{"path": "a1.png", "label": ["a"]}', 'label must be a text or a whole number, not ["a'),
        ('{"path": "a1.png", "label": true}', "not true"),
        ('{"path": "a1.png", "label": null}', "not null"),
        ('{"path": "a\\u0000.png", "label": "a"}', "the path holds a NUL"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_json_lines_is_said_with_its_line(folder, line, said):
    assert said in refused(folder, line, "x.jsonl")


def test_a_table_in_another_encoding(folder):
    (folder / "x.csv").write_bytes("a1.png,caf\u00e9\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"not UTF-8 .* save it as UTF-8"):
        open_dataset(folder / "x.csv")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x.json", "COCO's boxes are for --task detect"), ("x.txt", "give lists as CSV"),
        ("data.yaml", "YOLO's"), ("x.pkl", "pickles would run code"), ("x.zip", "unpack it"),
        ("x.parquet", "save_to_disk"), ("x.bin", "give a folder of class folders"),
    ],
)  # fmt: skip
def test_other_files_are_refused_with_the_next_step(folder, name, said):
    assert said in refused(folder, "x", name)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("pipe:curl x", "would run a command, which is not done"),
        ("s3://bucket/x.tar", "is an address"), ("https://x.test", "is an address"),
        ("", "'' is not a path"), ("a\0b", "is not a path"), ("/nowhere/x-{0..3}.tar", "no file"),
        ("/nowhere/*.tar", "no tar matches"),
    ],
)  # fmt: skip
def test_addresses_commands_and_nothing(where, said):
    with pytest.raises(DatasetError, match=said):
        open_dataset(where)
