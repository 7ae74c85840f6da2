"""A user's own hands on disk: pictures, and a file of joints and vertices beside them.

```
mine/train/0001.jpg, 0002.jpg, ...    pictures, in the order of their names
mine/train/hands.safetensors          or hands.npz
mine/val/...                          optional, test too
```
The file has ``joints`` (N, 21, 3) and ``vertices`` (N, V, 3) in metres, with x to the right, y down
and z away from the camera, and ``points`` (N, 21, 2), the joints in the picture in pixels; one row
a picture. Without parts, pictures and file lie in the folder itself.

N pictures · V vertices
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleetfoot.data.layouts.assembly import VAL_SHARE, part_of
from fleetfoot.data.layouts.listing import read_folder
from fleetfoot.data.layouts.scenes.building import split_off
from fleetfoot.data.pictures import Files, Texts
from fleetfoot.data.scenes import Hand, Scenes, SceneSet
from fleetfoot.errors import DatasetError, WeightsError, counted, visible
from fleetfoot.tasks.hand.topology import JOINTS, SPAN
from fleetfoot.weights import files

NAMES = ("hands.safetensors", "hands.npz")
ENTRIES = {"joints": (JOINTS, 3), "vertices": (None, 3), "points": (JOINTS, 2)}
"""Entries of the file, and the shape of a row; None for the number of vertices."""

Rows = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class HandTable:
    """What is known of the pictures of a part."""

    joints: Rows
    """(N, 21, 3)"""
    vertices: Rows
    """(N, V, 3)"""
    points: Rows
    """(N, 21, 2)"""

    def __len__(self) -> int:
        return len(self.joints)

    def __getitem__(self, index: int) -> Hand:
        return Hand(
            joints=self.joints[index].astype(np.float64),
            vertices=self.vertices[index].astype(np.float64),
            points=self.points[index].astype(np.float64),
        )

    def described(self, index: int) -> bytes:
        rows = (self.joints, self.vertices, self.points)
        return b"".join(np.ascontiguousarray(row[index], "<f4").tobytes() for row in rows)

    def chosen(self, numbers: NDArray[np.int64]) -> HandTable:
        """The rows of these numbers."""
        return HandTable(self.joints[numbers], self.vertices[numbers], self.points[numbers])


def find_hands(where: str) -> dict[str, str]:
    """The files of joints and vertices in a folder, as paths below it, by part; empty if there are
    none."""
    top = read_folder(where)
    if own := _file(top.others):
        return {"train": own}
    found = {}
    for name in top.folders:
        part = part_of(name)
        file = _file(read_folder(os.path.join(where, name)).others) if part else None
        if part and file:
            found[part] = os.path.join(name, file)
    return found


def _file(names: list[str]) -> str | None:
    return next((name for name in NAMES if name in names), None)


def open_hand_folder(
    where: str, found: dict[str, str], *, val_share: float | None = None, seed: int = 0
) -> SceneSet:
    """The set of a user's hands.

    Args:
        found: what ``find_hands`` gave.
        val_share: share of the training pictures that becomes the validation part, if the set has
            none of its own. 0: none is split off. Default: ``VAL_SHARE``.
        seed: decides, with each picture's name, which pictures these are.

    Raises:
        DatasetError: a file cannot be used, or does not fit the pictures beside it.
    """
    tables = {part: read_hands(os.path.join(where, file)) for part, file in found.items()}
    counts = {part: table.vertices.shape[1] for part, table in tables.items()}
    if len({*counts.values()}) > 1:
        sizes = ", ".join(f"{count} in {part}" for part, count in counts.items())
        raise DatasetError(f"{visible(where)}: meshes differ in their number of vertices: {sizes}")
    parts = {part: _part(where, part, file, tables[part]) for part, file in found.items()}
    share = VAL_SHARE if val_share is None else val_share
    layout = f"pictures with joints and vertices ({', '.join(found.values())})"
    if "val" in parts and val_share:
        raise DatasetError(
            f"{visible(where)} has a validation part of its own; leave the share away"
        )
    if "train" in parts and "val" not in parts and share:
        parts["train"], parts["val"] = split_off(where, parts["train"], share, seed)
        layout += f"; val is a share of {share:g} of train (seed {seed})"
    return SceneSet(
        name=where,
        task="hand",
        layout=layout,
        classes=(),
        train=parts.get("train"),
        val=parts.get("val"),
        test=parts.get("test"),
    )


def _part(where: str, part: str, file: str, rows: HandTable) -> Scenes:
    path = os.path.join(where, file)
    names = read_folder(os.path.dirname(path)).pictures
    if len(names) != len(rows):
        raise DatasetError(
            f"{visible(path)}: {counted(len(rows), 'row')}, and {counted(len(names), 'picture')} "
            "beside it; there must be one row a picture, in the order of the pictures' names"
        )
    below = os.path.dirname(file)
    return Scenes(part, Files(where, Texts(os.path.join(below, name) for name in names)), rows)


def read_hands(path: str) -> HandTable:
    """The rows of a file.

    Raises:
        DatasetError: it cannot be read, or an entry is missing or of another shape or unit.
    """
    shown = visible(path)
    try:
        state = files.read(path).state
    except WeightsError as error:
        raise DatasetError(str(error)) from error
    if lacking := [name for name in ENTRIES if name not in state]:
        raise DatasetError(f"{shown}: lacks {', '.join(lacking)}; it needs {', '.join(ENTRIES)}")
    rows = {name: state[name].float().numpy() for name in ENTRIES}
    for name, wanted in ENTRIES.items():
        shape = rows[name].shape
        fits = len(shape) == 3 and all(
            w in (None, s) for w, s in zip(wanted, shape[1:], strict=True)
        )
        if not fits or shape[0] != len(rows["joints"]) or not shape[0]:
            row = ", ".join("V" if side is None else str(side) for side in wanted)
            raise DatasetError(
                f"{shown}: {name} must be (N, {row}), one row a picture, not {shape}"
            )
    extents = np.ptp(rows["joints"], axis=1).max(1)
    odd = np.flatnonzero((extents < SPAN[0]) | (extents > SPAN[1]))
    if len(odd):
        raise DatasetError(
            f"{shown}: the joints of {counted(len(odd), 'row')} extend over less than "
            f"{SPAN[0]:g} or more than {SPAN[1]:g} metres, for example those of row {odd[0]} over "
            f"{extents[odd[0]]:g}; give them in metres"
        )
    return HandTable(**rows)
