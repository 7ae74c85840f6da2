"""What files, folders, patterns and standard input mean."""

from __future__ import annotations

import io
import os

import pytest
from PIL import Image

from fleetfoot.data.sources import Source, find_images
from fleetfoot.errors import ImageError


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder with two pictures, others below it, and what is to be passed over."""
    for name in ("b.png", "a.JPG", "deep/er/c.webp", ".hidden/d.png", ".e.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "round").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(*words: str, stdin: bytes = b"") -> list[str]:
    found = list(find_images(words, stdin=io.BytesIO(stdin)))
    assert not any(source.problem for source in found)
    return [source.path for source in found]


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_folder_gives_its_pictures_sorted_and_those_below_it(pictures):
    assert paths(".") == ["./a.JPG", "./b.png", "./deep/er/c.webp"]


def test_a_file_is_taken_at_its_word(pictures):
    assert paths("notes.txt", "b.png", ".e.png") == ["notes.txt", "b.png", ".e.png"]


def test_a_pattern_gives_its_files_sorted(pictures):
    assert paths("*.*") == ["a.JPG", "b.png", "notes.txt"]
    assert paths("deep/**/*.webp") == ["deep/er/c.webp"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(pictures):
    (pictures / "a[1].png").touch()
    (pictures / "a1.png").touch()
    assert paths("a[1].png") == ["a[1].png"]


def test_words_keep_their_order(pictures):
    assert paths("deep", "a.JPG") == ["deep/er/c.webp", "a.JPG"]


@pytest.mark.parametrize(
    ("word", "problem"), [("empty", "no pictures in this folder"), ("*.gif", "no file matches")]
)
def test_a_word_that_leads_to_nothing_is_a_problem_of_its_own(pictures, word, problem):
    (pictures / "empty").mkdir()
    wrong, right = find_images([word, "b.png"])
    assert right == Source("b.png")
    with pytest.raises(ImageError, match=problem) as caught:
        wrong.open()
    assert caught.value.path == word


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_may_not_be_read_is_a_problem(pictures):
    (pictures / "deep/er").chmod(0)
    *_, last = find_images(["."])
    (pictures / "deep/er").chmod(0o755)
    assert "cannot be read" in last.problem


def test_a_missing_file_is_found_out_when_it_is_opened():
    (source,) = find_images(["absent.jpg"])
    with pytest.raises(ImageError, match=r"absent\.jpg: no such file"):
        source.open()


def test_standard_input_can_hold_a_picture():
    (source,) = find_images(["-"], stdin=io.BytesIO(png()))
    assert source.path == "-"
    assert source.open().image.size == (3, 2)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_every_format_is_told_from_a_list_of_paths(format):
    buffer = io.BytesIO()
    Image.new("RGB", (257, 257), "white").save(buffer, format)
    (source,) = find_images(["-"], stdin=io.BytesIO(buffer.getvalue()))
    assert source.open().image.size == (257, 257)


def test_ascii_netpbm_is_a_picture_too():
    (source,) = find_images(["-"], stdin=io.BytesIO(b"P3\n1 1\n255\n9 8 7\n"))
    assert source.open().image.getpixel((0, 0)) == (9, 8, 7)


def test_standard_input_can_hold_paths():
    names = "a.jpg\r\n\nPlain.png\nb c.jpg\nümlaut.png"
    assert paths("-", stdin=names.encode()) == ["a.jpg", "Plain.png", "b c.jpg", "ümlaut.png"]


def test_a_path_that_is_not_text_still_opens(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(name, "wb") as file:
            file.write(png())
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (source,) = find_images(["-"], stdin=io.BytesIO(name + b"\n"))
    assert source.open().image.size == (3, 2)


def test_empty_standard_input_is_a_problem():
    (source,) = find_images(["-"], stdin=io.BytesIO(b"\n"))
    assert source.problem == "standard input holds neither a picture nor a path"


def test_a_terminal_is_not_waited_for():
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    (source,) = find_images(["-"], stdin=Terminal())
    assert "is a terminal" in source.problem


def test_standard_input_is_read_no_further_than_the_limit():
    (picture,) = find_images(["-"], stdin=io.BytesIO(png()), max_bytes=20)
    with pytest.raises(ImageError, match="limit of 20 bytes"):
        picture.open(max_bytes=20)
    (names,) = find_images(["-"], stdin=io.BytesIO(b"a.jpg\n" * 20), max_bytes=20)
    assert "more than 20 bytes of paths" in names.problem


def test_pictures_of_formats_that_are_not_read_are_found_in_a_folder_and_say_what_to_do(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "b.png")
    for name in ("a.HEIC", "c.cr2", "notes.txt"):
        (tmp_path / name).write_bytes(b"no picture")
    found = list(find_images([str(tmp_path)]))
    assert [os.path.basename(one.path) for one in found] == ["a.HEIC", "b.png", "c.cr2"]
    for one in (found[0], found[2]):
        with pytest.raises(ImageError, match=r"convert it to JPEG|develop it to JPEG"):
            one.open()
