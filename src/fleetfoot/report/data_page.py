"""One HTML page on a data set: what to look at, pictures of each class, copies side by side, and
pictures that cannot be read. It fetches nothing from the internet, works without its script, and
prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from xml.etree.ElementTree import Element

import numpy as np

from fleetfoot.data.concerns import concerns
from fleetfoot.data.dataset import Dataset, Split
from fleetfoot.data.inspection import Inspection
from fleetfoot.data.sources import Source
from fleetfoot.data.survey import Group, Place, Survey
from fleetfoot.errors import counted, visible
from fleetfoot.report.datasets import facts, part_table, title
from fleetfoot.report.kit.markup import markup, node, page
from fleetfoot.report.kit.svg import bar
from fleetfoot.report.kit.table import head, sorting_head, table
from fleetfoot.report.kit.thumbnail import thumbnail

SIDE = 112
"""Longest side of a small picture, in pixels."""
SHEET = 320
"""Most small pictures on the contact sheet: with many classes there are few of each."""
OF_A_CLASS = 8
"""Most small pictures of one class."""
GROUPS, OF_A_GROUP = 40, 6
"""Most groups of copies, and most pictures of one group."""
UNREADABLE = 200
"""Most unreadable pictures in the list."""

Progress = Callable[[int, int, str], None]
Small = Callable[[str, int], Element]
"""Makes a small picture of a part's name and the picture's number."""


def html(found: Inspection, dataset: Dataset, *, on_progress: Progress | None = None) -> str:
    """The page, complete in one text.

    Args:
        found: what was seen in the set.
        dataset: the set itself, for small pictures.
        on_progress: called with the small pictures that are made, of how many, and words.
    """
    pictures = _Thumbnails(dataset, found, on_progress or (lambda done, of, words: None))
    return page(
        "data_page",
        ("page.css", "data_page.css"),
        "",
        title=visible(found.name),
        when=f"fleetfoot data · {title(found)}",
        pictures=True,
        script="classes",
        head=markup(*head_of(found, [])),
        look=markup(*look(found)),
        examples="",
        faults="",
        copies=markup(*copies(found, pictures)),
        sheet_of_pictures=markup(*_sheet(found, pictures)),
        unreadable=markup(*unreadable(found)),
        classes=section_of_classes(_classes(found)),
        how=markup(how(found)),
    )


class _Thumbnails:
    """Makes small pictures, and tells how far it is."""

    def __init__(self, dataset: Dataset, found: Inspection, on_progress: Progress) -> None:
        self._splits = {split.name: split for split in dataset.splits}
        self._bad = {(bad.place.split, bad.place.index) for bad in found.unreadable}
        self._on_progress = on_progress
        self.chosen = _chosen(dataset, self._bad)
        groups = [group.places[:OF_A_GROUP] for group in found.groups[:GROUPS]]
        self._of = sum(map(len, self.chosen.values())) + sum(map(len, groups))
        self._done = 0

    def __call__(self, split: str, index: int) -> Element:
        """The small picture, or words if it cannot be read."""
        self._done += 1
        self._on_progress(self._done, self._of, "making small pictures")
        return frame(self._splits[split].pictures[index], self.name(split, index))

    def name(self, split: str, index: int) -> str:
        return visible(self._splits[split].pictures.name(index))


def frame(source: Source, name: str) -> Element:
    """A small picture in a frame, or words if it cannot be read."""
    address = thumbnail(source, SIDE)
    if address is None:
        return node("div", "cannot be read", class_="frame")
    return node("div", node("img", src=address, alt=name), class_="frame")


def _chosen(dataset: Dataset, bad: set[tuple[str, int]]) -> dict[int, list[tuple[str, int]]]:
    """Pictures for the contact sheet by class, spread evenly over the class in its first part."""
    count = len(dataset.classes)
    each = max(1, min(OF_A_CLASS, SHEET // count))
    return {
        label: list(_of_class(dataset.splits, label, each, bad))
        for label in range(min(count, SHEET))
    }


def _of_class(
    splits: Sequence[Split], label: int, each: int, bad: set[tuple[str, int]]
) -> Iterator[tuple[str, int]]:
    for split in splits:
        good = [i for i in np.flatnonzero(split.labels == label).tolist()]
        good = [index for index in good if (split.name, index) not in bad]
        if good:
            places = np.unique(np.linspace(0, len(good) - 1, min(each, len(good))).astype(int))
            yield from ((split.name, good[place]) for place in places.tolist())
            return


def head_of(found: Survey, more: Iterable[tuple[str, str, str]]) -> list[Element]:
    """The layout and the main figures; ``more`` are names, values and remarks of further ones."""
    repeated = sum(len(group.places) for group in found.groups)
    figures = [
        *([("classes", f"{len(found.classes):,}", "")] if found.classes else []),
        ("pictures", f"{found.pictures:,}", parts_of(found)),
        *more,
        ("cannot be read", f"{len(found.unreadable):,}", ""),
    ]
    if not found.quick:
        remark = f"in {counted(len(found.groups), 'group')}" if found.groups else ""
        figures.append(("repeated or alike", f"{repeated:,}", remark))
    drawn = [
        node(
            "div",
            node("dt", name),
            node("dd", value),
            *([node("dd", remark, class_="small")] if remark else []),
        )
        for name, value, remark in figures
    ]
    return [
        node("p", f"{visible(found.layout)}.", class_="setting-of"),
        node("dl", *drawn, class_="facts"),
    ]


def parts_of(found: Survey) -> str:
    """The pictures of each part, in words."""
    return ", ".join(f"{number:,} {name}" for name, number in found.parts.items())


def look(found: Survey) -> list[Element]:
    """What needs a look, in sentences."""
    said = concerns(found)
    if not said:
        return [node("p", "Nothing: no picture is unreadable, and none occurs twice.")]
    items = [
        node(
            "li",
            node("b", one.level, class_=f"level-{one.level}"),
            node("span", _capital(one.text)),
        )
        for one in said
    ]
    return [node("ul", *items, class_="concerns")]


def _capital(text: str) -> str:
    return visible(text[:1].upper() + text[1:])


def copies(found: Survey, pictures: Small) -> list[Element]:
    """The groups of pictures that are repeated or look alike."""
    if not found.groups:
        return []
    shown = [_group(found, group, pictures) for group in found.groups[:GROUPS]]
    across = sum(len(group.splits) > 1 for group in found.groups)
    words = f"{counted(len(found.groups), 'group')}, {across:,} of them across parts"
    words += f"; the first {GROUPS} are shown" * (len(found.groups) > GROUPS)
    return [
        node("h2", "Copies, and pictures that look alike"),
        node("p", f"{words}. Parts and classes that differ are marked.", class_="noise"),
        node("ul", *shown, class_="groups"),
    ]


def _group(found: Survey, group: Group, pictures: Small) -> Element:
    more = len(group.places) - OF_A_GROUP
    tiles = [_tile(found, group, place, pictures) for place in group.places[:OF_A_GROUP]]
    words = "equal files" if group.kind == "equal" else "look alike"
    if more > 0:
        words += f", and {more:,} more"
    return node("li", node("p", words, class_="kind"), node("ul", *tiles, class_="tiles"))


def _tile(found: Survey, group: Group, place: Place, pictures: Small) -> Element:
    name = "" if place.label is None else visible(found.classes[place.label])
    part = "differs" if len(group.splits) > 1 else None
    label = "differs" if len(group.classes) > 1 else None
    return node(
        "li",
        pictures(place.split, place.index),
        node("p", node("b", place.split, class_=part), " ", node("span", name, class_=label)),
        node("p", short(place.name), class_="file", title=visible(place.name)),
    )


def short(name: str) -> str:
    """The last part of a picture's name."""
    return visible(name.rpartition("/")[2])


def _sheet(found: Inspection, pictures: _Thumbnails) -> list[Element]:
    """A row of small pictures for each class."""
    rows = []
    for label, chosen in pictures.chosen.items():
        total = sum(counts[label] for counts in found.counts.values())
        tiles = [
            node("li", pictures(split, index), title=pictures.name(split, index))
            for split, index in chosen
        ]
        rows.append(
            node(
                "li",
                node("p", node("b", visible(found.classes[label])), f" {total:,}", class_="class"),
                node("ul", *tiles, class_="tiles") if tiles else node("p", "no picture"),
            )
        )
    left = len(found.classes) - len(rows)
    last = [node("p", f"and {counted(left, 'class', 'classes')} more", class_="small")]
    return [
        node("h2", "Pictures of each class"),
        node("ul", *rows, class_="sheet"),
        *(last if left > 0 else []),
    ]


def unreadable(found: Survey) -> list[Element]:
    """The pictures that cannot be read, with the reasons."""
    if not found.unreadable:
        return []
    rows = [
        node(
            "tr",
            node("th", visible(bad.place.name), scope="row"),
            node("td", bad.place.split),
            node("td", visible(bad.reason), class_="reason"),
        )
        for bad in found.unreadable[:UNREADABLE]
    ]
    heads = [head(text, number=False) for text in ("picture", "part", "reason")]
    left = len(found.unreadable) - len(rows)
    last = [node("p", f"and {left:,} more", class_="small")] if left else []
    return [
        node("h2", "Cannot be read"),
        scrolling("Cannot be read", table("Cannot be read", heads, rows, class_="plain bad")),
        *last,
    ]


def scrolling(name: str, content: Element) -> Element:
    """Something wide in a frame of its own that scrolls."""
    return node("div", content, class_="scroll", tabindex=0, role="region", aria_label=name)


def _classes(found: Inspection) -> Element:
    """A row for each class: its pictures in each part."""
    most = max((max(counts, default=0) for counts in found.counts.values()), default=0)
    heads = [sorting_head("class", "", "", number=False, ascending=True)]
    heads += [
        sorting_head(name, "pictures", "", number=True, ascending=False) for name in found.counts
    ]
    rows = []
    for label, name in enumerate(found.classes):
        cells = []
        for counts in found.counts.values():
            cell = node("td", f"{counts[label]:,}", class_="number", data_v=counts[label])
            cell.append(bar(counts[label] / most if most else 0.0))
            cells.append(cell)
        row = node("th", visible(name), scope="row", data_v=f"{label:09}")
        rows.append(node("tr", row, *cells))
    return table("Pictures of each class", heads, rows, id="classes")


def section_of_classes(rows: Element) -> str:
    """The table of classes with a field in which to search for one, as markup."""
    field = node(
        "input",
        type="search",
        id="find",
        placeholder="class",
        autocomplete="off",
        spellcheck="false",
    )
    return markup(
        node("h2", "Class by class"),
        node(
            "div",
            node("label", "Find ", field, class_="search"),
            node("output", id="count"),
            class_="tools",
        ),
        node(
            "div",
            rows,
            class_="scroll classes",
            tabindex=0,
            role="region",
            aria_label="Class by class",
        ),
    )


def how(found: Survey) -> Element:
    """What was found in figures."""
    rows: list[Element] = []
    for name, text in facts(found).items():
        rows += [node("dt", name), node("dd", visible(text))]
    return node("div", _small_table(*part_table(found)), node("dl", *rows))


def _small_table(titles: Sequence[str], parts: Iterable[Sequence[str]]) -> Element:
    heads = [head(text, number=i > 0) for i, text in enumerate(titles)]
    rows = [
        node(
            "tr",
            node("th", row[0], scope="row"),
            *(node("td", cell, class_="number") for cell in row[1:]),
        )
        for row in parts
    ]
    return scrolling("Parts", table("Parts", heads, rows, class_="plain"))
