"""Where the files within a tar lie, so that any of them can be read without unpacking.

A tar is only ever read: names in it are names, never paths, so an absolute one, or one with "..",
does no harm. Links, devices and sparse files have no bytes of their own and are refused.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from fleetfoot.errors import DatasetError, counted, visible
from fleetfoot.files import open_regular

BLOCK = tarfile.BLOCKSIZE
"""Size of a header in bytes; files are filled up to a multiple of it."""
RECORD_BYTES = 20 * BLOCK
"""Size to a multiple of which tar fills its files with zeros."""

MOST_HEADER_BYTES = 64 * 2**10
"""Largest header of one member: names and properties of its file."""

COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
}
"""Compressions by the first bytes of a file: name, and the command that removes it."""


@dataclass(frozen=True)
class Member:
    """A file within a tar."""

    name: str
    offset: int
    """Place of its first byte in the tar."""
    size: int


@dataclass(frozen=True)
class Contents:
    """The files within a tar, in its order."""

    members: tuple[Member, ...]
    whole: bool
    """Whether the tar ends with the mark of its end. One without it may have been cut off."""


@dataclass(frozen=True)
class Stored:
    """The bytes of a file within another file."""

    path: str
    offset: int
    size: int

    def read(self, max_bytes: int) -> bytes:
        if self.size > max_bytes:
            raise OSError(f"{self.size:,} bytes, over the limit of {max_bytes:,} (max_bytes)")
        with open_regular(self.path) as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise OSError(f"{self.path} is shorter than before")
        return data


class _Headers:
    """A tar's file that gives no more than a header at once: a header may state a size of
    gigabytes for a name."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek: Callable[..., int] = file.seek
        self.tell: Callable[[], int] = file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)


def contents(path: str) -> Contents:
    """The files within a tar, by its headers.

    Raises:
        DatasetError: it is no tar, is compressed or cut off, or holds something that is no file.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        start = file.read(8)
        for sign, (name, command) in COMPRESSED.items():
            if start.startswith(sign):
                raise DatasetError(
                    f"{path}: compressed by {name}, so that no picture in it can be read without "
                    f"all before it; pictures are compressed already: use '{command}' first"
                )
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        members: list[Member] = []
        try:
            with tarfile.open(fileobj=_Headers(file), mode="r:", encoding="utf-8") as tar:  # type: ignore[call-overload]
                while (info := tar.next()) is not None:
                    tar.members = []  # they would all be kept
                    if not info.isdir():
                        members.append(_member(path, info, members, size))
                end = tar.offset
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            place = f" after {counted(len(members), 'file')}" if members else ""
            raise DatasetError(
                f"{path}: damaged or cut off, or not a tar{place}: {error}; copy or make it again"
            ) from error
        whole = _ends(path, file, end)
    return Contents(tuple(members), whole)


def _member(path: str, info: tarfile.TarInfo, before: list[Member], size: int) -> Member:
    name = visible(info.name)
    if not info.isreg() or info.issparse():
        kind = (
            "a link (make the tar with --dereference --hard-dereference)"
            if info.issym() or info.islnk()
            else "a sparse file (make the tar without --sparse)"
            if info.issparse()
            else "a device, a pipe or something else"
        )
        raise DatasetError(f"{path}: {name} is {kind}; a shard holds plain files")
    end = before[-1].offset + before[-1].size if before else 0
    if info.size < 0 or info.offset_data < end or info.offset_data + info.size > size:
        raise DatasetError(
            f"{path}: {name} states {info.size:,} bytes at {info.offset_data:,}, outside the tar "
            f"of {size:,} bytes or over another file; the tar is damaged or cut off: copy or make "
            "it again"
        )
    return Member(info.name, info.offset_data, info.size)


def _ends(path: str, file: BinaryIO, end: int) -> bool:
    """Whether the tar's mark of its end, a block of zeros, stands where its last file ends.

    Raises:
        DatasetError: something else stands there, or follows the mark.
    """
    file.seek(end)
    rest = file.read(RECORD_BYTES)
    block = rest[:BLOCK]
    if block.strip(b"\0") or 0 < len(block) < BLOCK:
        raise DatasetError(
            f"{path}: a wrong header at byte {end:,}: damaged or cut off; copy or make it again"
        )
    if rest.strip(b"\0"):
        raise DatasetError(
            f"{path}: more follows the mark of its end at byte {end:,}; tars that were joined by "
            "'cat' are not read: make it again, or join them by 'tar --concatenate'"
        )
    return bool(block)
