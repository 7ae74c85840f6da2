"""Small sets with boxes, masks and label maps for tests, written in each layout."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pictures_on_disk import picture, write

CLASSES = ("cat", "dog")
Box = Sequence[float]

OBJECTS: dict[str, dict[str, list[tuple[str, Box]]]] = {
    "train": {
        "1.png": [("cat", (2, 3, 10, 8)), ("dog", (0, 0, 20, 16))],
        "2.png": [],
        "3.png": [("dog", (5, 5, 6, 7))],
    },
    "val": {"4.png": [("dog", (1, 1, 9, 9)), ("cat", (2, 2, 4, 4))]},
}
"""Left, top, right and bottom edge of each object, on pictures of 20 × 16 pixels."""
SIZE = (20, 16)


def pictures(root: Path, folder: str, names: Sequence[str], size: tuple[int, int] = SIZE) -> None:
    """Pictures of one colour each, which differs from that of others."""
    for name in names:
        path = f"{folder}/{name}" if folder else name
        write(root, path, data=picture((zlib.crc32(path.encode()) % 251, 90, 9), size))


def coco_json(
    objects: Mapping[str, Sequence[tuple[str, Box]]],
    *,
    classes: Sequence[str] = CLASSES,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """COCO's JSON with the category ids 3, 5, 7, ...; ``extra`` is added to each annotation."""
    ids = {name: 3 + 2 * number for number, name in enumerate(classes)}
    images, annotations = [], []
    for number, (name, found) in enumerate(objects.items(), 100):
        images.append({"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        for label, (left, top, right, bottom) in found:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[label],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": 0,
                }
                | dict(extra or {})
            )
    categories = [{"id": value, "name": name} for name, value in reversed(ids.items())]
    return {"images": images, "annotations": annotations, "categories": categories}


def save(path: Path, content: Any) -> Path:
    """Writes a text, or anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def coco(root: Path) -> Path:
    """A set in COCO's own layout."""
    for part, objects in OBJECTS.items():
        pictures(root, part, list(objects))
        save(root / f"annotations/instances_{part}.json", coco_json(objects))
    return root


def yolo_line(label: str, box: Box) -> str:
    left, top, right, bottom = box
    width, height = SIZE
    shares = ((left + right) / 2 / width, (top + bottom) / 2 / height,
              (right - left) / width, (bottom - top) / height)  # fmt: skip
    return " ".join([str(CLASSES.index(label)), *map(str, shares)])


def yolo(root: Path, *, yaml: bool = True) -> Path:
    """A set in YOLO's layout; the picture without objects has no label file."""
    for part, objects in OBJECTS.items():
        pictures(root, f"images/{part}", list(objects))
        for name, found in objects.items():
            text = "".join(f"{yolo_line(*one)}\n" for one in found)
            if text:
                save(root / f"labels/{part}/{name[:-4]}.txt", text)
    if yaml:
        save(
            root / "data.yaml",
            f"train: images/train\nval: images/val\nnames: {list(CLASSES)}\n",
        )
    return root


def voc_xml(found: Sequence[tuple[str, Box]], *, first: int = 1, more: str = "") -> str:
    """VOC's XML; ``first`` is the number of the first pixel: 1 as in VOC, or 0 for edges."""
    rows = "".join(
        f"<object><name>{name}</name>{more}<bndbox><xmin>{box[0] + first}</xmin>"
        f"<ymin>{box[1] + first}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box in found
    )
    size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>"
    return f"<annotation>{size}{rows}</annotation>"


def voc(root: Path, *, first: int = 1) -> Path:
    """A set in Pascal VOC's own layout."""
    for part, objects in OBJECTS.items():
        pictures(root, "JPEGImages", list(objects))
        for name, found in objects.items():
            save(root / f"Annotations/{name[:-4]}.xml", voc_xml(found, first=first))
        save(root / f"ImageSets/Main/{part}.txt", "".join(f"{name[:-4]}\n" for name in objects))
    return root


def save_map(path: Path, values: Any, mode: str = "L") -> Path:
    """A label map as a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, dtype=np.uint8))
    if mode == "P":
        image = image.convert("P")
        image.putdata(np.asarray(values).ravel().tolist())
    image.save(path)
    return path


def drawn_map(seed: int, values: Sequence[int] = (0, 1, 2)) -> np.ndarray[Any, Any]:
    """Values drawn for each pixel of a picture of 20 × 16; each occurs."""
    found = np.random.default_rng(seed).choice(values, SIZE[::-1])
    found.flat[: len(values)] = values
    return found


def camvid(root: Path) -> Path:
    """A set of label maps in CamVid's layout, in which 2 is void."""
    for number, part in enumerate(("train", "val")):
        pictures(root, part, ["1.png", "2.png"])
        for name in ("1.png", "2.png"):
            save_map(root / f"{part}annot/{name}", drawn_map(2 * number + int(name[0])))
    save(root / "classes.txt", "sky\nroad\nvoid\n")
    return root
