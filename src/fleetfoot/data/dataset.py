"""Labelled pictures: what training and evaluation read, in whatever form they lie on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fleetfoot.data.sources import Source


class Pictures(Protocol):
    """Pictures by number. Any of them can be opened at any time, in any process: an implementation
    holds paths or places in files, never an open file."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Source:
        """The picture with this number, not yet opened."""
        ...

    def name(self, index: int) -> str:
        """Name of the picture within the data set, the same wherever the set lies."""
        ...

    def sizes(self) -> npt.NDArray[np.int64]:
        """Size of each picture's file in bytes, (N,), without reading the pictures;
        -1 for a file that is not there."""
        ...


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: its pictures and the class of each."""

    name: str
    """``train``, ``val`` or ``test``."""
    pictures: Pictures
    labels: npt.NDArray[np.int64]
    """Class number of each picture, (N,)."""

    def __post_init__(self) -> None:
        if len(self.pictures) != len(self.labels):
            raise ValueError(
                f"{self.name} has {len(self.pictures)} pictures and {len(self.labels)} labels"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[Source, int]]:
        for index in range(len(self)):
            yield self.pictures[index], int(self.labels[index])

    @cached_property
    def fingerprint(self) -> str:
        """A digest of every picture's name within the set, size in bytes and class, in order. It
        does not read the pictures themselves, and does not change when the set is moved."""
        digest = hashlib.blake2b(digest_size=16)
        for index, size in enumerate(self.pictures.sizes().tolist()):
            name = self.pictures.name(index).encode("utf-8", "surrogateescape")
            for raw in (name, str(size).encode(), str(int(self.labels[index])).encode()):
                digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Labelled pictures in up to three parts, and the names of their classes."""

    name: str
    """The path as it was given, or the name of a built-in set."""
    layout: str
    """How the set lies on disk, in one line for people."""
    classes: tuple[str, ...]
    train: Split | None = None
    val: Split | None = None
    test: Split | None = None
    notes: tuple[str, ...] = field(default=())
    """What a user should know: for example that ``val`` was split off ``train``."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """The parts that exist, in the order train, val, test."""
        return tuple(split for split in (self.train, self.val, self.test) if split is not None)
