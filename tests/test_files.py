"""Files: replaced whole, read strictly, and answers believed only as they were kept."""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
import threading
from dataclasses import dataclass

import pytest

from fleetfoot import files
from fleetfoot.errors import RecordError
from fleetfoot.files import cache_folder, read_object, remembered, to_json, write_text


@dataclass(frozen=True)
class Speed:
    of: str
    values: tuple[float, ...]

    def __post_init__(self):
        if not all(value > 0 for value in self.values):
            raise ValueError("a speed is above 0")


QUESTION = {"version": "1", "sides": (1, 2)}
MADE = Speed("box", (2.0, 3.0))


def ask(cache, make=lambda: MADE, question=QUESTION, **options):
    read = lambda raw: files.parsed(raw, Speed)  # noqa: E731
    return files.remembered("speed", question, make, read=read, cache=cache, **options)


def kept(cache):
    (file,) = (cache / "speed").iterdir()
    return file


def fails():
    raise AssertionError("the answer was there")


def test_an_answer_is_made_once_and_read_from_then_on(tmp_path, caplog):
    assert ask(tmp_path) == ask(tmp_path, fails) == MADE
    assert not caplog.records


def test_fresh_makes_it_again_and_replaces_it(tmp_path):
    ask(tmp_path)
    other = Speed("box", (5.0,))
    assert ask(tmp_path, lambda: other, fresh=True) == ask(tmp_path, fails) == other


def test_another_question_is_another_file(tmp_path):
    ask(tmp_path)
    other = Speed("box", (5.0,))
    assert ask(tmp_path, lambda: other, {**QUESTION, "version": "2"}) == other
    assert ask(tmp_path, fails) == MADE


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: text.replace("2.0", "0.0"),
        lambda text: text.replace("2.0", "-2.0"),
        lambda text: text.replace("2.0", "NaN"),
        lambda text: text.replace("2.0", "1e999"),
        lambda text: text.replace("2.0", "true"),
        lambda text: text.replace("[2.0, 3.0]", "{}"),
        lambda text: text.replace('"box"', "[1]"),
        lambda text: text.replace('"version": "1"', '"version": "2"'),
        lambda text: json.dumps(json.loads(text)["answer"]),
        lambda text: text.replace('"of"', '"values": [1.0], "of"'),
        lambda text: text.replace("box", "b\0x").replace("\0", "\x00"),
    ],
    ids=[
        "empty", "cut", "a list", "deep", "zero", "negative", "NaN", "infinite", "true", "object",
        "list for a name", "another version", "without its question", "a field twice", "control",
    ],
)  # fmt: skip
def test_what_cannot_have_been_kept_is_not_believed_and_said(tmp_path, caplog, damage):
    ask(tmp_path)
    file = kept(tmp_path)
    file.write_text(damage(file.read_text()))
    with caplog.at_level(logging.WARNING):
        assert ask(tmp_path, lambda: Speed("now", (1.0,))) == Speed("now", (1.0,))
    assert str(file) in caplog.text
    assert ask(tmp_path, fails) == Speed("now", (1.0,))


def test_bytes_that_are_no_text_are_not_believed(tmp_path, caplog):
    ask(tmp_path)
    kept(tmp_path).write_bytes(b"\xff\xfe\x00")
    assert ask(tmp_path) == MADE
    assert "not valid" in caplog.text


def test_a_cache_that_cannot_be_written_is_said_and_no_error(tmp_path, caplog):
    (tmp_path / "speed").write_text("a file where the folder should be")
    assert ask(tmp_path) == MADE
    assert "cannot be kept" in caplog.text


def test_two_writers_leave_one_whole_file(tmp_path):
    file = tmp_path / "file"
    texts = [letter * 200_000 for letter in "ab"]

    def write(text):
        for _ in range(20):
            files.write_text(file, text)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if file.exists():
            assert file.read_text() in texts
    for writer in writers:
        writer.join()
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")

    def write():
        with files.replacing(file) as draft:
            draft.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert file.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="modes are of POSIX")
def test_a_file_has_the_mode_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    files.write_text(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_negative_number_is_named_by_its_place():
    files.refuse_negatives({"a": [0, 1.5, {"b": True}], "c": "-1"})
    with pytest.raises(RecordError, match=r"a\[1\]\.b must not be negative, but is -2"):
        files.refuse_negatives({"a": [0, {"b": -2}]})


def test_json_of_a_path_that_is_no_text_can_be_written_and_read_back(tmp_path):
    value = {"path": "caf\udce9 × 猫"}
    text = to_json(value)
    assert text == '{"path": "caf\\udce9 × 猫"}'
    write_text(tmp_path / "made.json", text)
    assert read_object((tmp_path / "made.json").read_text(encoding="utf-8")) == value
    write_text(tmp_path / "page.html", "caf\udce9 ×")
    assert (tmp_path / "page.html").read_bytes() == b"caf\\udce9 \xc3\x97"


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user without a home folder and without an entry in the system's list of users."""
    pwd = pytest.importorskip("pwd")

    def unknown(user):
        raise KeyError(user)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "FLEETFOOT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files._folder_without_home.cache_clear()
    yield tmp_path
    files._folder_without_home.cache_clear()


def test_a_user_without_a_home_has_a_folder_for_answers_and_is_told_once(nobody, caplog):
    asked = []

    def answer() -> int:
        asked.append(1)
        return 7

    for _ in range(2):
        found = remembered("n", {"q": 1}, answer, read=int, write=lambda made: made)
        assert found == 7
    assert len(asked) == 1
    folder = nobody / f"fleetfoot-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert caplog.text.count("no home folder") == 1


def test_a_folder_that_others_may_write_to_is_not_believed(nobody):
    folder = nobody / f"fleetfoot-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    other = cache_folder()
    assert other != folder
    assert other.parent == nobody
    assert cache_folder() == other


def test_a_cache_that_cannot_be_written_is_said_once(tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    files._say_once.cache_clear()
    for number in range(3):
        found = remembered(
            "n", {"q": number}, lambda: 7, read=int, write=lambda made: made,
            cache=tmp_path / "cache",
        )  # fmt: skip
        assert found == 7
    assert caplog.text.count("answers cannot be kept in") == 1


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    place = tmp_path / "deep" / "made"
    with files.filling(place) as draft:
        (draft / "a").write_text("1")
        assert not place.exists()
    assert [file.name for file in place.iterdir()] == ["a"]
    assert place.stat().st_mode & 0o055 == 0o055

    def interrupted():
        with files.filling(tmp_path / "other") as draft:
            (draft / "a").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["deep"]

    with pytest.raises(FileExistsError, match="holds something"), files.filling(place):
        pass
    (tmp_path / "empty").mkdir()
    with files.filling(tmp_path / "empty") as draft:
        (draft / "b").touch()
    assert (tmp_path / "empty" / "b").exists()
