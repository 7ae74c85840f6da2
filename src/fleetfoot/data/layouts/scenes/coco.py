"""Boxes and masks as COCO writes them: one JSON file a part.

| layout | example |
|---|---|
| COCO's own | ``annotations/instances_train2017.json``, ``train2017/1.jpg``, also ``images/train2017/1.jpg`` |
| one folder a part | ``train/_annotations.coco.json``, ``train/1.jpg`` |
| a file by itself | ``labels.json``, with the pictures beside it or in ``images/`` |

Classes are numbered in the order of COCO's ids.
"""  # noqa: E501  # a row of a table cannot be broken

from __future__ import annotations

import gc
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fleetfoot.data.layouts.assembly import PARTS, listed
from fleetfoot.data.layouts.listing import read_folder
from fleetfoot.data.layouts.scenes.building import ScenePart, assemble_scenes, presence
from fleetfoot.data.layouts.scenes.kept import Content, kept
from fleetfoot.data.masks import area_within, unpacked
from fleetfoot.data.objects import ObjectList
from fleetfoot.data.pictures import Files, Texts
from fleetfoot.data.scenes import SceneSet
from fleetfoot.errors import DatasetError, counted, visible
from fleetfoot.files import open_regular, read_bytes

MOST_BYTES = 4 * 2**30
"""Largest file that is read; COCO's ``instances_train2017.json`` has 0.45 GB."""

_INSTANCES = re.compile(r"instances_.*\.json|_annotations\.coco\.json", re.IGNORECASE)
_OTHERS = re.compile(
    r"(captions|panoptic|person_keypoints|stuff|image_info)_.*\.json", re.IGNORECASE
)
_LISTS = re.compile(rb'"(images|annotations|categories|info|licenses)"\s*:\s*[\[{]')

WRONG = (KeyError, TypeError, ValueError, OverflowError, AttributeError)
"""What reading a row raises if it lacks a field, or a field is of another kind."""

Row = dict[str, Any]


def part_within(name: str) -> str | None:
    """The part that a name states among other words: "instances_train2017" -> "train".

    >>> part_within("instances_val2017.json"), part_within("trainer.json")
    ('val', None)
    """
    words = re.findall("[a-z]+", name.casefold())
    found = {part for part, known in PARTS.items() for word in words if word in known}
    return found.pop() if len(found) == 1 else None


def find_coco(where: str) -> dict[str, str]:
    """The JSON file of each part in a folder, as paths below it; empty if there are none.

    Raises:
        DatasetError: a part has several files.
    """
    top = read_folder(where)
    for folder in ("annotations", "Annotations", "labels", ""):
        if folder and folder not in top.folders:
            continue
        held = read_folder(os.path.join(where, folder)) if folder else top
        names = [name for name in held.others if name.lower().endswith(".json")]
        paths = {name: os.path.join(folder, name) for name in names if not _OTHERS.fullmatch(name)}
        paths = {name: path for name, path in paths.items() if _may_be(where, path)}
        if found := _by_part(where, paths):
            return found
    found = {}
    for name in filter(part_within, top.folders):
        held = read_folder(os.path.join(where, name))
        jsons = [one for one in held.others if _INSTANCES.fullmatch(one)]
        if (part := part_within(name)) and jsons:
            if part in found:
                raise DatasetError(_two(where, part, [found[part], os.path.join(name, jsons[0])]))
            found[part] = os.path.join(name, jsons[0])
    return found


def _may_be(where: str, path: str) -> bool:
    """Whether a file is called as COCO calls such files, or begins as they do."""
    if _INSTANCES.fullmatch(os.path.basename(path)):
        return True
    try:
        with open_regular(os.path.join(where, path)) as file:
            return _LISTS.search(file.read(4096)) is not None
    except OSError:
        return False


def _by_part(where: str, paths: Mapping[str, str]) -> dict[str, str]:
    """Paths by the part that each name states; those that name instances before all others."""
    instances = {name: path for name, path in paths.items() if _INSTANCES.fullmatch(name)}
    chosen = instances or paths
    found: dict[str, str] = {}
    for name, path in chosen.items():
        part = part_within(name)
        if part is None and len(chosen) == 1 and (instances or "annotation" in path.lower()):
            part = "train"
        if part in found:
            raise DatasetError(_two(where, part, [found[part], path]))
        if part is not None:
            found[part] = path
    return found


def _two(where: str, part: str, paths: Sequence[str]) -> str:
    return (
        f"{where}: {listed(paths)} both seem to hold the part {part}; give one of them, or move "
        "one away"
    )


def open_coco(
    where: str, files: Mapping[str, str], root: str, *, val_share: float | None, seed: int
) -> SceneSet:
    """The set that these files describe.

    Args:
        files: path of the JSON file of each part, below ``root``.

    Raises:
        DatasetError: a file cannot be read, or something in it is wrong; the message names the
            annotation.
    """
    notes: list[str] = []
    parts = {
        name: _read(root, name, path, notes)
        for name in PARTS
        if (path := files.get(name)) is not None
    }
    masks = any(getattr(part.targets, "masks", None) is not None for part in parts.values())
    what = "boxes and masks" if masks else "boxes"
    return assemble_scenes(
        where,
        "detect",
        f"COCO: {what} from {', '.join(files[name] for name in parts)}",
        parts,
        val_share=val_share,
        seed=seed,
        notes=notes,
    )


def _read(root: str, part: str, path: str, notes: list[str]) -> ScenePart:
    """The part that one file describes."""
    file = os.path.join(root, path)
    content = kept(file, lambda: _content(file, path))
    names = list(content.names)
    folder = _folder_of(root, part, path, names)
    notes += content.notes
    notes += presence(part, os.path.join(root, folder), names, folder)
    pictures = Files(root, Texts(os.path.join(folder, name) for name in names))
    # the file may be given by another path than it was when it was kept
    table = replace(content.table, files=Texts([path]))
    return ScenePart(pictures, table, content.classes)


def _content(file: str, path: str) -> Content:
    """What one file holds; ``path`` names it in messages on its objects."""
    raw = _loaded(file)
    try:
        categories, classes = _categories(raw, file)
        images = _images(raw, file)
        objects, notes = _objects(raw, file, images, categories)
    except WRONG as error:
        raise DatasetError(
            f"{file}: not as COCO writes it: {_words(error)} in one of its lists; compare it with "
            "COCO's instances_val2017.json"
        ) from error
    names = Texts(image["file_name"] for image in images.values())
    return Content(names, tuple(classes), objects.table(Texts([path])), tuple(notes))


def _words(error: Exception) -> str:
    return f"no field {error}" if isinstance(error, KeyError) else str(error)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Millions of lists are made, none of them in a circle; looking for circles takes longer than
    reading."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _loaded(path: str) -> Row:
    try:
        with _without_collector():
            raw = json.loads(read_bytes(path, most=MOST_BYTES))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not JSON: {error}") from error
    wanted = ("images", "annotations", "categories")
    if isinstance(raw, dict) and all(isinstance(raw.get(key), list) for key in wanted):
        annotations = raw["annotations"]
        if annotations and isinstance(annotations[0], dict) and "segments_info" in annotations[0]:
            raise DatasetError(
                f"{path}: COCO's panoptic form, which is not read here; give the instances_*.json "
                "of the same pictures, or --task segment with maps of classes"
            )
        return raw
    found = f"the fields {listed(raw)}" if isinstance(raw, dict) else f"a {type(raw).__name__}"
    raise DatasetError(
        f"{path}: not COCO's JSON, which has the lists images, annotations and categories; found "
        f"{found}"
    )


def _categories(raw: Row, path: str) -> tuple[dict[Any, int], list[str]]:
    """Number of each category's id, and the names in the order of the numbers."""
    rows = sorted(raw["categories"], key=lambda row: row["id"])
    names = [str(row["name"]) for row in rows]
    numbers = {row["id"]: number for number, row in enumerate(rows)}
    if len(numbers) < len(rows) or len(set(names)) < len(names):
        raise DatasetError(
            f"{path}: two categories have one id or one name, {listed(names)}; give each its own"
        )
    return numbers, names


def _images(raw: Row, path: str) -> dict[Any, Row]:
    """The pictures' entries by id."""
    images: dict[Any, Row] = {}
    files = set()
    for row in raw["images"]:
        name = row["file_name"]
        if not isinstance(name, str) or not name or "\0" in name:
            raise DatasetError(f"{path}: image {row['id']} has no file_name that is a path")
        if row["id"] in images or name in files:
            raise DatasetError(
                f"{path}: image {row['id']}, '{visible(name)}', is listed twice, by its id or its "
                "file_name; keep one entry, and give its id to all annotations of the picture"
            )
        images[row["id"]] = row
        files.add(name)
    return images


def _folder_of(root: str, part: str, path: str, names: Sequence[str]) -> str:
    """The folder below ``root`` in which the pictures of a part lie."""
    here = os.path.dirname(path)
    stem = os.path.splitext(os.path.basename(path))[0]
    suffix = stem.partition("_")[2] or stem
    words = [suffix, part, *PARTS[part]]
    places = [
        here,
        *(os.path.join(above, word) for above in ("", "images", "data") for word in words),
        *("images", "JPEGImages", "data", "img", "imgs", ""),
    ]
    tried = list(dict.fromkeys(place for place in places))
    # the first picture may be the one that is missing
    asked = [names[i] for i in sorted({0, len(names) // 2, len(names) - 1})] if names else []
    for place in tried:
        if any(os.path.isfile(os.path.join(root, place, name)) for name in asked):
            return place
    if not names:
        return here
    folders = [place or "." for place in tried if os.path.isdir(os.path.join(root, place))]
    raise DatasetError(
        f"{os.path.join(root, path)}: its pictures, for example '{visible(names[0])}', are not "
        f"there; looked in {listed(folders, 12)} below {root}; move the folder of the pictures "
        "there, or correct file_name"
    )


def _objects(
    raw: Row, path: str, images: Mapping[Any, Row], categories: Mapping[Any, int]
) -> tuple[ObjectList, list[str]]:
    """All objects, sorted by picture, and notes."""
    place = {key: number for number, key in enumerate(images)}
    rows: list[Row] = []
    strays: list[Row] = []
    for row in raw["annotations"]:
        (rows if row["image_id"] in place else strays).append(row)
    rows.sort(key=lambda row: place[row["image_id"]])
    objects = ObjectList("annotation")
    ahead, short = 0, []
    for key, image in images.items():
        objects.begin(int(image.get("height") or 0), int(image.get("width") or 0))
        while ahead < len(rows) and rows[ahead]["image_id"] == key:
            row = rows[ahead]
            ahead += 1
            try:
                if _add(objects, row, categories):
                    short.append(row["id"])
            except WRONG as error:
                raise DatasetError(
                    f"{path}, annotation {row.get('id', '(without id)')}: {_words(error)}; correct "
                    "or remove it"
                ) from error
    notes = []
    if strays:
        notes.append(
            f"left out: {counted(len(strays), 'annotation')} of {path} for pictures that it does "
            f"not list, the first {strays[0].get('id')} for image {strays[0]['image_id']}"
        )
    if short:
        notes.append(
            f"left out: polygons with fewer than three corners in "
            f"{counted(len(short), 'annotation')} of {path}, the first {short[0]}"
        )
    return objects, notes


def _add(objects: ObjectList, row: Row, categories: Mapping[Any, int]) -> bool:
    """Adds an annotation. Returns whether polygons of it were left out.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: something about it is wrong.
    """
    label = categories.get(row["category_id"])
    if label is None:
        raise ValueError(
            f"its category_id {row['category_id']} is none of the {len(categories)} in "
            "'categories': add the category there"
        )
    segmentation = row.get("segmentation") or []
    rings: list[list[float]] = []
    if isinstance(segmentation, list):
        rings = [ring for ring in segmentation if _is_ring(ring)]
    bbox = row.get("bbox")
    if bbox:
        left, top, width, height = _four(bbox)
        box = (left, top, left + width, top + height)
    elif rings:
        box = _around(rings)
    else:
        raise ValueError("it has neither a bbox nor polygons")
    area = row.get("area")
    crowd = bool(row.get("iscrowd", 0))
    if isinstance(segmentation, dict):
        counts, (high, wide) = _runs(segmentation)
        objects.masks.add_runs(counts, high, wide)
        area = sum(counts[1::2]) if area is None else area
    elif rings:
        objects.masks.add_polygons(rings)
        area = sum(map(area_within, rings)) if area is None else area
    else:
        objects.masks.add_none()
        area = (box[2] - box[0]) * (box[3] - box[1]) if area is None else area
    objects.add(_number(row), box, label, crowd=crowd, area=area)
    return isinstance(segmentation, list) and len(rings) < len(segmentation)


def _number(row: Row) -> int:
    number = row.get("id", -1)
    if not isinstance(number, int):
        raise TypeError(f"its id is {number!r}, not a whole number")
    return number


def _four(bbox: Any) -> tuple[float, float, float, float]:
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise ValueError(f"its bbox is {bbox!r}, not left, top, width and height")
    left, top, width, height = bbox
    for value in bbox:
        if not isinstance(value, int | float):
            raise TypeError(f"its bbox holds {value!r}, which is not a number")
    return left, top, width, height


def _is_ring(ring: Any) -> bool:
    """Whether a polygon has three corners or more."""
    if not isinstance(ring, list):
        raise TypeError("its segmentation is not a list of polygons, each a list of numbers")
    if len(ring) % 2:
        raise ValueError(f"a polygon has {len(ring)} numbers, which are not pairs of x and y")
    return len(ring) >= 6


def _around(rings: Iterable[Sequence[float]]) -> tuple[float, float, float, float]:
    """The box around polygons."""
    x = [value for ring in rings for value in ring[0::2]]
    y = [value for ring in rings for value in ring[1::2]]
    return min(x), min(y), max(x), max(y)


def _runs(raw: Row) -> tuple[list[int], tuple[int, int]]:
    counts, size = raw.get("counts"), raw.get("size")
    if not isinstance(size, list) or [type(side) for side in size] != [int, int]:
        raise ValueError(f"its mask's size is {size!r}, not height and width")
    if isinstance(counts, str):
        counts = unpacked(counts)
    if not isinstance(counts, list):
        raise TypeError("its mask's counts are neither a list nor COCO's text")
    return counts, (size[0], size[1])
