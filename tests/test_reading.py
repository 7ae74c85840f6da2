"""What is not a regular file is refused at once by every reader, and sizes are bounded."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from fleetfoot import files
from fleetfoot.artifact import MANIFEST, Artifact
from fleetfoot.choose import calibrate
from fleetfoot.data.images import open_image
from fleetfoot.errors import ArtifactError, ImageError, PlanError, RecordError
from fleetfoot.explain.lint import read_settings
from fleetfoot.measure import record
from fleetfoot.measure.journal import Journal
from fleetfoot.predict import truth_by
from fleetfoot.report import update_between_markers
from fleetfoot.runtime import Plan
from fleetfoot.tasks.classify import Labels

MOST = 100


def pipe(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


def plug(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def endless(path):
    path.symlink_to("/dev/zero")


def to_a_pipe(path):
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


KINDS = {
    pipe: "a named pipe, not a regular file",
    folder: "a folder, not a regular file",
    plug: "a socket, not a regular file",
    endless: "a device, not a regular file",
    to_a_pipe: "a named pipe, not a regular file",
}


@pytest.fixture
def short(tmp_path, monkeypatch):
    """A folder as working folder: the path of a socket has at most 108 characters."""
    monkeypatch.chdir(tmp_path)
    return Path()


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_only_regular_files_are_opened(short, make):
    make(short / "x")
    with pytest.raises(OSError, match="not a regular file") as raised:
        files.open_regular(short / "x")
    assert raised.value.strerror == KINDS[make]
    assert raised.value.filename == "x"


def test_a_refused_pipe_does_not_disturb_its_writer(tmp_path):
    os.mkfifo(tmp_path / "x")
    reader = os.open(tmp_path / "x", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "x", os.O_WRONLY)
    os.write(writer, b"said")
    with pytest.raises(OSError, match="pipe"):
        files.read_bytes(tmp_path / "x", most=MOST)
    assert os.read(reader, 9) == b"said"
    os.close(reader), os.close(writer)


def test_links_to_files_are_followed_and_other_paths_are_named(tmp_path):
    (tmp_path / "there").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    assert files.read_text(tmp_path / "link", encoding="utf-8-sig") == "a\nb\nc\n"
    with pytest.raises(FileNotFoundError):
        files.open_regular(tmp_path / "gone")
    with pytest.raises(OSError, match="symbolic links"):
        files.open_regular(tmp_path / "loop")
    with pytest.raises(OSError, match="not a path"):
        files.open_regular("a\0b")


def test_the_size_is_bounded_before_anything_is_read(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match=r"1,099,511,627,776 bytes, more than the 100 that are read"):
        files.read_bytes(tmp_path / "x", most=MOST)
    (tmp_path / "x").write_bytes(b"x" * MOST)
    assert len(files.read_bytes(tmp_path / "x", most=MOST)) == MOST


@pytest.mark.parametrize("size", [5, 50, 10], ids=["shrinks", "grows", "is overwritten"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, size):
    path = tmp_path / "x"
    path.write_bytes(b"x" * 10)
    os.utime(path, ns=(0, 0))
    states = []

    def then_it_changes(number, before=os.fstat):
        found = before(number)
        if not states:
            path.write_bytes(b"y" * size)
        states.append(found)
        return found

    opened = files.open_regular(path)
    monkeypatch.setattr(files, "open_regular", lambda _: opened)
    monkeypatch.setattr(os, "fstat", then_it_changes)
    with pytest.raises(OSError, match="changed while it was read"):
        files.read_bytes(path, most=MOST)


READERS = {
    "a plan": (Plan.load, (OSError, PlanError)),
    "a picture": (open_image, ImageError),
    "labels": (Labels.read, ValueError),
    "truth": (lambda path: truth_by(str(path)), ValueError),
    "a record": (record.read, RecordError),
    "a journal": (lambda path: Journal.resume(path, {}), RecordError),
    "a calibration": (calibrate.read, RecordError),
    "a page": (lambda path: update_between_markers(path, ""), OSError),
    "an artifact": (Artifact.read, ArtifactError),
}


PAIRS = [
    pytest.param(name, make, id=f"{name}-{make.__name__}")
    for name in READERS
    for make in KINDS
    if (name, make) != ("a record", folder)  # which may be named by its folder
]


@pytest.mark.parametrize(("name", "make"), PAIRS)
def test_every_reader_refuses_what_is_no_file_at_once(short, name, make):
    path = short / "x"
    if name == "an artifact":
        (short / "saved").mkdir()
        make(short / "saved" / MANIFEST)
        path = short / "saved"
    else:
        make(path)
    read, error = READERS[name]
    said = []

    def attempt():
        try:
            read(path)
        except error as raised:
            said.append(str(raised))

    reader = threading.Thread(target=attempt, daemon=True)  # a reader that hangs must not hang us
    reader.start()
    reader.join(60)
    assert not reader.is_alive(), f"{name} waits for {make.__name__}"
    assert said
    assert "regular file" in said[0] or make is folder


def test_settings_beside_a_pipe_named_pyproject_are_the_default(tmp_path):
    os.mkfifo(tmp_path / "pyproject.toml")
    assert read_settings(tmp_path) == read_settings(Path("/"))
