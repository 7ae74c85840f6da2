"""What in a data set is said to be wrong, doubtful, or good to know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from datasets_seen import group, seen, unreadable
from fleetfoot.data.concerns import concerns
from fleetfoot.data.survey import Leak


def said(found, level):
    return [one.text for one in concerns(found) if one.level == level]


def test_a_sound_set_has_none():
    assert concerns(seen()) == ()


@pytest.mark.parametrize(("equal", "level"), [(1, "wrong"), (0, "doubt")])
def test_copies_across_parts(equal, level):
    found = seen(leaks=(Leak("test", equal, 3, 200),))
    (text,) = said(found, level)
    number = 3 + equal
    assert text.startswith(
        f"{number} of 200 pictures of test ({number / 2:g} %) are in train too "
        f"({equal} as an equal file, 3 by looks): the accuracy on test will be too high"
    )


@pytest.mark.parametrize(
    ("kind", "level", "words"),
    [("equal", "wrong", "of equal files"), ("alike", "doubt", "of pictures that look alike")],
)
def test_copies_in_two_classes(kind, level, words):
    same = group(kind, ("train", 0), ("train", 0))
    found = seen(groups=(group(kind, ("train", 0), ("val", 1)), same))
    assert said(found, level) == [
        f"1 group {words} in two classes or more: 'cat' and 'dog'; decide for one"
    ]
    assert said(found, "note") == [
        "1 picture of train that repeat others of train, or look like them"
    ]


def test_unreadable_pictures():
    (text,) = said(seen(unreadable=(unreadable("a.png", "empty file"),)), "wrong")
    assert text == "1 picture cannot be read, for example a.png: empty file"


def test_uneven_and_small_classes():
    assert said(seen(counts={"train": (99, 10)}), "doubt") == []
    (text,) = said(seen(counts={"train": (100, 10)}), "doubt")
    assert text == "the classes of train are uneven: 'cat' has 100 pictures, 'dog' has 10"
    few = said(seen(counts={"train": (30, 9)}), "doubt")
    assert few == ["1 class of train with fewer than 10 pictures, for example 'dog'"]
    assert said(seen(counts={"val": (100, 1)}), "doubt") == []


def test_classes_without_pictures_are_a_doubt_and_other_notes_are_notes():
    found = seen(notes=("val has no picture of 1 class, 'dog'", "passed over: 1 .txt"))
    assert said(found, "doubt") == ["val has no picture of 1 class, 'dog'"]
    assert said(found, "note") == ["passed over: 1 .txt"]


def test_small_pictures_and_what_was_left_out():
    assert said(seen(smaller=50, size=128), "note") == [
        "50 of 200 pictures (25 %) have a side below 128 pixels and are enlarged when trained at "
        "that size"
    ]
    assert "stopped after 20 of 200" in said(seen(opened=20, stopped=True), "note")[0]
    (text,) = said(seen(opened=20, quick=True), "note")
    assert text.startswith("only the headers of 20 pictures were read; 'fleetfoot data' opens all")


def test_the_gravest_comes_first():
    found = seen(
        smaller=3,
        counts={"train": (1, 99)},
        unreadable=(unreadable("a.png", "empty file"),),
        notes=("x",),
    )
    levels = [one.level for one in concerns(found)]
    assert levels == ["wrong", "doubt", "doubt", "note", "note"]
    assert concerns(replace(found, notes=())) != concerns(found)
