"""Boxes, masks and maps move together: the masks here are those of boxes whose edges lie between
pixels, so that each says exactly where the other must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from fleetfoot.data.annotations import Annotations, areas, framed, sampled
from fleetfoot.data.masks import Polygons
from fleetfoot.data.scenes import IGNORED, Hand, Objects
from small_scenes import covered, objects_of, rectangles, with_maps

HEIGHT, WIDTH = 48, 72


def known(seed: int = 0) -> Annotations:
    """Three rectangles, with masks and a map."""
    _, boxes, classes = rectangles(seed, HEIGHT, WIDTH)
    made = Annotations.of(objects_of(boxes, classes, HEIGHT, WIDTH), HEIGHT, WIDTH, masks=True)
    return with_map(made)


def with_map(one: Annotations) -> Annotations:
    """With a map that shows the same objects."""
    classes = np.full((one.height, one.width), IGNORED, np.uint8)
    for mask, chosen in zip(one.masks, one.classes, strict=True):
        classes[mask] = chosen
    return Annotations(**vars(one) | {"map": classes})


def same(one: Annotations, other: Annotations) -> None:
    assert (one.height, one.width) == (other.height, other.width)
    for name in ("boxes", "classes", "masks", "map"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def agree(one: Annotations) -> None:
    """Masks and map are those of the boxes."""
    np.testing.assert_array_equal(one.boxes, one.boxes.round())
    np.testing.assert_array_equal(one.masks, covered(one.boxes, one.height, one.width))
    np.testing.assert_array_equal(one.map, with_map(one).map)


def test_flipping_twice_changes_nothing():
    same(known().flipped().flipped(), known())
    assert (known().flipped().boxes != known().boxes).any()


@pytest.mark.parametrize("seed", range(12))
def test_masks_and_maps_move_with_their_boxes_pixel_for_pixel(seed):
    rng = np.random.default_rng(seed)
    one = known(seed)
    for _ in range(6):
        match rng.integers(4):
            case 0:
                one = one.flipped()
            case 1 if one.height < 400:
                factor = rng.integers(1, 4, 2)
                one = one.resized(one.height * int(factor[0]), one.width * int(factor[1]))
            case 2:  # a border
                left, top, more, wider = rng.integers(0, 12, 4).tolist()
                one = one.framed(-left, -top, one.height + top + more, one.width + left + wider)
            case _:  # a part
                left, top = int(rng.integers(one.width // 4)), int(rng.integers(one.height // 4))
                one = one.framed(left, top, one.height - 2 * top, one.width - 2 * left)
        agree(one)
    assert (areas(one.boxes) > 0).all()


def test_a_part_that_is_pasted_back_is_where_it_was():
    one = known()
    left, top, height, width = 13, 9, 29, 41
    back = one.framed(left, top, height, width).framed(-left, -top, HEIGHT, WIDTH)
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[top : top + height, left : left + width] = True
    np.testing.assert_array_equal(back.map, np.where(inside, one.map, IGNORED))

    edges = np.array([left, top, left + width, top + height], float)
    cut = np.concatenate(
        (np.maximum(one.boxes[:, :2], edges[:2]), np.minimum(one.boxes[:, 2:], edges[2:])), axis=1
    )
    seen = areas(cut) > 0
    assert 0 < seen.sum()
    np.testing.assert_array_equal(back.boxes, cut[seen])
    np.testing.assert_array_equal(back.classes, one.classes[seen])
    np.testing.assert_array_equal(back.masks, (one.masks & inside)[seen])


def test_objects_of_which_too_little_is_seen_are_left_out():
    boxes = np.array([[0.0, 0.0, 10.0, 10.0], [8.0, 0.0, 18.0, 10.0], [30.0, 0.0, 40.0, 10.0]])
    one = Annotations.of(objects_of(boxes, np.arange(3), HEIGHT, WIDTH), HEIGHT, WIDTH)
    for visible, kept in ((0.0, [0, 1]), (0.2, [0, 1]), (0.25, [0]), (1.0, [0])):
        assert one.framed(0, 0, 20, 10, visible=visible).classes.tolist() == kept
    none = one.framed(0, 20, 10, 10)
    assert len(none) == 0
    assert none.boxes.shape == (0, 4)


def test_beside_a_picture_there_is_no_class():
    one = known().framed(WIDTH + 5, 0, 4, 6)
    assert len(one) == 0
    assert one.masks.shape == (0, 4, 6)
    np.testing.assert_array_equal(one.map, np.full((4, 6), IGNORED))


@pytest.mark.parametrize("size", [(20, 30), (7, 5), (48, 100), (1, 1), (131, 97)])
def test_maps_are_sampled_as_pillow_samples_the_nearest_pixel(size):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (37, 53), dtype=np.uint8)
    theirs = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(sampled(pixels, *size), np.asarray(theirs))
    np.testing.assert_array_equal(
        sampled(np.stack((pixels, pixels.T[:37, :37].repeat(2, 1)[:, :53])), *size)[0], theirs
    )


def boxes_of_torchvision(one: Annotations) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(
        torch.from_numpy(one.boxes), format="XYXY", canvas_size=(one.height, one.width)
    )


def test_the_geometry_is_torchvisions():
    one = known(3)
    boxes, masks = boxes_of_torchvision(one), tv_tensors.Mask(torch.from_numpy(one.masks))
    for ours, theirs in (
        (one.flipped(), functional.horizontal_flip),
        (one.framed(0, 0, 48, 72), lambda x: x),
        (one.framed(-7, -3, 60, 90), lambda x: functional.pad(x, [7, 3, 11, 9])),
        (one.framed(5, 4, 40, 60), lambda x: functional.crop(x, 4, 5, 40, 60)),
    ):
        moved = functional.clamp_bounding_boxes(theirs(boxes))
        kept = (moved[:, 2:] > moved[:, :2]).all(1)
        np.testing.assert_allclose(ours.boxes, moved[kept].numpy(), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(ours.masks, theirs(masks)[kept].numpy())
    resized = functional.resize(boxes, [31, 101]).numpy()
    # theirs divides in float32
    np.testing.assert_allclose(one.resized(31, 101).boxes, resized, rtol=1e-6)


def test_from_a_polygon_to_a_mask_to_a_box():
    """A polygon whose corners lie between pixels covers the same pixels at twice the size, and its
    mask's outermost pixels are those of its box."""
    corners = np.array([[8.0, 4.0], [40.0, 4.0], [40.0, 20.0], [24.0, 20.0], [24.0, 36.0],
                        [8.0, 36.0]])  # fmt: skip
    target = Objects(
        boxes=np.array([[8.0, 4.0, 40.0, 36.0]]),
        classes=np.array([2]),
        crowd=np.array([False]),
        areas=np.array([768.0]),
        masks=(Polygons((corners,)),),
    )
    one = Annotations.of(target, HEIGHT, WIDTH, masks=True)
    twice = one.flipped().resized(2 * HEIGHT, 2 * WIDTH)
    turned = np.stack((WIDTH - corners[:, 0], corners[:, 1]), axis=1) * 2
    np.testing.assert_array_equal(twice.masks[0], Polygons((turned,)).drawn(2 * HEIGHT, 2 * WIDTH))
    for made in (one, one.flipped(), twice, twice.framed(3, 5, 60, 100)):
        rows, columns = np.nonzero(made.masks[0])
        bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert made.boxes[0].tolist() == bounds


def test_crowds_and_what_is_not_on_the_picture_are_left_out():
    boxes = np.array(
        [
            [0, 0, 5, 5],
            [-4, -4, 3, 3],
            [70, 40, 99, 99],
            [90, 0, 99, 9],
            [3, 3, 3, 9],
            [9, 9, 9, 9],
        ],
        float,
    )
    crowd = [True, False, False, False, False, False]
    target = objects_of(boxes, np.arange(6), HEIGHT, WIDTH, masks=False, crowd=crowd)
    one = Annotations.of(target, HEIGHT, WIDTH)
    assert one.classes.tolist() == [1, 2]
    assert one.boxes.tolist() == [[0, 0, 3, 3], [70, 40, 72, 48]]
    assert one.masks is None


def test_if_masks_are_wanted_objects_without_one_are_left_out():
    _, boxes, classes = rectangles(0, HEIGHT, WIDTH)
    target = objects_of(boxes, classes, HEIGHT, WIDTH)
    some = Objects(**vars(target) | {"masks": (target.masks[0], None, target.masks[2])})
    assert len(Annotations.of(some, HEIGHT, WIDTH)) == 3
    one = Annotations.of(some, HEIGHT, WIDTH, masks=True)
    np.testing.assert_array_equal(one.boxes, boxes[[0, 2]])
    np.testing.assert_array_equal(one.masks, covered(boxes[[0, 2]], HEIGHT, WIDTH))


def test_what_cannot_be_used_is_named():
    _, boxes, classes = rectangles(0, HEIGHT, WIDTH)
    target = objects_of(boxes, classes, HEIGHT, WIDTH, masks=False)
    with pytest.raises(ValueError, match="its objects have no masks"):
        Annotations.of(target, HEIGHT, WIDTH, masks=True)
    sized = Objects(**vars(target) | {"size": (HEIGHT, WIDTH)})
    with pytest.raises(ValueError, match="72 × 48"):
        Annotations.of(sized, WIDTH, HEIGHT)
    zeros = np.zeros((21, 3))
    with pytest.raises(ValueError, match="a hand"):
        Annotations.of(Hand(joints=zeros, vertices=zeros, points=zeros[:, :2]), 8, 8)


def test_a_map_takes_the_classes_that_its_values_stand_for():
    one = Annotations.of(with_maps().targets[0], *(48, 72))
    assert set(np.unique(one.map)) <= {0, 1, 2, 3, 4, IGNORED}
    assert (one.map == IGNORED).any()
    assert len(one) == 0


def test_a_frame_takes_a_colour_and_any_axes():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    made = framed(pixels, 3, 1, 2, 3, fill=(7, 8, 9))
    assert made.tolist() == [[[21, 22, 23], [7, 8, 9], [7, 8, 9]], [[7, 8, 9]] * 3]
    for left, top in ((-9, 0), (0, -9), (9, 0), (0, 9), (4, 0), (0, 2), (-3, 0)):
        assert (framed(pixels, left, top, 2, 3, fill=5) == 5).all()
    inside = framed(pixels, 1, 0, 2, 2, fill=0)
    assert np.shares_memory(inside, pixels)
