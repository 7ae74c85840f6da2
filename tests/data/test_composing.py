"""Parts of pictures and pictures of several pictures, against the parts that they are made of."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from fleetfoot.data import composing
from fleetfoot.data.annotations import Annotations, areas
from fleetfoot.data.composing import Annotated
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.scenes import IGNORED
from small_scenes import COLOURS, covered, objects_of, rectangles

FILL = (1, 2, 3)


def annotated(seed: int, height: int = 48, width: int = 72) -> Annotated:
    pixels, boxes, classes = rectangles(seed, height, width)
    known = Annotations.of(objects_of(boxes, classes, height, width), height, width, masks=True)
    classes_of = np.full((height, width), IGNORED, np.uint8)
    for mask, chosen in zip(known.masks, known.classes, strict=True):
        classes_of[mask] = chosen
    return Annotated(pixels=pixels, known=Annotations(**vars(known) | {"map": classes_of}))


def agrees(one: Annotated) -> None:
    """Every mask and every class of the map lies on pixels of the class's colour, and boxes are
    those of the masks."""
    known = one.known
    assert one.pixels.shape == (one.height, one.width, 3)
    np.testing.assert_array_equal(known.masks, covered(known.boxes, one.height, one.width))
    for mask, chosen in zip(known.masks, known.classes, strict=True):
        assert (one.pixels[mask] == COLOURS[chosen]).all()
    for chosen, colour in enumerate(COLOURS):
        np.testing.assert_array_equal(known.map == chosen, (one.pixels == colour).all(2))


def test_a_picture_moves_with_what_is_known_of_it():
    one = annotated(1)
    agrees(one)
    agrees(one.flipped())
    agrees(one.framed(-9, 11, 60, 50, fill=FILL))
    np.testing.assert_array_equal(one.flipped().flipped().pixels, one.pixels)


def test_a_part_that_is_pasted_back_has_its_pixels_where_they_were():
    one = annotated(2)
    back = one.framed(13, 9, 29, 41, fill=FILL).framed(-13, -9, 48, 72, fill=FILL)
    inside = np.zeros((48, 72, 1), bool)
    inside[9:38, 13:54] = True
    np.testing.assert_array_equal(back.pixels, np.where(inside, one.pixels, FILL))


@pytest.mark.parametrize(("x", "y"), [(40, 30), (20, 50), (64, 64), (1, 79)])
def test_a_mosaic_is_its_quarters(x, y):
    height, width = 80, 100
    ones = [annotated(seed) for seed in range(4)]
    whole = composing.mosaic(ones, x=x, y=y, height=height, width=width, fill=FILL)
    assert (whole.height, whole.width) == (height, width)
    agrees(whole)

    # the part of each picture that its quarter shows, by hand: one corner touches the point
    places = [(x - 72, y - 48), (x, y - 48), (x - 72, y), (x, y)]
    quarters = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    boxes, classes, filled = [], [], np.ones((height, width), bool)
    for one, (left, top), quarter in zip(ones, places, quarters, strict=True):
        low, high = np.array(quarter[:2] * 2), np.array(quarter[2:] * 2)
        moved = np.clip(one.known.boxes + np.array((left, top) * 2), low, high)
        seen = areas(moved) > 0
        boxes += moved[seen].tolist()
        classes += one.known.classes[seen].tolist()
        start, end = np.maximum((left, top), low[:2]), np.minimum((left + 72, top + 48), high[:2])
        shown = (slice(start[1], end[1]), slice(start[0], end[0]))
        own = (slice(start[1] - top, end[1] - top), slice(start[0] - left, end[0] - left))
        np.testing.assert_array_equal(whole.pixels[shown], one.pixels[own])
        filled[shown] = False
    assert whole.known.boxes.tolist() == boxes
    assert whole.known.classes.tolist() == classes
    assert (whole.pixels[filled] == FILL).all()
    assert (whole.known.map[filled] == IGNORED).all()


def test_a_mosaic_leaves_out_what_is_hardly_seen():
    ones = [annotated(seed) for seed in range(4)]
    fields = {"x": 40, "y": 30, "height": 80, "width": 100, "fill": FILL}
    every, some = (
        composing.mosaic(ones, **fields, visible=visible).known for visible in (0.0, 0.6)
    )
    whole = {box for one in ones for box in areas(one.known.boxes).tolist()}
    assert 0 < len(some) < len(every)
    assert all(area >= 0.6 * min(whole) for area in areas(some.boxes))


def test_mixed_pictures_are_the_mean_and_have_the_objects_of_both():
    one, other = annotated(0), annotated(5)
    mixed = composing.mixed(one, other)
    mean = (one.pixels.astype(float) + other.pixels) / 2
    np.testing.assert_allclose(mixed.pixels, mean, rtol=0, atol=0.5)
    assert len(mixed.known) == len(one.known) + len(other.known)
    np.testing.assert_array_equal(
        mixed.known.boxes, np.concatenate((one.known.boxes, other.known.boxes))
    )
    np.testing.assert_array_equal(
        mixed.known.masks, np.concatenate((one.known.masks, other.known.masks))
    )


def test_a_picture_is_resized_as_the_preprocessing_does_it():
    one = annotated(4)
    preprocess = Preprocess(
        size=(31, 43), crop_pct=1, resize_mode="squash", interpolation="bicubic"
    )
    theirs = preprocess.pixels(Image.fromarray(one.pixels)).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(one.resized(31, 43, preprocess).pixels, theirs)
    np.testing.assert_array_equal(
        one.flipped().resized(48, 72, preprocess).pixels, one.flipped().pixels
    )


@pytest.mark.parametrize("least", [0.1, 0.3, 0.7])
def test_a_crop_of_ssd_overlaps_an_object_as_much_as_was_drawn(least, monkeypatch):
    monkeypatch.setattr(composing, "OVERLAPS", (least,))
    boxes = np.array([[10.0, 10.0, 60.0, 60.0], [50.0, 5.0, 58.0, 14.0], [2.0, 2.0, 9.0, 30.0]])
    whole, parts = 0, set()
    for seed in range(200):
        part = composing.overlapping(boxes, 64, 80, random.Random(seed))
        left, top, right, bottom = part
        if part == (0, 0, 80, 64):
            whole += 1
            continue
        parts.add(part)
        assert 0 <= left < right <= 80
        assert 0 <= top < bottom <= 64
        assert (right - left) / 80 > 0.28  # a side is rounded down to pixels
        assert (bottom - top) / 64 > 0.28
        assert 0.5 <= (right - left) / (bottom - top) <= 2
        assert composing.centred(boxes, part).any()
        assert composing.overlaps(boxes, part).max() >= least
    # one draw of two leaves the picture whole
    assert 70 < whole < 140
    assert len(parts) > 50


def test_a_crop_needs_an_object_and_a_picture_of_a_few_pixels():
    draws = random.Random(0)
    assert composing.overlapping(np.zeros((0, 4)), 9, 8, draws) == (0, 0, 8, 9)
    tiny = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert composing.overlapping(tiny, 1, 1, draws) == (0, 0, 1, 1)
    assert composing.overlapping(tiny, 1, 500, draws) == (0, 0, 500, 1)


def test_a_centre_on_the_edge_is_not_inside():
    boxes = np.array([[0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 4.0, 4.0]])
    assert composing.centred(boxes, (2, 0, 8, 8)).tolist() == [False, True]


def test_a_larger_canvas_keeps_the_shape_and_the_picture():
    factors = []
    for seed in range(100):
        left, top, right, bottom = composing.expanded(40, 60, 4.0, random.Random(seed))
        assert left <= 0
        assert top <= 0
        assert right >= 60
        assert bottom >= 40
        factors.append((right - left) / 60)
        assert abs((bottom - top) / 40 - factors[-1]) < 0.05
    assert min(factors) < 1.2
    assert max(factors) > 3.8
    assert composing.expanded(40, 60, 1.0, random.Random(0)) == (0, 0, 60, 40)


def test_colours_change_only_if_they_are_asked_to():
    pixels = annotated(0).pixels
    for seed in range(5):
        np.testing.assert_array_equal(composing.distorted(pixels, 0.0, random.Random(seed)), pixels)
        assert (composing.distorted(pixels, 1.0, random.Random(seed)) != pixels).any()


def test_an_even_grey_becomes_brighter_or_darker_by_no_more_than_ssds_factor():
    """Contrast, saturation and hue of an even grey are changed without an effect."""
    grey = np.full((4, 5, 3), 160, np.uint8)
    seen = [int(composing.distorted(grey, 1.0, random.Random(seed))[0, 0, 0]) for seed in range(60)]
    assert min(seen) >= 160 * 0.875 - 1
    assert max(seen) <= 160 * 1.125 + 1
    assert min(seen) < 150 < 170 < max(seen)


def test_the_share_of_the_largest_class_leaves_out_pixels_without_a_class():
    assert composing.largest_share(np.full((3, 3), IGNORED, np.uint8)) == 0
    assert composing.largest_share(np.array([[2, 2, IGNORED, 0]], np.uint8)) == 2 / 3
