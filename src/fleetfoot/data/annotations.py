"""What is known of a picture's pixels, moved as the pixels are: boxes, masks, a class for each
pixel.

Boxes are left, top, right and bottom edge in pixels. A resized mask or map takes the pixel under
the centre of each new one.

n objects · H W space
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fleetfoot.data.scenes import IGNORED, Hand, LabelMap, Target

Boxes = NDArray[np.float64]
Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True, eq=False, kw_only=True)
class Annotations:
    """Objects and classes of the pixels of one picture."""

    height: int
    width: int
    """Size of the picture, in pixels."""
    boxes: Boxes
    """Every box lies within the picture and has an area, (n, 4)."""
    classes: NDArray[np.int64]
    """(n,)"""
    masks: NDArray[np.bool_] | None = None
    """Pixels of each object, (n, H, W); None if they are not known or not wanted."""
    map: NDArray[np.uint8] | None = None
    """Class of each pixel, (H, W); None if there are objects instead."""

    @classmethod
    def of(cls, target: Target, height: int, width: int, *, masks: bool = False) -> Annotations:
        """The annotations of a picture of that size. Crowds and boxes without area are left out,
        and boxes are cut at the picture's edges.

        Args:
            masks: whether masks are wanted; then objects without one are left out too.

        Raises:
            ImageError: the label map cannot be used.
            ValueError: the objects belong to a picture of another size, or have no masks though
                they are wanted; or it is a hand.
        """
        none = cls(
            height=height,
            width=width,
            boxes=np.zeros((0, 4)),
            classes=np.zeros(0, np.int64),
        )
        if isinstance(target, LabelMap):
            return replace(none, map=target.drawn(height, width))
        if isinstance(target, Hand):
            raise ValueError("it shows a hand, not objects or the class of each pixel")
        target.check_size(height, width)
        boxes = np.clip(target.boxes, 0, (width, height) * 2)
        chosen = (areas(boxes) > 0) & ~target.crowd
        drawn: NDArray[np.bool_] | None = None
        if masks:
            if target.masks is None:
                raise ValueError("its objects have no masks, and masks are wanted")
            known = target.masks
            chosen &= np.array([mask is not None for mask in known], dtype=bool)
            wanted = [known[number] for number in np.flatnonzero(chosen)]
            drawn = np.zeros((len(wanted), height, width), np.bool_)
            for row, mask in zip(drawn, wanted, strict=True):
                row[:] = mask.drawn(height, width) if mask is not None else False
        return replace(none, boxes=boxes[chosen], classes=target.classes[chosen], masks=drawn)

    def __len__(self) -> int:
        return len(self.classes)

    def kept(self, chosen: NDArray[np.bool_]) -> Annotations:
        """The objects that are chosen, (n,), alone."""
        masks = None if self.masks is None else self.masks[chosen]
        return replace(self, boxes=self.boxes[chosen], classes=self.classes[chosen], masks=masks)

    def flipped(self) -> Annotations:
        """Mirrored: left becomes right."""
        left, top, right, bottom = self.boxes.T
        return replace(
            self,
            boxes=np.stack((self.width - right, top, self.width - left, bottom), axis=1),
            masks=None if self.masks is None else self.masks[:, :, ::-1],
            map=None if self.map is None else self.map[:, ::-1],
        )

    def resized(self, height: int, width: int) -> Annotations:
        """Those of the picture at another size."""
        scale = (width / self.width, height / self.height)
        return replace(
            self,
            height=height,
            width=width,
            boxes=self.boxes * (scale * 2),
            masks=None if self.masks is None else sampled(self.masks, height, width),
            map=None if self.map is None else sampled(self.map, height, width),
        )

    def framed(
        self, left: int, top: int, height: int, width: int, *, visible: float = 0.0
    ) -> Annotations:
        """Those of a rectangle, which may reach beyond the picture.

        Args:
            left, top: corner of the rectangle in the picture; below 0 if it begins outside.
            height, width: size of the rectangle.
            visible: least share of a box that must lie within the rectangle; other objects are left
                out, and so are those that are wholly outside.
        """
        moved = self.boxes - (left, top, left, top)
        cut = np.clip(moved, 0, (width, height) * 2)
        share = areas(cut) / areas(moved)
        frame = (left, top, height, width)
        whole = replace(
            self,
            height=height,
            width=width,
            boxes=cut,
            masks=None if self.masks is None else framed(self.masks, *frame, fill=False, axis=1),
            map=None if self.map is None else framed(self.map, *frame, fill=IGNORED),
        )
        kept = (share > 0) & (share >= visible)
        return whole if kept.all() else whole.kept(kept)

    def beside(self, *others: Annotations) -> Annotations:
        """The objects of pictures of equal size that are shown together; their maps, if there are
        any, are this one's."""
        every = (self, *others)
        masks = [one.masks for one in every if one.masks is not None]
        return replace(
            self,
            boxes=np.concatenate([one.boxes for one in every]),
            classes=np.concatenate([one.classes for one in every]),
            masks=np.concatenate(masks) if masks else None,
        )


def areas(boxes: Boxes) -> NDArray[np.float64]:
    """Areas of boxes, 0 for those that are turned inside out. (n, 4) -> (n,)"""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    return sides[:, 0] * sides[:, 1]


def sampled(planes: NDArray[Kind], height: int, width: int) -> NDArray[Kind]:
    """The pixels under the centres of those of a picture of that size. (..., H', W') -> (..., H,
    W)"""
    rows = _under(planes.shape[-2], height)
    columns = _under(planes.shape[-1], width)
    # one axis after the other takes a third of the time of both at once
    return planes.take(columns, axis=-1).take(rows, axis=-2)


def _under(side: int, new: int) -> NDArray[np.int64]:
    """Numbers of the pixels of a side under the centres of ``new`` ones.

    >>> _under(4, 2).tolist(), _under(3, 6).tolist()
    ([1, 3], [0, 0, 1, 1, 2, 2])
    """
    return (2 * np.arange(new) + 1) * side // (2 * new)


def framed(
    array: NDArray[Kind], left: int, top: int, height: int, width: int, *, fill: Any, axis: int = 0
) -> NDArray[Kind]:
    """A rectangle of a picture or of planes, and ``fill`` where it reaches beyond them.

    >>> framed(np.array([[1, 2], [3, 4]]), 1, -1, 2, 2, fill=0).tolist()
    [[0, 0], [2, 0]]

    Args:
        array: any number of axes, of which two that follow each other are height and width.
        fill: a value, or one for each place along the axes after them.
        axis: number of the axis of the height.
    """
    before = (slice(None),) * axis
    seen = [
        slice(min(max(start, 0), side), min(max(start + size, 0), side))
        for start, size, side in zip(
            (top, left), (height, width), array.shape[axis : axis + 2], strict=True
        )
    ]
    part = array[(*before, *seen)]
    if part.shape[axis : axis + 2] == (height, width):
        return part
    made = np.empty((*array.shape[:axis], height, width, *array.shape[axis + 2 :]), array.dtype)
    made[...] = fill
    if part.size:
        shown = [
            slice(one.start - start, one.stop - start)
            for one, start in zip(seen, (top, left), strict=True)
        ]
        made[(*before, *shown)] = part
    return made
