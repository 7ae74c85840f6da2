"""Pictures of a data set that lie in files or in memory; and a part of any pictures.

N pictures
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetfoot.data.dataset import Pictures
from fleetfoot.data.sources import Source

Numbers = npt.NDArray[np.int64]


class Texts(Sequence[str]):
    """Many short texts in two arrays. A list of a million paths is a million objects, which every
    worker process would copy as soon as it counts a reference to them."""

    def __init__(self, texts: Iterable[str]) -> None:
        raw = [text.encode("utf-8", "surrogateescape") for text in texts]
        self._ends = np.cumsum([len(text) for text in raw], dtype=np.int64)
        self._bytes = b"".join(raw)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # no slices
        index = _within(index, len(self))
        start = int(self._ends[index - 1]) if index else 0
        return self._bytes[start : int(self._ends[index])].decode("utf-8", "surrogateescape")


@dataclass(frozen=True, eq=False)
class Files:
    """Pictures that are files, named by their paths below a folder."""

    folder: str
    """The folder that ``names`` are relative to; absolute names stay as they are."""
    names: Texts

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Source:
        return Source(os.path.join(self.folder, self.names[index]))

    def name(self, index: int) -> str:
        return self.names[index].replace(os.sep, "/")

    def sizes(self) -> Numbers:
        return np.array([_size(self[i].path) for i in range(len(self))], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class InMemory:
    """Pictures whose files are kept in memory."""

    names: Texts
    files: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Source:
        return Source(self.names[index], self.files[index])

    def name(self, index: int) -> str:
        return self.names[index]

    def sizes(self) -> Numbers:
        return np.array([len(data) for data in self.files], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some of other pictures, in an order of their own."""

    pictures: Pictures
    numbers: Numbers
    """Number of each chosen picture among ``pictures``, (N,)."""

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Source:
        return self.pictures[int(self.numbers[_within(index, len(self))])]

    def name(self, index: int) -> str:
        return self.pictures.name(int(self.numbers[_within(index, len(self))]))

    def sizes(self) -> Numbers:
        return self.pictures.sizes()[self.numbers]


def _within(index: int, length: int) -> int:
    """``index`` counted from the start.

    Raises:
        IndexError: there is no such number.
    """
    if not -length <= index < length:
        raise IndexError(f"number {index} of {length}")
    return index % length


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return -1
