"""Masks of objects: against pycocotools, and by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fleetfoot.data.masks import MaskList, Polygons, Runs, area_within, unpacked

coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is the oracle")


def ring(draw: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A polygon on a picture of this size, and partly beside it; now and then with whole numbers
    or a corner twice."""
    corners = draw.uniform(-5, (width + 5, height + 5), (draw.integers(3, 12), 2))
    if draw.random() < 0.3:
        corners = np.round(corners)
    if draw.random() < 0.2:
        corners[1] = corners[0]
    return corners


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # its own
def test_polygons_cover_the_pixels_that_pycocotools_gives_them():
    draw = np.random.default_rng(0)
    for _ in range(300):
        height, width = draw.integers(1, 60, 2).tolist()
        rings = [ring(draw, height, width) for _ in range(draw.integers(1, 4))]
        drawn = Polygons(tuple(rings)).drawn(height, width)
        runs = coco.frPyObjects([one.ravel().tolist() for one in rings], height, width)
        wanted = coco.decode(coco.merge(runs)).astype(bool)
        assert drawn.shape == (height, width)
        assert (drawn == wanted).all()


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_run_lengths_as_pycocotools_writes_them(share):
    draw = np.random.default_rng(1)
    for _ in range(60):
        height, width = draw.integers(1, 70, 2).tolist()
        mask = draw.random((height, width)) < share
        text = coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
        counts = unpacked(text)
        assert counts == unpacked(text.decode())
        assert (Runs(np.array(counts), height, width).drawn(height, width) == mask).all()


@pytest.mark.parametrize(
    ("text", "said"), [("12\n", "character 3"), ("1P", "cut off"), ("1\x7f", "character 2")]
)
def test_broken_run_lengths(text, said):
    with pytest.raises(ValueError, match=said):
        unpacked(text)


def test_run_lengths_fit_one_size_only():
    runs = Runs(np.array([4, 2]), 2, 3)
    with pytest.raises(ValueError, match="a mask of 3 × 2 pixels on a picture of 2 × 3"):
        runs.drawn(3, 2)


def test_a_rectangle_along_pixel_edges_is_its_pixels():
    corners = np.array([[2.0, 1.0], [5.0, 1.0], [5.0, 4.0], [2.0, 4.0]])
    drawn = Polygons((corners,)).drawn(6, 7)
    wanted = np.zeros((6, 7), dtype=bool)
    wanted[1:4, 2:5] = True
    assert (drawn == wanted).all()
    assert area_within(corners.ravel().tolist()) == drawn.sum() == 9


def test_masks_in_flat_arrays_come_back_in_order():
    made = MaskList()
    made.add_none()
    made.add_polygons([[0, 0, 2, 0, 2, 2], [3, 3, 5, 3, 5, 5, 3, 5]])
    made.add_runs([1, 2, 1], 2, 2)
    made.add_polygons([[1, 1, 4, 1, 4, 4]])
    masks = pickle.loads(pickle.dumps(made.masks()))
    assert len(masks) == 4
    assert masks[0] is None
    assert [len(one) for one in masks[1].rings] == [3, 4]
    assert masks[1].rings[1].tolist() == [[3, 3], [5, 3], [5, 5], [3, 5]]
    assert (masks[2].counts.tolist(), masks[2].height, masks[2].width) == ([1, 2, 1], 2, 2)
    assert masks[3].rings[0].tolist() == [[1, 1], [4, 1], [4, 4]]
    assert len({masks.described(number) for number in range(4)}) == 4


def test_without_any_mask_there_is_no_table():
    made = MaskList()
    made.add_none()
    assert made.masks() is None


@pytest.mark.parametrize("counts", [[3], [2, 3], []])
def test_run_lengths_that_do_not_cover_the_picture_are_refused(counts):
    with pytest.raises(ValueError, match="and its size is 2 × 2"):
        MaskList().add_runs(counts, 2, 2)
