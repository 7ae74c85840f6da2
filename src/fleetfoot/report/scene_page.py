"""One HTML page on a set for detection, segmentation or hands: pictures with what is known of them
drawn over, labels that look wrong, objects of each class, copies, and pictures that cannot be read.
It fetches nothing from the internet, works without its script, and prints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleetfoot.data.objects import ObjectTable
from fleetfoot.data.scene_inspection import FAULTS, Fault, SceneInspection
from fleetfoot.data.scenes import Hand, LabelMap, Objects, SceneSet
from fleetfoot.errors import ImageError, visible
from fleetfoot.report import scenes as texts
from fleetfoot.report.data_page import (
    GROUPS,
    OF_A_GROUP,
    Progress,
    copies,
    frame,
    head_of,
    how,
    look,
    scrolling,
    section_of_classes,
    short,
    unreadable,
)
from fleetfoot.report.hand_drawing import with_skeleton
from fleetfoot.report.kit.drawing import (
    Drawn,
    chips,
    framed,
    with_classes,
    with_masks,
)
from fleetfoot.report.kit.hues import class_rules
from fleetfoot.report.kit.markup import markup, node, page
from fleetfoot.report.kit.svg import bar
from fleetfoot.report.kit.table import head, sorting_head, table

EXAMPLES, EXAMPLE_SIDE = 12, 640
"""Large pictures, and the longest side of each in pixels."""
SHEET, OF_A_CLASS, SIDE = 320, 8, 120
"""Most small pictures of objects, most of one class, and the longest side of each."""
MARGIN = 0.25
"""What is shown around an object, as a share of its longest side."""
FAULTY, FAULTS_LISTED = 24, 200
"""Most faults that are shown as a picture, and most in the list."""


def html(found: SceneInspection, scenes: SceneSet, *, on_progress: Progress | None = None) -> str:
    """The page, complete in one text.

    Args:
        found: what was seen in the set.
        scenes: the set itself, for pictures.
        on_progress: called with the pictures that are made, of how many, and words.
    """
    drawer = _Drawer(found, scenes, on_progress or (lambda done, of, words: None))
    more = []
    if found.task == "detect":
        objects = sum(map(sum, found.counts.values()))
        masked = sum(found.masked.values())
        more.append(("objects", f"{objects:,}", f"{masked:,} with a mask" if masked else ""))
    more.append(("labels to check", f"{len(found.faults):,}", ""))
    return page(
        "data_page",
        ("page.css", "data_page.css", "scene_page.css"),
        class_rules(range(len(found.classes))),
        title=visible(found.name),
        when=f"fleetfoot data · {texts.title(found)}",
        pictures=True,
        script="classes",
        head=markup(*head_of(found, more)),
        look=markup(*look(found)),
        examples=markup(*_examples(found, drawer)),
        faults=markup(*_faults(found, drawer)),
        copies=markup(*copies(found, drawer.small)),
        sheet_of_pictures=markup(*_sheet(found, drawer)),
        unreadable=markup(*unreadable(found)),
        classes="" if found.task == "hand" else section_of_classes(_classes(found)),
        how=markup(how(found)),
    )


class _Drawer:
    """Makes pictures, and tells how far it is."""

    def __init__(self, found: SceneInspection, scenes: SceneSet, on_progress: Progress) -> None:
        self.scenes = scenes
        self._splits = {split.name: split for split in scenes.splits}
        self._bad = {(bad.place.split, bad.place.index) for bad in found.unreadable}
        self._classes = found.classes
        self._on_progress, self._done = on_progress, 0
        groups = [group.places[:OF_A_GROUP] for group in found.groups[:GROUPS]]
        self.examples = self._spread()
        self.of_classes = {
            number: self._of_class(number) for number in range(min(len(self._classes), SHEET))
        }
        self._of = len(self.examples) + sum(map(len, groups)) + len(_shown(found.faults))
        self._of += sum(map(len, self.of_classes.values()))

    def _spread(self) -> list[tuple[str, int]]:
        """Pictures spread evenly over all parts, of those with something to be seen."""
        everything = [
            (split.name, index)
            for split in self.scenes.splits
            for index in range(len(split))
            if (split.name, index) not in self._bad
        ]
        chosen = spread(everything, 4 * EXAMPLES)
        full = [one for one in chosen if self._holds(*one)]
        return spread(full or chosen, EXAMPLES)

    def _holds(self, split: str, index: int) -> bool:
        target = self._splits[split].targets[index]
        return not isinstance(target, Objects) or len(target) > 0

    def _of_class(self, number: int) -> list[tuple[str, int]]:
        """Objects of a class, as part and number in its table: the largest of each of some pictures
        that are spread evenly over the first part that has any."""
        each = max(1, min(OF_A_CLASS, SHEET // len(self._classes)))
        for split in self.scenes.splits:
            table = split.targets
            if not isinstance(table, ObjectTable):
                continue
            found = np.flatnonzero((table.classes == number) & table.used & ~table.crowd)
            found = found[np.argsort(-table.areas[found], kind="stable")]
            pictures, first = np.unique(table.pictures()[found], return_index=True)
            readable = [(split.name, index) not in self._bad for index in pictures.tolist()]
            found = found[first][readable]
            if len(found):
                return [(split.name, int(one)) for one in spread(found, each)]
        return []

    def count(self) -> None:
        """Tells that one more is made."""
        self._done += 1
        self._on_progress(self._done, self._of, "drawing pictures")

    def small(self, split: str, index: int) -> Element:
        """The small picture as it is, or words if it cannot be read."""
        self.count()
        return frame(self._splits[split].pictures[index], self.name(split, index))

    def frame(self, split: str, index: int, *, side: int, shape: str = "frame") -> Element:
        """The whole picture with all that is known of it."""
        try:
            image, boxes = self._known(split, index)
        except (ImageError, ValueError, OSError):
            return node("div", "cannot be read", class_=shape)
        return framed(image, self.name(split, index), boxes, side=side, shape=shape)

    def _known(self, split: str, index: int) -> tuple[Image.Image, list[Drawn]]:
        part = self._splits[split]
        image = part.pictures[index].open().image
        target = part.targets[index]
        if isinstance(target, LabelMap):
            return with_classes(image, target.drawn(image.height, image.width)), []
        if isinstance(target, Hand):
            return Image.fromarray(with_skeleton(np.asarray(image), target.points)), []
        assert isinstance(target, Objects)
        masks = []
        for mask, number in zip(target.masks or (), target.classes.tolist(), strict=False):
            if mask is not None:
                masks.append((mask.drawn(image.height, image.width), number))
        if masks:
            image = with_masks(image, masks)
        return image, self._boxes(target)

    def _boxes(self, target: Objects) -> list[Drawn]:
        # the largest first, so that the small ones lie above them
        order = np.argsort(-target.areas, kind="stable").tolist()
        return [
            Drawn(
                target.boxes[i].tolist(),
                int(target.classes[i]),
                self._classes[target.classes[i]] + " (crowd)" * bool(target.crowd[i]),
                "dashed" if target.crowd[i] else "",
            )
            for i in order
        ]

    def cut(self, split: str, index: int, boxes: Sequence[Drawn]) -> Element:
        """The part of a picture around boxes."""
        try:
            image = self._splits[split].pictures[index].open().image
        except (ImageError, OSError):
            return node("div", "cannot be read", class_="frame")
        edges = np.array([one.box for one in boxes])
        low, high = edges[:, :2].min(0), edges[:, 2:].max(0)
        around = max(8.0, MARGIN * float((high - low).max()))
        left, top = np.clip(low - around, 0, (image.width - 1, image.height - 1)).astype(int)
        right = min(image.width, max(left + 1, int(high[0] + around)))
        bottom = min(image.height, max(top + 1, int(high[1] + around)))
        shift = (left, top, left, top)
        moved = [replace(one, box=np.subtract(one.box, shift).tolist()) for one in boxes]
        part = image.crop((int(left), int(top), right, bottom))
        return framed(part, self.name(split, index), moved, side=2 * SIDE)

    def object(self, split: str, number: int) -> Element:
        """An object with what is around it."""
        self.count()
        table = self._splits[split].targets
        assert isinstance(table, ObjectTable)
        index = int(np.searchsorted(table.starts, number, side="right")) - 1
        label = int(table.classes[number])
        box = Drawn(table.boxes[number].tolist(), label, self._classes[label])
        return self.cut(split, index, [box])

    def counts(self, split: str, index: int) -> list[tuple[int, str, str]]:
        """The classes of a picture, those with most objects or pixels first."""
        target = self._splits[split].targets[index]
        if isinstance(target, Objects):
            numbers = Counter(target.classes.tolist())
            return [(n, self._classes[n], f"{count:,}") for n, count in numbers.most_common()]
        if isinstance(target, Hand):
            return []
        try:
            values = target.drawn(*self._splits[split].pictures[index].size())
        except ImageError:
            return []
        pixels = np.bincount(values.ravel(), minlength=256)[: len(self._classes)]
        shares = 100 * pixels / values.size
        order = np.argsort(-pixels, kind="stable").tolist()
        return [(n, self._classes[n], f"{shares[n]:.0f} %") for n in order if shares[n] >= 0.5]

    def name(self, split: str, index: int) -> str:
        return visible(self._splits[split].pictures.name(index))


def spread(items: Sequence[Any] | NDArray[Any], most: int) -> list[Any]:
    """At most so many of the items, spread evenly over them."""
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, min(most, len(items)))]


def _examples(found: SceneInspection, drawer: _Drawer) -> list[Element]:
    """Large pictures with all that is known of them."""
    tiles = []
    for split, index in drawer.examples:
        drawer.count()
        name = drawer.name(split, index)
        tiles.append(
            node(
                "li",
                drawer.frame(split, index, side=EXAMPLE_SIDE, shape="frame wide"),
                *([chips(counts)] if (counts := drawer.counts(split, index)) else []),
                node("p", f"{split} · {short(name)}", class_="file", title=name),
            )
        )
    if not tiles:
        return []
    words = {
        "segment": "Pixels of no class are dark.",
        "hand": "The wrist is white; each finger has a colour, the thumb yellow.",
        "detect": "The pointer on the edge of a box shows its class. A dashed box stands for many.",
    }[found.task]
    return [
        node("h2", "Pictures with their labels"),
        node("p", words, class_="noise"),
        node("ul", *tiles, class_="examples"),
    ]


def _faults(found: SceneInspection, drawer: _Drawer) -> list[Element]:
    """Labels that look wrong: some as pictures, and a list."""
    if not found.faults:
        return []
    pictures = [node("li", *_faulty(fault, drawer)) for fault in _shown(found.faults)]
    heads = [head(text, number=False) for text in ("label", "part", "what", "found")]
    rows = [
        node(
            "tr",
            node("th", visible(fault.where), scope="row"),
            node("td", fault.place.split),
            node("td", fault.kind, class_=f"level-{FAULTS[fault.kind][0]}"),
            node("td", visible(fault.text), class_="reason"),
        )
        for fault in found.faults[:FAULTS_LISTED]
    ]
    left = len(found.faults) - len(rows)
    last = [node("p", f"and {left:,} more; --json has all", class_="small")] if left else []
    return [
        node("h2", "Labels to check"),
        *([node("ul", *pictures, class_="tiles faults")] if pictures else []),
        scrolling("Labels to check", table("Labels to check", heads, rows, class_="plain bad")),
        *last,
    ]


def _shown(faults: tuple[Fault, ...]) -> list[Fault]:
    """Faults that can be shown as a picture, of each kind some."""
    by_kind = [[one for one in faults if one.kind == kind and one.boxes] for kind in FAULTS]
    each = max(1, FAULTY // max(1, sum(map(bool, by_kind))))
    return [one for same in by_kind for one in same[:each]][:FAULTY]


def _faulty(fault: Fault, drawer: _Drawer) -> list[Element]:
    drawer.count()
    boxes = [
        Drawn(box, 0, "the other box" if i else fault.text, "dashed" if i else "faulty")
        for i, box in enumerate(fault.boxes)
    ]
    return [
        drawer.cut(fault.place.split, fault.place.index, boxes[::-1]),
        node("p", node("b", fault.kind, class_=f"level-{FAULTS[fault.kind][0]}")),
        node("p", short(fault.place.name), class_="file", title=visible(fault.where)),
    ]


def _sheet(found: SceneInspection, drawer: _Drawer) -> list[Element]:
    """A row of objects for each class; label maps have none, since the examples show them."""
    rows = []
    for number, chosen in drawer.of_classes.items():
        if not chosen:
            continue
        total = sum(counts[number] for counts in found.counts.values())
        tiles = [node("li", drawer.object(*one)) for one in chosen]
        name = node("b", visible(found.classes[number]))
        rows.append(
            node(
                "li",
                node("p", name, f" {total:,}", class_="class"),
                node("ul", *tiles, class_="tiles"),
            )
        )
    if not rows:
        return []
    return [node("h2", "Objects of each class"), node("ul", *rows, class_="sheet")]


def _classes(found: SceneInspection) -> Element:
    """A row for each class: its objects or pixels, and its pictures, in each part."""
    segment = found.task == "segment"
    unread = segment and found.quick
    sums = {name: sum(counts) for name, counts in found.counts.items()}
    heads = [sorting_head("class", "", "", number=False, ascending=True)]
    for name in found.counts:
        unit = "share of the pixels" if segment else "objects"
        heads.append(sorting_head(name, unit, "", number=True, ascending=False))
        heads.append(sorting_head(name, "pictures", "", number=True, ascending=False))
    rows = []
    for number, class_name in enumerate(found.classes):
        cells = []
        for name, counts in found.counts.items():
            count, held = counts[number], found.holding[name][number]
            text = texts.percent(count, sums[name]) if segment else f"{count:,}"
            cell = node("td", text, class_="number", data_v=count)
            most = max(counts, default=0) or 1
            cell.append(bar(count / most))
            pictures = "-" if unread else f"{held:,}"
            cells += [cell, node("td", pictures, class_="number", data_v=held)]
        dot = node("i", class_=f"dot c{number}")
        row = node("th", dot, visible(class_name), scope="row", data_v=f"{number:09}")
        rows.append(node("tr", row, *cells))
    return table("Each class", heads, rows, id="classes")
