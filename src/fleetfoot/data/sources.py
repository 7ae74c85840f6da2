"""Finding pictures: from the words on a command line to a list of files.

| word | meaning |
|---|---|
| a file | that file, whatever its suffix |
| a folder | the pictures in and below it by suffix, sorted; no hidden or linked folders |
| a pattern (``*``, ``?``, ``[``; ``**`` for any depth) | the files that match, sorted |
| ``-`` | standard input: one picture's bytes, or paths, one a line |

A folder's pictures of formats that are not read here, for example HEIC, are found too: opening one
says what to do.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from fleetfoot.data.images import (
    MAX_BYTES,
    MAX_PIXELS,
    OTHERS,
    SUFFIXES,
    Picture,
    open_image,
    read_image,
    read_start,
    upright_size,
)
from fleetfoot.errors import ImageError


class Place(Protocol):
    """Where the bytes of a picture lie if it has no file of its own, for example within a tar."""

    def read(self, max_bytes: int) -> bytes:
        """The picture's bytes.

        Raises:
            OSError: they cannot be read, or are more than ``max_bytes``.
        """
        ...


@dataclass(frozen=True)
class Source:
    """A picture that was asked for. It has not been read yet, and it may not exist."""

    path: str
    """Name of the picture in results: the path, or ``-``."""
    data: bytes | Place | None = None
    """The picture's bytes, or where they lie, if it has no file of its own."""
    problem: str = ""
    """Reason why there is nothing to open, for example a pattern that matches no file."""

    def open(
        self,
        *,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
        least_side: int | None = None,
    ) -> Picture:
        """Opens the picture, upright and in RGB. Arguments are those of ``open_image``.

        Raises:
            ImageError: the picture cannot be used.
        """
        if self.problem:
            raise ImageError(self.path, self.problem)
        data = self.path if self.data is None else self.read(max_bytes=max_bytes)
        return open_image(
            data,
            name=self.path,
            max_pixels=max_pixels,
            max_bytes=max_bytes,
            least_side=least_side,
        )

    def size(self) -> tuple[int, int]:
        """Height and width of the picture after it was turned upright, from its header alone.

        Raises:
            ImageError: the picture cannot be read, or is of no known format.
        """
        if self.data is None and not self.problem:
            try:
                return upright_size(read_start(Path(self.path), self.path), self.path)
            except ImageError:  # its header may be longer, or stand at the end
                pass
        return upright_size(self.read(), self.path)

    def read(self, *, max_bytes: int = MAX_BYTES) -> bytes:
        """The bytes of the picture's file.

        Raises:
            ImageError: they cannot be read, or are more than ``max_bytes``.
        """
        if self.problem:
            raise ImageError(self.path, self.problem)
        if isinstance(self.data, bytes):
            return self.data
        if self.data is None:
            return read_image(Path(self.path), self.path, max_bytes)
        try:
            return self.data.read(max_bytes)
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
            raise ImageError(self.path, reason) from error


def find_images(
    words: Iterable[str], *, stdin: BinaryIO | None = None, max_bytes: int = MAX_BYTES
) -> Iterator[Source]:
    """Every picture that ``words`` ask for, in the order of the words.

    A word that leads to no picture gives a source with a ``problem``, so that one wrong word does
    not affect the others.

    Args:
        words: files, folders, patterns, ``-``.
        stdin: the stream that ``-`` reads; default: the standard input of the process.
        max_bytes: largest picture read from the stream.
    """
    for word in words:
        if word == "-":
            yield from _standard_input(stdin or sys.stdin.buffer, max_bytes)
        elif os.path.isdir(word):
            yield from _folder(word)
        elif not os.path.lexists(word) and glob.has_magic(word):
            yield from _pattern(word)
        else:
            yield Source(word)


def _folder(folder: str) -> Iterator[Source]:
    problems: list[OSError] = []
    found = False
    for parent, folders, files in os.walk(folder, onerror=problems.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            suffix = Path(name).suffix.lower()
            if name.startswith(".") or not (suffix in SUFFIXES or suffix in OTHERS):
                continue
            found = True
            yield Source(os.path.join(parent, name))
    for problem in problems:
        found = True
        yield Source(
            str(problem.filename), problem=f"a folder that cannot be read: {problem.strerror}"
        )
    if not found:
        yield Source(folder, problem=f"no pictures in this folder ({' '.join(sorted(SUFFIXES))})")


def _pattern(pattern: str) -> Iterator[Source]:
    files = sorted(path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path))
    yield from map(Source, files)
    if not files:
        yield Source(pattern, problem="no file matches this pattern")


def _standard_input(stream: BinaryIO, max_bytes: int) -> Iterator[Source]:
    if stream.isatty():
        yield Source("-", problem="standard input is a terminal: pipe a picture or paths into it")
        return
    data = stream.read(max_bytes + 1)
    if _is_picture(data):
        yield Source("-", data)
        return
    if len(data) > max_bytes:
        yield Source("-", problem=f"more than {max_bytes:,} bytes of paths; give them in parts")
        return
    paths = [line.rstrip("\r") for line in os.fsdecode(data).split("\n")]
    yield from (Source(path) for path in paths if path)
    if not any(paths):
        yield Source("-", problem="standard input holds neither a picture nor a path")


def _is_picture(data: bytes) -> bool:
    """Whether ``data`` is a picture and not a list of paths. A list holds no NUL. The first bytes
    of nearly every format do; ASCII netpbm and some GIF files are recognised by their start."""
    start = data[:1024]
    netpbm = start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace()
    return b"\0" in start or netpbm or start.startswith((b"GIF87a", b"GIF89a", b"\xff\xd8\xff"))
