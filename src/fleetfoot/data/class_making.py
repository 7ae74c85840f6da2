"""Makers for classification: a picture, and the number of its class."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fleetfoot.data.augment import Augmentation
from fleetfoot.data.dataset import Split
from fleetfoot.data.making import Bytes
from fleetfoot.data.preprocess import Preprocess


@dataclass(frozen=True, eq=False)
class AugmentedClasses:
    """Augmented pictures of a split and their classes, for training."""

    split: Split
    augmentation: Augmentation

    def shape(self, *, epoch: int, update: int) -> tuple[int, int, int]:
        """(C, H, W) of every input of that update; the epoch alone decides it."""
        return self.augmentation.shape(epoch)

    @property
    def largest(self) -> int:
        """Bytes of an input in the phase with the largest ones."""
        ends = (phase.until for phase in self.augmentation.phases)
        return max(math.prod(self.augmentation.shape(epoch)) for epoch in (0, *ends))

    def write(self, out: Bytes, number: int, *, epoch: int, update: int, repeat: int) -> int:
        """Writes the augmented picture, and returns its class."""
        image = self.split.pictures[number].open().image
        self.augmentation.write(out, image, epoch=epoch, index=number, repeat=repeat)
        return int(self.split.labels[number])


@dataclass(frozen=True, eq=False)
class PlainClasses:
    """Pictures of a split as ``preprocess.pixels`` gives them, and their classes, for
    evaluation."""

    split: Split
    preprocess: Preprocess

    def shape(self, *, epoch: int, update: int) -> tuple[int, int, int]:
        """(C, H, W), the same always."""
        return self.preprocess.channels, self.preprocess.height, self.preprocess.width

    @property
    def largest(self) -> int:
        """Bytes of an input."""
        return math.prod(self.shape(epoch=0, update=0))

    def write(self, out: Bytes, number: int, *, epoch: int, update: int, repeat: int) -> int:
        """Writes the preprocessed picture, and returns its class."""
        image = self.split.pictures[number].open().image
        out[:] = self.preprocess.pixels(image).numpy()
        return int(self.split.labels[number])
