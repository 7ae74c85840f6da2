"""What the settings of augmented scenes allow, the sizes of the input that they ask for, and what
the makers that use them have in common.

C channels · H W the network's input
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache

from PIL import Image

from fleetfoot.data.augment import number as key
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.scenes import Scenes, Target
from fleetfoot.data.settings import Scene
from fleetfoot.tasks.network import Task

Draws = Callable[[str], random.Random]
"""Gives a generator of its own for each use of random numbers, so that no setting changes what is
drawn for another one."""

MULTIPLE = 32
"""Pixels of which the sides are multiples if the input has several sizes: the stride of a
backbone."""
LARGEST = 8.0
"""Largest factor on the size of a picture or of the input."""

CONCERNS: dict[Task, tuple[str, ...]] = {
    "detect": (
        "flip", "scale", "multiscale", "multiscale_every", "expand", "expand_most", "iou_crop",
        "visible", "photometric", "mosaic", "mosaic_scale", "mixup", "until",
    ),
    "segment": (
        "flip", "scale", "multiscale", "multiscale_every", "expand", "expand_most",
        "largest_share", "photometric", "mosaic", "mosaic_scale", "until",
    ),
    "hand": (
        "scale", "multiscale", "multiscale_every", "photometric", "rotate", "shift", "mirror",
    ),
}  # fmt: skip
"""Fields of ``Scene`` that have an effect in each task."""


def check(settings: Scene, task: Task) -> None:
    """Checks every field.

    Raises:
        ValueError: one is out of range, or is set though it has no effect in the task.
    """
    for field in fields(Scene):
        value = getattr(settings, field.name)
        if field.name not in CONCERNS[task] and value != field.default:
            raise ValueError(
                f"{field.name} has no effect in the task {task}; leave it at {field.default}, "
                f"not {value}"
            )
    for names, unit, allowed in _RANGES:
        for name in names:
            value = getattr(settings, name)
            if not allowed(value):
                raise ValueError(f"{name} must be {unit}, not {value}")


def _factors(pair: tuple[float, float]) -> bool:
    return 0 < pair[0] <= pair[1] <= LARGEST


_RANGES: tuple[tuple[tuple[str, ...], str, Callable[..., bool]], ...] = (
    (
        ("flip", "expand", "iou_crop", "photometric", "mosaic", "mixup", "mirror"),
        "a probability from 0 to 1",
        lambda value: 0 <= value <= 1,
    ),
    (("visible", "shift"), "a share from 0 to 1", lambda value: 0 <= value <= 1),
    (("largest_share",), "a share above 0 and at most 1", lambda value: 0 < value <= 1),
    (
        ("scale", "multiscale", "mosaic_scale"),
        f"two rising factors above 0 and at most {LARGEST:g}",
        _factors,
    ),
    (
        ("expand_most",),
        f"a factor from 1 to {LARGEST:g}",
        lambda value: 1 <= value <= LARGEST,
    ),
    (("multiscale_every",), "1 update or more", lambda value: value >= 1),
    (("until",), "an epoch, 0 or more", lambda value: value is None or value >= 0),
    (("rotate",), "an angle from 0 to 180 degrees", lambda value: 0 <= value <= 180),
)


@dataclass(frozen=True, eq=False)
class Sizes:
    """The sizes that the input may have, and the one that an update has."""

    own: Preprocess
    """The preprocessing of evaluation."""
    sides: tuple[tuple[int, int], ...]
    """Heights and widths, rising."""
    every: int
    """Updates with the same size."""
    seed: int

    @classmethod
    def of(cls, settings: Scene, preprocess: Preprocess, seed: int) -> Sizes:
        """The sizes that ``settings.multiscale`` asks for.

        Raises:
            ValueError: no multiple of 32 pixels is among them.
        """
        height, width = preprocess.height, preprocess.width
        low, high = settings.multiscale
        sides = [(height, width)]
        if (low, high) != (1, 1):
            first, last = (round(factor * height / MULTIPLE, 6) for factor in (low, high))
            counts = range(max(1, math.ceil(first)), int(last) + 1)
            sides = [
                (MULTIPLE * count, MULTIPLE * max(1, round(count * width / height)))
                for count in counts
            ]
        if not sides:
            raise ValueError(
                f"multiscale from {low:g} to {high:g} times {height} pixels holds no multiple of "
                f"{MULTIPLE}; choose a wider range"
            )
        return cls(preprocess, tuple(sides), settings.multiscale_every, seed)

    @property
    def most(self) -> int:
        """Pixels of the largest size."""
        return max(height * width for height, width in self.sides)

    def at(self, update: int) -> tuple[int, int]:
        """Height and width in that update."""
        if len(self.sides) == 1:
            return self.sides[0]
        drawn = random.Random(key("size", self.seed, update // self.every, 0, 0))
        return drawn.choice(self.sides)

    def preprocess(self, update: int) -> Preprocess:
        """The preprocessing at the size of that update."""
        return _at(self.own, *self.at(update))


@lru_cache(maxsize=64)
def _at(preprocess: Preprocess, height: int, width: int) -> Preprocess:
    if (height, width) == (preprocess.height, preprocess.width):
        return preprocess
    return replace(preprocess, size=height if height == width else (height, width))


@dataclass(frozen=True, eq=False, kw_only=True)
class AugmentedPart:
    """What the makers of augmented scenes have in common.

    Raises:
        ValueError: a setting is out of range, or has no effect in the task.
    """

    scenes: Scenes
    task: Task
    settings: Scene
    preprocess: Preprocess
    """The preprocessing of evaluation: training resizes a picture in the same way, before
    ``settings.scale``, and fills what lies beside it with the same mean."""
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.settings, self.task)
        Sizes.of(self.settings, self.preprocess, self.seed)

    @cached_property
    def sizes(self) -> Sizes:
        """The sizes of the input."""
        return Sizes.of(self.settings, self.preprocess, self.seed)

    def shape(self, *, epoch: int, update: int) -> tuple[int, int, int]:
        """(C, H, W) of every input of that update."""
        return self.preprocess.channels, *self.sizes.at(update)

    @property
    def largest(self) -> int:
        """Bytes of the largest input that ``shape`` ever gives."""
        return self.preprocess.channels * self.sizes.most

    @property
    def fill(self) -> tuple[int, ...]:
        """What fills the place beside a picture, in RGB."""
        own = self.preprocess.fill
        return own * 3 if self.preprocess.channels == 1 else own

    def opened(self, number: int) -> tuple[Image.Image, Target]:
        """The picture with that number, as RGB even for a grey input, and what is known of it.

        Raises:
            ImageError: it cannot be used.
        """
        image = self.scenes.pictures[number].open().image
        if self.preprocess.channels == 1:
            image = image.convert("L").convert("RGB")
        return image, self.scenes.targets[number]

    def draws(self, epoch: int, number: int, repeat: int) -> Draws:
        """The generators for one picture."""
        return lambda use: random.Random(key(use, self.seed, epoch, number, repeat))
