"""``fleetfoot train`` says what a quick look at the data set finds, before it begins."""

from __future__ import annotations

from fleetfoot.cli.train import tell_of
from fleetfoot.data.layouts import open_dataset
from pictures_on_disk import write


def test_a_quick_look_comes_first(tmp_path, capsys):
    write(tmp_path, *(f"train/{name}/{i}.png" for name in "ab" for i in range(12)))
    write(tmp_path, "val/a/1.png", "train/a/bad.png", "train/b/notes.txt", data=b"")
    tell_of(open_dataset(tmp_path), 32)
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[0] == f"{tmp_path}: folders train/<class>, val/<class>"
    assert lines[1] == "2 classes; pictures: 25 train, 1 val"
    assert lines[2].startswith("wrong: 2 pictures cannot be read, for example train/a/bad.png")
    assert lines[3].startswith("doubt: val has no picture of 1 class, 'b'")
    assert "note: passed over: 1 .txt, which are not pictures by suffix" in lines
    assert any("have a side below 32 pixels" in line for line in lines)
