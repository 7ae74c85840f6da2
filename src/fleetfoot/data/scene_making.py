"""Makers for detection and segmentation, and the forms in which they hand over what a network
should answer.

n objects · C channels · H W the network's input
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fleetfoot.data import composing
from fleetfoot.data.annotations import Annotations
from fleetfoot.data.composing import Annotated
from fleetfoot.data.hand_making import MadeHand, made_hand
from fleetfoot.data.making import Bytes
from fleetfoot.data.placement import Placement
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.scene_settings import AugmentedPart, Draws
from fleetfoot.data.scenes import Hand, Scenes
from fleetfoot.errors import ImageError

LEAST_SIDE = 1.0
"""Pixels of the input that each side of a box needs for its object to be asked for."""
PART_TRIES = 10
"""Parts that are drawn for one in which no class has more than ``Scene.largest_share``."""
CENTRES = (0.25, 0.75)
"""Where the four pictures of a mosaic meet, as shares of the input's sides."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MadeObjects:
    """The objects of an input."""

    boxes: NDArray[np.float32]
    """Left, top, right and bottom edge in pixels of the input, (n, 4)."""
    classes: NDArray[np.int64]
    """Class numbers from 0, (n,)."""
    height: int
    width: int
    """Size of the input."""
    bits: NDArray[np.uint8] | None = None
    """The masks, eight pixels a byte; None if they are not wanted."""
    placement: Placement | None = None
    """Where the picture lies in the input; None if it was augmented."""

    @property
    def masks(self) -> NDArray[np.uint8] | None:
        """Pixels of each object, 0 or 1, (n, H, W); None if they are not wanted."""
        if self.bits is None:
            return None
        shape = (len(self.classes), self.height, self.width)
        return np.unpackbits(self.bits, count=math.prod(shape)).reshape(shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class MadeMap:
    """The classes of an input's pixels."""

    map: NDArray[np.uint8]
    """(H, W); ``IGNORED`` where no class is asked for, also beside the picture."""
    placement: Placement | None = None
    """Where the picture lies in the input; None if it was augmented."""
    whole: NDArray[np.uint8] | None = None
    """The classes of the picture's own pixels, if they are wanted."""


Made = MadeObjects | MadeMap | MadeHand


def made(known: Annotations) -> MadeObjects | MadeMap:
    """What is known of an input's pixels, as a maker hands it over. Objects that are too small to
    be seen are left out."""
    if known.map is not None:
        return MadeMap(map=np.ascontiguousarray(known.map))
    large = np.all(known.boxes[:, 2:] - known.boxes[:, :2] >= LEAST_SIDE, axis=1)
    known = known.kept(large)
    return MadeObjects(
        boxes=known.boxes.astype(np.float32),
        classes=known.classes,
        height=known.height,
        width=known.width,
        bits=None if known.masks is None else np.packbits(known.masks),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class PlainScenes:
    """Pictures of a part as ``preprocess.pixels`` gives them, and what a network should answer, for
    evaluation. The task follows from the part's targets."""

    scenes: Scenes
    preprocess: Preprocess
    masks: bool = False
    """Whether the masks of objects are wanted; then objects without one are left out."""
    whole: bool = False
    """Whether the classes of the picture's own pixels are wanted too."""

    def shape(self, *, epoch: int, update: int) -> tuple[int, int, int]:
        """(C, H, W), the same always."""
        return self.preprocess.channels, self.preprocess.height, self.preprocess.width

    @property
    def largest(self) -> int:
        """Bytes of an input."""
        return math.prod(self.shape(epoch=0, update=0))

    def write(self, out: Bytes, number: int, *, epoch: int, update: int, repeat: int) -> Made:
        """Writes the preprocessed picture, and returns what belongs to it in the input."""
        image = self.scenes.pictures[number].open().image
        target = self.scenes.targets[number]
        size = (image.height, image.width)
        placement = self.preprocess.placement(*size)
        out[:] = self.preprocess.pixels(image).numpy()
        if isinstance(target, Hand):
            points = target.points * placement.scale + placement.offset
            return replace(made_hand(target, points), placement=placement)
        known = Annotations.of(target, *size, masks=self.masks)
        left, top = (-round(side) for side in placement.offset)
        seen = known.resized(*self.preprocess.resized_size(*size)).framed(
            left, top, self.preprocess.height, self.preprocess.width
        )
        answer = replace(made(seen), placement=placement)
        if self.whole and isinstance(answer, MadeMap):
            return replace(answer, whole=known.map)
        return answer


@dataclass(frozen=True, eq=False, kw_only=True)
class AugmentedScenes(AugmentedPart):
    """Augmented pictures of a part with objects or maps, for training."""

    masks: bool = False
    """Whether the masks of objects are wanted; then objects without one are left out."""

    def write(
        self, out: Bytes, number: int, *, epoch: int, update: int, repeat: int
    ) -> MadeObjects | MadeMap:
        """Writes the augmented picture, and returns what belongs to it in the input."""
        draws = self.draws(epoch, number, repeat)
        settings, preprocess = self.settings, self.sizes.preprocess(update)
        composes = settings.until is None or epoch < settings.until
        if composes and draws("mosaic").random() < settings.mosaic:
            shown = self._mosaic(number, preprocess, draws)
        else:
            shown = self._single(number, preprocess, draws, "")
        if composes and draws("mixup").random() < settings.mixup:
            other = self._other("mixup", draws)
            shown = composing.mixed(shown, self._single(other, preprocess, draws, "mixup"))
        pixels = shown.pixels
        if settings.photometric:
            pixels = composing.distorted(pixels, settings.photometric, draws("colours"))
        preprocess.write(out, pixels)
        return made(shown.known)

    def _single(self, number: int, preprocess: Preprocess, draws: Draws, place: str) -> Annotated:
        """One picture, as large as the input.

        Args:
            place: name of its place in the input, so that several pictures draw differently.
        """
        factor = draws(f"scale {place}").uniform(*self.settings.scale)
        shown = self._scaled(self._cut(number, draws, place), factor, preprocess)
        return self._part(shown, preprocess, draws(f"part {place}"))

    def _mosaic(self, number: int, preprocess: Preprocess, draws: Draws) -> Annotated:
        """The picture and three others."""
        quarters = []
        for place in ("0", "1", "2", "3"):
            one = number if place == "0" else self._other(place, draws)
            factor = draws(f"scale {place}").uniform(*self.settings.mosaic_scale)
            cut = self._cut(one, draws, place)
            quarters.append(self._scaled(cut, factor, preprocess))
        where = draws("centre")
        where.shuffle(quarters)
        return composing.mosaic(
            quarters,
            x=round(preprocess.width * where.uniform(*CENTRES)),
            y=round(preprocess.height * where.uniform(*CENTRES)),
            height=preprocess.height,
            width=preprocess.width,
            fill=self.fill,
            visible=self.settings.visible,
        )

    def _other(self, place: str, draws: Draws) -> int:
        """Number of another picture of the part."""
        return draws(f"other {place}").randrange(len(self.scenes))

    def _cut(self, number: int, draws: Draws, place: str) -> Annotated:
        """The picture as it was opened, mirrored, on a larger canvas, or a part of it."""
        settings, shown = self.settings, self._opened(number)
        if draws(f"flip {place}").random() < settings.flip:
            shown = shown.flipped()
        left, top, right, bottom = whole = (0, 0, shown.width, shown.height)
        if settings.expand and (drawn := draws(f"expand {place}")).random() < settings.expand:
            left, top, right, bottom = composing.expanded(
                shown.height, shown.width, settings.expand_most, drawn
            )
        if settings.iou_crop and (drawn := draws(f"crop {place}")).random() < settings.iou_crop:
            boxes = shown.known.boxes - (left, top, left, top)
            part = composing.overlapping(boxes, bottom - top, right - left, drawn)
            shown = replace(shown, known=shown.known.kept(composing.centred(boxes, part)))
            left, top, right, bottom = (
                part[0] + left, part[1] + top, part[2] + left, part[3] + top
            )  # fmt: skip
        if (left, top, right, bottom) == whole:
            return shown
        return shown.framed(
            left,
            top,
            bottom - top,
            right - left,
            fill=self.fill,
            visible=settings.visible,
        )

    def _opened(self, number: int) -> Annotated:
        """The picture with that number.

        Raises:
            ImageError: the picture, or what is known of it, cannot be used.
        """
        image, target = self.opened(number)
        try:
            known = Annotations.of(target, image.height, image.width, masks=self.masks)
        except ValueError as error:
            raise ImageError(self.scenes.pictures[number].path, str(error)) from error
        return Annotated(pixels=np.asarray(image), known=known)

    def _scaled(self, shown: Annotated, factor: float, preprocess: Preprocess) -> Annotated:
        """The picture at ``factor`` times the size that the preprocessing gives it."""
        height, width = preprocess.resized_size(shown.height, shown.width)
        return shown.resized(
            max(1, round(height * factor)), max(1, round(width * factor)), preprocess
        )

    def _part(self, shown: Annotated, preprocess: Preprocess, draws: random.Random) -> Annotated:
        """A random part of the picture that is as large as the input."""
        height, width = preprocess.height, preprocess.width
        for _ in range(PART_TRIES):
            top = draws.randint(0, max(0, shown.height - height))
            left = draws.randint(0, max(0, shown.width - width))
            part = shown.framed(
                left, top, height, width, fill=self.fill, visible=self.settings.visible
            )
            share = self.settings.largest_share
            if share == 1 or part.known.map is None:
                break
            if composing.largest_share(part.known.map) <= share:
                break
        return part
