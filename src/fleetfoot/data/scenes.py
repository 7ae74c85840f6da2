"""Pictures of which more is known than one class: objects with boxes and masks, a class for each
pixel, or a hand.

n objects of a picture · H W space · V vertices
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fleetfoot.data.dataset import Pictures
from fleetfoot.data.images import MAX_PIXELS, open_header
from fleetfoot.data.sources import Source
from fleetfoot.errors import ImageError
from fleetfoot.tasks.network import Task

IGNORED = 255
"""Class of a pixel that is neither trained on nor judged."""


class Mask(Protocol):
    """The pixels of one object."""

    def drawn(self, height: int, width: int) -> NDArray[np.bool_]:
        """The mask of a picture of that size, (H, W)."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Objects:
    """The objects of a picture, in the picture's own pixels."""

    boxes: NDArray[np.float64]
    """Left, top, right and bottom edge of each object, (n, 4)."""
    classes: NDArray[np.int64]
    """Class number of each object, from 0, (n,)."""
    crowd: NDArray[np.bool_]
    """Whether it stands for many objects that are not told apart, (n,). Detectors are not trained
    on crowds, and what they find in one is neither right nor wrong."""
    areas: NDArray[np.float64]
    """Area in pixels by which the evaluation calls an object small or large, (n,): that of the mask
    if there is one."""
    masks: tuple[Mask | None, ...] | None = None
    """Mask of each object; None if the set has no masks."""
    size: tuple[int, int] | None = None
    """Height and width of the picture that the boxes were drawn on, if the set states them."""

    def __len__(self) -> int:
        return len(self.classes)

    def check_size(self, height: int, width: int) -> None:
        """Refuses a picture of another size than the one that the boxes were drawn on.

        Raises:
            ValueError: the sizes differ.
        """
        if self.size is not None and self.size != (height, width):
            stated = f"{self.size[1]} × {self.size[0]}"
            raise ValueError(
                f"the picture has {width} × {height} pixels, and its boxes were drawn on "
                f"{stated}; correct the size in the labels, or restore the picture"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelMap:
    """A class for each pixel, as a picture file of its own: grey or with a palette, 8 bits."""

    source: Source
    numbers: NDArray[np.uint8] | None = None
    """Class of each value in the file, (256,); ``IGNORED`` for none. Default: the value itself."""
    known: NDArray[np.bool_] | None = None
    """Values that may occur in the file, (256,). Default: all."""

    def values(self) -> NDArray[np.uint8]:
        """The values as they stand in the file, (H, W).

        Raises:
            ImageError: the file cannot be read, or is no map of 8 bits.
        """
        image = open_header(self.source.read(), self.source.path)
        if image.mode not in ("1", "L", "P"):
            raise ImageError(
                self.source.path,
                f"its pixels are {image.mode}, not one number of 8 bits each; save the map as a "
                "grey PNG file whose values are the numbers of the classes",
            )
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(
                self.source.path,
                f"{image.width} × {image.height} is over the limit of {MAX_PIXELS:,} pixels",
            )
        try:
            return np.asarray(image).astype(np.uint8)
        except Exception as error:  # decoders raise whatever a broken file leads them to
            raise ImageError(self.source.path, f"broken {image.format} file: {error}") from error

    def drawn(self, height: int, width: int) -> NDArray[np.uint8]:
        """The class of each pixel of a picture of that size, (H, W); ``IGNORED`` for none.

        Raises:
            ImageError: the file cannot be read, has another size, or holds an unknown value.
        """
        values = self.values()
        if values.shape != (height, width):
            raise ImageError(
                self.source.path,
                f"the map has {values.shape[1]} × {values.shape[0]} pixels, and its picture "
                f"{width} × {height}; make them equal",
            )
        if self.known is not None and not self.known[values].all():
            strange = np.unique(values[~self.known[values]]).tolist()
            raise ImageError(
                self.source.path,
                f"values that are no class: {', '.join(map(str, strange[:5]))}"
                f"{' and others' if len(strange) > 5 else ''}; add them to the list of classes, or "
                f"write {IGNORED} for pixels of no class",
            )
        return values if self.numbers is None else self.numbers[values]


@dataclass(frozen=True, eq=False, kw_only=True)
class Hand:
    """A hand, seen by a camera at the origin that looks along z; x goes right and y down."""

    joints: NDArray[np.float64]
    """Positions of the 21 joints in metres, (21, 3)."""
    vertices: NDArray[np.float64]
    """Positions of the mesh's vertices in metres, (V, 3)."""
    points: NDArray[np.float64]
    """The joints in the picture, x and y in pixels, (21, 2)."""


Target = Objects | LabelMap | Hand


class Targets(Protocol):
    """What is known of each picture of a part, by the picture's number. It can be sent to other
    processes: it holds arrays and paths, never an open file."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Target: ...

    def described(self, index: int) -> bytes:
        """Bytes that change if what is known of the picture does, for the fingerprint."""
        ...


@dataclass(frozen=True, eq=False)
class Scenes:
    """One part of a set: its pictures, and what is known of each."""

    name: str
    """``train``, ``val`` or ``test``."""
    pictures: Pictures
    targets: Targets

    def __post_init__(self) -> None:
        if len(self.pictures) != len(self.targets):
            raise ValueError(
                f"{self.name} has {len(self.pictures)} pictures and {len(self.targets)} targets"
            )

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of every picture's name within the set, size in bytes and target, in order. It
        does not read the pictures themselves, and does not change when the set is moved."""
        digest = hashlib.blake2b(digest_size=16)
        for index, size in enumerate(self.pictures.sizes().tolist()):
            name = self.pictures.name(index).encode("utf-8", "surrogateescape")
            for raw in (name, str(size).encode(), self.targets.described(index)):
                digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False, kw_only=True)
class SceneSet:
    """A data set for one of the tasks beside classification, in up to three parts."""

    name: str
    """The path as it was given, or the name of a built-in set."""
    task: Task
    layout: str
    """How the set lies on disk, in one line for people."""
    classes: tuple[str, ...]
    """Names of the classes; for hands, none."""
    train: Scenes | None = None
    val: Scenes | None = None
    test: Scenes | None = None
    notes: tuple[str, ...] = field(default=())
    """What a user should know: for example that ``val`` was split off ``train``."""

    @property
    def splits(self) -> Sequence[Scenes]:
        """The parts that exist, in the order train, val, test."""
        return tuple(split for split in (self.train, self.val, self.test) if split is not None)
