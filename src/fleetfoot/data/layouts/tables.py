"""Pictures and classes listed in a file: CSV, TSV, or JSON lines.

| columns | names that are understood, in any case |
|---|---|
| path | path, file, filename, file_name, filepath, image, image_path, img |
| label | label, class, class_name, category, target, cls |
| part (optional) | split, part, subset, set |

Paths are relative to the file that lists them. A CSV file may also have no head: then the column
whose texts end as pictures do holds the paths.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fleetfoot.data.dataset import Dataset
from fleetfoot.data.images import SUFFIXES
from fleetfoot.data.layouts.assembly import PARTS, Part, assemble, listed, part_of
from fleetfoot.data.pictures import Files, Texts
from fleetfoot.errors import DatasetError, counted
from fleetfoot.files import read_text

COLUMNS = {
    "path": "path file filename file_name filepath image image_path img".split(),
    "label": "label class class_name category target cls".split(),
    "split": "split part subset set".split(),
}
"""Names of columns, the best first."""

SUFFIXES_CSV = (".csv", ".tsv")
SUFFIXES_JSON = (".jsonl", ".ndjson")

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass
class _Rows:
    """What a table lists."""

    how: str
    """How the table was read, in words."""
    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    """Name of each picture's part; empty if the table has no such column."""


def open_table(where: str, *, val_share: float | None, seed: int) -> Dataset:
    """The data set that a CSV, TSV or JSON lines file lists.

    Raises:
        DatasetError: the file cannot be read, or a column or a value is missing; the message names
            the line.
    """
    try:
        text = read_text(where, encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{where}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{where}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    lower = where.lower()
    rows = _json_rows(where, text) if lower.endswith(SUFFIXES_JSON) else _csv_rows(where, text)
    _check(where, rows)
    if rows.splits:
        layout = f"{rows.how}: path, label and part of each picture"
    else:
        layout = f"{rows.how}: path and label of each picture"
    return assemble(
        where,
        layout,
        _parts(where, rows),
        val_share=val_share,
        seed=seed,
        notes=_missing(where, rows),
    )


def _csv_rows(where: str, text: str) -> _Rows:
    separator = _separator(where, text)
    try:
        lines = [
            (number, row)
            for number, row in enumerate(csv.reader(text.splitlines(True), delimiter=separator), 1)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise DatasetError(f"{where}: not CSV: {error}") from error
    if not lines:
        raise DatasetError(f"{where}: the file is empty")
    first = [cell.strip() for cell in lines[0][1]]
    if any(_is_picture(cell) for cell in first):
        place, how = _by_content(where, first), "CSV without a head"
    else:
        place, how = _by_names(where, first), "CSV"
        lines = lines[1:]
    rows = _Rows("TSV" + how[3:] if separator == "\t" else how)
    for number, row in lines:
        if len(row) != len(first):
            raise DatasetError(
                f"{where}, line {number}: {len(row)} columns, where the first line has "
                f"{len(first)}; a text that holds the separator {separator!r} needs quotes"
            )
        _add(where, number, rows, {kind: row[column].strip() for kind, column in place.items()})
    return rows


def _separator(where: str, text: str) -> str:
    if where.lower().endswith(".tsv"):
        return "\t"
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=first.count)


def _by_names(where: str, names: Sequence[str]) -> dict[str, int]:
    """The column of each kind, by the head."""
    lower = [name.lower() for name in names]
    if len(set(lower)) < len(lower):
        raise DatasetError(f"{where}: two columns have the same name, among {listed(names, 20)}")
    place = {
        kind: next(lower.index(name) for name in known if name in lower)
        for kind, known in COLUMNS.items()
        if any(name in lower for name in known)
    }
    _need(where, place, f"the first line is {listed(names, 20)}")
    return place


def _need(where: str, place: Mapping[str, object], found: str) -> None:
    for kind in ("path", "label"):
        if kind not in place:
            raise DatasetError(
                f"{where}: no column of {kind}s; {found}. Name the column '{COLUMNS[kind][0]}' "
                f"(also understood: {', '.join(COLUMNS[kind][1:])})"
            )


def _by_content(where: str, first: Sequence[str]) -> dict[str, int]:
    """The column of each kind in a file without a head, by its first line."""
    pictures = [i for i, cell in enumerate(first) if _is_picture(cell)]
    others = [i for i in range(len(first)) if i not in pictures]
    parts = [i for i in others if part_of(first[i])]
    labels = [i for i in others if i not in parts] if len(others) > 1 else others
    if len(pictures) != 1 or len(labels) != 1 or len(first) > 3 or len(others) > 2:
        raise DatasetError(
            f"{where}: the first line, {listed(first, 20)}, is neither a head nor path and label; "
            "write a head with the columns path and label"
        )
    place = {"path": pictures[0], "label": labels[0]}
    return place | {"split": parts[0]} if len(others) == 2 else place


def _is_picture(text: str) -> bool:
    return os.path.splitext(text)[1].lower() in SUFFIXES


def _json_rows(where: str, text: str) -> _Rows:
    rows, names = _Rows("JSON lines"), dict[str, str]()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{where}, line {number}: not JSON: {error}") from error
        if not isinstance(found, dict):
            raise DatasetError(f"{where}, line {number}: not an object with path and label")
        names = names or {
            kind: next(name for name in found if name.lower() in known)
            for kind, known in COLUMNS.items()
            if any(name.lower() in known for name in found)
        }
        _need(where, names, f"line {number} has {listed(found, 20)}")
        values = {}
        for kind, name in names.items():
            value = found.get(name, "")
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise DatasetError(
                    f"{where}, line {number}: {name} must be a text or a whole number, not "
                    f"{json.dumps(value)[:40]}"
                )
            values[kind] = str(value)
        _add(where, number, rows, values)
    return rows


def _add(where: str, number: int, rows: _Rows, values: Mapping[str, str]) -> None:
    for kind, value in values.items():
        if not value:
            raise DatasetError(f"{where}, line {number}: no {kind}")
    if "\0" in values["path"]:
        raise DatasetError(f"{where}, line {number}: the path holds a NUL")
    if _URL.match(values["path"]):
        raise DatasetError(
            f"{where}, line {number}: {values['path']} is an address; pictures are read from local "
            "files: fetch them first"
        )
    rows.paths.append(values["path"])
    rows.labels.append(values["label"])
    if "split" in values:
        part = part_of(values["split"])
        if part is None:
            words = ", ".join(word for words in PARTS.values() for word in words)
            raise DatasetError(
                f"{where}, line {number}: the part is {values['split']!r}; known: {words}"
            )
        rows.splits.append(part)


def _check(where: str, rows: _Rows) -> None:
    if not rows.paths:
        raise DatasetError(f"{where}: no picture is listed")
    seen: dict[str, int] = {}
    for index, path in enumerate(rows.paths):
        before = seen.setdefault(path, index)
        if rows.labels[before] != rows.labels[index]:
            raise DatasetError(
                f"{where}: {path} is listed as {rows.labels[before]!r} and as "
                f"{rows.labels[index]!r}; a picture has one class here"
            )


def _parts(where: str, rows: _Rows) -> dict[str, Part]:
    folder = os.path.dirname(where)
    splits = rows.splits or ["train"] * len(rows.paths)
    parts = {}
    for part in PARTS:
        chosen = [i for i, its in enumerate(splits) if its == part]
        if not chosen:
            continue
        names = sorted({rows.labels[i] for i in chosen})
        number = {name: place for place, name in enumerate(names)}
        parts[part] = Part(
            Files(folder, Texts(rows.paths[i] for i in chosen)),
            tuple(names),
            np.array([number[rows.labels[i]] for i in chosen], dtype=np.int64),
        )
    return parts


def _missing(where: str, rows: _Rows) -> list[str]:
    """A note on listed pictures that are not there.

    Raises:
        DatasetError: none of them is there.
    """
    folder = os.path.dirname(where)
    missing = [path for path in rows.paths if not os.path.isfile(os.path.join(folder, path))]
    if len(missing) == len(rows.paths):
        raise DatasetError(
            f"{where}: none of {counted(len(missing), 'picture')} is there; paths are relative to "
            f"the file's own folder, so the first would be {os.path.join(folder, missing[0])}"
        )
    repeated = len(rows.paths) - len(set(rows.paths))
    said = (
        [f"{counted(len(missing), 'listed picture')} not there: {listed(missing)}"]
        if missing
        else []
    )
    return said + (
        [f"{counted(repeated, 'line')} for a picture that was listed before"] if repeated else []
    )
