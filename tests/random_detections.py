"""Pictures with objects drawn from a seed, and detections near them: what a detector that is
neither good nor useless might find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from fleetfoot.data.scenes import Objects
from fleetfoot.tasks.detect.detections import Detections

CLASSES = 4


@dataclass(frozen=True)
class Ellipse:
    """A mask: the ellipse that fills a box."""

    box: tuple[float, float, float, float]

    def drawn(self, height: int, width: int) -> np.ndarray:
        left, top, right, bottom = self.box
        y, x = np.mgrid[:height, :width] + 0.5
        across = (x - (left + right) / 2) / max((right - left) / 2, 0.5)
        down = (y - (top + bottom) / 2) / max((bottom - top) / 2, 0.5)
        return across**2 + down**2 <= 1


@dataclass(frozen=True)
class Scene:
    number: int
    size: tuple[int, int]
    truth: Objects
    found: Detections


def scenes(seed: int, count: int = 12, *, masks: bool = False, digits: int = 1) -> Iterator[Scene]:
    """Pictures of different sizes. Some have no objects, some objects are crowds, and class 3 is on
    no picture. Numbers of pictures have gaps.

    Args:
        digits: decimals of the scores; with one, many are equal.
    """
    rng = np.random.default_rng(seed)
    for place in range(count):
        height, width = (int(n) for n in rng.integers(128, 256, 2))
        n = 0 if place % 5 == 4 else int(rng.integers(1, 12))
        boxes = _boxes(rng, n, height, width)
        classes = rng.integers(0, CLASSES - 1, n)
        crowd = rng.random(n) < 0.2
        drawings = [Ellipse(tuple(box)) for box in boxes.tolist()]
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        if masks:
            areas = np.array([one.drawn(height, width).sum() for one in drawings], float)
        truth = Objects(
            boxes=boxes,
            classes=classes,
            crowd=crowd,
            areas=areas.reshape(-1),
            masks=tuple(drawings) if masks else None,
        )
        found = _found(rng, truth, (height, width), masks, digits)
        yield Scene(place * 3 + 1, (height, width), truth, found)


def _boxes(rng: np.random.Generator, n: int, height: int, width: int) -> np.ndarray:
    size = np.exp(rng.uniform(np.log(6), np.log(min(height, width) * 0.8), (n, 2)))
    corner = rng.random((n, 2)) * (np.array([width, height]) - size)
    return np.concatenate([corner, corner + size], axis=1)


def _found(
    rng: np.random.Generator, truth: Objects, size: tuple[int, int], masks: bool, digits: int
) -> Detections:
    """Each object twice on average, moved by up to a fifth of its size, sometimes as another class;
    and boxes where there is nothing."""
    height, width = size
    times = rng.integers(0, 4, len(truth))
    near = np.repeat(truth.boxes, times, axis=0)
    sides = np.tile(near[:, 2:] - near[:, :2], 2)
    near = near + rng.uniform(-0.2, 0.2, near.shape) * sides
    boxes = np.concatenate([near, _boxes(rng, int(rng.integers(0, 5)), height, width)])
    classes = np.concatenate(
        [np.repeat(truth.classes, times), rng.integers(0, CLASSES, len(boxes) - len(near))]
    )
    swapped = rng.random(len(classes)) < 0.15
    classes[swapped] = rng.integers(0, CLASSES, int(swapped.sum()))
    scores = np.round(rng.random(len(boxes)), digits).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    drawn = np.zeros((len(boxes), height, width), bool)
    for number, box in enumerate(boxes[order].tolist()):
        drawn[number] = Ellipse(tuple(box)).drawn(height, width)
    return Detections(
        boxes=torch.from_numpy(boxes[order].astype(np.float32)),
        scores=torch.from_numpy(scores[order]),
        classes=torch.from_numpy(classes[order]),
        masks=torch.from_numpy(drawn) if masks else None,
    )
