"""Layouts of data sets that are not read here, recognised so that the message can say which one it
is and how to go on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fleetfoot.data.layouts.assembly import listed
from fleetfoot.data.layouts.listing import Folder

BOXES = (
    "it has boxes or masks, not one class for each picture: they are for --task detect or segment; "
    "a classifier needs class folders, or a CSV file with the columns path and label"
)

IMAGES = frozenset("images imgs img image jpegimages leftimg8bit photos".split())
LABELS = frozenset(
    "annotations annotation annots labels masks mask gtfine segmentationclass".split()
)
"""Names of folders, in lower case, that hold pictures, and boxes or masks of these."""

_COCO = re.compile(
    r"((instances|captions|panoptic|person_keypoints|stuff)_.*|_annotations\.coco)\.json"
)
_PICKLES = re.compile(
    r"data_batch_\d|test_batch|batches\.meta|cifar-10-batches-py|cifar-100-python"
)
_IDX = re.compile(r".*-(images|labels)[-.]idx[13]-ubyte(\.gz)?")
_DATED = re.compile(r"(train|val|valid|validation|test)[-_ ]?\d+", re.IGNORECASE)


def other_layout(top: Folder, inside: Mapping[str, Folder]) -> str:
    """What to say of a folder in another data set's layout; "" if it is none that is known.

    Args:
        top: the data set's folder.
        inside: each of its folders, by name.
    """
    folders, files = top.folders, [*top.others, *top.pictures]
    lower = {name.lower(): folder for name, folder in inside.items()}
    if boxes := _boxes(files, folders, lower):
        return f"this looks like {boxes}: {BOXES}"
    if found := [name for name in (*folders, *files) if _PICKLES.fullmatch(name)]:
        return (
            f"this looks like CIFAR as Python pickles ({listed(found)}), which run code when they "
            "are read and are not read here; write the pictures as PNG files into class folders, "
            "for example by torchvision.datasets.CIFAR10 and Image.save"
        )
    if found := [name for name in (*folders, *files) if _IDX.fullmatch(name)]:
        return (
            f"this looks like MNIST's idx files ({listed(found)}); write the pictures as PNG files "
            "into class folders, for example by torchvision.datasets.MNIST and Image.save"
        )
    if len(found := [name for name in folders if _DATED.fullmatch(name)]) > 1:
        return (
            f"the folders {listed(found)} look like parts of a data set, not classes; rename them "
            "to train, val or test, with a folder for each class within"
        )
    found = [name for name in files if name.lower().endswith(".parquet")]
    if "data" in lower:
        found += [f"data/{n}" for n in lower["data"].others if n.lower().endswith(".parquet")]
    if found:
        return (
            f"it holds Parquet files ({listed(found)}), as a Hugging Face repository does; load it "
            "with datasets.load_dataset(PATH), and give the folder that its save_to_disk wrote"
        )
    return ""


def _boxes(files: Sequence[str], folders: Sequence[str], lower: Mapping[str, Folder]) -> str:
    """The layout of boxes or masks that a folder looks like, and by what; "" if it does not.

    Args:
        lower: each folder, by its name in lower case.
    """
    if "jpegimages" in lower and "annotations" in lower:
        return "Pascal VOC (JPEGImages and Annotations)"
    if "annotations" in lower:
        within = lower["annotations"].others
        if found := [name for name in within if _COCO.fullmatch(name)]:
            return f"COCO (annotations/{found[0]})"
        if sum(name.lower().endswith(".xml") for name in within) > len(within) / 2:
            return "Pascal VOC (annotations as XML)"
    if found := [name for name in files if _COCO.fullmatch(name)]:
        return f"COCO ({found[0]})"
    if "images" in lower and "labels" in lower:
        return "YOLO (images and labels)"
    if (images := lower.keys() & IMAGES) and (labels := lower.keys() & LABELS):
        return f"boxes or masks beside pictures ({min(labels)} and {min(images)})"
    if found := [name for name in files if name.lower() in ("data.yaml", "data.yml")]:
        return f"YOLO ({found[0]})"
    for name, folder in lower.items():
        if {"images", "labels"} <= {one.lower() for one in folder.folders}:
            return f"YOLO ({name}/images and {name}/labels)"
        if found := [one for one in folder.others if _COCO.fullmatch(one)]:
            return f"COCO ({name}/{found[0]})"
    if found := [name for name in folders if name.endswith("annot") and name[:-5] in folders]:
        return f"segmentation ({found[0][:-5]} and {found[0]})"
    return ""
