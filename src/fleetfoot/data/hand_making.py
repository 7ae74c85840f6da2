"""The maker for hands: a picture is rotated, enlarged and shifted, and the hand moves with it.

The camera looks along z, so a rotation of the picture is one of the hand about z.

V vertices · C channels · H W the network's input
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleetfoot.data import composing
from fleetfoot.data.making import Bytes
from fleetfoot.data.placement import Placement
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.scene_settings import AugmentedPart
from fleetfoot.data.scenes import Hand
from fleetfoot.tasks.network import Task

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class MadeHand:
    """The hand of an input."""

    points: NDArray[np.float32]
    """The joints in pixels of the input, (21, 2)."""
    joints: NDArray[np.float32]
    """The joints in metres from the root joint, which is the first, (21, 3)."""
    vertices: NDArray[np.float32]
    """The mesh's vertices in metres from the root joint, (V, 3)."""
    placement: Placement | None = None
    """Where the picture lies in the input; None if it was augmented."""


def made_hand(hand: Hand, points: Numbers, turn: Numbers | None = None) -> MadeHand:
    """The hand as a maker hands it over.

    Args:
        points: the joints in the input, (21, 2).
        turn: what the picture's x and y are multiplied by, (2, 2). Default: they stay.
    """
    turned = np.eye(3)
    if turn is not None:
        turned[:2, :2] = turn
    root = hand.joints[0]
    return MadeHand(
        points=points.astype(np.float32),
        joints=((hand.joints - root) @ turned.T).astype(np.float32),
        vertices=((hand.vertices - root) @ turned.T).astype(np.float32),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class AugmentedHands(AugmentedPart):
    """Augmented pictures of a part with hands, for training."""

    task: Task = "hand"

    def write(self, out: Bytes, number: int, *, epoch: int, update: int, repeat: int) -> MadeHand:
        """Writes the augmented picture, and returns the hand that belongs to it."""
        settings, preprocess = self.settings, self.sizes.preprocess(update)
        draws = self.draws(epoch, number, repeat)
        image, hand = self.opened(number)
        if not isinstance(hand, Hand):
            raise ValueError("what is known of it is no hand")
        angle = math.radians(draws("rotate").uniform(-settings.rotate, settings.rotate))
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        if draws("mirror").random() < settings.mirror:
            turn = np.diag([-1.0, 1.0]) @ turn
        aside = draws("shift")
        move = Move(
            turn=turn,
            factor=draws("scale").uniform(*settings.scale),
            shift=(
                preprocess.width * aside.uniform(-settings.shift, settings.shift),
                preprocess.height * aside.uniform(-settings.shift, settings.shift),
            ),
        )
        pixels, points = move.apply(image, hand.points, preprocess, self.fill)
        if settings.photometric:
            pixels = composing.distorted(pixels, settings.photometric, draws("colours"))
        preprocess.write(out, pixels)
        return made_hand(hand, points, move.turn)


@dataclass(frozen=True, eq=False, kw_only=True)
class Move:
    """A rotation, or a mirrored one, about the middle of the input, after which it is enlarged and
    shifted."""

    turn: Numbers
    """(2, 2)"""
    factor: float
    shift: tuple[float, float]
    """In pixels of the input, x and y."""

    def apply(
        self,
        image: Image.Image,
        points: Numbers,
        preprocess: Preprocess,
        fill: tuple[int, ...],
    ) -> tuple[NDArray[np.uint8], Numbers]:
        """An RGB picture as large as the input, (H, W, 3), and points of the picture, (n, 2), in
        it. ``fill`` is the colour of what lies beside the picture.

        The picture is resized by the filter of ``preprocess`` and then turned bilinearly, so that a
        large picture is not sampled too coarsely.
        """
        placed = preprocess.placement(image.height, image.width)
        middle = np.array([preprocess.width, preprocess.height]) / 2
        matrix = self.turn @ np.diag(placed.scale) * self.factor
        start = middle + self.shift + self.factor * self.turn @ (placed.offset - middle)

        height, width = (
            max(1, round(side * self.factor))
            for side in preprocess.resized_size(image.height, image.width)
        )
        resized = preprocess.resize(image, height, width).permute(1, 2, 0).numpy()
        back = np.diag([width / image.width, height / image.height]) @ np.linalg.inv(matrix)
        offset = -back @ start
        turned = Image.fromarray(np.ascontiguousarray(resized)).transform(
            (preprocess.width, preprocess.height),
            Image.Transform.AFFINE,
            (*back[0], offset[0], *back[1], offset[1]),
            resample=Image.Resampling.BILINEAR,
            fillcolor=fill,
        )
        return np.asarray(turned), points @ matrix.T + start
