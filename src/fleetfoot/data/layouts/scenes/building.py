"""From pictures and what is known of them, as a layout finds them, to a set: the order of classes,
checks that every layout needs, and a validation part split off where there is none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fleetfoot.data.dataset import Pictures
from fleetfoot.data.label_maps import LabelMaps
from fleetfoot.data.layouts.assembly import (
    PARTS,
    VAL_SHARE,
    classes_of,
    differing_in_capitals,
    draw,
    listed,
)
from fleetfoot.data.layouts.listing import read_folder
from fleetfoot.data.objects import ObjectTable
from fleetfoot.data.pictures import Chosen
from fleetfoot.data.scenes import Scenes, SceneSet, Targets
from fleetfoot.errors import DatasetError, counted, visible
from fleetfoot.files import read_text
from fleetfoot.tasks.network import Task


class _Table(Protocol):
    """What a layout knows of its pictures."""

    def chosen(self, pictures: NDArray[np.int64]) -> Targets: ...


@dataclass(frozen=True, eq=False)
class ScenePart:
    """One part of a set before the classes of all parts are known."""

    pictures: Pictures
    targets: ObjectTable | LabelMaps
    classes: tuple[str, ...]
    """Names of the classes in the order of their numbers in this part."""


def assemble_scenes(
    where: str,
    task: Task,
    layout: str,
    parts: Mapping[str, ScenePart],
    *,
    val_share: float | None,
    seed: int,
    notes: Sequence[str] = (),
) -> SceneSet:
    """The set of these parts. Its classes are those of ``train``, or of the first part.

    Raises:
        DatasetError: there are no pictures or no classes, or a part has objects of a class that
            ``train`` lacks.
    """
    said = list(notes)
    if not any(len(part.pictures) for part in parts.values()):
        raise DatasetError(f"{where}: no pictures were found ({layout})")
    leading = next(name for name in ("train", "val", "test") if name in parts)
    classes = parts[leading].classes
    if not classes:
        raise DatasetError(f"{where}: {leading} has no object, and so no class ({layout})")
    said += differing_in_capitals(classes)
    splits = {}
    for name in (one for one in ("train", "val", "test") if one in parts):
        part = parts[name]
        targets = part.targets
        if isinstance(targets, ObjectTable):
            targets, more = _with_classes(where, name, leading, part.classes, targets, classes)
            said += more + _left_out(name, targets)
        splits[name] = Scenes(name, part.pictures, targets)
    if "val" in splits and val_share:
        raise DatasetError(
            f"{where} has a validation part of its own, of "
            f"{counted(len(splits['val']), 'picture')}; leave the share for validation away"
        )
    share = VAL_SHARE if val_share is None else val_share
    if "train" in splits and "val" not in splits and share:
        splits["train"], splits["val"] = split_off(where, splits["train"], share, seed)
        layout += f"; val is a share of {share:g} of train (seed {seed})"
    for split in splits.values():
        said += _lacking(split, classes)
    return SceneSet(
        name=where, task=task, layout=layout, classes=tuple(classes), notes=tuple(said), **splits
    )


def _with_classes(
    where: str,
    name: str,
    leading: str,
    own: Sequence[str],
    table: ObjectTable,
    classes: Sequence[str],
) -> tuple[ObjectTable, list[str]]:
    """The table with the set's numbers of classes in the place of the part's own, and notes."""
    if tuple(own) == tuple(classes):
        return table, []
    present = {own[number] for number in np.unique(table.classes).tolist()}
    unknown = [one for one in own if one not in classes]
    used = [one for one in unknown if one in present]
    if used:
        first = table.place(int(np.flatnonzero(table.classes == own.index(used[0]))[0]))
        raise DatasetError(
            f"{where}: {name} has objects of {classes_of(len(used))} not among the "
            f"{classes_of(len(classes))} of {leading}, {listed(classes)}: {listed(used)}, the "
            f"first at {first}; give all parts the same classes, or remove these objects"
        )
    numbers = {one: number for number, one in enumerate(classes)}
    notes = []
    if unknown:
        notes.append(
            f"{name} lists {classes_of(len(unknown))} that {leading} lacks, {listed(unknown)}, and "
            "has no object of them"
        )
    return table.renumbered([numbers.get(one, 0) for one in own]), notes


def _left_out(name: str, table: ObjectTable) -> list[str]:
    """Notes on the objects that cannot be used."""
    finite, empty = table.finite(), table.without_area()
    kinds = {
        "whose box is not four finite numbers": ~finite,
        "whose box has no area": finite & empty,
        "whose box lies outside the picture": finite & ~empty & table.outside(),
    }
    return [
        f"left out: {counted(int(found.sum()), 'object')} of {name} {words}, the first at "
        f"{table.place(int(np.flatnonzero(found)[0]))}; correct or remove them"
        for words, found in kinds.items()
        if found.any()
    ]


def _lacking(split: Scenes, classes: Sequence[str]) -> list[str]:
    """A note on classes of which a part has no object."""
    table = split.targets
    if not isinstance(table, ObjectTable):
        return []
    present = set(np.unique(table.classes[table.used & ~table.crowd]).tolist())
    lacking = [one for number, one in enumerate(classes) if number not in present]
    if not lacking:
        return []
    effect = (
        "the network cannot learn them"
        if split.name == "train"
        else "its accuracy says nothing about them"
    )
    return [
        f"{split.name} has no object of {classes_of(len(lacking))}, {listed(lacking)}: {effect}"
    ]


def split_off(where: str, train: Scenes, share: float, seed: int) -> tuple[Scenes, Scenes]:
    """What stays in ``train``, and a share of its pictures as ``val``. A picture's place is decided
    by the seed and its name, as in ``assembly.split_off``.

    Raises:
        DatasetError: there is a single picture.
    """
    number = len(train)
    if number < 2:
        raise DatasetError(
            f"{where}: train has a single picture, so that none can be kept for validation; add "
            "pictures, or give a share of 0"
        )
    drawn = [draw(seed, train.pictures.name(index)) for index in range(number)]
    order = np.array(sorted(range(number), key=drawn.__getitem__), dtype=np.int64)
    count = min(max(1, round(share * number)), number - 1)
    parts = []
    for name, chosen in (("train", np.sort(order[count:])), ("val", np.sort(order[:count]))):
        targets = cast(_Table, train.targets).chosen(chosen)
        parts.append(Scenes(name, Chosen(train.pictures, chosen), targets))
    return parts[0], parts[1]


def part_lists(folder: str) -> dict[str, list[str]]:
    """Names of each part's pictures, from VOC's ``train.txt``, ``val.txt`` and so on; if there is
    no ``train.txt``, ``trainval.txt`` takes its place."""
    found = {}
    for part, words in {**PARTS, "train": (*PARTS["train"], "trainval")}.items():
        paths = [os.path.join(folder, f"{word}.txt") for word in words]
        if path := next((path for path in paths if os.path.isfile(path)), None):
            try:
                lines = read_text(path).splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise DatasetError(f"{path}: cannot be read: {error}") from error
            found[part] = [line.split()[0] for line in lines if line.strip()]
    return found


def presence(part: str, folder: str, names: Sequence[str], shown: str) -> list[str]:
    """Notes on pictures of a part that the labels list and that are not there, and on those that
    lie beside them and are not listed.

    Args:
        names: paths of the pictures below ``folder``.
        shown: name of that folder in messages.
    """
    listed_names, there = set(names), set()
    for above in {os.path.dirname(name) for name in names}:
        path = os.path.join(folder, above)
        if os.path.isdir(path):
            there |= {os.path.join(above, last) for last in read_folder(path).pictures}
    missing = sorted(
        name for name in listed_names - there if not os.path.isfile(os.path.join(folder, name))
    )
    notes = []
    if missing:
        notes.append(
            f"{counted(len(missing), 'picture')} of the {len(names):,} of {part} that the labels "
            f"list {'is' if len(missing) == 1 else 'are'} not there: {listed(missing)}"
        )
    if extra := sorted(there - listed_names):
        notes.append(
            f"not used: {counted(len(extra), 'picture')} in {visible(shown) or '.'} that the "
            f"labels of {part} do not list: {listed(extra)}"
        )
    return notes
