"""From a path to a set for detection, segmentation or hands: which layout it is, and what it holds.

| what is given | layout |
|---|---|
| a folder with ``annotations/instances_*.json``, or with ``_annotations.coco.json`` in each part; such a file | COCO |
| a folder with ``data.yaml``, or with ``images`` and ``labels``; such a ``data.yaml`` | YOLO |
| a folder with ``JPEGImages`` and ``Annotations``, or with XML files beside its pictures | Pascal VOC |
| a folder of pictures and a folder of maps, and a list of classes | label maps |
| a folder of pictures with ``hands.safetensors`` or ``hands.npz``, itself or in its parts | hands |

The word ``hands`` means the built-in set of drawn hands, unless there is such a path.
"""  # noqa: E501  # a row of a table cannot be broken

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from fleetfoot.data.hands import folder, open_hands
from fleetfoot.data.hands.scenes import NAME
from fleetfoot.data.layouts.assembly import listed
from fleetfoot.data.layouts.paths import no_data_set, refuse_addresses
from fleetfoot.data.layouts.scenes import coco, maps, voc, yolo
from fleetfoot.data.scenes import SceneSet
from fleetfoot.errors import DatasetError
from fleetfoot.tasks.network import Task


@dataclass(frozen=True)
class Layout:
    """A layout that was recognised."""

    name: str
    """For people, with what it was recognised by."""
    task: Task
    give: str
    """What to give instead of the folder if only this layout is meant; "" if there is no such."""
    open: Callable[..., SceneSet]
    """Opens the set, given ``val_share`` and ``seed``."""


def layouts_of(where: str) -> list[Layout]:
    """Every layout of boxes, masks or label maps that is found at a path."""
    if not os.path.isdir(where):
        return _of_file(where)
    found = []
    if files := coco.find_coco(where):
        first = files.get("train") or next(iter(files.values()))
        found.append(
            Layout(
                f"COCO ({first})",
                "detect",
                os.path.join(where, first),
                lambda **options: coco.open_coco(where, files, where, **options),
            )
        )
    if by := yolo.find_yolo(where):
        found.append(_yolo(where, by))
    if labels := voc.find_voc(where):
        found.append(
            Layout(
                f"Pascal VOC ({labels[0].labels or 'XML files'})",
                "detect",
                "",
                lambda **options: voc.open_voc(where, labels, **options),
            )
        )
    if pairs := maps.find_maps(where):
        found.append(
            Layout(
                f"label maps ({pairs[0].maps})",
                "segment",
                "",
                lambda **options: maps.open_maps(where, pairs, **options),
            )
        )
    if hands := folder.find_hands(where):
        found.append(
            Layout(
                f"hands ({next(iter(hands.values()))})",
                "hand",
                "",
                lambda **options: folder.open_hand_folder(where, hands, **options),
            )
        )
    return found


def _of_file(where: str) -> list[Layout]:
    if where.lower().endswith(".json") and os.path.isfile(where):
        root, name = os.path.split(where)
        part = coco.part_within(name) or "train"
        if os.path.basename(root).lower() in ("annotations", "labels"):
            root, inner = os.path.split(root)
            name = os.path.join(inner, name)
        return [
            Layout(
                f"COCO ({name})",
                "detect",
                where,
                lambda **options: coco.open_coco(where, {part: name}, root or ".", **options),
            )
        ]
    by = yolo.find_yolo(where)
    return [_yolo(where, by)] if by else []


def _yolo(where: str, by: str) -> Layout:
    return Layout(
        f"YOLO ({os.path.basename(by) if os.path.isfile(by) else 'images and labels'})",
        "detect",
        by if os.path.isfile(by) else "",
        lambda **options: yolo.open_yolo(where, by, **options),
    )


def open_scenes(
    where: str | os.PathLike[str],
    task: Task | None = None,
    *,
    val_share: float | None = None,
    seed: int = 0,
) -> SceneSet:
    """The pictures at ``where`` and what is known of each; no picture has been opened yet.

    Args:
        where: a folder, or a file that describes the set.
        task: ``detect``, ``segment`` or ``hand``. Default: what the set is for; ``detect`` if it is
            for several.
        val_share: share of the training pictures that becomes the validation part, if the set has
            none of its own. 0: none is split off. Default: ``VAL_SHARE``.
        seed: decides, with each picture's name, which pictures these are.

    Raises:
        DatasetError: nothing is there, the layout is not known, or something in it is wrong.
        ValueError: ``val_share`` is out of range.
    """
    if val_share is not None and not 0 <= val_share < 1:
        raise ValueError(f"val_share must be below 1 and not below 0, not {val_share}")
    text = os.fspath(where)
    refuse_addresses(text)
    if is_drawn(text) and task in (None, "hand"):
        if val_share:
            raise DatasetError(f"{text}: the parts of this set are fixed; leave the share away")
        return open_hands()
    found = layouts_of(text)
    if not found:
        raise DatasetError(_nothing(text))
    held = {one.task for one in found}
    wanted = task or next(one for one in get_args(Task) if one in held)
    fitting = [one for one in found if one.task == wanted]
    if not fitting:
        raise DatasetError(
            f"{text}: this is {found[0].name}, which is for --task {found[0].task}, not for "
            f"{wanted}"
        )
    if len(fitting) > 1:
        names = [one.name for one in fitting]
        give = next((one.give for one in fitting if one.give), "")
        hint = f"give the one that is meant, for example {give}, or move" if give else "move"
        raise DatasetError(
            f"{text}: it holds labels in two layouts, {listed(names)}; {hint} the other away"
        )
    return fitting[0].open(val_share=val_share, seed=seed)


def is_drawn(text: str) -> bool:
    """Whether this names the built-in set of drawn hands."""
    return text == NAME and not os.path.lexists(text)


def _nothing(text: str) -> str:
    """What to say of a path at which no layout was recognised."""
    if not os.path.isdir(text):
        return no_data_set(text, "give a folder, COCO's .json, or YOLO's data.yaml")
    return (
        f"{text}: no boxes, masks, label maps or hands were recognised; known are COCO "
        "(annotations/instances_*.json), YOLO (data.yaml, images and labels), Pascal VOC "
        "(JPEGImages and Annotations), label maps (images and masks, with classes.txt), and hands "
        "(pictures with hands.safetensors)"
    )
