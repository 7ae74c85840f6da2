"""The objects of many pictures in a few arrays: 100,000 pictures and a million boxes open in
seconds, and worker processes share them.

Objects that cannot be used stay in the arrays, so that a report can name them, but belong to no
picture: those whose box has no area, lies outside the picture, or is not finite.

N pictures · M objects
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fleetfoot.data.masks import MaskList, Masks
from fleetfoot.data.pictures import Texts
from fleetfoot.data.scenes import Objects

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class ObjectTable:
    """What is known of each picture's objects; see ``Targets``."""

    starts: Numbers
    """Where the objects of each picture start in the other arrays, and their number, (N + 1,)."""
    boxes: NDArray[np.float64]
    """Left, top, right and bottom edge of each object in pixels, (M, 4)."""
    classes: NDArray[np.int32]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    sizes: NDArray[np.int32]
    """Height and width of each picture, as the set states them or as they were read, (N, 2);
    0 if they are not known."""
    numbers: Numbers
    """Number by which the labels' file names each object, (M,)."""
    noun: str
    """What such a number counts, for example "line"."""
    files: Texts
    """File that holds the labels of each picture; a single one may hold all."""
    masks: Masks | None = None
    rows: Numbers | None = None
    """Place of each object's mask among ``masks``, (M,). Default: the object's own."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Objects:
        if not -len(self) <= index < len(self):
            raise IndexError(f"number {index} of {len(self)}")
        index %= len(self)
        chosen = self.of_picture(index)
        chosen = chosen[self.used[chosen]]
        height, width = self.sizes[index].tolist()
        rows = (chosen if self.rows is None else self.rows[chosen]).tolist()
        return Objects(
            boxes=self.boxes[chosen],
            classes=self.classes[chosen].astype(np.int64),
            crowd=self.crowd[chosen],
            areas=self.areas[chosen],
            masks=None if self.masks is None else tuple(map(self.masks.__getitem__, rows)),
            size=(height, width) if height else None,
        )

    def of_picture(self, index: int) -> Numbers:
        """Numbers of a picture's objects, those that are not used among them."""
        return np.arange(self.starts[index], self.starts[index + 1])

    def pictures(self) -> Numbers:
        """Number of each object's picture, (M,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def described(self, index: int) -> bytes:
        """Bytes that change if an object that is used does."""
        chosen = self.of_picture(index)
        chosen = chosen[self.used[chosen]]
        columns = (self.boxes, self.classes, self.crowd, self.areas)
        raw = [self.sizes[index].tobytes(), *(column[chosen].tobytes() for column in columns)]
        if self.masks is not None:
            rows = chosen if self.rows is None else self.rows[chosen]
            raw += [self.masks.described(row) for row in rows.tolist()]
        return b"".join(len(one).to_bytes(8, "little") + one for one in raw)

    def file(self, index: int) -> str:
        """The file that holds the labels of a picture."""
        return self.files[0] if len(self.files) == 1 else self.files[index]

    def place(self, number: int) -> str:
        """Where an object's label stands, for messages."""
        picture = int(np.searchsorted(self.starts, number, side="right")) - 1
        return f"{self.file(picture)}, {self.noun} {self.numbers[number]}"

    def with_mask(self) -> NDArray[np.bool_]:
        """Whether each object has a mask, (M,)."""
        if self.masks is None:
            return np.zeros(len(self.classes), dtype=bool)
        held = self.masks.held()
        return held if self.rows is None else held[self.rows]

    def chosen(self, pictures: Numbers) -> ObjectTable:
        """The table of the pictures with these numbers, in this order. Masks are not copied."""
        counts = np.diff(self.starts)[pictures]
        starts = np.concatenate(([0], np.cumsum(counts)))
        kept = np.arange(starts[-1]) + np.repeat(self.starts[:-1][pictures] - starts[:-1], counts)
        one = len(self.files) == 1
        return replace(
            self,
            starts=starts,
            boxes=self.boxes[kept],
            classes=self.classes[kept],
            crowd=self.crowd[kept],
            areas=self.areas[kept],
            sizes=self.sizes[pictures],
            numbers=self.numbers[kept],
            files=self.files if one else Texts(self.files[i] for i in pictures.tolist()),
            rows=kept if self.rows is None else self.rows[kept],
        )

    def renumbered(self, numbers: Sequence[int]) -> ObjectTable:
        """The table with the class ``numbers[c]`` in the place of each class c."""
        return replace(self, classes=np.array(numbers, dtype=np.int32)[self.classes])

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Whether each object belongs to its picture, (M,)."""
        return self.finite() & ~self.without_area() & ~self.outside()

    def finite(self) -> NDArray[np.bool_]:
        """Whether each box has four finite edges and a finite area, (M,)."""
        return np.isfinite(self.boxes).all(1) & np.isfinite(self.areas)

    def without_area(self) -> NDArray[np.bool_]:
        """Whether each box has no width or no height, (M,)."""
        left, top, right, bottom = self.boxes.T
        return ~((right > left) & (bottom > top))

    def beyond(self) -> NDArray[np.float64]:
        """How far each box reaches over an edge of its picture, in pixels, (M,): 0 for a box within
        it, and for a picture whose size is not known."""
        size = self.sizes[self.pictures()]
        over = self.boxes[:, 2:] - size[:, ::-1]
        most = np.maximum(over, -self.boxes[:, :2]).max(1, initial=0.0)
        return np.where(size[:, 0] > 0, most, 0.0)

    def outside(self) -> NDArray[np.bool_]:
        """Whether each box lies wholly outside its picture, (M,)."""
        size = self.sizes[self.pictures()]
        beside = (self.boxes[:, :2] >= size[:, ::-1]) | (self.boxes[:, 2:] <= 0)
        return beside.any(1) & (size[:, 0] > 0)


class ObjectList:
    """Gathers objects picture by picture, in little memory."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._files: list[str] = []
        self._starts, self._sizes = array("q"), array("i")
        self._boxes, self._areas = array("d"), array("d")
        self._classes, self._crowd, self._numbers = array("i"), array("b"), array("q")
        self.masks = MaskList()

    def __len__(self) -> int:
        return len(self._classes)

    def begin(self, height: int, width: int) -> None:
        """Begins the next picture. A size of 0 means that it is not known."""
        self._starts.append(len(self._classes))
        self._sizes.extend((height, width))

    def add(
        self, number: int, box: Sequence[float], label: int, *, crowd: bool, area: float
    ) -> None:
        """Adds an object to the picture; its mask, or that it has none, is to be added to
        ``masks``.

        Args:
            number: number by which the labels' file names it.
            box: left, top, right and bottom edge in pixels.

        Raises:
            TypeError: something is not a number.
            ValueError: the box has more or fewer numbers than four.
        """
        left, top, right, bottom = box
        self._boxes.extend((left, top, right, bottom))
        self._areas.append(area)
        self._classes.append(label)
        self._crowd.append(crowd)
        self._numbers.append(number)

    def table(self, files: Texts) -> ObjectTable:
        """The table of all that was added."""
        self._starts.append(len(self._classes))
        return ObjectTable(
            starts=np.array(self._starts, dtype=np.int64),
            boxes=np.array(self._boxes).reshape(-1, 4),
            classes=np.array(self._classes, dtype=np.int32),
            crowd=np.array(self._crowd, dtype=bool),
            areas=np.array(self._areas),
            sizes=np.array(self._sizes, dtype=np.int32).reshape(-1, 2),
            numbers=np.array(self._numbers, dtype=np.int64),
            noun=self._noun,
            files=files,
            masks=self.masks.masks(),
        )
