"""Where the names go beside the points of a picture, so that none covers another.

Greedy: the most crowded point chooses first, among places around it, the near ones before the far
ones. A name that has no free place is left out: better none than two that cannot be read. Names
that must be there choose before all others, as far off as they need.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """x0 < x1, y0 < y1; the direction of y does not matter here."""

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
"""How many times its mark's radius a name may stand off that must be there."""

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
    """A box of each size beside the point of the same index, or None where there is no room.

    Args:
        points: the marks; no name covers one.
        sizes: width and height of each name.
        radius: of a mark, with the gap that should be around it.
        taken: what else must stay free.
        reach: how many times ``radius`` a name may stand off.
        must: indices of names that are never left out if there is room at all: they choose first,
            from as far off as ``FAR`` times ``radius``, and cover marks before they are left out.
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
    """The spot of ``box`` nearest to ``point``: where a leader line ends."""
    return min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1)


def _crowd(points: Sequence[tuple[float, float]], index: int) -> float:
    x, y = points[index]
    return sum(1 / (1 + math.hypot(x - a, y - b)) for a, b in points)


def _candidates(
    point: tuple[float, float], size: tuple[float, float], radius: float, reach: int
) -> list[Box]:
    """Boxes around the point, their nearest spot 1, 2, ... radii off."""
    (x, y), (width, height) = point, size
    boxes = []
    for step in range(1, reach + 1):
        for dx, dy in _DIRECTIONS:
            # the box's centre so far out that its edge, not its middle, is at the distance
            cx = x + dx * radius * step + _sign(dx) * width / 2
            cy = y + dy * radius * step + _sign(dy) * height / 2
            boxes.append(Box(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2))
    return boxes


def _sign(value: float) -> float:
    return 0.0 if abs(value) < 1e-9 else math.copysign(min(1.0, abs(value) * 1.6), value)
