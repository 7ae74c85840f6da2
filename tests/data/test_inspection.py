"""The report on a data set before training."""

from __future__ import annotations

import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from fleetfoot.data import survey
from fleetfoot.data.inspection import Inspection, inspect
from fleetfoot.data.layouts import open_dataset
from fleetfoot.errors import ImageError
from fleetfoot.files import parsed, plain
from pictures_on_disk import compressed, scenery, write


def saved(image, kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(turn: int):
    made = Image.Exif()
    made[0x0112] = turn
    return made


@pytest.fixture
def folder(tmp_path):
    """Two classes in three parts; a is cut off in val, and the others are of many kinds."""
    files = {
        "train/a/1.png": saved(scenery(1)),
        "train/a/2.jpg": saved(scenery(2), "JPEG"),
        "train/a/grey.png": saved(scenery(3).convert("L")),
        "train/b/1.png": saved(scenery(4)),
        "train/b/alpha.png": saved(scenery(5).convert("RGBA").rotate(45)),
        "train/b/cmyk.jpg": saved(scenery(6).convert("CMYK"), "JPEG"),
        "val/a/again.png": saved(scenery(1)),
        "val/a/cut.jpg": saved(scenery(7), "JPEG")[:3000],
        "val/a/like.jpg": saved(scenery(2).resize((90, 90)), "JPEG", quality=60),
        "val/b/turned.jpg": saved(scenery(8).resize((160, 80)), "JPEG", exif=exif(6)),
        "val/b/empty.png": b"",
        "test/a/other.png": saved(scenery(4)),
        "test/b/frames.gif": saved(scenery(9), "GIF", save_all=True, append_images=[scenery(10)]),
        "test/b/deep.png": saved(Image.fromarray(np.asarray(scenery(11).convert("L"), np.uint16))),
    }
    for name, data in files.items():
        write(tmp_path, name, data=data)
    return tmp_path


def places(group):
    return [(place.split, place.name) for place in group.places]


def test_everything_is_seen(folder):
    found = inspect(open_dataset(folder), size=100, threads=2)
    assert found.counts == {"train": (3, 3), "val": (3, 2), "test": (1, 2)}
    assert (found.pictures, found.opened, found.stopped, found.quick) == (14, 14, False, False)
    assert found.formats == {"PNG": 7, "JPEG": 4, "GIF": 1}
    assert found.kinds == {
        "grey": 2, "16 bit": 1, "palette": 1, "transparent": 1, "CMYK": 1, "turned": 1,
        "several frames": 1,
    }  # fmt: skip
    assert (found.widths.least, found.widths.most) == (80, 160)  # the turned one is upright
    assert (found.aspects.least, found.aspects.median) == (0.5, 1.0)
    assert found.smaller == 2
    assert {(one.place.name, one.reason) for one in found.unreadable} == {
        ("val/b/empty.png", "empty file"),
        ("val/a/cut.jpg", found.unreadable[0].reason),
    }
    assert "truncated JPEG file" in found.unreadable[0].reason


def problem(source) -> str:
    try:
        source.open()
    except ImageError as error:
        return error.reason
    return ""


def test_a_picture_is_unreadable_exactly_if_training_cannot_open_it(folder):
    dataset = open_dataset(folder)
    found = [(one.place.name, one.reason) for one in inspect(dataset).unreadable]
    assert found == [
        (split.pictures.name(index), reason)
        for split in dataset.splits
        for index, (source, _) in enumerate(split)
        if (reason := problem(source))
    ]


def test_repeated_pictures_are_found_within_and_across_parts(folder):
    found = inspect(open_dataset(folder))
    assert [(group.kind, places(group)) for group in found.groups] == [
        ("equal", [("train", "train/b/1.png"), ("test", "test/a/other.png")]),  # two classes
        ("equal", [("train", "train/a/1.png"), ("val", "val/a/again.png")]),
        ("alike", [("train", "train/a/2.jpg"), ("val", "val/a/like.jpg")]),
    ]
    assert {(leak.split, leak.equal, leak.alike, leak.pictures) for leak in found.leaks} == {
        ("val", 1, 1, 3), ("test", 1, 0, 3)
    }  # fmt: skip
    assert [sorted(group.classes) for group in found.groups if len(group.classes) > 1] == [[0, 1]]


def test_the_quick_form_reads_headers_of_a_sample(folder, monkeypatch):
    monkeypatch.setattr(survey, "SAMPLE", 5)
    monkeypatch.setattr(survey, "open_image", None)  # nothing is decoded
    found = inspect(open_dataset(folder), quick=True)
    assert (found.quick, found.opened, found.stopped, found.groups) == (True, 5, False, ())
    assert found.counts["train"] == (3, 3)
    monkeypatch.setattr(survey, "SAMPLE", 1000)
    found = inspect(open_dataset(folder), quick=True)
    assert found.opened == 14
    assert [one.place.name for one in found.unreadable] == ["val/b/empty.png"]


def test_it_can_be_stopped_and_reports_what_it_saw(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "CHUNK", 1)
    write(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(40)))
    seen = []
    found = inspect(
        open_dataset(tmp_path),
        threads=1,
        on_progress=lambda words, done, of: seen.append((words, done, of)),
        stop=lambda: len(seen) >= 5,
    )
    assert found.stopped
    assert 5 <= found.opened < 80
    assert found.pictures == 80
    assert found.widths.most == 8
    assert seen[4] == ("opening pictures", 5, 80)


def test_what_was_seen_when_it_stops_comes_from_all_parts(tmp_path):
    rows = [row for row in survey._shuffled(64 * 32)]
    assert sorted(number for row in rows for number in row) == list(range(64 * 32))
    assert {row.start // 1024 for row in rows[:16]} == {0, 1}


def test_an_interrupt_ends_the_threads(folder):
    def interrupt(words, done, of):
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        inspect(open_dataset(folder), on_progress=interrupt)
    assert threading.active_count() == before


def test_the_record_is_json_that_can_be_read_back(folder):
    found = inspect(open_dataset(folder))
    text = json.dumps(found.record(), allow_nan=False)
    assert parsed(plain(json.loads(text)), Inspection) == found


def test_a_missing_file_is_unreadable(tmp_path):
    write(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    dataset = open_dataset(tmp_path)
    (tmp_path / "a/1.png").unlink()
    (one,) = inspect(dataset).unreadable
    assert one.reason == "no such file"


def test_groups_join_what_looks_alike_in_a_row(tmp_path):
    for number, quality in enumerate((95, 60, 30)):
        data = saved(compressed(scenery(1), quality))
        write(tmp_path, f"a/{number}.png", data=data)
    write(tmp_path, "a/2 again.png", data=data)
    write(tmp_path, "b/1.png", data=saved(scenery(2)))
    write(tmp_path, "b/2.png", data=saved(scenery(3)))
    found = inspect(open_dataset(tmp_path, val_share=0))
    assert [(group.kind, len(group.places)) for group in found.groups] == [
        ("equal", 2), ("alike", 4)
    ]  # fmt: skip
    assert found.leaks == ()


def test_pictures_too_small_to_compare_are_said():
    found = inspect(open_dataset())
    assert found.groups == ()
    assert found.remarks[0].startswith("1,797 pictures are too small or too flat")
    assert found.kinds == {"grey": 1797}
