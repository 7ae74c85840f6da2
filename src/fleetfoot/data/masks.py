"""Masks of single objects: polygons, run lengths, and many of them in flat arrays.

Polygons cover the pixels that COCO's reference code (pycocotools, ``rleFrPoly``) gives them, so
that a mask here is the mask that an evaluation elsewhere uses: the outline is walked on a grid of a
fifth of a pixel, and a pixel of a column belongs to the object if the outline crosses the column an
odd number of times above the pixel's centre.

n corners · H W space
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleetfoot.data.scenes import Mask

FINE = 5
"""Steps of the grid on which outlines are walked, for each pixel."""

Corners = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Polygons:
    """The union of polygons.

    >>> Polygons((np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]]),)).drawn(2, 3) * 1
    array([[1, 1, 0],
           [0, 0, 0]])
    """

    rings: tuple[Corners, ...]
    """Corners of each polygon, x and y in pixels from the picture's top left corner, (n, 2)."""

    def drawn(self, height: int, width: int) -> NDArray[np.bool_]:
        """The mask of a picture of that size, (H, W)."""
        mask = np.zeros((width, height), dtype=bool)
        for ring in self.rings:
            mask |= _filled(ring, height, width)
        return mask.T


def _filled(ring: Corners, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of one polygon, (W, H)."""
    x, y = _walked(ring)
    steps = np.flatnonzero(x[1:] != x[:-1])
    # a step from one fine column to the next crosses a pixel's centre line if that lies between
    column = (np.minimum(x[steps], x[steps + 1]) + 0.5) / FINE - 0.5
    row = np.ceil(np.clip((np.minimum(y[steps], y[steps + 1]) + 0.5) / FINE - 0.5, 0, height))
    crossed = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    places = column[crossed].astype(np.int64) * height + row[crossed].astype(np.int64)
    # each crossing turns every later pixel of its column over; the next column starts anew, since
    # a closed outline crosses a column an even number of times
    turned = np.bincount(places, minlength=height * width + 1)[: height * width]
    return (np.cumsum(turned) & 1).astype(bool).reshape(width, height)


def _walked(ring: Corners) -> tuple[Counts, Counts]:
    """Every point of the fine grid on the outline, in order: x and y."""
    corners = (FINE * ring + 0.5).astype(np.int64)  # towards 0, as C does
    start, end = corners, np.roll(corners, -1, axis=0)
    distance = np.abs(end - start)
    flat = distance[:, 0] >= distance[:, 1]
    lead = np.where(flat, 0, 1)  # the axis along which each step is one
    rows = np.arange(len(ring))
    back = start[rows, lead] > end[rows, lead]
    low = np.where(back[:, None], end, start)
    high = np.where(back[:, None], start, end)
    length = distance[rows, lead]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (high - low)[rows, 1 - lead] / length
    slope[length == 0] = 0.0  # a corner that repeats the one before
    edge = np.repeat(rows, length + 1)
    along = np.arange(len(edge)) - np.repeat(np.cumsum(length + 1) - (length + 1), length + 1)
    along = np.where(back[edge], length[edge] - along, along)
    first = along + low[rows, lead][edge]
    other = (low[rows, 1 - lead][edge] + slope[edge] * along + 0.5).astype(np.int64)
    return np.where(flat[edge], first, other), np.where(flat[edge], other, first)


def area_within(ring: Sequence[float]) -> float:
    """The area within a polygon, by the trapezium under each of its edges.

    >>> area_within([0, 0, 4, 0, 4, 3])
    6.0
    """
    x, y = ring[0::2], ring[1::2]
    return abs(sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))) / 2


@dataclass(frozen=True, eq=False)
class Runs:
    """Lengths of runs of pixels down the columns, in turn without and with the object.

    >>> Runs(np.array([1, 2, 1]), height=2, width=2).drawn(2, 2) * 1
    array([[0, 1],
           [1, 0]])
    """

    counts: Counts
    height: int
    width: int
    """Size of the picture that the runs belong to."""

    def drawn(self, height: int, width: int) -> NDArray[np.bool_]:
        """The mask of a picture of that size, (H, W).

        Raises:
            ValueError: the runs belong to a picture of another size.
        """
        if (height, width) != (self.height, self.width):
            raise ValueError(
                f"a mask of {self.width} × {self.height} pixels on a picture of {width} × {height}"
            )
        inside = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(inside, self.counts).reshape(width, height).T


def unpacked(text: str | bytes) -> list[int]:
    """Run lengths from COCO's text: each character holds five bits of a number, least first, and a
    sixth that says whether more follow; from the third on, a number is added to the one two before.

    Raises:
        ValueError: the text is cut off, or holds other characters.

    >>> unpacked("122")
    [1, 2, 2]
    """
    raw = text.encode() if isinstance(text, str) else text
    counts: list[int] = []
    value = shift = 0
    for place, byte in enumerate(raw):
        bits = byte - 48
        if not 0 <= bits < 64:
            raise ValueError(f"character {place + 1} of the run lengths is none of COCO's")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the run lengths are cut off")
    return counts


@dataclass(frozen=True, eq=False, kw_only=True)
class Masks(Sequence[Mask | None]):
    """Masks of many objects in a few arrays; those of an object lie one after another."""

    corners: Corners
    """Corners of all polygons, (n, 2)."""
    ring_ends: Counts
    """Where each polygon ends among the corners."""
    polygon_ends: Counts
    """Where the polygons of each object end among all polygons, (M,)."""
    counts: NDArray[np.uint32]
    """Run lengths of all objects."""
    count_ends: Counts
    """Where the run lengths of each object end, (M,)."""
    sizes: NDArray[np.int32]
    """Height and width of the picture that an object's run lengths belong to, (M, 2)."""

    def __len__(self) -> int:
        return len(self.polygon_ends)

    def __getitem__(self, index: int) -> Mask | None:  # type: ignore[override]  # no slices
        first, last = _stretch(self.polygon_ends, index)
        if last > first:
            edges = [_stretch(self.ring_ends, ring) for ring in range(first, last)]
            return Polygons(tuple(self.corners[start:end] for start, end in edges))
        first, last = _stretch(self.count_ends, index)
        if last == first:
            return None
        height, width = self.sizes[index].tolist()
        return Runs(self.counts[first:last].astype(np.int64), height, width)

    def held(self) -> NDArray[np.bool_]:
        """Whether each object has a mask, (M,)."""
        return (np.diff(self.polygon_ends, prepend=0) + np.diff(self.count_ends, prepend=0)) > 0

    def described(self, index: int) -> bytes:
        """Bytes that change if the mask does."""
        mask = self[index]
        if isinstance(mask, Polygons):
            return b"polygons" + b"|".join(ring.tobytes() for ring in mask.rings)
        if isinstance(mask, Runs):
            return f"runs {mask.height} {mask.width}".encode() + mask.counts.tobytes()
        return b""


def _stretch(ends: Counts, index: int) -> tuple[int, int]:
    return (int(ends[index - 1]) if index else 0), int(ends[index])


class MaskList:
    """Gathers masks one by one, in little memory."""

    def __init__(self) -> None:
        self._corners, self._counts = array("d"), array("I")
        self._ring_ends, self._polygon_ends = array("q"), array("q")
        self._count_ends, self._sizes = array("q"), array("i")

    def add_polygons(self, rings: Sequence[Sequence[float]]) -> None:
        """Adds the union of polygons, each as x, y, x, y, ...

        Raises:
            TypeError: something is not a number.
        """
        for ring in rings:
            self._corners.extend(ring)
            self._ring_ends.append(len(self._corners) // 2)
        self._end(0, 0)

    def add_runs(self, counts: Sequence[int], height: int, width: int) -> None:
        """Adds run lengths of a picture of that size.

        Raises:
            ValueError: they do not cover the picture.
            TypeError: a length is not a whole number.
            OverflowError: a length is below 0, or far too long.
        """
        if height < 1 or width < 1 or sum(counts) != height * width:
            raise ValueError(
                f"its run lengths cover {sum(counts):,} pixels, and its size is {width} × {height}"
            )
        self._counts.extend(counts)
        self._end(height, width)

    def add_none(self) -> None:
        """Adds an object without a mask."""
        self._end(0, 0)

    def _end(self, height: int, width: int) -> None:
        self._polygon_ends.append(len(self._ring_ends))
        self._count_ends.append(len(self._counts))
        self._sizes.extend((height, width))

    def masks(self) -> Masks | None:
        """All masks, or None if no object has one."""
        if not self._ring_ends and not self._counts:
            return None
        return Masks(
            corners=np.array(self._corners).reshape(-1, 2),
            ring_ends=np.array(self._ring_ends, dtype=np.int64),
            polygon_ends=np.array(self._polygon_ends, dtype=np.int64),
            counts=np.array(self._counts, dtype=np.uint32),
            count_ends=np.array(self._count_ends, dtype=np.int64),
            sizes=np.array(self._sizes, dtype=np.int32).reshape(-1, 2),
        )
