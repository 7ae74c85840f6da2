"""Boxes and polygons as YOLO writes them: a text file for each picture, a line for each object.

| line | meaning |
|---|---|
| ``2 0.5 0.5 0.2 0.1`` | class, centre, width and height, as shares of the picture's |
| ``2 0.4 0.4 0.6 0.4 0.6 0.6`` | class, and the corners of a polygon |

The labels of ``images/train/1.jpg`` are in ``labels/train/1.txt``; a picture in no folder of the
name ``images`` has them beside it. ``data.yaml`` names the parts and the classes; in its absence,
folders that are called so are the parts, and ``classes.txt`` or ``obj.names`` has the classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import yaml

from fleetfoot.cores import usable_cores
from fleetfoot.data.images import SUFFIXES
from fleetfoot.data.layouts.assembly import PARTS, listed, part_of
from fleetfoot.data.layouts.folders import Tree
from fleetfoot.data.layouts.listing import Folder, read_folder
from fleetfoot.data.layouts.scenes.building import ScenePart, assemble_scenes
from fleetfoot.data.layouts.scenes.class_lists import read_names
from fleetfoot.data.masks import area_within
from fleetfoot.data.objects import ObjectList
from fleetfoot.data.pictures import Files, Texts
from fleetfoot.data.scenes import SceneSet
from fleetfoot.errors import DatasetError, ImageError, counted, visible
from fleetfoot.files import read_text

LISTS = ("classes.txt", "obj.names", "class_names.txt", "names.txt")
"""Files that may list the classes if there is no ``data.yaml``, the best first."""
FAR = 2.0
"""Share of the picture beyond which a number was surely meant in pixels."""


@dataclass(frozen=True)
class Described:
    """What a set in this layout consists of."""

    by: str
    """What describes it, for people."""
    root: str
    parts: Mapping[str, tuple[str, ...]]
    """Paths of each part below ``root``: folders of pictures, or text files that list them."""
    classes: tuple[str, ...]
    keypoints: bool = False
    """Whether keypoints follow each box."""
    notes: tuple[str, ...] = field(default=())


def find_yolo(where: str) -> str | None:
    """What a folder, or a file, is recognised by as of this layout; None if it is not."""
    if os.path.isfile(where):
        return where if where.lower().endswith((".yaml", ".yml")) else None
    top = read_folder(where)
    for name in top.others:
        if name.lower() in ("data.yaml", "data.yml"):
            return os.path.join(where, name)
    found = _folders(where, top)
    return where if any(_holds_labels(where, one) for one in found.values()) else None


def _folders(where: str, top: Folder) -> dict[str, str]:
    """The folder of each part's pictures, by the names of folders."""
    lower = {name.lower(): name for name in top.folders}
    if {"images", "labels"} <= lower.keys():
        inner = read_folder(os.path.join(where, lower["images"])).folders
        parts = {
            part: os.path.join(lower["images"], n)
            for n in inner
            if (part := part_of(n.rstrip("0123456789")))
        }
        return parts or {"train": lower["images"]}
    parts = {}
    for name in top.folders:
        if part := part_of(name):
            inside = read_folder(os.path.join(where, name))
            if {"images", "labels"} <= set(inside.folders):
                parts[part] = os.path.join(name, "images")
    return parts


def _holds_labels(where: str, pictures: str) -> bool:
    folder = os.path.join(where, labels_of(os.path.join(pictures, "x")), os.pardir)
    folder = os.path.normpath(folder)
    return os.path.isdir(folder) and any(
        name.endswith(".txt") and name not in LISTS for name in read_folder(folder).others
    )


def labels_of(picture: str) -> str:
    """The path of a picture's labels.

    >>> labels_of("train/images/a/1.jpg"), labels_of("train/1.jpg")
    ('train/labels/a/1.txt', 'train/1.txt')
    """
    parts = os.path.splitext(picture)[0].split(os.sep)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].lower() == "images":
            parts[place] = "labels"
            break
    return os.sep.join(parts) + ".txt"


def open_yolo(where: str, by: str, *, val_share: float | None, seed: int) -> SceneSet:
    """The set that was recognised by ``by``.

    Raises:
        DatasetError: the description or a label file is not as YOLO writes it; the message names
            the line.
    """
    found = _from_yaml(by) if os.path.isfile(by) else _from_folders(where)
    notes = list(found.notes)
    parts: dict[str, ScenePart] = {}
    for name, places in found.parts.items():
        paths = [path for place in places for path in _pictures(found.root, place)]
        if not paths:
            raise DatasetError(f"{where}: {name} has no pictures in {listed(places)}")
        parts[name] = _read(found, name, paths, notes)
    masks = any(getattr(part.targets, "masks", None) is not None for part in parts.values())
    return assemble_scenes(
        where,
        "detect",
        f"YOLO: {'boxes and masks' if masks else 'boxes'}, described by {found.by}",
        parts,
        val_share=val_share,
        seed=seed,
        notes=notes,
    )


def _from_folders(where: str) -> Described:
    top = read_folder(where)
    places = ["", "labels", *(os.path.join(name, "labels") for name in top.folders)]
    for name in LISTS:
        for place in places:
            file = os.path.join(where, place, name)
            if os.path.isfile(file):
                names = read_names(file, file)
                parts = {part: (path,) for part, path in _folders(where, top).items()}
                classes = _classes(dict(names), file)
                return Described(os.path.join(place, name), where, parts, classes)
    raise DatasetError(
        f"{where}: YOLO's labels, and no list of their classes; write data.yaml with the names, or "
        f"classes.txt with the name of class 0 in the first line, of 1 in the next, and so on"
    )


def _from_yaml(file: str) -> Described:
    try:
        raw = yaml.safe_load(read_text(file))
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"{file}: not YAML: {error}") from error
    if not isinstance(raw, dict) or not {"train", "val", "valid"} & raw.keys():
        raise DatasetError(
            f"{file}: not YOLO's description, which names the folders of train and val, and the "
            "classes under names"
        )
    names = raw.get("names")
    classes = _classes(dict(enumerate(names)) if isinstance(names, list) else names, file)
    if raw.get("nc") not in (None, len(classes)):
        raise DatasetError(
            f"{file}: nc is {raw['nc']}, and names has {len(classes)} classes; correct one of them"
        )
    root = os.path.dirname(file) or "."
    base = os.path.join(root, str(raw.get("path") or ""))
    parts: dict[str, tuple[str, ...]] = {}
    notes = []
    for part, words in PARTS.items():
        entry = next((raw[word] for word in words if raw.get(word)), None)
        if entry is None:
            continue
        entries = entry if isinstance(entry, list) else [entry]
        found = [_placed(base, root, str(one)) for one in entries]
        missing = [str(one) for one, place in zip(entries, found, strict=True) if place is None]
        if missing and part == "test":
            notes.append(f"not used: test of {file}, {listed(missing)}, which is not there")
            continue
        if missing:
            raise DatasetError(
                f"{file}: {part} names {listed(missing)}, which is not there; looked below "
                f"{listed(dict.fromkeys((base, root)))}"
            )
        places = tuple(place for place in found if place is not None)
        same = [name for name, others in parts.items() if others == places]
        if same:
            notes.append(f"left out: {part} of {file}, which names the pictures of {same[0]}")
            continue
        parts[part] = places
    return Described(file, root, parts, classes, keypoints="kpt_shape" in raw, notes=tuple(notes))


def _classes(names: Any, file: str) -> tuple[str, ...]:
    if not isinstance(names, dict) or not names or sorted(names) != list(range(len(names))):
        raise DatasetError(
            f"{file}: the classes are {names!r:.80}, and not a name for each number from 0 on"
        )
    return tuple(str(names[number]) for number in range(len(names)))


def _placed(base: str, root: str, entry: str) -> str | None:
    """The path of an entry as it can be joined to ``root``; exporters write paths from elsewhere,
    for example ``../train/images`` in a file that lies beside ``train``."""
    plain = entry
    while plain.startswith(("../", "./")):
        plain = plain.partition("/")[2]
    for above, below in ((base, entry), (root, entry), (root, plain), (base, plain)):
        path = os.path.join(above, below)
        if os.path.exists(path):
            below_root = os.path.relpath(path, root)
            return os.path.abspath(path) if below_root.startswith(os.pardir) else below_root
    return None


def _pictures(root: str, place: str) -> list[str]:
    """The pictures of a folder, or those that a text file lists, as paths below ``root``."""
    path = os.path.join(root, place)
    if os.path.isdir(path):
        tree = Tree()
        tree.add(root, place)
        return sorted(tree.pictures)
    above = os.path.dirname(place)
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    strange = [line for line in lines if os.path.splitext(line)[1].lower() not in SUFFIXES]
    if strange:
        raise DatasetError(f"{path}: a list of pictures, and {listed(strange)} are none by suffix")
    return [os.path.normpath(os.path.join(above, line)) for line in lines]


def _read(found: Described, part: str, paths: list[str], notes: list[str]) -> ScenePart:
    """The objects of a part's pictures."""
    objects = ObjectList("line")
    files = [labels_of(path) for path in paths]
    pictures = Files(found.root, Texts(paths))
    without = []
    with ThreadPoolExecutor(max(2, usable_cores())) as pool:
        sizes = pool.map(lambda index: _size(pictures, index), range(len(paths)))
        for path, file, (height, width) in zip(paths, files, sizes, strict=True):
            objects.begin(height, width)
            try:
                text = read_text(os.path.join(found.root, file))
            except FileNotFoundError:
                without.append(path)
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise DatasetError(f"{file}: cannot be read: {error}") from error
            if height:  # the report tells of a picture that cannot be read
                _add_lines(objects, text, file, found, height, width)
    if len(without) == len(paths):
        raise DatasetError(
            f"{found.root}: no picture of {part} has a label file; the labels of {paths[0]} would "
            f"be in {files[0]}"
        )
    if without:
        notes.append(
            f"{counted(len(without), 'picture')} of {part} without a label file, which are taken "
            f"for pictures without objects: {listed(without)}"
        )
    return ScenePart(pictures, objects.table(Texts(files)), found.classes)


def _size(pictures: Files, index: int) -> tuple[int, int]:
    try:
        return pictures[index].size()
    except ImageError:
        return 0, 0


def _add_lines(
    objects: ObjectList, text: str, file: str, found: Described, height: int, width: int
) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words]
            _add(objects, number, values, found, height, width)
        except ValueError as error:
            raise DatasetError(
                f"{os.path.join(found.root, file)}, line {number}, '{visible(line[:60])}': {error}"
            ) from error


def _add(
    objects: ObjectList,
    number: int,
    values: list[float],
    found: Described,
    height: int,
    width: int,
) -> None:
    """Adds the object of a line.

    Raises:
        ValueError: something about it is wrong.
    """
    label, *shares = values
    if label != int(label) or not 0 <= label < len(found.classes):
        raise ValueError(
            f"class {label:g} is none of the {len(found.classes)} that {found.by} names, counted "
            "from 0; add its name, or correct the line"
        )
    if found.keypoints:
        shares = shares[:4]
    if len(shares) == 5:
        raise ValueError(
            "a sixth number, as a confidence in predictions; labels have five, or a class and "
            "three corners or more"
        )
    if len(shares) != 4 and (len(shares) < 6 or len(shares) % 2):
        raise ValueError(
            f"{len(values)} numbers, where a box has five, and a polygon a class and pairs of x "
            "and y"
        )
    if not all(math.isfinite(share) and abs(share) <= FAR for share in shares):
        raise ValueError(
            "numbers that are not shares of the picture's width and height, from 0 to 1; divide "
            "pixels by them"
        )
    if len(shares) == 4:
        x, y, wide, high = shares
        edges = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
        box = (edges[0] * width, edges[1] * height, edges[2] * width, edges[3] * height)
        area = wide * width * high * height
        objects.masks.add_none()
    else:
        ring = [share * (width, height)[i % 2] for i, share in enumerate(shares)]
        x_of, y_of = ring[0::2], ring[1::2]
        box = (min(x_of), min(y_of), max(x_of), max(y_of))
        area = area_within(ring)
        objects.masks.add_polygons([ring])
    objects.add(number, box, int(label), crowd=False, area=area)
