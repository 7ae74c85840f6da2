"""Small scenes, the same every time: what a run of detection or segmentation that is killed sees.

Each picture has up to three shapes: a bright square (class 0), or a dark disc (class 1).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleetfoot.data.pictures import InMemory, Texts
from fleetfoot.data.scenes import LabelMap, Objects, Scenes, SceneSet, Target
from fleetfoot.data.sources import Source
from fleetfoot.tasks.network import Task

CLASSES = ("square", "disc")
MAPPED = ("ground", *CLASSES)
"""Classes of the pixels."""
SIDES = ((64, 56), (48, 72), (64, 64))
"""Heights and widths of the pictures."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """The pixels of a shape."""

    pixels: NDArray[np.bool_]

    def drawn(self, height: int, width: int) -> NDArray[np.bool_]:
        if self.pixels.shape != (height, width):
            raise ValueError(f"a mask of {self.pixels.shape} on a picture of {(height, width)}")
        return self.pixels


@dataclass(frozen=True, eq=False)
class Listed:
    """What is known of each picture."""

    rows: Sequence[Target]
    digests: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Target:
        return self.rows[index]

    def described(self, index: int) -> bytes:
        return self.digests[index]


def scenes(task: Task = "detect", *, train: int = 24, val: int = 8, seed: int = 0) -> SceneSet:
    """A set of drawn shapes.

    Args:
        task: ``detect``, with boxes and masks, or ``segment``.
        train, val: numbers of pictures.
    """
    draws = np.random.RandomState(seed)
    counts = {"train": train, "val": val}
    parts: dict[str, Any] = {
        name: _part(name, count, task, draws) for name, count in counts.items()
    }
    return SceneSet(
        name="shapes",
        task=task,
        layout="drawn in memory",
        classes=CLASSES if task == "detect" else MAPPED,
        **parts,
    )


def _part(name: str, count: int, task: Task, draws: np.random.RandomState) -> Scenes:
    files, rows, digests = [], [], []
    for number in range(count):
        pixels, masks, classes = _drawn(*SIDES[number % len(SIDES)], draws)
        files.append(_png(pixels))
        rows.append(_objects(masks, classes) if task == "detect" else _map(masks, classes))
        digests.append(hashlib.blake2b(np.stack(masks).tobytes(), digest_size=8).digest())
    names = Texts(f"{name}/{number}.png" for number in range(count))
    return Scenes(name, InMemory(names, tuple(files)), Listed(rows, digests))


def _drawn(
    height: int, width: int, draws: np.random.RandomState
) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]], list[int]]:
    """A picture with shapes, and the pixels and class of each."""
    pixels = draws.randint(90, 140, (height, width, 3))
    y, x = np.mgrid[:height, :width] + 0.5
    masks, classes = [], []
    columns = draws.permutation(3)[: draws.randint(1, 4)]
    for left in (4 + width * column // 3 for column in columns.tolist()):
        side = draws.randint(8, width // 3 - 2)
        top = draws.randint(2, height - side - 1)
        label = draws.randint(2)
        inside = (x > left) & (x < left + side) & (y > top) & (y < top + side)
        if label:
            middle = np.array([left, top]) + side / 2
            inside = (x - middle[0]) ** 2 + (y - middle[1]) ** 2 < (side / 2) ** 2
        pixels[inside] = (40, 30, 60) if label else (220, 210, 180)
        masks.append(inside)
        classes.append(label)
    return pixels.astype(np.uint8), masks, classes


def _objects(masks: Sequence[NDArray[np.bool_]], classes: Sequence[int]) -> Objects:
    boxes = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return Objects(
        boxes=np.array(boxes, np.float64),
        classes=np.array(classes, np.int64),
        crowd=np.zeros(len(classes), np.bool_),
        areas=np.array([mask.sum() for mask in masks], np.float64),
        masks=tuple(map(Drawn, masks)),
    )


def _map(masks: Sequence[NDArray[np.bool_]], classes: Sequence[int]) -> LabelMap:
    made = np.zeros(masks[0].shape, np.uint8)
    for mask, label in zip(masks, classes, strict=True):
        made[mask] = label + 1
    return LabelMap(source=Source("map.png", _png(made)))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
