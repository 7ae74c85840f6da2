"""What a set for detection, segmentation or hands holds, before a network is trained on it:
objects or pixels of each class, labels that look wrong, and what a survey of the pictures finds.

n objects of a picture
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fleetfoot.data.inspection import IMAGE_SIZE
from fleetfoot.data.label_maps import LabelMaps
from fleetfoot.data.masks import Runs
from fleetfoot.data.objects import ObjectTable
from fleetfoot.data.scenes import IGNORED, Hand, LabelMap, Scenes, SceneSet
from fleetfoot.data.survey import Level, Look, Place, Spread, Survey, spread_of, survey
from fleetfoot.errors import ImageError, visible
from fleetfoot.tasks.network import Task

ALIKE = 0.9
"""Intersection over union from which on two boxes are taken for two of one object."""
OVER = 1.0
"""Pixels by which a box may reach over the edge of its picture: coordinates are rounded."""
SMALL, LARGE = 32**2, 96**2
"""COCO's limits of small and large objects, in square pixels."""

Kind = Literal[
    "not finite", "no area", "outside", "other size", "mask size", "bad map", "over the edge",
    "duplicate", "two classes", "joints outside",
]  # fmt: skip

FAULTS: dict[Kind, tuple[Level, str]] = {
    "not finite": ("wrong", "the box is not four finite numbers; it is left out"),
    "no area": ("wrong", "the box has no area; it is left out"),
    "outside": ("wrong", "the box lies outside its picture; it is left out"),
    "other size": ("wrong", "the picture has another size than the labels state"),
    "mask size": ("wrong", "the mask has another size than its picture"),
    "bad map": ("wrong", "the label map cannot be used"),
    "over the edge": ("doubt", "the box reaches over the edge of its picture"),
    "duplicate": ("doubt", "the box is nearly equal to another one of its class"),
    "two classes": ("doubt", "the box is nearly equal to one of another class"),
    "joints outside": ("doubt", "joints of the hand lie outside its picture"),
}
"""Level of each kind of fault, and what it is."""


@dataclass(frozen=True)
class Fault:
    """A label that looks wrong."""

    kind: Kind
    place: Place
    """The picture."""
    where: str
    """File and number of the label."""
    text: str
    """What was found, with figures."""
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    """The box, and another one that belongs to the fault: left, top, right and bottom edge."""


@dataclass(frozen=True, kw_only=True)
class SceneInspection(Survey):
    """What was seen in a set for detection, segmentation or hands, which have no classes."""

    task: Task
    lengths: dict[str, int]
    """Pictures of each part."""
    counts: dict[str, tuple[int, ...]]
    """Objects of each class, for each part, or pixels if the task is to segment; pixels are those
    of the maps that were read."""
    holding: dict[str, tuple[int, ...]]
    """Pictures that hold each class, for each part."""
    empty: dict[str, int]
    """Pictures without any object or labelled pixel, for each part."""
    crowds: dict[str, int]
    """Objects that stand for many, for each part; ``counts`` leaves them out."""
    masked: dict[str, int]
    """Objects with a mask, for each part."""
    ignored: dict[str, int]
    """Pixels of no class, for each part."""
    object_sizes: tuple[int, int, int]
    """Small, middle and large objects, by COCO's limits."""
    per_picture: Spread | None
    """Objects of a picture. None if there are no objects."""
    faults: tuple[Fault, ...]
    """Labels that look wrong, in the order of ``FAULTS``."""

    @property
    def parts(self) -> dict[str, int]:
        """Pictures of each part."""
        return self.lengths


def inspect_scenes(
    scenes: SceneSet,
    *,
    size: int = IMAGE_SIZE,
    quick: bool = False,
    threads: int | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> SceneInspection:
    """Looks at the pictures and labels of a set. Faults are reported, not raised. Arguments are
    those of ``inspect``; the quick form reads no label map."""
    tally = _Tally(scenes, maps=not quick)
    fields = survey(
        scenes, size=size, quick=quick, threads=threads, on_progress=on_progress, stop=stop,
        also=tally.picture,
    )  # fmt: skip
    for split in scenes.splits:
        if isinstance(split.targets, ObjectTable):
            tally.table(split, split.targets, scenes.classes)
    order = list(FAULTS)
    faults = sorted(
        tally.faults, key=lambda one: (order.index(one.kind), one.place.split, one.place.index)
    )
    return SceneInspection(
        **fields,
        task=scenes.task,
        lengths={split.name: len(split) for split in scenes.splits},
        counts={name: tuple(found.tolist()) for name, found in tally.counts.items()},
        holding={name: tuple(found.tolist()) for name, found in tally.holding.items()},
        empty={split.name: tally.empty[split.name] for split in scenes.splits},
        crowds={split.name: tally.crowds[split.name] for split in scenes.splits},
        masked={split.name: tally.masked[split.name] for split in scenes.splits},
        ignored={split.name: tally.ignored[split.name] for split in scenes.splits},
        object_sizes=(tally.sizes[0], tally.sizes[1], tally.sizes[2]),
        per_picture=spread_of(tally.per_picture),
        faults=tuple(faults),
    )


class _Tally:
    """Counts objects, pixels and faults."""

    def __init__(self, scenes: SceneSet, *, maps: bool) -> None:
        self._splits = {split.name: split for split in scenes.splits}
        self._maps, self._lock, classes = maps, Lock(), len(scenes.classes)
        self.counts = {name: np.zeros(classes, dtype=np.int64) for name in self._splits}
        self.holding = {name: np.zeros(classes, dtype=np.int64) for name in self._splits}
        self.empty, self.crowds, self.masked = Counter[str](), Counter[str](), Counter[str]()
        self.ignored, self.sizes = Counter[str](), [0, 0, 0]
        self.per_picture: list[int] = []
        self.faults: list[Fault] = []

    def picture(self, look: Look, place: Place) -> None:
        """Compares a picture with what is known of it. Threads call this."""
        targets = self._splits[place.split].targets
        if isinstance(targets, LabelMaps):
            if self._maps:
                self._map(targets[place.index], look, place)
        elif isinstance(targets, ObjectTable):
            self.faults += _of_sizes(targets, look, place)
        elif isinstance(hand := targets[place.index], Hand):
            self.faults += _of_points(hand, look, place)

    def _map(self, target: LabelMap, look: Look, place: Place) -> None:
        try:
            values = target.drawn(look.height, look.width)
        except ImageError as error:
            self.faults.append(Fault("bad map", place, error.path, error.reason))
            return
        found = np.bincount(values.ravel(), minlength=256)
        with self._lock:
            counts = self.counts[place.split]
            counts += found[: len(counts)]
            self.holding[place.split] += found[: len(counts)] > 0
            self.ignored[place.split] += int(found[IGNORED])
            self.empty[place.split] += int(found[IGNORED] == values.size)

    def table(self, split: Scenes, table: ObjectTable, names: Sequence[str]) -> None:
        """Counts the objects of a part, and adds their faults."""
        name, classes = split.name, len(names)
        single = table.used & ~table.crowd
        self.counts[name] += np.bincount(table.classes[single], minlength=classes)
        pairs = np.unique(table.pictures()[single] * classes + table.classes[single])
        self.holding[name] += np.bincount(pairs % classes, minlength=classes)
        objects = np.bincount(table.pictures()[table.used], minlength=len(table))
        self.per_picture += objects.tolist()
        self.empty[name] = int((objects == 0).sum())
        self.crowds[name] = int((table.used & table.crowd).sum())
        self.masked[name] = int((table.with_mask() & table.used).sum())
        areas = table.areas[single]
        small, large = int((areas < SMALL).sum()), int((areas >= LARGE).sum())
        for place, number in enumerate((small, len(areas) - small - large, large)):
            self.sizes[place] += number
        self.faults += _of_boxes(split, table, names)


def _of_sizes(table: ObjectTable, look: Look, place: Place) -> Iterator[Fault]:
    """Faults of a picture whose size does not fit its labels."""
    numbers = table.of_picture(place.index)
    height, width = table.sizes[place.index].tolist()
    if height and (height, width) != (look.height, look.width):
        where = table.file(place.index)
        text = f"the picture has {look.width} × {look.height} pixels, the labels state "
        yield Fault("other size", place, where, f"{text}{width} × {height}")
    if table.masks is None:
        return
    masks = table[place.index].masks or ()
    for number, mask in zip(numbers[table.used[numbers]].tolist(), masks, strict=True):
        if isinstance(mask, Runs) and (mask.height, mask.width) != (look.height, look.width):
            text = f"a mask of {mask.width} × {mask.height} pixels on a picture of "
            text += f"{look.width} × {look.height}"
            yield Fault("mask size", place, table.place(number), text)


def _of_points(hand: Hand, look: Look, place: Place) -> Iterator[Fault]:
    """The fault of a picture that does not show all joints."""
    beyond = np.maximum(-hand.points, hand.points - (look.width, look.height)).max(1)
    if count := int((beyond > OVER).sum()):
        x, y = hand.points[beyond.argmax()]
        text = f"{count} of {len(beyond)} joints, the farthest at ({x:.4g}, {y:.4g}), on a picture "
        yield Fault("joints outside", place, place.name, f"{text}of {look.width} × {look.height}")


def _of_boxes(split: Scenes, table: ObjectTable, names: Sequence[str]) -> Iterator[Fault]:
    """Faults of the boxes themselves."""
    finite, empty, beyond = table.finite(), table.without_area(), table.beyond()
    pictures = table.pictures()

    def fault(kind: Kind, number: int, text: str, *others: int) -> Fault:
        index = int(pictures[number])
        place = Place(split.name, index, split.pictures.name(index))
        boxes = table.boxes[[number, *others]].tolist() if finite[number] else []
        return Fault(kind, place, table.place(number), text, tuple(map(tuple, boxes)))

    for number in np.flatnonzero(~table.used).tolist():
        shown = _shown(table.boxes[number])
        kind: Kind = "outside"
        if not finite[number]:
            kind = "not finite"
        elif empty[number]:
            kind = "no area"
        height, width = table.sizes[pictures[number]].tolist()
        size = f", on a picture of {width} × {height}" if kind == "outside" else ""
        yield fault(kind, number, f"from {shown}{size}")
    for number in np.flatnonzero(table.used & (beyond > OVER)).tolist():
        text = f"{beyond[number]:.3g} pixels over the edge, from {_shown(table.boxes[number])}"
        yield fault("over the edge", number, text)
    for first, second, share in duplicates(table):
        other, own = (names[table.classes[number]] for number in (first, second))
        beside = f"{table.noun} {table.numbers[first]}"
        if other != own:
            beside += f", '{visible(other)}'"
        text = (
            f"'{visible(own)}' from {_shown(table.boxes[second])}, {100 * share:.0f} % in common "
        )
        text += f"with {beside}"
        yield fault("duplicate" if own == other else "two classes", second, text, first)


def _shown(box: NDArray[np.float64]) -> str:
    left, top, right, bottom = (f"{edge:.6g}" for edge in box.tolist())
    return f"({left}, {top}) to ({right}, {bottom})"


def duplicates(table: ObjectTable) -> Iterator[tuple[int, int, float]]:
    """Numbers of two objects of a picture whose boxes are nearly equal, and their intersection over
    union; crowds are left out."""
    single = table.used & ~table.crowd
    for start, end in zip(table.starts[:-1].tolist(), table.starts[1:].tolist(), strict=True):
        if end - start < 2:
            continue
        numbers = np.flatnonzero(single[start:end]) + start
        boxes = table.boxes[numbers]
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        common = np.clip(high - low, 0, None).prod(2)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        share = common / (areas[:, None] + areas - common)
        for first, second in np.argwhere(np.triu(share >= ALIKE, 1)).tolist():
            yield int(numbers[first]), int(numbers[second]), float(share[first, second])
