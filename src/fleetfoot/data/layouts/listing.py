"""What lies in a folder, sorted into pictures, folders and the rest."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from fleetfoot.data.images import SUFFIXES
from fleetfoot.errors import DatasetError

LEFT_BEHIND = frozenset(
    "thumbs.db ehthumbs.db desktop.ini __macosx @eadir lost+found $recycle.bin".split()
)
"""Files and folders that operating systems and storage devices leave behind, in lower case."""


@dataclass
class Folder:
    """What one folder holds itself, without what its folders hold."""

    path: str
    identity: tuple[int, int] = (0, 0)
    """Device and number, which are the same for a folder and a link to it."""
    folders: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Files that are not pictures by their suffix."""
    dangling: list[str] = field(default_factory=list)
    """Links that lead to nothing."""
    hidden: list[str] = field(default_factory=list)


def read_folder(path: str) -> Folder:
    """The names in a folder, each list sorted.

    Raises:
        DatasetError: the folder cannot be read: what it holds would be missing unsaid.
    """
    found = Folder(path)
    try:
        state = os.stat(path)
        found.identity = (state.st_dev, state.st_ino)
        with os.scandir(path) as entries:
            for entry in entries:
                _sort_in(found, entry)
    except OSError as error:
        raise DatasetError(
            f"{path}: the folder cannot be read: {error.strerror}; correct its permissions, or "
            "move it out of the data set"
        ) from error
    for names in (found.folders, found.pictures, found.others, found.dangling, found.hidden):
        names.sort()
    return found


def _sort_in(found: Folder, entry: os.DirEntry[str]) -> None:
    name = entry.name
    if name.startswith(".") or name.lower() in LEFT_BEHIND:
        found.hidden.append(name)
    elif _is(entry.is_dir):
        found.folders.append(name)
    elif os.path.splitext(name)[1].lower() in SUFFIXES:
        found.pictures.append(name)
        if entry.is_symlink() and not _is(entry.is_file):
            found.dangling.append(name)
    else:
        found.others.append(name)


def _is(kind: Callable[[], bool]) -> bool:
    """What ``kind`` answers; False for a link that leads to itself."""
    try:
        return kind()
    except OSError:
        return False
