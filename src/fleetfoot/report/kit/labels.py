"""Placing names beside the points of a picture so that no name covers another.

Greedy: the most crowded point chooses first among the places around it, nearest first. A name
without a free place is left out: no name is better than two that cannot be read. Names that must
appear choose before all others, as far off as they need.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle, x0 < x1 and y0 < y1; the direction of y does not matter here."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlaps(self, other: Box) -> bool:
        return (
            self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1
        )

    def within(self, other: Box) -> bool:
        return (
            other.x0 <= self.x0
            and other.y0 <= self.y0
            and self.x1 <= other.x1
            and self.y1 <= other.y1
        )


FAR = 24
"""Farthest distance of a name that must appear, in radii of its mark."""

# unit directions, the best place first: right, left, above, below, then the corners
_DIRECTIONS = [(1, 0), (-1, 0), (0, -1), (0, 1)] + [
    (math.cos(a), math.sin(a)) for a in (-0.7, 0.7, math.pi - 0.7, math.pi + 0.7, -1.2, 1.2, 2, -2)
]


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bounds: Box,
    *,
    radius: float,
    taken: Sequence[Box] = (),
    reach: int = 6,
    must: Collection[int] = (),
) -> list[Box | None]:
    """A box for each name, beside the point of the same index; None if there is no room.

    Args:
        points: the marks; no name covers one.
        sizes: width and height of each name.
        radius: radius of a mark, including the gap around it.
        taken: boxes that must stay free.
        reach: farthest distance of a name, in ``radius``.
        must: indices of names that must appear if there is room at all: they choose first, from as
            far off as ``FAR`` times ``radius``, and may cover marks before they are left out.
    """
    marks = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    placed: list[Box | None] = [None] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda i: (i not in must, -_crowd(points, i))):
        names = [*taken, *(box for box in placed if box)]
        others = [*marks[:index], *marks[index + 1 :], *names]
        near = _candidates(points[index], sizes[index], radius, FAR if index in must else reach)
        free = _free(near, bounds, others)
        if free is None and index in must:
            free = _free(near, bounds, names)
        placed[index] = free
    return placed


def _free(boxes: Iterable[Box], bounds: Box, others: Sequence[Box]) -> Box | None:
    """The first of ``boxes`` that lies within ``bounds`` and covers nothing."""
    for box in boxes:
        if box.within(bounds) and not any(box.overlaps(other) for other in others):
            return box
    return None


def anchor(point: tuple[float, float], box: Box) -> tuple[float, float]:
    """The spot of ``box`` nearest to ``point``, where a leader line ends."""
    return min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1)


def _crowd(points: Sequence[tuple[float, float]], index: int) -> float:
    x, y = points[index]
    return sum(1 / (1 + math.hypot(x - a, y - b)) for a, b in points)


def _candidates(
    point: tuple[float, float], size: tuple[float, float], radius: float, reach: int
) -> list[Box]:
    """Boxes around the point, whose nearest spots are 1, 2, ... radii away."""
    (x, y), (width, height) = point, size
    boxes = []
    for step in range(1, reach + 1):
        for dx, dy in _DIRECTIONS:
            # move the box's centre out until its edge, not its middle, is at the distance
            cx = x + dx * radius * step + _sign(dx) * width / 2
            cy = y + dy * radius * step + _sign(dy) * height / 2
            boxes.append(Box(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2))
    return boxes


def _sign(value: float) -> float:
    return 0.0 if abs(value) < 1e-9 else math.copysign(min(1.0, abs(value) * 1.6), value)
