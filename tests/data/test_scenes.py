"""Label maps as they are read, fingerprints, and sizes that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fleetfoot.data.layouts import open_scenes
from fleetfoot.data.scenes import IGNORED, LabelMap, Objects
from fleetfoot.data.sources import Source
from fleetfoot.errors import ImageError
from scenes_on_disk import OBJECTS, camvid, coco, coco_json, drawn_map, save, save_map


@pytest.fixture
def numbers():
    made = np.full(256, IGNORED, dtype=np.uint8)
    made[:3] = (1, 0, 2)
    return made


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_map_gives_the_class_of_each_value(tmp_path, numbers, mode):
    values = drawn_map(1, (0, 1, 2, 255))
    source = Source(str(save_map(tmp_path / "m.png", values, mode)))
    found = LabelMap(source=source, numbers=numbers).drawn(16, 20)
    assert found.dtype == np.uint8
    assert (found == numbers[values]).all()
    assert (LabelMap(source=source).drawn(16, 20) == values).all()


def test_a_map_of_one_bit(tmp_path):
    values = drawn_map(1, (0, 1))
    Image.fromarray(values.astype(bool)).save(tmp_path / "m.png")
    assert (LabelMap(source=Source(str(tmp_path / "m.png"))).drawn(16, 20) == values).all()


def test_a_map_of_another_size_or_with_unknown_values_is_named(tmp_path, numbers):
    source = Source(str(save_map(tmp_path / "m.png", drawn_map(1, (0, 7)))))
    known = np.arange(256) < 3
    with pytest.raises(ImageError, match=r"m.png: the map has 20 × 16 .* its picture 20 × 17"):
        LabelMap(source=source, numbers=numbers).drawn(17, 20)
    with pytest.raises(ImageError, match=r"m.png: values that are no class: 7; add them"):
        LabelMap(source=source, numbers=numbers, known=known).drawn(16, 20)


@pytest.mark.parametrize("mode", ["RGB", "I;16", "RGBA"])
def test_a_map_that_is_not_8_bits_is_refused(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "m.png")
    with pytest.raises(ImageError, match="not one number of 8 bits"):
        LabelMap(source=Source(str(tmp_path / "m.png"))).values()


def test_a_broken_map_is_an_image_error(tmp_path):
    path = save_map(tmp_path / "m.png", drawn_map(1))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ImageError, match="broken PNG"):
        LabelMap(source=Source(str(path))).values()


def test_boxes_drawn_on_a_picture_of_another_size():
    none = np.empty(0)
    objects = Objects(
        boxes=none.reshape(0, 4), classes=none.astype(np.int64), crowd=none > 0, areas=none,
        size=(10, 20),
    )  # fmt: skip
    objects.check_size(10, 20)
    with pytest.raises(ValueError, match=r"the picture has 10 × 20 pixels, .* drawn on 20 × 10"):
        objects.check_size(20, 10)


def test_the_fingerprint_is_that_of_names_sizes_and_targets(tmp_path):
    first = open_scenes(coco(tmp_path / "one"), val_share=0).train.fingerprint
    assert open_scenes(coco(tmp_path / "two"), val_share=0).train.fingerprint == first
    changed = {**OBJECTS["train"], "3.png": [("dog", (5, 5, 6, 8))]}
    save(tmp_path / "two/annotations/instances_train.json", coco_json(changed))
    assert open_scenes(tmp_path / "two").train.fingerprint != first


def test_the_fingerprint_of_maps_changes_with_their_meaning(tmp_path):
    first = open_scenes(camvid(tmp_path)).train.fingerprint
    assert open_scenes(tmp_path).train.fingerprint == first
    save(tmp_path / "classes.txt", "sky\nroad\ncar\n")
    assert open_scenes(tmp_path).train.fingerprint != first
