"""Folders of pictures, one for each class.

| layout | example |
|---|---|
| parts, then classes | ``train/cat/1.jpg``, ``val/cat/2.jpg``, ``test/cat/3.jpg`` |
| classes | ``cat/1.jpg``, ``dog/2.jpg`` |

All pictures in and below a class's folder belong to the class, as in torchvision and timm; folders
may be links. Hidden files, and files that systems leave behind, are not pictures.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fleetfoot.data.dataset import Dataset
from fleetfoot.data.images import OTHERS, SUFFIXES
from fleetfoot.data.layouts.assembly import Part, assemble, listed, part_of
from fleetfoot.data.layouts.listing import Folder, read_folder
from fleetfoot.data.layouts.others import other_layout
from fleetfoot.data.pictures import Files, Texts
from fleetfoot.errors import DatasetError, counted


@dataclass
class Tree:
    """The pictures in and below folders, and what else was met there."""

    pictures: list[str] = field(default_factory=list)
    """Paths below the data set's folder."""
    others: Counter[str] = field(default_factory=Counter)
    """Number of files that are not pictures, by suffix."""
    hidden: Counter[str] = field(default_factory=Counter)
    """Number of hidden files and folders, by name."""
    dangling: list[str] = field(default_factory=list)
    circles: list[str] = field(default_factory=list)
    """Links to a folder above them."""

    def add(self, root: str, below: str) -> None:
        """Adds everything in and below the folder ``below`` of ``root``."""
        left: list[tuple[str, frozenset[tuple[int, int]]]] = [(below, frozenset())]
        while left:
            folder, above = left.pop()
            found = read_folder(os.path.join(root, folder))
            if found.identity in above:
                self.circles.append(folder)
                continue
            self.pictures += [os.path.join(folder, name) for name in found.pictures]
            self.dangling += [os.path.join(folder, name) for name in found.dangling]
            self.others.update(os.path.splitext(name)[1].lower() for name in found.others)
            self.hidden.update(found.hidden)
            left += [
                (os.path.join(folder, name), above | {found.identity}) for name in found.folders
            ]

    def notes(self) -> list[str]:
        """What a user should know about the files that are not used, or cannot be."""
        said = []
        if readable := {s: n for s, n in self.others.items() if s not in OTHERS}:
            said.append(f"passed over: {_by_suffix(readable)}, which are not pictures by suffix")
        for suffix in sorted(set(self.others).intersection(OTHERS)):
            said.append(
                f"passed over: {counted(self.others[suffix], 'file')} {suffix}: {OTHERS[suffix]}"
            )
        if self.hidden:
            said.append(
                f"passed over: {self.hidden.total():,} hidden or left behind by a system, "
                f"{listed(self.hidden)}"
            )
        if self.dangling:
            said.append(
                f"{counted(len(self.dangling), 'picture')} linked to a file that is not there: "
                f"{listed(self.dangling)}"
            )
        if self.circles:
            said.append(f"links to a folder above them are not followed: {listed(self.circles)}")
        unreadable = [name for name in self.pictures if not _is_text(name)]
        if unreadable:
            said.append(
                f"{counted(len(unreadable), 'picture')} with a name that is not UTF-8, the first "
                f"{listed(unreadable[:1])}; other systems may not find it"
            )
        return said


def hold_pictures(where: str) -> bool:
    """Whether the folders in ``where``, or the folders in these, hold pictures themselves: then a
    tar beside them, from which they may have been unpacked, is not the data set."""
    for name in read_folder(where).folders:
        folder = read_folder(os.path.join(where, name))
        below = (read_folder(os.path.join(folder.path, one)) for one in folder.folders)
        if folder.pictures or any(one.pictures for one in below):
            return True
    return False


def open_folders(where: str, *, val_share: float | None, seed: int) -> Dataset:
    """The data set in a folder that holds parts or classes as folders.

    Raises:
        DatasetError: the folder is not of these layouts; the message says what was found.
    """
    top = read_folder(where)
    inside = {name: read_folder(os.path.join(where, name)) for name in top.folders}
    if problem := other_layout(top, inside):
        raise DatasetError(f"{where}: {problem}")
    parts = {name: part for name in top.folders if (part := part_of(name))}
    with_classes = [name for name in parts if inside[name].folders]
    if with_classes:
        return _open_parts(where, top, parts, inside, val_share=val_share, seed=seed)
    if parts and len(parts) == len([n for n in top.folders if inside[n].pictures]):
        raise DatasetError(_flat_parts(where, parts, inside))
    return _open_classes(where, top, inside, val_share=val_share, seed=seed)


def _open_parts(
    where: str,
    top: Folder,
    parts: dict[str, str],
    inside: dict[str, Folder],
    *,
    val_share: float | None,
    seed: int,
) -> Dataset:
    """The data set of ``parts``, which maps a folder to its part."""
    said, tree, made = [], Tree(), {}
    for part in ("train", "val", "test"):
        folders = [name for name, its in parts.items() if its == part]
        if len(folders) > 1:
            raise DatasetError(
                f"{where}: {listed(folders)} are all {part}; remove or rename all but one of them"
            )
        if not folders:
            continue
        folder = inside[folders[0]]
        if not folder.folders:
            text = _without_classes(folders[0], folder)
            if part != "test":
                raise DatasetError(f"{where}: {text}")
            said.append(f"not used: {text}")
            continue
        if folder.pictures:
            said.append(
                f"passed over: {counted(len(folder.pictures), 'picture')} in {folders[0]} outside "
                f"the classes' folders, {listed(folder.pictures)}"
            )
        classes = [(name, os.path.join(folders[0], name)) for name in folder.folders]
        made[part] = _read_classes(where, classes, tree, may_lack=part != "train")
    rest = [name for name in inside if name not in parts]
    if rest:
        said.append(f"not used: {listed(rest)} beside {', '.join(parts)}")
    said += _unused_sources(top)
    named = {part: folder for folder, part in parts.items()}
    names = ", ".join(f"{named[part]}/<class>" for part in made)
    return assemble(
        where,
        f"folders {names}",
        made,
        val_share=val_share,
        seed=seed,
        notes=[*said, *tree.notes()],
    )


def _open_classes(
    where: str,
    top: Folder,
    inside: dict[str, Folder],
    *,
    val_share: float | None,
    seed: int,
) -> Dataset:
    """The data set in a folder of classes."""
    if not top.folders:
        raise DatasetError(_flat(where, top))
    _check_depth(where, inside)
    if len(top.folders) == 1 and (lists := _lists(top)):
        raise DatasetError(
            f"{where}: a single folder with pictures, '{top.folders[0]}'; if {lists[0]} lists "
            f"their classes, give {os.path.join(where, lists[0])}"
        )
    said, tree = _unused_sources(top), Tree()
    part = _read_classes(where, [(name, name) for name in top.folders], tree, may_lack=False)
    if top.pictures:
        said.append(
            f"passed over: {counted(len(top.pictures), 'picture')} beside the classes' folders, "
            f"{listed(top.pictures)}"
        )
    if beside := _sibling_part(where):
        said.append(beside)
    deep = sorted({n for folder in inside.values() for n in folder.folders})
    if deep:
        said.append(
            f"pictures in folders within a class belong to the class; such folders: {listed(deep)}"
        )
    return assemble(
        where,
        "one folder with a folder for each class",
        {"train": part},
        val_share=val_share,
        seed=seed,
        notes=[*said, *tree.notes()],
    )


def _read_classes(
    where: str, classes: list[tuple[str, str]], tree: Tree, *, may_lack: bool
) -> Part:
    """The pictures of classes, given as name and folder below ``where``. What else lies there is
    added to ``tree``.

    Args:
        may_lack: whether a class may have no pictures.
    """
    names, labels, empty = [], [], []
    for number, (name, folder) in enumerate(classes):
        if not _is_text(name):
            raise DatasetError(
                f"{os.path.join(where, folder)}: the name of this class is not UTF-8, and labels "
                "are kept as text; rename the folder"
            )
        before, others = len(tree.pictures), tree.others.copy()
        tree.add(where, folder)
        found = sorted(tree.pictures[before:])
        names += found
        labels += [number] * len(found)
        if not found:
            held = tree.others - others
            empty.append(f"{name} ({_by_suffix(held)})" if held else name)
    if empty and not may_lack:
        every = "; none of them holds a picture" if not names else ""
        raise DatasetError(
            f"{where}: {len(empty)} of {len(classes)} class folders hold no picture: "
            f"{listed(empty)}{every}. Pictures are recognised by suffix "
            f"({' '.join(sorted(SUFFIXES))}); remove these folders, or put pictures into them"
        )
    return Part(
        Files(where, Texts(names)),
        tuple(name for name, _ in classes),
        np.array(labels, dtype=np.int64),
    )


def _check_depth(where: str, inside: dict[str, Folder]) -> None:
    """Refuses a folder one level above the classes, or one in which parts lie within classes."""
    deep = {n: f.folders for n, f in inside.items() if f.folders and not f.pictures}
    of_parts = {n: inner for n, inner in deep.items() if any(map(part_of, inner))}
    name, inner = next(iter((of_parts or deep).items()), ("", []))
    if len(of_parts) > 1 and len(of_parts) == len(inside):
        raise DatasetError(
            f"{where}: each of the classes {listed(of_parts)} holds the parts {listed(inner)}; the "
            f"parts must lie above the classes, for example {inner[0]}/{name}"
        )
    if of_parts or (deep and len(inside) == 1):
        raise DatasetError(
            f"{where} holds the folder '{name}', which holds the folders {listed(inner)}; if these "
            f"are the {'parts' if of_parts else 'classes'}, give {os.path.join(where, name)}"
        )


def _lists(folder: Folder) -> list[str]:
    """Files in a folder that may list pictures and classes."""
    kinds = (".csv", ".tsv", ".jsonl", ".ndjson")
    return [name for name in folder.others if name.lower().endswith(kinds)]


def _unused_sources(top: Folder) -> list[str]:
    """A note on files beside the folders that could be a data set of their own."""
    found = [*_lists(top), *(name for name in top.others if name.lower().endswith(".tar"))]
    return [f"not used: {listed(found)}, beside the folders"] if found else []


def _flat(where: str, top: Folder) -> str:
    """What to say of a folder that holds no folders."""
    lists = _lists(top)
    if not top.pictures and not top.others:
        return f"{where}: the folder is empty"
    found = counted(len(top.pictures), "picture") if top.pictures else f"files {listed(top.others)}"
    text = f"{where}: {found} without folders, so the classes are not known; "
    if lists:
        return text + f"if {lists[0]} lists them, give {os.path.join(where, lists[0])}"
    parent = os.path.dirname(os.path.abspath(where))
    try:
        beside = [n for n in read_folder(parent).folders if read_folder(f"{parent}/{n}").pictures]
    except DatasetError:
        beside = []
    if len(beside) > 1 and top.pictures:
        return text + (
            f"the folder above it, {parent}, has {len(beside)} folders with pictures: if these are "
            "the classes, give that one"
        )
    return text + (
        "put the pictures of each class into a folder with its name, or list them in a CSV file "
        "with the columns path and label"
    )


def _without_classes(name: str, folder: Folder) -> str:
    if not folder.pictures:
        return f"{name} is empty: it holds no class folders; remove it, or fill it"
    return (
        f"{name} holds {counted(len(folder.pictures), 'picture')} and no class folders; move each "
        f"picture into {name}/<class>/, or list pictures and classes in a CSV file"
    )


def _flat_parts(where: str, parts: dict[str, str], inside: dict[str, Folder]) -> str:
    found = "; ".join(f"{name}: {counted(len(inside[name].pictures), 'picture')}" for name in parts)
    lists = [os.path.join(name, one) for name in parts for one in _lists(inside[name])]
    if lists:
        found += f"; {listed(lists)} may list the classes: give such a list itself"
    return (
        f"{where}: the parts hold pictures without class folders ({found}), so the classes are not "
        "known; move each picture into <part>/<class>/, or list pictures and classes in a CSV file "
        "with the columns path, label and split"
    )


def _sibling_part(where: str) -> str:
    """A note if ``where`` is one part of a larger data set; "" otherwise."""
    parent, name = os.path.split(os.path.abspath(where))
    mine = part_of(name)
    if not mine:
        return ""
    try:
        others = [n for n in read_folder(parent).folders if part_of(n) not in (None, mine)]
    except DatasetError:
        return ""
    if not others:
        return ""
    return f"beside {name} lie {listed(others)}; to use them as its other parts, give {parent}"


def _by_suffix(counts: Mapping[str, int]) -> str:
    shown = [f"{n:,} {suffix or 'without suffix'}" for suffix, n in Counter(counts).most_common(5)]
    return ", ".join(shown) + (" and others" if len(counts) > 5 else "")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
