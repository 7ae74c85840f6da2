"""The card and the page on a set with boxes, masks or label maps."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fleetfoot.data.layouts import open_scenes
from fleetfoot.data.scene_inspection import inspect_scenes
from fleetfoot.report.datasets import print_card
from fleetfoot.report.kit.drawing import with_classes, with_masks
from fleetfoot.report.kit.hues import class_rgb
from fleetfoot.report.scene_page import html
from fleetfoot.report.summary import digits
from pages import HOSTILE, Tags, assert_loads_nothing, assert_runs_no
from pictures_on_disk import scenery
from scenes_on_disk import CLASSES, camvid, coco_json, drawn_map, save, save_map

BOXES = {
    "1.jpg": [("cat", (20, 30, 100, 80)), ("dog", (0, 0, 160, 150)), ("dog", (1, 0, 160, 150))],
    "2.jpg": [],
    "3.jpg": [("dog", (50, 50, 90, 170)), ("cat", (5, 5, 5, 9))],
}


def card(found) -> str:
    text = io.StringIO()
    print_card(Console(file=text, width=130), found)
    return text.getvalue()


@pytest.fixture
def boxes(tmp_path):
    """Three pictures of 160 × 160 pixels, with a mask, a crowd, and three faults."""
    raw = coco_json(BOXES)
    for row in raw["images"]:
        row |= {"width": 160, "height": 160}
    raw["annotations"][0]["segmentation"] = [[20, 30, 100, 30, 100, 80]]
    raw["annotations"][3] |= {"iscrowd": 1}
    for number, name in enumerate(BOXES):
        (tmp_path / "train").mkdir(exist_ok=True)
        scenery(number).save(tmp_path / "train" / name)
    save(tmp_path / "annotations/instances_train.json", raw)
    return open_scenes(tmp_path, val_share=0)


@pytest.fixture
def page(boxes):
    return html(inspect_scenes(boxes), boxes)


def test_the_page_loads_nothing_and_is_whole(page):
    assert_loads_nothing(page)
    assert "img-src data:" in page
    assert not [tag for tag in Tags(page).open if tag != "rect"]
    assert "$" not in re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL)


def test_boxes_are_drawn_over_the_pictures(page):
    first = page[page.index('<ul class="examples">') :]
    first = first[: first.index("</ul>")]
    assert first.count("<img ") == 2  # not the one without objects
    assert '<rect x="20" y="30" width="80" height="50" class="line"' in first
    assert 'viewBox="0 0 160 160"' in first
    assert '<rect x="50" y="50" width="40" height="120" class="dashed line"' in first
    assert "<title>dog (crowd)</title>" in first
    assert "train · 1.jpg" in first


def test_faults_are_shown_as_pictures_and_in_a_list(page):
    section = page[page.index("Labels to check</h2>") :]
    section = section[: section.index("</section>")]
    assert section.count("<img ") == 3
    for kind in ("no area", "over the edge", "duplicate"):
        assert kind in section
    assert "annotations/instances_train.json, annotation 5" in section
    assert 'class="faulty line"' in section


def test_objects_and_classes_have_their_rows(page):
    assert "Objects of each class</h2>" in page
    assert re.search(r"\.c1 *{ *--hue: *#", page)
    assert re.search(r'<td class="number" data-v="2">2', page)


def test_masks_are_drawn_into_the_picture():
    grey = Image.new("RGB", (4, 2), (100, 100, 100))
    mask = np.zeros((2, 4), dtype=bool)
    mask[0, 1] = True
    drawn = np.asarray(with_masks(grey, [(mask, 3)]))
    assert drawn[0, 1].tolist() == [int((100 + value) / 2) for value in class_rgb(3)]
    assert (drawn[~mask] == 100).all()


def test_pixels_of_no_class_are_dark():
    white = Image.new("RGB", (3, 1), (200, 200, 200))
    classes = np.array([[0, 1, 255]], dtype=np.uint8)
    drawn = np.asarray(with_classes(white, classes))
    assert drawn[0, 2].tolist() == [70, 70, 70]
    assert drawn[0, 0].tolist() == [int((200 + value) / 2) for value in class_rgb(0)]
    only = np.asarray(with_classes(white, classes, only=1))
    assert only[0, 0].tolist() == [70, 70, 70]
    assert (only[0, 1] == drawn[0, 1]).all()


def test_the_card_counts_objects(boxes):
    said = card(inspect_scenes(boxes))
    assert "2 classes, 3 pictures, 3 objects" in said
    assert re.search(r"train +3 +1 +3 +2 +1 +1\.5 +2", said)
    assert "objects a picture  0 to 3, median 1" in re.sub(r"  +", "  ", said)
    assert "masks  1 of 4 objects" in re.sub(r"  +", "  ", said)
    assert "the box has no area" in said
    assert "nothing wrong" not in said


def test_label_maps_have_a_card_and_a_page(tmp_path):
    scenes = open_scenes(camvid(tmp_path))
    found = inspect_scenes(scenes)
    said = card(found)
    assert "2 classes, 4 pictures with label maps" in said
    no_class = 100 * sum((drawn_map(n) == 2).mean() for n in (1, 2)) / 2
    assert re.search(rf"train +2 +2 .* {digits(no_class)} %", said)
    told = []
    text = html(found, scenes, on_progress=lambda *state: told.append(state))
    assert_loads_nothing(text)
    assert "Pixels of no class are dark" in text
    assert "share of the pixels" in text
    assert "Objects of each class" not in text
    assert told[-1][0] == told[-1][1]  # as many pictures as were announced


def test_hands_have_a_card_and_a_page(tmp_path):
    for number in range(3):
        (tmp_path / "mine").mkdir(exist_ok=True)
        scenery(number).save(tmp_path / f"mine/{number}.png")
    draw = np.random.default_rng(0)
    joints = draw.uniform(0, 0.1, (3, 21, 3)).astype(np.float32)
    points = draw.uniform(20, 140, (3, 21, 2)).astype(np.float32)
    np.savez(tmp_path / "mine/hands.npz", joints=joints, vertices=joints, points=points)
    scenes = open_scenes(tmp_path / "mine", val_share=0)
    found = inspect_scenes(scenes)
    assert "3 pictures with a hand each" in card(found)
    assert found.faults == ()
    text = html(found, scenes)
    assert_loads_nothing(text)
    assert text.count("<img ") == 3
    assert "Class by class" not in text


def test_a_quick_look_at_label_maps_says_that_none_was_read(tmp_path):
    scenes = open_scenes(camvid(tmp_path))
    found = inspect_scenes(scenes, quick=True)
    said = card(found)
    assert re.search(r"train +2 +- +- +- +- +-", said)
    assert "headers of 4 pictures were read, and no label map" in said
    assert "0 %" not in html(found, scenes).partition('id="classes"')[2]


def test_progress_announces_each_picture(boxes):
    told = []
    html(inspect_scenes(boxes), boxes, on_progress=lambda *state: told.append(state))
    assert [done for done, _, _ in told] == list(range(1, len(told) + 1))
    assert {of for _, of, _ in told} == {len(told)}


def test_an_overlay_has_the_pixels_of_the_map(tmp_path):
    root = camvid(tmp_path)
    halves = np.zeros((16, 20))
    halves[:, 10:] = 1
    save_map(root / "trainannot/1.png", halves)
    scenes = open_scenes(root)
    text = html(inspect_scenes(scenes), scenes)
    raw = base64.b64decode(re.search(r'src="data:image/jpeg;base64,([^"]+)"', text)[1])
    before = np.asarray(Image.open(root / "train/1.png")).astype(int)
    pixels = np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")).astype(int)
    for x, number in ((2, 0), (17, 1)):
        wanted = (before[8, x] + class_rgb(number)) // 2
        assert np.abs(pixels[8, x] - wanted).max() < 30  # JPEG


def test_hostile_names_become_no_markup(tmp_path):
    raw = coco_json({"1.jpg": [("cat", (2, 3, 9, 9))]})
    raw["categories"] = [{"id": 3, "name": HOSTILE}, {"id": 5, "name": "b\x1b[2J"}]
    scenery(1).save(tmp_path / "1.jpg")
    raw["images"][0] |= {"width": 160, "height": 160}
    scenes = open_scenes(save(tmp_path / "labels.json", raw), val_share=0)
    found = inspect_scenes(scenes)
    text = html(found, scenes)
    assert_runs_no(text)
    assert "\x1b" not in text + card(found)


@pytest.mark.slow
def test_the_page_in_a_browser(opened, page):
    shown = opened(page)
    assert shown.locator("#count").inner_text() == f"{len(CLASSES)} of {len(CLASSES)} classes"
    assert shown.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    box, frame = (
        shown.locator(f".examples li:first-child {what}").first.bounding_box()
        for what in (".line", ".frame")
    )
    assert box["x"] >= frame["x"] - 2
    assert box["width"] <= frame["width"] + 4


@pytest.mark.slow
def test_the_page_fits_a_phone(opened, page):
    shown = opened(page, viewport={"width": 420, "height": 900})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 420
