"""A user's own hands: a folder of pictures with a file of joints and vertices."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from fleetfoot.data.hands import open_hands
from fleetfoot.data.hands.folder import find_hands
from fleetfoot.data.layouts import open_any, open_scenes
from fleetfoot.data.scene_inspection import inspect_scenes
from fleetfoot.errors import DatasetError
from fleetfoot.report import scene_page
from fleetfoot.report import scenes as texts


def rows(count: int, vertices: int = 30, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "joints": rng.uniform(0.4, 0.6, (count, 21, 3)).astype(np.float32),
        "vertices": rng.uniform(0.4, 0.6, (count, vertices, 3)).astype(np.float32),
        "points": rng.uniform(0, 8, (count, 21, 2)).astype(np.float32),
    }


def filled(folder, held, pictures=None):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(held, folder / "hands.safetensors")
    for number in range(len(held["joints"]) if pictures is None else pictures):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number:03}.png")


def opened(folder, **options):
    return open_scenes(folder, **options)


def test_parts_are_found_with_their_files(tmp_path):
    held = {"train": rows(5), "val": rows(2, seed=1)}
    filled(tmp_path / "train", held["train"])
    filled(tmp_path / "valid", held["val"])
    (tmp_path / "notes").mkdir()
    found = opened(tmp_path)
    assert found.task == "hand"
    assert [(part.name, len(part)) for part in found.splits] == [("train", 5), ("val", 2)]
    for part in found.splits:
        for number in range(len(part)):
            assert part.pictures[number].open().image.getpixel((0, 0)) == (number, 0, 0)
            hand = part.targets[number]
            for name, array in held[part.name].items():
                assert np.array_equal(getattr(hand, name), array[number])
    assert found.train.pictures.name(3) == "train/003.png"
    assert found.layout == (
        "pictures with joints and vertices (train/hands.safetensors, valid/hands.safetensors)"
    )


def test_a_share_is_split_off_with_its_rows(tmp_path):
    filled(tmp_path, held := rows(10))
    found = opened(tmp_path, val_share=0.3, seed=5)
    again = opened(tmp_path, val_share=0.3, seed=5)
    other = opened(tmp_path, val_share=0.3, seed=6)
    assert (len(found.train), len(found.val)) == (7, 3)
    assert found.val.fingerprint == again.val.fingerprint != other.val.fingerprint
    for part in found.splits:
        for number in range(len(part)):
            place = int(part.pictures.name(number)[:3])
            assert np.array_equal(part.targets[number].points, held["points"][place])
    assert len(opened(tmp_path, val_share=0).splits) == 1


def test_the_fingerprint_follows_each_row(tmp_path):
    filled(tmp_path / "one" / "val", held := rows(3))
    held["vertices"][2, 4, 1] += 1e-4
    filled(tmp_path / "two" / "val", held)
    one, two = opened(tmp_path / "one"), opened(tmp_path / "two")
    assert one.val.fingerprint != two.val.fingerprint


def without(name):
    return lambda held: held.pop(name)


def at(name, change):
    return lambda held: held.update({name: np.ascontiguousarray(change(held[name]))})


FAULTS = {
    "lacks points; it needs joints, vertices, points": without("points"),
    r"joints must be \(N, 21, 3\), one row a picture, not \(4, 20, 3\)": at(
        "joints", lambda a: a[:, :20]
    ),
    r"vertices must be \(N, V, 3\), one row a picture, not \(3, 30, 3\)": at(
        "vertices", lambda a: a[:3]
    ),
    r"points must be \(N, 21, 2\), one row a picture, not \(4, 42\)": at(
        "points", lambda a: a.reshape(4, 42)
    ),
    "joints of 4 rows extend over .* row 0 over 19.*; give them in metres": at(
        "joints", lambda a: 100 * a
    ),
    "NaN or infinity in 1 tensors: vertices": at("vertices", lambda a: a * np.nan),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_fault_is_named_with_its_file(tmp_path, message):
    held = rows(4)
    FAULTS[message](held)
    filled(tmp_path / "train", held, pictures=4)
    with pytest.raises(DatasetError, match=f"train/hands.safetensors: .*{message}"):
        opened(tmp_path)


def test_rows_and_pictures_that_do_not_fit_are_named(tmp_path):
    filled(tmp_path / "train", rows(4), pictures=3)
    with pytest.raises(DatasetError, match=r"hands\.safetensors: 4 rows, and 3 pictures beside it"):
        opened(tmp_path)


def test_parts_of_different_meshes_are_named(tmp_path):
    filled(tmp_path / "train", rows(3))
    filled(tmp_path / "test", rows(3, vertices=31))
    with pytest.raises(DatasetError, match="number of vertices: 31 in test, 30 in train"):
        opened(tmp_path)


def test_shares_that_cannot_be_are_named(tmp_path):
    filled(tmp_path / "one", rows(1))
    with pytest.raises(DatasetError, match="train has a single picture"):
        opened(tmp_path / "one")
    for part in ("train", "val"):
        filled(tmp_path / "two" / part, rows(2))
    with pytest.raises(DatasetError, match="has a validation part of its own"):
        opened(tmp_path / "two", val_share=0.5)


def test_the_built_in_set_goes_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for found in (open_scenes("hands"), open_any("hands"), open_any("hands", "hand")):
        assert (found.name, found.task, len(found.val)) == ("hands", "hand", 400)
    with pytest.raises(DatasetError, match="parts of this set are fixed"):
        open_scenes("hands", val_share=0.2)
    with pytest.raises(DatasetError, match="for --task hand, give a path, or 'hands'"):
        open_any(None, "hand")
    filled(tmp_path / "hands", rows(10))
    assert len(open_any("hands", val_share=0).train) == 10  # a path of that name comes first


def test_a_set_of_hands_is_for_no_other_task(tmp_path):
    filled(tmp_path, rows(4))
    with pytest.raises(DatasetError, match="which is for --task hand, not for detect"):
        open_scenes(tmp_path, "detect")


def test_a_folder_without_such_a_file_is_no_set_of_hands(tmp_path):
    (tmp_path / "train").mkdir()
    assert find_hands(str(tmp_path)) == {}


def test_joints_outside_their_picture_are_reported(tmp_path):
    held = rows(4)
    held["points"][2, 5] = (30, 4)
    held["points"][2, 6] = (-3, 4)
    filled(tmp_path, held)
    found = inspect_scenes(opened(tmp_path, val_share=0), quick=False, threads=1)
    assert [(one.kind, one.place.index) for one in found.faults] == [("joints outside", 2)]
    text = "2 of 21 joints, the farthest at (30, 4), on a picture of 8 × 8"
    assert found.faults[0].text == text
    assert texts.title(found) == "4 pictures with a hand each"
    assert texts.part_rows(found) == [("train", "4")]


def test_the_page_shows_the_skeletons(tmp_path):
    scenes = open_hands(counts={"train": 2, "val": 1, "test": 1}, size=64)
    found = inspect_scenes(scenes, threads=1)
    page = scene_page.html(found, scenes)
    assert "each finger has a colour" in page
    assert page.count('class="frame wide"') == 4
    assert not found.faults
