"""Pictures of coloured squares in a grid of four by four, and networks that see nothing else: what
they find can be said by hand."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fleetfoot.data.scenes import IGNORED, LabelMap, Objects, Scenes, SceneSet
from fleetfoot.data.sources import Source
from fleetfoot.network import Workload
from fleetfoot.tasks.detect.detections import Detections
from fleetfoot.tasks.network import TaskNetwork
from fleetfoot.tasks.segment.network import Segmenter
from fleetfoot.weights.pretrained import PretrainedConfig

CLASSES = ("red", "green", "blue")
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
GRID, SIDE = 4, 64
HEIGHT, WIDTH = 96, 128

Spot = tuple[int, int, int]
"""Row, column and class of a square."""


def config(**changes: Any) -> PretrainedConfig:
    made: dict[str, Any] = {
        "tag": "", "source": "none", "input_size": SIDE, "crop_pct": 1.0, "resize_mode": "squash",
        "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "labels": CLASSES,
    }  # fmt: skip
    return PretrainedConfig(**made | changes)


class SpotDetector(TaskNetwork):
    """Finds a square of the grid if the mean of its colour is above a half; the score is higher for
    brighter ones."""

    task = "detect"

    def __init__(self, *, masks: bool = False) -> None:
        super().__init__()
        self.backbone = nn.AvgPool2d(SIDE // GRID)
        self.head = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.head.weight.copy_(8 * torch.eye(3)[:, :, None, None])
            self.head.bias.fill_(-4)
        self.num_classes, self.masks, self.pretrained_cfg = 3, masks, config()

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.backbone(x))}

    def decode(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> list[Detections]:
        answers = []
        for scores in outputs["logits"].sigmoid():
            classes, rows, columns = (scores > 0.5).nonzero().T
            certain, order = scores[classes, rows, columns].sort(descending=True, stable=True)
            cell = size[0] // GRID
            left, top = columns[order] * cell, rows[order] * cell
            boxes = torch.stack((left, top, left + cell, top + cell), dim=1).float()
            drawn = torch.zeros(len(boxes), *size, dtype=torch.bool)
            for mask, (x0, y0, x1, y1) in zip(drawn, boxes.int().tolist(), strict=True):
                mask[y0:y1, x0:x1] = True
            answers.append(
                Detections(
                    boxes=boxes,
                    scores=certain,
                    classes=classes[order],
                    masks=drawn if self.masks else None,
                )
            )
        return answers

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": ("backbone",), "neck": (), "head": ("head",)}


class SpotSegmenter(Segmenter):
    """Gives each pixel the colour that it has most of, or black."""

    def __init__(self, *, blind: bool = False) -> None:
        """Makes the network; ``blind`` for green."""
        super().__init__()
        self.backbone = nn.AvgPool2d(1)
        self.head = nn.Conv2d(3, 4, 1)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(4, 3).roll(1, 0)[..., None, None])
            self.head.bias.copy_(torch.tensor([0.5, 0.0, -9.0 if blind else 0.0, 0.0]))
        self.num_classes = 4
        self.pretrained_cfg = config(labels=("black", *CLASSES))

    def head_logits(self, maps: Tensor) -> Tensor:
        return self.head(maps)

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": ("backbone",), "neck": (), "head": ("head",)}


@dataclass(frozen=True)
class Rectangle:
    box: tuple[float, ...]

    def drawn(self, height: int, width: int) -> np.ndarray:
        left, top, right, bottom = (round(edge) for edge in self.box)
        made = np.zeros((height, width), bool)
        made[top:bottom, left:right] = True
        return made


def box_of(spot: Spot) -> tuple[float, ...]:
    row, column, _ = spot
    high, wide = HEIGHT / GRID, WIDTH / GRID
    return column * wide, row * high, (column + 1) * wide, (row + 1) * high


def picture(spots: Sequence[Spot], level: float = 1.0) -> bytes:
    """The PNG file of a picture with squares of that brightness."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for spot in spots:
        where = Rectangle(box_of(spot)).drawn(HEIGHT, WIDTH)
        pixels[where] = np.round(np.array(COLOURS[spot[2]]) * level)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Files:
    """Pictures in memory."""

    def __init__(self, files: Sequence[bytes]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Source:
        return Source(self.name(index), self._files[index])

    def name(self, index: int) -> str:
        return f"{index}.png"

    def sizes(self) -> np.ndarray:
        return np.array([len(file) for file in self._files])


class Boxes:
    """The objects of each picture: its spots as they are said to be."""

    def __init__(self, spots: Sequence[Sequence[Spot]], *, masks: bool) -> None:
        self._spots, self._masks = spots, masks

    def __len__(self) -> int:
        return len(self._spots)

    def __getitem__(self, index: int) -> Objects:
        spots = self._spots[index]
        boxes = np.array([box_of(spot) for spot in spots], float).reshape(-1, 4)
        return Objects(
            boxes=boxes,
            classes=np.array([spot[2] for spot in spots], np.int64),
            crowd=np.zeros(len(spots), bool),
            areas=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
            masks=tuple(Rectangle(tuple(box)) for box in boxes.tolist()) if self._masks else None,
        )

    def described(self, index: int) -> bytes:
        return repr(self._spots[index]).encode()


def scenes(
    *pictures: tuple[Sequence[Spot], Sequence[Spot]] | bytes,
    masks: bool = False,
    classes: Sequence[str] = CLASSES,
) -> SceneSet:
    """A set of pictures, each given as the spots that it shows and those that it is said to show;
    or as a file."""
    files = [one if isinstance(one, bytes) else picture(one[0]) for one in pictures]
    said = [() if isinstance(one, bytes) else one[1] for one in pictures]
    part = Scenes("test", Files(files), Boxes(said, masks=masks))
    return SceneSet(name="spots", task="detect", layout="in memory", classes=tuple(classes),
                    test=part)  # fmt: skip


class Maps:
    """The class of each pixel of each picture: black, and its spots as they are said to be. The
    picture's last row of pixels is of no class."""

    def __init__(self, spots: Sequence[Sequence[Spot]]) -> None:
        self._spots = spots

    def __len__(self) -> int:
        return len(self._spots)

    def __getitem__(self, index: int) -> LabelMap:
        numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
        for spot in self._spots[index]:
            numbers[Rectangle(box_of(spot)).drawn(HEIGHT, WIDTH)] = spot[2] + 1
        numbers[-1] = IGNORED
        file = io.BytesIO()
        Image.fromarray(numbers).save(file, "PNG")
        return LabelMap(source=Source(f"{index}-map.png", file.getvalue()))

    def described(self, index: int) -> bytes:
        return repr(self._spots[index]).encode()


def maps(*pictures: tuple[Sequence[Spot], Sequence[Spot]]) -> SceneSet:
    """A set of label maps, given as ``scenes`` takes them."""
    files = Files([picture(shown) for shown, _ in pictures])
    part = Scenes("test", files, Maps([said for _, said in pictures]))
    classes = ("black", *CLASSES)
    return SceneSet(name="maps", task="segment", layout="in memory", classes=classes, test=part)


RED, GREEN, BLUE = (0, 0, 0), (1, 2, 1), (3, 3, 2)
FIVE = (
    ((RED, GREEN), (RED, GREEN)),
    ((BLUE,), (BLUE,)),
    ((RED,), (RED, (2, 2, 0))),  # one red square is not there
    (((0, 1, 1), BLUE), (BLUE,)),  # a green square is there, and not known
    ((), ()),
)
"""Two pictures that are right, one with an object too many, one with one too few, an empty one."""


def detector(**options: Any) -> Workload:
    return Workload.of("spots", SpotDetector(**options).eval(), size=SIDE)


def segmenter(**options: Any) -> Workload:
    return Workload.of("pixels", SpotSegmenter(**options).eval(), size=SIDE)
