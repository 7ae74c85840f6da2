"""Names of classes as text files list them, and the values of label maps that they stand for.

| file | example | meaning |
|---|---|---|
| names | ``road`` | the first line is value 0, the next 1, ... |
| values and names | ``17 cat`` | other values are pixels of no class, if 0 is the only other one |
| ADE20K's | ``1 0.15 11664 1172 1 wall``, tabs between, with a head | as above |
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleetfoot.data.scenes import IGNORED
from fleetfoot.errors import DatasetError, visible
from fleetfoot.files import read_text

NAMES = (
    "classes.txt semantic_classes.txt class_names.txt labels.txt label_names.txt names.txt "
    "objectinfo150.txt"
).split()
"""Names of such files, in lower case, the best first."""

VOID = frozenset("void unlabelled unlabeled ignore ignored __ignore__".split())
"""Names, in lower case, of pixels that belong to no class."""

VOC = tuple(
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
    "motorbike person pottedplant sheep sofa train tvmonitor".split()
)
"""Classes of Pascal VOC's maps, whose files hold no list."""

_NUMBERED = re.compile(r"(\d+)[\s:,;=]+(.+)")


@dataclass(frozen=True, eq=False)
class Legend:
    """What the values of label maps mean."""

    classes: tuple[str, ...]
    numbers: NDArray[np.uint8]
    """Class of each value, (256,)."""
    known: NDArray[np.bool_]
    """Values that may occur, (256,)."""
    notes: tuple[str, ...] = ()


def legend(names: dict[int, str], file: str) -> Legend:
    """The legend of names by value.

    Raises:
        DatasetError: a value is beyond 254, or no class is left.
    """
    numbers, known = np.full(256, IGNORED, dtype=np.uint8), np.zeros(256, dtype=bool)
    known[IGNORED] = True
    classes: list[str] = []
    notes = []
    if IGNORED in names and names[IGNORED].casefold() not in VOID:
        raise DatasetError(
            f"{file}: value {IGNORED} is '{visible(names[IGNORED])}', and {IGNORED} marks pixels "
            f"of no class; write the maps with values below {IGNORED}"
        )
    for value, name in sorted(names.items()):
        if not 0 <= value <= IGNORED:
            raise DatasetError(f"{file}: value {value} does not fit into a map of 8 bits")
        known[value] = True
        if name.casefold() in VOID:
            notes.append(
                f"pixels of '{visible(name)}' (value {value}) are neither trained on nor judged"
            )
            continue
        if name in classes:
            raise DatasetError(
                f"{file}: two values have the name '{visible(name)}'; give each class its own"
            )
        numbers[value] = len(classes)
        classes.append(name)
    if 0 not in names:
        known[0] = True
        notes.append(
            f"value 0 is in no line of {file}: such pixels are neither trained on nor judged"
        )
    if len(classes) < 2:
        raise DatasetError(
            f"{file}: {len(classes)} classes; a segmenter needs two or more, of which one may be "
            "the background"
        )
    return Legend(tuple(classes), numbers, known, tuple(notes))


def read_names(path: str, shown: str) -> dict[int, str]:
    """The name of each value that a file lists.

    Raises:
        DatasetError: the file cannot be read, is empty, or gives a value two names.
    """
    try:
        lines = [line.strip() for line in read_text(path, encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise DatasetError(f"{shown}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{shown}: not UTF-8; save it as UTF-8") from error
    lines = [line for line in lines if line]
    if not lines:
        raise DatasetError(f"{shown}: the list of classes is empty")
    if "\t" in lines[0] and lines[0].lower().startswith("idx"):
        rows = [line.split("\t") for line in lines[1:]]
        pairs = [(row[0], row[-1].strip()) for row in rows]
    elif all(found := [_NUMBERED.fullmatch(line) for line in lines]):
        pairs = [(one[1], one[2].strip()) for one in found if one]
    else:
        first = -1 if lines[0] == "__ignore__" else 0  # labelme counts so
        return {number: name for number, name in enumerate(lines, first) if number >= 0}
    names: dict[int, str] = {}
    for value, name in pairs:
        if not value.isdecimal() or int(value) in names:
            raise DatasetError(
                f"{shown}: value '{visible(value)}' is not a number, or is listed twice"
            )
        names[int(value)] = name
    return names
