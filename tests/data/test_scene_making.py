"""The makers, against what they are made of: pictures of coloured rectangles, in which the colour
says what every box, mask and map must be."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from fleetfoot.data import scene_making
from fleetfoot.data.making import Maker
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.scene_making import AugmentedScenes, MadeMap, MadeObjects, PlainScenes
from fleetfoot.data.scenes import IGNORED, LabelMap
from fleetfoot.data.settings import Scene
from fleetfoot.data.sources import Source
from fleetfoot.errors import ImageError
from small_scenes import (
    COLOURS,
    objects_of,
    part,
    png,
    rectangles,
    with_hands,
    with_maps,
    with_objects,
)

NOTHING = Scene(flip=0.0)
EVERYTHING = Scene(
    flip=0.5, scale=(0.6, 1.8), expand=0.5, expand_most=2.0, iou_crop=0.5, mosaic=0.5,
    mosaic_scale=(0.7, 1.6), multiscale=(0.5, 1.5), multiscale_every=1,
)  # fmt: skip
LETTERBOX = Preprocess(size=(96, 128), crop_pct=1, resize_mode="letterbox")
SQUASH = Preprocess(size=80, crop_pct=1, resize_mode="squash")
CROP = Preprocess(size=64, crop_pct=0.9)


def augmented(settings: Scene, *, maps: bool = False, **fields) -> AugmentedScenes:
    given = {
        "scenes": with_maps() if maps else with_objects(),
        "task": "segment" if maps else "detect",
        "settings": settings,
        "preprocess": LETTERBOX,
    }
    return AugmentedScenes(**given | fields)


def plain(*, maps: bool = False, **fields) -> PlainScenes:
    given = {"scenes": with_maps() if maps else with_objects(), "preprocess": LETTERBOX}
    return PlainScenes(**given | fields)


def write(maker: Maker, number: int, *, epoch: int = 0, update: int = 0, repeat: int = 0):
    out = np.full(maker.shape(epoch=epoch, update=update), 77, np.uint8)
    made = maker.write(out, number, epoch=epoch, update=update, repeat=repeat)
    return out, made


def same(one, other) -> None:
    np.testing.assert_array_equal(one[0], other[0])
    fields = vars(one[1])
    assert type(one[1]) is type(other[1])
    for name in fields.keys() - {"placement"}:
        np.testing.assert_array_equal(fields[name], getattr(other[1], name), err_msg=name)


def differ(one, other) -> bool:
    return one[0].shape != other[0].shape or bool((one[0] != other[0]).any())


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize(
    "preprocess",
    [
        LETTERBOX,
        SQUASH,
        replace(SQUASH, size=(48, 96), channel_order="bgr", interpolation="bicubic"),
        LETTERBOX.grey(),
        replace(LETTERBOX, antialias=False),
    ],
)
def test_if_nothing_is_drawn_training_sees_what_evaluation_sees(maps, preprocess):
    fields = {"maps": maps, "preprocess": preprocess, "masks": not maps}
    for number in range(5):
        found = write(augmented(NOTHING, **fields), number)
        same(found, write(plain(**fields), number))
        assert found[1].placement is None


def shown(pixels: np.ndarray) -> list[np.ndarray]:
    """Where each class's colour is pure, (H, W) each; pixels of two colours at edges are none."""
    return [(pixels == colour[:, None, None]).all(0) for colour in COLOURS]


@pytest.mark.parametrize("preprocess", [LETTERBOX, SQUASH, CROP], ids=lambda p: p.resize_mode)
def test_every_box_and_mask_lies_on_its_object(preprocess):
    """Whatever is drawn. A box's edge pixels are mixed with what is beside it, the more of them the
    more a picture is enlarged; so all but four are looked at."""
    scenes = with_objects(factor=3)
    maker = augmented(EVERYTHING, scenes=scenes, preprocess=preprocess, masks=True)
    objects = 0
    for number, epoch in product(range(5), range(4)):
        pixels, made = write(maker, number, epoch=epoch, update=epoch)
        assert isinstance(made, MadeObjects)
        classes = shown(pixels)
        assert made.boxes.dtype == np.float32
        assert made.masks.shape == (len(made.classes), *pixels.shape[1:])
        for box, chosen, mask in zip(made.boxes, made.classes, made.masks, strict=True):
            left, top, right, bottom = box.tolist()
            assert 0 <= left < right <= pixels.shape[2]
            assert 0 <= top < bottom <= pixels.shape[1]
            inner = (
                slice(int(top) + 4, max(int(bottom) - 4, 0)),
                slice(int(left) + 4, max(int(right) - 4, 0)),
            )
            assert classes[chosen][inner].all()
            assert mask[inner].all()
            rows, columns = np.nonzero(mask)
            if len(rows):  # half a pixel: the mask has those whose centres are inside
                edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                np.testing.assert_allclose(edges, box, rtol=0, atol=1.01)
            objects += classes[chosen][inner].size > 0
    assert objects > 20


@pytest.mark.parametrize("preprocess", [LETTERBOX, SQUASH, CROP], ids=lambda p: p.resize_mode)
def test_every_pixel_of_a_pure_colour_has_its_class(preprocess):
    settings = replace(EVERYTHING, iou_crop=0.0)
    scenes = with_maps(factor=3)
    maker = augmented(settings, maps=True, scenes=scenes, preprocess=preprocess)
    for number, epoch in product(range(5), range(4)):
        pixels, made = write(maker, number, epoch=epoch, update=epoch)
        assert isinstance(made, MadeMap)
        assert made.map.shape == pixels.shape[1:]
        for chosen, where in enumerate(shown(pixels)):
            assert (made.map[where] == chosen).all()
        black = (pixels == 0).all(0)
        assert (made.map[black] == IGNORED).all()


def test_evaluation_gives_boxes_and_maps_where_the_placement_says():
    for number in range(5):
        _, made = write(plain(preprocess=SQUASH), number)
        _, boxes, classes = rectangles(number, made.placement.height, made.placement.width)
        expected = made.placement.to_input(boxes)
        np.testing.assert_allclose(made.boxes, expected, rtol=1e-6)
        np.testing.assert_array_equal(made.classes, classes)
        assert made.masks is None

        pixels, made = write(plain(maps=True, whole=True), number)
        placed = made.placement
        height, width = (
            round(placed.height * placed.scale[1]),
            round(placed.width * placed.scale[0]),
        )
        assert (made.map[height:] == IGNORED).all()
        assert (made.map[:, width:] == IGNORED).all()
        target = with_maps().targets[number]
        np.testing.assert_array_equal(made.whole, target.drawn(placed.height, placed.width))
        for chosen, where in enumerate(shown(pixels)):
            assert (made.map[where] == chosen).all()


def test_a_centre_crop_cuts_boxes_and_maps_too():
    wide = Preprocess(size=32, crop_pct=1.0)
    boxes = np.array([[0.0, 0.0, 12.0, 8.0], [60.0, 0.0, 64.0, 8.0], [40.0, 4.0, 64.0, 32.0]])
    target = objects_of(boxes, np.arange(3), 32, 64)
    scenes = part([np.zeros((32, 64, 3), np.uint8)], [target])
    _, made = write(plain(scenes=scenes, preprocess=wide, masks=True), 0)
    assert made.boxes.tolist() == [[24, 4, 32, 32]]
    assert made.classes.tolist() == [2]
    assert made.masks.sum() == 8 * 28


def test_the_same_draws_give_the_same_bytes_and_others_give_others():
    settings = replace(EVERYTHING, photometric=0.5, mixup=0.5)
    maker = augmented(settings, masks=True)
    again = pickle.loads(pickle.dumps(maker))
    base = {"epoch": 2, "update": 7, "repeat": 1}
    found = write(maker, 3, **base)
    same(found, write(again, 3, **base))
    for change in ({"epoch": 3}, {"repeat": 0}):
        assert differ(found, write(maker, 3, **base | change))
    assert differ(found, write(maker, 2, **base))
    assert differ(found, write(replace(maker, seed=1), 3, **base))


def test_global_generators_stay_as_they_are():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    write(augmented(replace(EVERYTHING, photometric=1.0, mixup=1.0)), 0)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_no_setting_changes_what_another_one_draws():
    """The flip of each picture stays when everything else is switched on."""
    flips = augmented(Scene(flip=0.5), preprocess=SQUASH)
    still, mirrored = (augmented(Scene(flip=flip), preprocess=SQUASH) for flip in (0.0, 1.0))
    jittered = [
        augmented(Scene(flip=flip, scale=(0.7, 0.7), photometric=0.5), preprocess=SQUASH)
        for flip in (0.0, 0.5, 1.0)
    ]
    seen = set()
    for number in range(5):
        for epoch in range(4):
            flipped = not differ(
                write(flips, number, epoch=epoch), write(mirrored, number, epoch=epoch)
            )
            unlike = differ(write(flips, number, epoch=epoch), write(still, number, epoch=epoch))
            assert flipped == unlike
            same(
                write(jittered[1], number, epoch=epoch),
                write(jittered[2 if flipped else 0], number, epoch=epoch),
            )
            seen.add(flipped)
    assert seen == {False, True}


def test_the_size_of_the_input_follows_the_update():
    settings = Scene(multiscale=(0.5, 1.5), multiscale_every=5)
    maker = augmented(settings, preprocess=replace(LETTERBOX, size=(128, 256)))
    shapes = [maker.shape(epoch=0, update=update) for update in range(200)]
    assert {shape[1:] for shape in shapes} == {(64, 128), (96, 192), (128, 256), (160, 320),
                                               (192, 384)}  # fmt: skip
    for first in range(0, 200, 5):
        assert len(set(shapes[first : first + 5])) == 1
    assert maker.largest == 3 * 192 * 384
    assert shapes == [replace(maker).shape(epoch=1, update=update) for update in range(200)]
    assert shapes != [replace(maker, seed=1).shape(epoch=0, update=n) for n in range(200)]
    for update in (0, 5, 10):
        pixels, made = write(maker, 0, update=update)
        assert pixels.shape == shapes[update]
        assert (made.height, made.width) == pixels.shape[1:]


def test_a_size_that_is_no_multiple_stays_if_there_is_only_one():
    maker = augmented(NOTHING, preprocess=replace(LETTERBOX, size=(100, 70)))
    assert maker.shape(epoch=0, update=3) == (3, 100, 70)
    assert maker.largest == 3 * 100 * 70


def test_mosaic_and_mixup_end_with_their_epoch():
    composed = replace(NOTHING, mosaic=1.0, mixup=1.0, until=2)
    for number in range(3):
        alone = write(augmented(NOTHING), number, epoch=2)
        assert differ(write(augmented(composed), number, epoch=1), alone)
        same(write(augmented(composed), number, epoch=2), alone)


def test_a_mixed_picture_has_the_objects_of_both():
    count = [
        len(write(augmented(replace(NOTHING, mixup=mixup)), 0)[1].classes) for mixup in (0.0, 1.0)
    ]
    assert count == [3, 6]


def test_a_mosaic_has_the_picture_that_was_asked_for():
    """Its own colour, among others that have none."""
    pixels, boxes, _ = rectangles(0, 48, 72, count=1)
    target = objects_of(boxes, np.array([0]), 48, 72)
    pixels[(pixels != 0).any(2)] = COLOURS[0]
    empty = objects_of(np.zeros((0, 4)), np.zeros(0, np.int64), 48, 72)
    scenes = part([pixels, *[np.zeros_like(pixels)] * 20], [target, *[empty] * 20])
    settings = replace(NOTHING, mosaic=1.0, mosaic_scale=(0.4, 0.5))
    maker = augmented(settings, scenes=scenes)
    assert all(len(write(maker, 0, epoch=epoch)[1].classes) for epoch in range(5))


def test_a_part_in_which_one_class_has_less_is_taken():
    classes = np.zeros((64, 200), np.uint8)
    classes[:, 100:] = 1
    target = LabelMap(source=Source("map.png", png(classes)))
    scenes = part([np.zeros((64, 200, 3), np.uint8)], [target])
    square = Preprocess(size=64, crop_pct=1.0)
    shares = {}
    for most in (1.0, 0.75):
        maker = augmented(
            replace(NOTHING, largest_share=most), maps=True, scenes=scenes, preprocess=square
        )
        maps = [write(maker, 0, epoch=epoch)[1].map for epoch in range(40)]
        shares[most] = [max((one == 0).mean(), (one == 1).mean()) for one in maps]
    # a part that is drawn is varied enough with probability 0.23, so one of ten with 0.93
    assert sum(share <= 0.75 for share in shares[1.0]) < 20
    assert sum(share <= 0.75 for share in shares[0.75]) > 30


def test_objects_that_become_too_small_are_left_out():
    boxes = np.array([[0.0, 0.0, 40.0, 40.0], [50.0, 50.0, 51.9, 70.0]])
    scenes = part(
        [np.zeros((100, 100, 3), np.uint8)], [objects_of(boxes, np.arange(2), 100, 100, False)]
    )
    for size, kept in ((50, [0]), (60, [0, 1])):
        preprocess = replace(SQUASH, size=size)
        _, made = write(augmented(NOTHING, scenes=scenes, preprocess=preprocess), 0)
        assert made.classes.tolist() == kept


def test_an_input_without_objects_is_one():
    target = objects_of(np.zeros((0, 4)), np.zeros(0, np.int64), 30, 40)
    scenes = part([np.zeros((30, 40, 3), np.uint8)], [target])
    _, made = write(augmented(EVERYTHING, scenes=scenes, masks=True), 0)
    assert made.boxes.shape == (0, 4)
    assert made.masks.shape == (0, made.height, made.width)


def test_a_picture_of_a_mosaic_that_cannot_be_used_is_named():
    scenes = with_objects()
    raw = (*scenes.pictures.files[:4], b"no picture")
    broken = part(raw, scenes.targets.targets)
    maker = augmented(replace(NOTHING, mosaic=1.0), scenes=broken)
    with pytest.raises(ImageError, match=r"4\.png: not a picture"):
        [write(maker, 0, epoch=epoch) for epoch in range(20)]


def test_a_target_that_cannot_be_used_is_named_with_its_picture():
    with pytest.raises(ImageError, match=r"0\.png: its objects have no masks"):
        write(augmented(NOTHING, scenes=with_objects(masks=False), masks=True), 0)
    with pytest.raises(ImageError, match=r"0\.png: it shows a hand"):
        write(augmented(NOTHING, scenes=with_hands()), 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"flip": 1.5}, "flip must be a probability from 0 to 1, not 1.5"),
        ({"mosaic": -0.1}, "mosaic must be a probability"),
        ({"scale": (1.2, 0.5)}, "scale must be two rising factors above 0 and at most 8"),
        ({"mosaic_scale": (0.0, 0.5)}, "mosaic_scale must be two rising factors"),
        ({"multiscale": (0.5, 100)}, "multiscale must be two rising factors"),
        ({"multiscale": (1.01, 1.02)}, "holds no multiple of 32; choose a wider range"),
        ({"multiscale_every": 0}, "multiscale_every must be 1 update or more, not 0"),
        ({"expand_most": 0.5}, "expand_most must be a factor from 1 to 8"),
        ({"visible": 2}, "visible must be a share from 0 to 1"),
        ({"until": -1}, "until must be an epoch"),
        ({"rotate": 20.0}, "rotate has no effect in the task detect; leave it at 0.0, not 20.0"),
        ({"largest_share": 0.75}, "largest_share has no effect in the task detect"),
    ],
)
def test_a_setting_out_of_range_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        augmented(Scene(**fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mixup": 0.5}, "mixup has no effect in the task segment"),
        ({"iou_crop": 0.5}, "iou_crop has no effect in the task segment"),
        ({"largest_share": 0.0}, "largest_share must be a share above 0"),
    ],
)
def test_segmentation_has_settings_of_its_own(fields, message):
    with pytest.raises(ValueError, match=message):
        augmented(Scene(**fields), maps=True)


def test_masks_come_back_from_their_bits():
    rng = np.random.default_rng(0)
    masks = rng.random((3, 5, 7)) < 0.5
    made = MadeObjects(
        boxes=np.zeros((3, 4), np.float32),
        classes=np.zeros(3, np.int64),
        height=5,
        width=7,
        bits=np.packbits(masks),
    )
    np.testing.assert_array_equal(made.masks, masks)
    assert made.bits.nbytes == 14
    assert scene_making.LEAST_SIDE == 1
