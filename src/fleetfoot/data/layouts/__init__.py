"""From a path to a data set: which layout it is, and what it holds.

| what is given | layout |
|---|---|
| nothing | scikit-learn's digits |
| a folder | folders of classes, or parts with them; tar shards; a Hugging Face set saved on disk |
| ``.tar``, or a pattern such as ``train-{000..003}.tar`` | WebDataset shards |
| ``.csv``, ``.tsv``, ``.jsonl`` | paths and labels |
"""

from __future__ import annotations

import os
from typing import cast, get_args

from fleetfoot.data.dataset import Dataset
from fleetfoot.data.layouts import digits, folders, saved, shards, tables
from fleetfoot.data.layouts.assembly import VAL_SHARE
from fleetfoot.data.layouts.paths import no_data_set, refuse_addresses
from fleetfoot.data.layouts.scenes import is_drawn, layouts_of, open_scenes
from fleetfoot.data.scenes import SceneSet
from fleetfoot.errors import DatasetError, visible
from fleetfoot.tasks.network import Task

__all__ = ["VAL_SHARE", "open_any", "open_dataset", "open_scenes"]

_PACKED = (
    ".tar.gz",
    ".tgz",
    ".tar.bz2",
    ".tbz2",
    ".tar.xz",
    ".txz",
    ".tar.zst",
    ".zip",
    ".7z",
    ".rar",
)


def open_dataset(
    where: str | os.PathLike[str] | None = None, *, val_share: float | None = None, seed: int = 0
) -> Dataset:
    """The labelled pictures at ``where``, which have not been opened yet.

    Args:
        where: a folder, a file or a pattern of shards. Default: scikit-learn's digits.
        val_share: share of each class's training pictures that becomes the validation part, if the
            set has none of its own. 0: none is split off. Default: ``VAL_SHARE``.
        seed: decides, with each picture's name, which pictures these are.

    Raises:
        DatasetError: nothing is there, the layout is not known, or something in it is wrong.
        MissingExtraError: this layout needs a package that is not installed.
        ValueError: ``val_share`` is out of range.
    """
    if val_share is not None and not 0 <= val_share < 1:
        raise ValueError(f"val_share must be below 1 and not below 0, not {val_share}")
    if where is None:
        return digits.open_digits(val_share)
    text = os.fspath(where)
    refuse_addresses(text)
    if os.path.isdir(text):
        if saved.is_saved(text):
            return saved.open_saved(text, val_share=val_share, seed=seed)
        found = shards.find_shards(text)
        if found and not folders.hold_pictures(text):
            return shards.open_shards(text, found, val_share=val_share, seed=seed)
        return folders.open_folders(text, val_share=val_share, seed=seed)
    lower = text.lower()
    if lower.endswith(_PACKED):
        raise DatasetError(
            f"{visible(text)}: compressed or packed, so that pictures cannot be read one by one; "
            "unpack it, and give the folder"
        )
    if os.path.lexists(text) and lower.endswith((*tables.SUFFIXES_CSV, *tables.SUFFIXES_JSON)):
        return tables.open_table(text, val_share=val_share, seed=seed)
    if found := shards.find_shards(text):
        return shards.open_shards(text, found, val_share=val_share, seed=seed)
    raise DatasetError(
        no_data_set(text, "give a folder of class folders, tar shards, or a CSV or JSONL file")
    )


def open_any(
    where: str | os.PathLike[str] | None,
    task: str | None = None,
    *,
    val_share: float | None = None,
    seed: int = 0,
) -> Dataset | SceneSet:
    """The set at ``where``, for whatever task it is. Other arguments are those of ``open_dataset``.

    Args:
        task: ``classify``, ``detect``, ``segment`` or ``hand``. Default: as the layout says.

    Raises:
        DatasetError: as the function for the task raises it.
    """
    if task in get_args(Task):
        if where is None:
            give = "give a path, or 'hands'" if task == "hand" else "give a path"
            raise DatasetError(f"for --task {task}, {give}; the digits have one class each")
        return open_scenes(where, cast(Task, task), val_share=val_share, seed=seed)
    if task is None and where is not None and _holds_scenes(os.fspath(where)):
        return open_scenes(where, val_share=val_share, seed=seed)
    return open_dataset(where, val_share=val_share, seed=seed)


def _holds_scenes(where: str) -> bool:
    return is_drawn(where) or (os.path.exists(where) and bool(layouts_of(where)))
