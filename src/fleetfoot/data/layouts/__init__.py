"""From a path to a data set: which layout it is, and what it holds.

| what is given | layout |
|---|---|
| nothing | scikit-learn's digits |
| a folder | folders of classes, or parts with them; tar shards; a Hugging Face set saved on disk |
| ``.tar``, or a pattern such as ``train-{000..003}.tar`` | WebDataset shards |
| ``.csv``, ``.tsv``, ``.jsonl`` | paths and labels |
"""

from __future__ import annotations

import glob
import os
import re

from fleetfoot.data.dataset import Dataset
from fleetfoot.data.layouts import digits, folders, saved, shards, tables
from fleetfoot.data.layouts.assembly import VAL_SHARE
from fleetfoot.errors import DatasetError, nearest_names, visible

__all__ = ["VAL_SHARE", "open_dataset"]

_COMMAND = re.compile(r"\s*pipe:", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

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
_HINTS = {
    ".json": "COCO and other JSON files are not read; list pictures and classes as JSON lines "
    "(.jsonl) or CSV",
    ".txt": "give lists as CSV with the columns path and label (.csv)",
    ".yaml": "YOLO's description; it has boxes, not one class for each picture",
    ".yml": "YOLO's description; it has boxes, not one class for each picture",
    ".parquet": "load it with datasets.load_dataset, and give the folder that save_to_disk wrote",
    ".npz": "arrays are not read; write the pictures as PNG files into class folders",
    ".npy": "arrays are not read; write the pictures as PNG files into class folders",
    ".pkl": "pickles would run code, and are not read; write PNG files into class folders",
    ".h5": "HDF5 is not read; write the pictures as PNG files into class folders",
}  # fmt: skip
"""What to do with a file that is no data set here, by suffix."""


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
    _refuse_addresses(text)
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
    raise DatasetError(_nothing(text))


def _refuse_addresses(text: str) -> None:
    if _COMMAND.match(text):
        raise DatasetError(
            "a data set that starts with 'pipe:' would run a command, which is not done; fetch the "
            "shards first, and give their paths"
        )
    if _ADDRESS.match(text):
        raise DatasetError(
            f"{visible(text)} is an address; data sets are read from local paths: fetch it first, "
            "or mount it as a folder"
        )
    if not text or "\0" in text:
        raise DatasetError(f"{text!r} is not a path")


def _nothing(text: str) -> str:
    """What to say of a path that is not a data set."""
    shown = visible(text)
    if os.path.islink(text) and not os.path.exists(text):
        return f"{shown}: a link to {visible(os.readlink(text))}, which is not there"
    if os.path.exists(text):
        suffix = os.path.splitext(text)[1].lower()
        hint = _HINTS.get(
            suffix, "give a folder of class folders, tar shards, or a CSV or JSONL file"
        )
        return f"{shown}: not a data set; {hint}"
    if glob.has_magic(text) or "{" in text:
        return f"{shown}: no tar matches this pattern"
    parent, name = os.path.split(text.rstrip(os.sep))
    try:
        near = nearest_names(name, os.listdir(parent or "."))
    except OSError:
        near = []
    hint = (
        f"; did you mean {' or '.join(visible(os.path.join(parent, n)) for n in near)}?"
        if near
        else ""
    )
    return f"{shown}: there is no such file or folder{hint}"
