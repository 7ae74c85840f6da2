"""Boxes as Pascal VOC writes them: an XML file for each picture.

| layout | example |
|---|---|
| VOC's own | ``JPEGImages/1.jpg``, ``Annotations/1.xml``, ``ImageSets/Main/train.txt`` |
| one folder a part | ``train/1.jpg``, ``train/1.xml`` |
| two folders | ``images/1.jpg``, ``annotations/1.xml`` |

VOC counts pixels from 1 and includes the last, so that a box covers ``xmin - 1`` to ``xmax``. A set
in which a 0 occurs counts from edge to edge instead: its boxes cover ``xmin`` to ``xmax``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from xml.etree import ElementTree

from fleetfoot.data.layouts.assembly import listed, part_of
from fleetfoot.data.layouts.listing import read_folder
from fleetfoot.data.layouts.scenes.building import ScenePart, assemble_scenes, part_lists
from fleetfoot.data.objects import ObjectList, ObjectTable
from fleetfoot.data.pictures import Files, Texts
from fleetfoot.data.scenes import SceneSet
from fleetfoot.errors import DatasetError, counted, visible
from fleetfoot.files import read_text

EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Pair:
    """A folder of pictures and the folder of their XML files, as paths below the set's folder."""

    part: str
    pictures: str
    labels: str
    chosen: tuple[str, ...] | None = None
    """Names without suffix of the part's pictures. Default: all."""


def find_voc(where: str) -> list[Pair]:
    """The folders of pictures and XML files in a folder; empty if there are none."""
    top = read_folder(where)
    lower = {name.lower(): name for name in top.folders}
    for pictures in ("jpegimages", "images", "imgs", "img"):
        for labels in ("annotations", "annots", "labels", "xml", "xmls"):
            if {pictures, labels} <= lower.keys() and _xmls(where, lower[labels]):
                lists = part_lists(os.path.join(where, "ImageSets", "Main"))
                folders = lower[pictures], lower[labels]
                if lists:
                    return [Pair(part, *folders, tuple(names)) for part, names in lists.items()]
                return [Pair("train", *folders)]
    parts = [
        Pair(part, name, name)
        for name in top.folders
        if (part := part_of(name)) and _xmls(where, name)
    ]
    if parts:
        return parts
    return [Pair("train", "", "")] if _xmls(where, "") and top.pictures else []


def _xmls(where: str, folder: str) -> list[str]:
    others = read_folder(os.path.join(where, folder)).others
    return [name for name in others if name.lower().endswith(".xml")]


def open_voc(where: str, pairs: list[Pair], *, val_share: float | None, seed: int) -> SceneSet:
    """The set that these folders hold.

    Raises:
        DatasetError: an XML file is not as VOC writes it, or no picture has one.
    """
    notes: list[str] = []
    read = [(pair.part, _read(where, pair, notes)) for pair in pairs]
    if len(dict(read)) < len(read):
        raise DatasetError(f"{where}: {listed(p.labels for p in pairs)} hold one part twice")
    tables = [table for _, part in read if isinstance(table := part.targets, ObjectTable)]
    from_one = not any((table.boxes == 0).any() for table in tables)
    notes.append(
        "boxes are counted from pixel 1 and include the last, as VOC defines them"
        if from_one
        else "boxes are counted from edge 0, since a 0 occurs; VOC itself counts pixels from 1"
    )
    parts = {}
    for (name, part), table in zip(read, tables, strict=True):
        parts[name] = replace(part, targets=_edges(table, from_one))
    return assemble_scenes(
        where,
        "detect",
        f"Pascal VOC: boxes from {', '.join(pair.labels or 'XML files' for pair in pairs)}",
        parts,
        val_share=val_share,
        seed=seed,
        notes=notes,
    )


def _edges(table: ObjectTable, from_one: bool) -> ObjectTable:
    """The table with boxes in edges, and their areas."""
    boxes = table.boxes - (1, 1, 0, 0) if from_one else table.boxes
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    return replace(table, boxes=boxes, areas=width * height)


def _read(where: str, pair: Pair, notes: list[str]) -> ScenePart:
    """The pictures of a part, with boxes as they stand in the files."""
    pictures = {
        os.path.splitext(name)[0]: name
        for name in read_folder(os.path.join(where, pair.pictures)).pictures
    }
    xmls = {os.path.splitext(name)[0]: name for name in _xmls(where, pair.labels)}
    wanted = sorted(xmls) if pair.chosen is None else list(dict.fromkeys(pair.chosen))
    stems = [stem for stem in wanted if stem in xmls and stem in pictures]
    if not stems:
        raise DatasetError(
            f"{where}: no XML file in {pair.labels or 'the folder'} has the name of a picture in "
            f"{pair.pictures or 'it'}: found {listed(list(xmls.values())[:2])} and "
            f"{listed(list(pictures.values())[:2])}"
        )
    for what, names in (
        ("XML files without a picture", [stem for stem in wanted if stem not in pictures]),
        ("pictures without an XML file", _without(pair, wanted, pictures, xmls)),
    ):
        if names:
            notes.append(f"not used: {len(names):,} {what} in {pair.part}: {listed(names)}")
    objects, numbers = ObjectList("object"), dict[str, int]()
    files = [os.path.join(pair.labels, xmls[stem]) for stem in stems]
    difficult = sum(_add(objects, os.path.join(where, file), numbers) for file in files)
    if difficult:
        notes.append(
            f"{counted(difficult, 'object')} of {pair.part} marked as difficult: they are neither "
            "trained on nor judged"
        )
    names = sorted(numbers)
    table = objects.table(Texts(files)).renumbered([names.index(name) for name in numbers])
    paths = (os.path.join(pair.pictures, pictures[stem]) for stem in stems)
    return ScenePart(Files(where, Texts(paths)), table, tuple(names))


def _without(
    pair: Pair, wanted: Iterable[str], pictures: Iterable[str], xmls: Iterable[str]
) -> list[str]:
    candidates = pictures if pair.chosen is None else set(wanted)
    return sorted(stem for stem in candidates if stem not in xmls)


def _add(objects: ObjectList, file: str, numbers: dict[str, int]) -> int:
    """Adds the objects of one file, and the classes that are new. Returns how many of them are
    marked as difficult."""
    try:
        tree = ElementTree.fromstring(read_text(file))
        size = tree.find("size")
        height, width = (int(_number(size, name)) for name in ("height", "width"))
    except (OSError, ValueError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise DatasetError(f"{file}: not as Pascal VOC writes it: {error}") from error
    objects.begin(height, width)
    difficult = 0
    for number, (name, box, hard) in enumerate(_objects(tree, file), 1):
        label = numbers.setdefault(name, len(numbers))
        objects.masks.add_none()
        objects.add(number, box, label, crowd=hard, area=0.0)
        difficult += hard
    return difficult


def _objects(tree: ElementTree.Element, file: str) -> Iterator[tuple[str, tuple[float, ...], bool]]:
    for number, found in enumerate(tree.iterfind("object"), 1):
        name = (found.findtext("name") or "").strip()
        try:
            if not name:
                raise ValueError("it has no name")
            box = tuple(_number(found.find("bndbox"), edge) for edge in EDGES)
        except ValueError as error:
            raise DatasetError(
                f"{file}, object {number}, '{visible(name)}': {error}; correct or remove it"
            ) from error
        yield name, box, (found.findtext("difficult") or "0").strip() == "1"


def _number(parent: ElementTree.Element | None, name: str) -> float:
    text = None if parent is None else parent.findtext(name)
    if text is None:
        raise ValueError(f"it has no {name}")
    return float(text)
