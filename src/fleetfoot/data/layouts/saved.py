"""A Hugging Face data set that ``save_to_disk`` wrote: Arrow files with the pictures in them.

N pictures
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from fleetfoot.data.dataset import Dataset
from fleetfoot.data.layouts.assembly import PARTS, Part, assemble, listed, part_of
from fleetfoot.data.layouts.tables import COLUMNS
from fleetfoot.data.pictures import Numbers
from fleetfoot.data.sources import Source
from fleetfoot.errors import DatasetError, MissingExtraError
from fleetfoot.files import read_bytes


def is_saved(folder: str) -> bool:
    """Whether ``save_to_disk`` wrote this folder."""
    if os.path.isfile(os.path.join(folder, "dataset_dict.json")):
        return True
    return all(
        os.path.isfile(os.path.join(folder, name)) for name in ("dataset_info.json", "state.json")
    )


def open_saved(where: str, *, val_share: float | None, seed: int) -> Dataset:
    """The data set in a folder that ``save_to_disk`` wrote.

    Raises:
        MissingExtraError: the package ``datasets`` is not installed.
        DatasetError: it cannot be read, or has no column of pictures or of classes.
    """
    loaded = _loaded(where)
    tables = {"train": loaded} if hasattr(loaded, "features") else dict(loaded)
    parts: dict[str, Part] = {}
    said, classes = [], None
    for name, table in tables.items():
        part = part_of(name)
        if part is None:
            said.append(f"not used: the part '{name}'; known: {', '.join(PARTS)}")
            continue
        if part in parts:
            raise DatasetError(f"{where}: two parts are {part}, one of them '{name}'")
        folder = where if table is loaded else os.path.join(where, name)
        parts[part], stated = _read(where, folder, table)
        if classes is not None and stated != classes:
            raise DatasetError(f"{where}: its parts name different classes")
        classes = stated
    if not parts:
        raise DatasetError(f"{where}: no part is train, val or test; found: {listed(tables)}")
    layout = f"Hugging Face data set saved on disk, parts {', '.join(parts)}"
    return assemble(
        where, layout, parts, classes=classes, val_share=val_share, seed=seed, notes=said
    )


def _library() -> Any:
    try:
        return import_module("datasets")
    except ImportError as error:
        raise MissingExtraError.of(
            "reading a saved Hugging Face data set", "datasets", "datasets"
        ) from error


def _loaded(folder: str) -> Any:
    datasets = _library()
    try:
        return datasets.load_from_disk(folder)
    except Exception as error:  # whatever its files lead the library to
        raise DatasetError(f"{folder}: the saved data set cannot be read: {error}") from error


def _read(where: str, folder: str, table: Any) -> tuple[Part, tuple[str, ...] | None]:
    """One saved part, and the names of its classes in their order if it states them."""
    datasets = _library()
    images = [name for name, kind in table.features.items() if isinstance(kind, datasets.Image)]
    if len(images) != 1:
        raise DatasetError(
            f"{where}: expected one column of pictures, found {listed(images) or 'none'} among "
            f"{listed(table.features, 20)}"
        )
    stated = [n for n, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)]
    named = [name for known in COLUMNS["label"] for name in table.features if name.lower() == known]
    column = next((name for name in named if name in stated), None) or next(
        iter([*stated[:1], *named]) if len(stated) <= 1 else iter(()), None
    )
    if column is None:
        found = (
            f"several columns of classes, {listed(stated)}" if stated else "no column of classes"
        )
        raise DatasetError(
            f"{where}: {found} among {listed(table.features, 20)}; rename the right one to 'label'"
        )
    values = table[column]
    if any(value is None or value == -1 for value in values):
        raise DatasetError(f"{where}: some pictures of {column} have no class (None or -1)")
    classes = tuple(table.features[column].names) if column in stated else None
    if classes is None and not all(isinstance(v, str | int) for v in values):
        raise DatasetError(f"{where}: {column} holds neither names nor numbers of classes")
    texts = [classes[value] if classes else str(value) for value in values]
    names = tuple(sorted(set(texts)))
    number = {name: place for place, name in enumerate(names)}
    labels = np.array([number[text] for text in texts], dtype=np.int64)
    return Part(Rows(folder, images[0], len(table)), names, labels), classes


@dataclass(frozen=True, eq=False)
class Rows:
    """The pictures in a saved part."""

    folder: str
    column: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Source:
        if not -self.count <= index < self.count:
            raise IndexError(f"number {index} of {self.count}")
        row = index % self.count
        return Source(f"{self.folder}/{row}", Cell(self.folder, self.column, row))

    def name(self, index: int) -> str:
        return f"{os.path.basename(self.folder)}/{index}"

    def sizes(self) -> Numbers:
        compute = import_module("pyarrow.compute")  # datasets needs it
        found = []
        for batch in _opened(self.folder, self.column).with_format("arrow").iter(1000):
            data = batch[self.column].combine_chunks().field("bytes")
            found.append(compute.binary_length(data).fill_null(-1).to_numpy(False))
        return np.concatenate([np.zeros(0, np.int64), *found]).astype(np.int64)


@dataclass(frozen=True)
class Cell:
    """The bytes of one picture of a saved part."""

    folder: str
    column: str
    row: int

    def read(self, max_bytes: int) -> bytes:
        value = _opened(self.folder, self.column)[self.row][self.column]
        data: bytes | None = value["bytes"]
        if data is None:
            if not value["path"]:
                raise OSError("the set holds neither its bytes nor its path")
            data = read_bytes(value["path"], most=max_bytes)
        if len(data) > max_bytes:
            raise OSError(f"more than the limit of {max_bytes:,} bytes (max_bytes)")
        return data


@lru_cache(maxsize=8)
def _opened(folder: str, column: str) -> Any:
    """The column of pictures of a saved part, not decoded; opened once in each process."""
    as_stored = _library().Image(decode=False)
    return _loaded(folder).select_columns([column]).cast_column(column, as_stored)
