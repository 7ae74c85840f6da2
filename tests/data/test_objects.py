"""The table of objects: what belongs to which picture, and what cannot be used."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fleetfoot.data.objects import ObjectList
from fleetfoot.data.pictures import Texts

BOXES = [
    [(0, 0, 5, 5), (3, 3, 3, 8), (12, 2, 15, 9)],  # the second has no width
    [],
    [(10, 0, 14, 4), (4, 4, 2, 8), (-3, -3, 0, 2), (8, 8, 11, 12)],  # beside, turned, beside, over
    [(1, 2, 3, float("nan")), (1, 2, 3, 4)],
]  # of pictures with 20 × 10, 9 × 9, 10 × 10 pixels, and of unknown size
SIZES = [(10, 20), (9, 9), (10, 10), (0, 0)]


@pytest.fixture
def table():
    objects, number = ObjectList("line"), 0
    for boxes, size in zip(BOXES, SIZES, strict=True):
        objects.begin(*size)
        for box in boxes:
            objects.masks.add_polygons([[number, 0, number + 1, 0, number, 1]])
            objects.add(number, box, number % 3, crowd=number == 2, area=float(number))
            number += 1
    return objects.table(Texts(f"{name}.txt" for name in "abcd"))


def test_each_picture_has_its_usable_objects(table):
    assert len(table) == 4
    assert [table[i].boxes.tolist() for i in range(4)] == [
        [[0, 0, 5, 5], [12, 2, 15, 9]], [], [[8, 8, 11, 12]], [[1, 2, 3, 4]]
    ]  # fmt: skip
    first = table[0]
    assert first.classes.tolist() == [0, 2]
    assert first.crowd.tolist() == [False, True]
    assert first.areas.tolist() == [0, 2]
    assert [mask.rings[0][0, 0] for mask in first.masks] == [0, 2]
    assert (first.size, table[3].size) == ((10, 20), None)
    assert table[-1].boxes.tolist() == table[3].boxes.tolist()
    with pytest.raises(IndexError):
        table[4]


def test_an_object_that_cannot_be_used_is_named_by_file_and_line(table):
    assert [table.place(number) for number in np.flatnonzero(~table.used)] == [
        "a.txt, line 1", "c.txt, line 3", "c.txt, line 4", "c.txt, line 5", "d.txt, line 7"
    ]  # fmt: skip
    assert np.flatnonzero(table.without_area()).tolist() == [1, 4, 7]
    assert np.flatnonzero(table.outside()).tolist() == [3, 5]
    assert table.beyond().tolist() == [0, 0, 0, 4, 0, 3, 2, 0, 0]


def test_chosen_pictures_keep_their_objects_and_masks(table):
    chosen = table.chosen(np.array([2, 0]))
    assert chosen[0].boxes.tolist() == table[2].boxes.tolist()
    assert [mask.rings[0][0, 0] for mask in chosen[1].masks] == [0, 2]
    assert chosen.place(0) == "c.txt, line 3"
    assert chosen.described(1) == table.described(0)
    again = chosen.chosen(np.array([1]))
    assert again.described(0) == table.described(0)
    assert [mask.rings[0][0, 0] for mask in again[0].masks] == [0, 2]


def test_what_is_described_changes_with_what_is_used_alone(table):
    def described(box, label=0, area=1.0):
        objects = ObjectList("line")
        objects.begin(10, 20)
        objects.masks.add_none()
        objects.add(0, (0, 0, 5, 5), 0, crowd=False, area=1.0)
        objects.masks.add_none()
        objects.add(1, box, label, crowd=False, area=area)
        return objects.table(Texts(["a"])).described(0)

    assert described((1, 1, 1, 9)) == described((2, 9, 2, 9))  # neither has an area
    kinds = [described((1, 1, 2, 9)), described((1, 1, 3, 9)), described((1, 1, 2, 9), 1)]
    assert len({*kinds, described((1, 1, 2, 9), area=2.0), described((1, 1, 1, 9))}) == 5


def test_a_hundred_thousand_pictures_are_a_few_arrays():
    objects = ObjectList("annotation")
    for number in range(100_000):
        objects.begin(480, 640)
        objects.masks.add_none()
        objects.add(number, (0.0, 0.0, 9.0, 9.0), 1, crowd=False, area=81.0)
    table = objects.table(Texts(["instances.json"]))
    assert len(pickle.dumps(table)) < 100_000 * 100  # bytes an object
    assert table[99_999].boxes.tolist() == [[0, 0, 9, 9]]
