"""The card and the page on a data set."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from datasets_seen import seen, unreadable
from fleetfoot.data.inspection import inspect
from fleetfoot.data.layouts import open_dataset
from fleetfoot.report import data_page
from fleetfoot.report.data_page import html
from fleetfoot.report.datasets import print_card
from pages import HOSTILE, Tags, assert_loads_nothing, assert_runs_no
from pictures_on_disk import picture, scenery, write


def card(found) -> str:
    text = io.StringIO()
    print_card(Console(file=text, width=120), found)
    return text.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Two classes with 12 pictures each, one of them unreadable, and two copies in val."""
    for number in range(24):
        name = "ab"[number // 12]
        scenery(number, 40).save(
            write(tmp_path, f"train/{name}/x.png") / f"train/{name}/{number}.png"
        )
        (tmp_path / f"train/{name}/x.png").unlink()
    write(tmp_path, "train/a/bad.png", data=b"")
    write(tmp_path, "val/a/again.png", data=(tmp_path / "train/a/3.png").read_bytes())
    write(tmp_path, "val/b/again.png", data=(tmp_path / "train/a/4.png").read_bytes())
    return tmp_path


@pytest.fixture
def page(folder):
    dataset = open_dataset(folder)
    return html(inspect(dataset), dataset)


def test_the_page_loads_nothing_and_is_whole(page):
    assert_loads_nothing(page)
    assert "img-src data:" in page
    assert Tags(page).open == []
    assert "$" not in re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL)


def test_the_page_shows_pictures_of_each_class_copies_and_what_cannot_be_read(page):
    assert page.count("<img ") == 2 * data_page.OF_A_CLASS + 2 * 2
    assert "equal files" in page
    assert '<b class="differs">val</b>' in page
    assert '<span class="differs">b</span>' in page
    assert '<td class="reason">empty file</td>' in page
    assert "2 of 2 pictures of val (100 %) are in train too" in page


def test_the_card_says_the_same(folder):
    said = card(inspect(open_dataset(folder)))
    assert "2 classes, 27 pictures" in said
    assert re.search(r"train +25 +2 +12 +12\.5 +13", said)
    assert re.search(r"width +40 pixels *\n", said)
    assert "train/a/bad.png: empty file" in said
    assert "nothing wrong" not in said


def test_the_card_of_a_sound_set():
    said = card(seen())
    assert "file            0.900 to 12.3 kB, median 2\n" in re.sub(r" +\n", "\n", said)
    assert said.rstrip().endswith("nothing wrong was found")
    assert "nothing wrong" not in card(seen(quick=True))


def test_many_unreadable_pictures_are_counted():
    bad = tuple(unreadable(f"{i}.png", "empty file") for i in range(30))
    said = card(seen(unreadable=bad))
    assert "30 pictures cannot be read, for example 0.png" in said
    assert "4.png: empty file" in said
    assert "5.png: empty file" not in said
    assert "and 25 more" in said


def test_with_many_classes_there_are_few_pictures_of_each(tmp_path, monkeypatch):
    monkeypatch.setattr(data_page, "SHEET", 6)
    write(tmp_path, *(f"{name}/{i}.png" for name in "abcd" for i in range(3)))
    dataset = open_dataset(tmp_path, val_share=0)
    told = []
    text = html(inspect(dataset), dataset, on_progress=lambda *state: told.append(state))
    assert text.count("<img ") == 4
    assert told == [(i, 4, "making small pictures") for i in range(1, 5)]
    monkeypatch.setattr(data_page, "SHEET", 3)
    text = html(inspect(dataset), dataset)
    assert text.count("<img ") == 3
    assert "and 1 class more" in text


def test_hostile_names_become_no_markup(tmp_path):
    name = HOSTILE.replace("/", "∕")  # a slash would be a folder
    write(tmp_path, f"{name}/{name}.png", f"b\x1b[2J/{name}.png", data=picture())
    write(tmp_path, f"{name}/bad{name}.png", data=b"")
    dataset = open_dataset(tmp_path, val_share=0)
    text = html(inspect(dataset), dataset)
    assert_runs_no(text)
    assert "\x1b" not in text
    assert "\x1b" not in card(inspect(dataset))


def test_the_digits_and_a_quick_look_have_a_page():
    dataset = open_dataset()
    text = html(inspect(dataset, quick=True), dataset)
    assert text.count("<img ") == 10 * data_page.OF_A_CLASS
    assert "Copies, and pictures" not in text


@pytest.mark.slow
def test_the_page_in_a_browser(opened, page):
    shown = opened(page)
    assert shown.locator("#count").inner_text() == "2 of 2 classes"
    shown.fill("#find", "b")
    assert shown.locator("#classes tbody tr:visible").count() == 1
    shown.fill("#find", "")
    shown.click("#classes thead th:nth-child(2) button")
    assert shown.locator("#classes tbody th").first.inner_text() == "a"  # most pictures first
    shown.click("#classes thead th:nth-child(2) button")
    assert shown.locator("#classes tbody th").first.inner_text() == "b"
    assert shown.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")


@pytest.mark.slow
def test_the_page_fits_a_phone(opened, page):
    shown = opened(page, viewport={"width": 420, "height": 900})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 420
