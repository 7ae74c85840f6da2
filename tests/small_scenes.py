"""Parts of a few small pictures with coloured rectangles, whose boxes, masks and maps are known by
their colours."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fleetfoot.data.pictures import InMemory, Texts
from fleetfoot.data.scenes import IGNORED, Hand, LabelMap, Objects, Scenes
from fleetfoot.data.sources import Source

COLOURS = np.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)], dtype=np.uint8
)
"""Colour of each class; what has no class is black."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A mask that is stored as it is."""

    pixels: np.ndarray

    def drawn(self, height: int, width: int) -> np.ndarray:
        assert self.pixels.shape == (height, width)
        return self.pixels


@dataclass(frozen=True, eq=False)
class Listed:
    """Targets in a list."""

    targets: tuple[Objects | LabelMap | Hand, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Objects | LabelMap | Hand:
        return self.targets[index]

    def described(self, index: int) -> bytes:
        return repr(self.targets[index]).encode()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def part(files, targets) -> Scenes:
    """A part of those pictures, which are files or arrays of pixels."""
    raw = tuple(one if isinstance(one, bytes) else png(one) for one in files)
    names = Texts(f"{number}.png" for number in range(len(raw)))
    return Scenes("train", InMemory(names, raw), Listed(tuple(targets)))


def rectangles(seed: int, height: int, width: int, count: int = 3):
    """A picture of rectangles that do not touch each other, their boxes and classes: at most one in
    each of the cells of a grid of 2 by 3."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), np.uint8)
    boxes, classes = [], []
    for cell in rng.permutation(6)[:count]:
        low, high = (width // 3, height // 2), ((cell % 3), (cell // 3))
        start = [high[axis] * low[axis] + rng.integers(1, low[axis] // 4 + 1) for axis in (0, 1)]
        size = [rng.integers(low[axis] // 3, 2 * low[axis] // 3) for axis in (0, 1)]
        left, top, right, bottom = *start, start[0] + size[0], start[1] + size[1]
        chosen = int(rng.integers(len(COLOURS)))
        pixels[top:bottom, left:right] = COLOURS[chosen]
        boxes.append((left, top, right, bottom))
        classes.append(chosen)
    return pixels, np.array(boxes, float).reshape(-1, 4), np.array(classes, np.int64)


def covered(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels of each box whose edges lie between pixels, (n, H, W)."""
    masks = np.zeros((len(boxes), height, width), bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = True
    return masks


def objects_of(boxes, classes, height, width, masks=True, crowd=None) -> Objects:
    """Objects whose masks are their boxes."""
    sides = boxes[:, 2:] - boxes[:, :2]
    drawn = tuple(map(Drawn, covered(boxes, height, width))) if masks else None
    return Objects(
        boxes=boxes,
        classes=classes,
        crowd=np.zeros(len(boxes), bool) if crowd is None else np.array(crowd),
        areas=sides[:, 0] * sides[:, 1],
        masks=drawn,
    )


SIZES = ((48, 72), (60, 60), (80, 54), (64, 96), (50, 75))


def with_objects(count: int = 5, masks: bool = True, factor: int = 1) -> Scenes:
    """A part with objects; ``factor`` enlarges the pictures."""
    files, targets = [], []
    for number in range(count):
        height, width = (factor * side for side in SIZES[number % len(SIZES)])
        pixels, boxes, classes = rectangles(number, height, width)
        files.append(pixels)
        targets.append(objects_of(boxes, classes, height, width, masks))
    return part(files, targets)


def with_maps(count: int = 5, factor: int = 1) -> Scenes:
    """A part with the same pictures and label maps; in the files the classes are counted from 1,
    and 0 stands for none."""
    files, targets = [], []
    numbers = np.full(256, IGNORED, np.uint8)
    numbers[1 : len(COLOURS) + 1] = np.arange(len(COLOURS))
    for number in range(count):
        height, width = (factor * side for side in SIZES[number % len(SIZES)])
        pixels, boxes, classes = rectangles(number, height, width)
        classes_of = np.zeros((height, width), np.uint8)
        for mask, chosen in zip(covered(boxes, height, width), classes, strict=True):
            classes_of[mask] = chosen + 1
        files.append(pixels)
        source = Source(f"{number}_map.png", png(classes_of))
        targets.append(LabelMap(source=source, numbers=numbers))
    return part(files, targets)


def with_hands(count: int = 3, size: int = 64, seed: int = 0) -> Scenes:
    """A part with hands on noise, seen from so far away that a metre is 100 pixels at every
    joint."""
    rng = np.random.default_rng(seed)
    files, targets = [], []
    for _ in range(count):
        joints = rng.uniform(-0.2, 0.2, (21, 3))
        points = 100 * joints[:, :2] + size / 2
        files.append(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))
        targets.append(Hand(joints=joints, vertices=rng.uniform(-1, 1, (7, 3)), points=points))
    return part(files, targets)
