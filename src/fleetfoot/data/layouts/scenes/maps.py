"""Label maps beside pictures: for each picture a PNG file of the same name, whose values are
classes.

| layout | example |
|---|---|
| ``annot`` (CamVid as SegNet reads it) | ``train/1.jpg``, ``trainannot/1.png`` |
| pictures, then parts (ADE20K) | ``images/training/1.jpg``, ``annotations/training/1.png`` |
| parts, then pictures | ``train/images/1.jpg``, ``train/masks/1.png`` |
| no parts | ``images/1.jpg``, ``masks/1.png`` |
| Pascal VOC | ``JPEGImages/1.jpg``, ``SegmentationClass/1.png``, lists of the parts |
| COCO | ``train2017/1.jpg``, ``annotations/semantic_train2017/1.png`` |

The names of the classes come from a list; see ``class_lists``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from fleetfoot.data.label_maps import LabelMaps
from fleetfoot.data.layouts.assembly import PARTS, listed, part_of
from fleetfoot.data.layouts.listing import Folder, read_folder
from fleetfoot.data.layouts.scenes.building import ScenePart, assemble_scenes, part_lists
from fleetfoot.data.layouts.scenes.class_lists import NAMES, VOC, Legend, legend, read_names
from fleetfoot.data.pictures import Files, Texts
from fleetfoot.data.scenes import LabelMap, SceneSet
from fleetfoot.errors import DatasetError, ImageError, counted, visible

PICTURES = ("images", "imgs", "img", "image", "JPEGImages", "photos", "PNGImages")
MAPS = ("masks", "mask", "labels", "annotations", "annots", "SegmentationClass", "gt", "label")
"""Names of folders that hold pictures, and their maps."""
ENDINGS = ("", "_mask", "_label", "_labels", "_seg", "_L", "_gt")
"""What follows a picture's name in that of its map."""
SAMPLE = 8
"""Maps of a part that are read when the set is opened."""


@dataclass(frozen=True)
class Pair:
    """A folder of pictures and the folder of their maps, as paths below the set's folder."""

    part: str
    pictures: str
    maps: str
    chosen: frozenset[str] | None = None
    """Names without suffix of the part's pictures. Default: all that have a map."""


def find_maps(where: str) -> list[Pair]:
    """The folders of pictures and maps in a folder; empty if there are none."""
    top = read_folder(where)
    for found in (_voc(where, top), _annot(top), _semantic(where, top), _nested(where, top)):
        pairs = [pair for pair in found if _holds(where, pair)]
        if pairs:
            return sorted(pairs, key=lambda pair: list(PARTS).index(pair.part))
    return []


def _holds(where: str, pair: Pair) -> bool:
    """Whether both folders hold pictures."""
    paths = [os.path.join(where, folder) for folder in (pair.pictures, pair.maps)]
    return all(os.path.isdir(path) and read_folder(path).pictures for path in paths)


def _voc(where: str, top: Folder) -> Iterator[Pair]:
    if not {"JPEGImages", "SegmentationClass"} <= set(top.folders):
        return
    lists = os.path.join(where, "ImageSets", "Segmentation")
    for part, names in part_lists(lists).items():
        yield Pair(part, "JPEGImages", "SegmentationClass", frozenset(names))
    if not os.path.isdir(lists):
        yield Pair("train", "JPEGImages", "SegmentationClass")


def _annot(top: Folder) -> Iterator[Pair]:
    for name in top.folders:
        if (part := part_of(name)) and f"{name}annot" in top.folders:
            yield Pair(part, name, f"{name}annot")


def _semantic(where: str, top: Folder) -> Iterator[Pair]:
    if "annotations" not in top.folders:
        return
    for name in read_folder(os.path.join(where, "annotations")).folders:
        kind, _, suffix = name.partition("_")
        part = next((part for part in PARTS if suffix.startswith(part)), None)
        if kind == "semantic" and part:
            inner = os.path.join("images", suffix)
            pictures = suffix if suffix in top.folders else inner
            yield Pair(part, pictures, os.path.join("annotations", name))


def _nested(where: str, top: Folder) -> Iterator[Pair]:
    lower = {name.lower(): name for name in top.folders}
    pictures = [lower[name.lower()] for name in PICTURES if name.lower() in lower]
    maps = [lower[name.lower()] for name in MAPS if name.lower() in lower]
    for outer in pictures[:1]:
        for beside in maps:
            for name in read_folder(os.path.join(where, outer)).folders:
                if part := part_of(name):
                    yield Pair(part, os.path.join(outer, name), os.path.join(beside, name))
            yield Pair("train", outer, beside)
    for name in top.folders:
        if part := part_of(name):
            inner = {one.lower(): one for one in read_folder(os.path.join(where, name)).folders}
            for one in PICTURES:
                for other in MAPS:
                    if one.lower() in inner and other.lower() in inner:
                        yield Pair(
                            part,
                            os.path.join(name, inner[one.lower()]),
                            os.path.join(name, inner[other.lower()]),
                        )


def open_maps(where: str, pairs: list[Pair], *, val_share: float | None, seed: int) -> SceneSet:
    """The set that these folders hold.

    Raises:
        DatasetError: there is no list of classes, no map fits its picture, or no map can be read.
    """
    file, meaning = _legend(where, pairs)
    notes = list(meaning.notes)
    parts = {}
    for pair in pairs:
        if pair.part in parts:
            raise DatasetError(
                f"{where}: two folders hold the part {pair.part}, one of them {pair.pictures}; "
                "move one away"
            )
        parts[pair.part] = _read(where, pair, meaning, notes)
    shown = ", ".join(f"{pair.pictures} and {pair.maps}" for pair in pairs)
    return assemble_scenes(
        where,
        "segment",
        f"label maps beside pictures: {shown}; classes from {file}",
        parts,
        val_share=val_share,
        seed=seed,
        notes=notes,
    )


def _legend(where: str, pairs: list[Pair]) -> tuple[str, Legend]:
    """The list of classes and where it was found."""
    places = dict.fromkeys(
        ["", *(folder for pair in pairs for folder in (os.path.dirname(pair.maps), pair.maps))]
    )
    for place in places:
        held = {name.lower(): name for name in read_folder(os.path.join(where, place)).others}
        for name in NAMES:
            if name in held:
                file = os.path.join(place, held[name])
                return file, legend(read_names(os.path.join(where, file), file), file)
    if pairs[0].maps == "SegmentationClass" and _is_voc(where):
        return "Pascal VOC", legend(dict(enumerate(VOC)), "Pascal VOC")
    raise DatasetError(
        f"{where}: label maps in {listed([pair.maps for pair in pairs])}, and no list of their "
        f"classes; write classes.txt into {where}, with the name of value 0 in the first line, of "
        f"1 in the next, and so on ('void' for pixels of no class). {_values(where, pairs[0])}"
    )


def _is_voc(where: str) -> bool:
    """Whether the objects in the first of VOC's XML files are of VOC's own classes."""
    folder = os.path.join(where, "Annotations")
    if not os.path.isdir(folder):
        return False
    found = set()
    for name in [one for one in read_folder(folder).others if one.endswith(".xml")][:20]:
        try:
            tree = ElementTree.parse(os.path.join(folder, name))
        except (ElementTree.ParseError, OSError):
            continue
        found |= {(one.text or "").strip() for one in tree.iterfind("object/name")}
    return bool(found) and found <= set(VOC)


def _values(where: str, pair: Pair) -> str:
    """The values in a few maps, in a sentence."""
    folder = os.path.join(where, pair.maps)
    files = Files(folder, Texts(read_folder(folder).pictures))
    found: set[int] = set()
    chosen = _spread(len(files))
    for index in chosen:
        try:
            found |= set(np.unique(LabelMap(source=files[index]).values()).tolist())
        except ImageError as error:
            return f"{visible(error)}"
    return f"Values in {len(chosen)} of them: {', '.join(map(str, sorted(found)))}"


def _spread(count: int) -> list[int]:
    found: list[int] = np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).astype(int)).tolist()
    return found


def _read(where: str, pair: Pair, meaning: Legend, notes: list[str]) -> ScenePart:
    """The pictures of a part that have maps."""
    pictures = read_folder(os.path.join(where, pair.pictures)).pictures
    by_stem = {os.path.splitext(name)[0]: name for name in pictures}
    maps = {
        os.path.splitext(name)[0]: name
        for name in read_folder(os.path.join(where, pair.maps)).pictures
    }
    lossy = [name for name in maps.values() if name.lower().endswith((".jpg", ".jpeg"))]
    if lossy:
        raise DatasetError(
            f"{os.path.join(where, pair.maps)}: {counted(len(lossy), 'map')} as JPEG, "
            f"{listed(lossy)}, which changes values; save the maps as PNG files"
        )
    found = {}
    wanted = [stem for stem in by_stem if pair.chosen is None or stem in pair.chosen]
    for ending in ENDINGS:
        found = {stem: maps[stem + ending] for stem in wanted if stem + ending in maps}
        if found:
            break
    if not found:
        raise DatasetError(
            f"{where}: no map in {pair.maps} has the name of a picture in {pair.pictures}: found "
            f"{listed(sorted(maps.values())[:2])} and {listed(pictures[:2])}; give a map the name "
            "of its picture"
        )
    without = sorted(by_stem[stem] for stem in wanted if stem not in found)
    if without:
        notes.append(
            f"not used: {counted(len(without), 'picture')} of {pair.part} without a map in "
            f"{pair.maps}: {listed(without)}"
        )
    if pair.chosen is None and (spare := sorted(set(maps.values()) - set(found.values()))):
        notes.append(
            f"not used: {counted(len(spare), 'map')} in {pair.maps} without a picture in "
            f"{pair.pictures}: {listed(spare)}"
        )
    stems = sorted(found)
    part = ScenePart(
        Files(where, Texts(os.path.join(pair.pictures, by_stem[stem]) for stem in stems)),
        LabelMaps(
            maps=Files(where, Texts(os.path.join(pair.maps, found[stem]) for stem in stems)),
            numbers=meaning.numbers,
            known=meaning.known,
        ),
        meaning.classes,
    )
    _check(part)
    return part


def _check(part: ScenePart) -> None:
    """Refuses a part if none of a few maps can be used."""
    problems = []
    places = _spread(len(part.pictures))
    for index in places:
        target = part.targets[index]
        assert isinstance(target, LabelMap)
        try:
            target.drawn(*part.pictures[index].size())
        except ImageError as error:
            problems.append(error)
    if len(problems) == len(places):
        raise DatasetError(f"none of {counted(len(places), 'map')} can be used; {problems[0]}")
