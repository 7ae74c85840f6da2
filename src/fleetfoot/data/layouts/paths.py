"""Paths at which no data set is: what they are, and what to do with them."""

from __future__ import annotations

import glob
import os
import re

from fleetfoot.errors import DatasetError, nearest_names, visible

_COMMAND = re.compile(r"\s*pipe:", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

_HINTS = {
    ".json": "for a classifier, list pictures and classes as JSON lines (.jsonl) or CSV; COCO's "
    "boxes are for --task detect",
    ".txt": "give lists as CSV with the columns path and label (.csv)",
    ".yaml": "YOLO's description has boxes, which are for --task detect",
    ".yml": "YOLO's description has boxes, which are for --task detect",
    ".parquet": "load it with datasets.load_dataset, and give the folder that save_to_disk wrote",
    ".npz": "arrays are not read; write the pictures as PNG files into class folders",
    ".npy": "arrays are not read; write the pictures as PNG files into class folders",
    ".pkl": "pickles would run code, and are not read; write PNG files into class folders",
    ".h5": "HDF5 is not read; write the pictures as PNG files into class folders",
}  # fmt: skip
"""What to do with a file that is no data set here, by suffix."""


def refuse_addresses(text: str) -> None:
    """Refuses what is not a local path.

    Raises:
        DatasetError: a command, an address, or no path at all.
    """
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


def no_data_set(text: str, known: str) -> str:
    """What to say of a path that is not a data set.

    Args:
        known: what to give instead, if nothing more fitting can be said.
    """
    shown = visible(text)
    if os.path.islink(text) and not os.path.exists(text):
        return f"{shown}: a link to {visible(os.readlink(text))}, which is not there"
    if os.path.exists(text):
        suffix = os.path.splitext(text)[1].lower()
        hint = _HINTS.get(suffix, known)
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
