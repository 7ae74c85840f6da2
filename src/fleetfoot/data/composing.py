"""Pictures with their annotations: cut, enlarged, mirrored, put together.

Nothing here draws a number by itself: what is drawn comes as an argument, or from the generator
that is given.

The pictures are RGB bytes. H W space
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleetfoot.data.annotations import Annotations, Boxes, areas, framed
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.scenes import IGNORED

Bytes = NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]
"""Left, top, right and bottom edge of a part of the plane, in pixels of a picture."""

OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
"""Least overlaps among which SSD's crop draws; one more choice leaves the picture whole."""
CROP_SIDES = (0.3, 1.0)
"""Least and largest share of the picture's sides, for SSD's crop."""
CROP_SHAPES = (0.5, 2.0)
"""Least and largest width over height, for SSD's crop."""
CROP_TRIES = 40
"""Rectangles that are drawn for one least overlap before another one is drawn."""
CROP_ROUNDS = 25
"""Least overlaps that are drawn before the picture stays whole."""

BRIGHTNESS, CONTRAST, SATURATION = (0.875, 1.125), (0.5, 1.5), (0.5, 1.5)
"""Least and largest factor of SSD's changes of colour."""
HUE = 0.05
"""Largest turn of the hue, in turns."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Annotated:
    """A picture and what is known of its pixels."""

    pixels: Bytes
    """(H, W, 3)"""
    known: Annotations

    @property
    def height(self) -> int:
        return self.known.height

    @property
    def width(self) -> int:
        return self.known.width

    def flipped(self) -> Annotated:
        """Mirrored: left becomes right."""
        return Annotated(pixels=self.pixels[:, ::-1], known=self.known.flipped())

    def resized(self, height: int, width: int, preprocess: Preprocess) -> Annotated:
        """At another size, by the filter of ``preprocess``."""
        image = Image.fromarray(np.ascontiguousarray(self.pixels))
        pixels = preprocess.resize(image, height, width).permute(1, 2, 0).numpy()
        return Annotated(pixels=pixels, known=self.known.resized(height, width))

    def framed(
        self,
        left: int,
        top: int,
        height: int,
        width: int,
        *,
        fill: Sequence[int],
        visible: float = 0.0,
    ) -> Annotated:
        """A rectangle, which may reach beyond the picture; ``Annotations.framed`` says what becomes
        of objects at its edges."""
        return Annotated(
            pixels=framed(self.pixels, left, top, height, width, fill=fill),
            known=self.known.framed(left, top, height, width, visible=visible),
        )


def mosaic(
    quarters: Sequence[Annotated],
    *,
    x: int,
    y: int,
    height: int,
    width: int,
    fill: Sequence[int],
    visible: float = 0.0,
) -> Annotated:
    """Four pictures around a point (Bochkovskiy et al. 2020, "YOLOv4"): each touches it with a
    corner, and is cut or bordered at the edges of its quarter.

    Args:
        quarters: those at the top left, top right, bottom left and bottom right.
        x, y: the point, in pixels from the top left corner.
        height, width: size of the result.
        fill: colour where no picture is.
        visible: least share of a box that must be seen.
    """
    pixels = np.empty((height, width, 3), np.uint8)
    classes = None if quarters[0].known.map is None else np.empty((height, width), np.uint8)
    parts = []
    for number, one in enumerate(quarters):
        right, below = bool(number % 2), number > 1
        high, wide = (height - y if below else y), (width - x if right else x)
        part = one.framed(
            0 if right else one.width - wide,
            0 if below else one.height - high,
            high,
            wide,
            fill=fill,
            visible=visible,
        )
        left, top = x * right, y * below
        here = (slice(top, top + high), slice(left, left + wide))
        pixels[here] = part.pixels
        if classes is not None and part.known.map is not None:
            classes[here] = part.known.map
        parts.append(part.known.framed(-left, -top, height, width))
    known = parts[0].beside(*parts[1:])
    return Annotated(pixels=pixels, known=replace(known, map=classes))


def mixed(one: Annotated, other: Annotated) -> Annotated:
    """The mean of two pictures of equal size, with the objects of both (mixup as YOLOX does it, Ge
    et al. 2021)."""
    mean = (one.pixels.astype(np.uint16) + other.pixels + 1) // 2
    return Annotated(pixels=mean.astype(np.uint8), known=one.known.beside(other.known))


def expanded(height: int, width: int, most: float, draws: random.Random) -> Rectangle:
    """A rectangle of the picture's shape around it, whose sides are up to ``most`` times as long,
    the picture at a random place in it (SSD, Liu et al. 2016)."""
    factor = draws.uniform(1, most)
    new_height, new_width = round(height * factor), round(width * factor)
    left, top = draws.randint(0, new_width - width), draws.randint(0, new_height - height)
    return -left, -top, new_width - left, new_height - top


def overlapping(boxes: Boxes, height: int, width: int, draws: random.Random) -> Rectangle:
    """A part of the picture that keeps the centre of an object and overlaps at least one (IoU) as
    much as was drawn; or the whole picture (SSD, Liu et al. 2016, section 2.2).

    After a number of tries it is the whole picture, and so it is if there are no objects.
    """
    whole = (0, 0, width, height)
    for _ in range(CROP_ROUNDS if len(boxes) else 0):
        least = draws.choice((*OVERLAPS, None))
        if least is None:
            return whole
        for _ in range(CROP_TRIES):
            wide = int(width * draws.uniform(*CROP_SIDES))
            high = int(height * draws.uniform(*CROP_SIDES))
            left, top = draws.randint(0, width - wide), draws.randint(0, height - high)
            if not (wide and high and CROP_SHAPES[0] <= wide / high <= CROP_SHAPES[1]):
                continue
            part = (left, top, left + wide, top + high)
            if centred(boxes, part).any() and overlaps(boxes, part).max() >= least:
                return part
    return whole


def centred(boxes: Boxes, part: Rectangle) -> NDArray[np.bool_]:
    """Whether the centre of each box lies in the rectangle. (n, 4) -> (n,)"""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside: NDArray[np.bool_] = np.all((centres > part[:2]) & (centres < part[2:]), axis=1)
    return inside


def overlaps(boxes: Boxes, part: Rectangle) -> NDArray[np.float64]:
    """Area that each box shares with the rectangle, over the area that either covers. (n, 4) ->
    (n,)

    >>> overlaps(np.array([[0.0, 0.0, 2.0, 2.0]]), (1, 0, 3, 2)).round(3).tolist()
    [0.333]
    """
    low = np.maximum(boxes[:, :2], part[:2])
    high = np.minimum(boxes[:, 2:], part[2:])
    shared = areas(np.concatenate((low, high), axis=1))
    both: NDArray[np.float64] = areas(boxes) + areas(np.array([part], np.float64)) - shared
    return shared / both


def largest_share(classes: NDArray[np.uint8]) -> float:
    """Share of the most frequent class among the pixels that have one; 0 if none has. (H, W)

    >>> largest_share(np.array([[3, 3, 3, 7, 255]], np.uint8))
    0.75
    """
    counts = np.bincount(classes.ravel(), minlength=256)[:IGNORED]
    total = int(counts.sum())
    return int(counts.max()) / total if total else 0.0


def distorted(pixels: Bytes, probability: float, draws: random.Random) -> Bytes:
    """Brightness, contrast, saturation and hue changed, each with that probability, in SSD's ranges
    and order: contrast comes before or after the two others. (H, W, 3)"""
    from torchvision.transforms.v2 import functional

    image = Image.fromarray(np.ascontiguousarray(pixels))
    late = draws.random() < 0.5
    for change, low, high, now in (
        (functional.adjust_brightness, *BRIGHTNESS, True),
        (functional.adjust_contrast, *CONTRAST, not late),
        (functional.adjust_saturation, *SATURATION, True),
        (functional.adjust_hue, -HUE, HUE, True),
        (functional.adjust_contrast, *CONTRAST, late),
    ):
        if now and draws.random() < probability:
            image = change(image, draws.uniform(low, high))
    return np.asarray(image)
