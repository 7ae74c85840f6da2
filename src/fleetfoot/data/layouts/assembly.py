"""From labelled pictures, as a layout finds them, to a data set: the order of classes, the checks
that every layout needs, and a validation part split off where there is none.

N pictures
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetfoot.data.dataset import Dataset, Pictures, Split
from fleetfoot.data.pictures import Chosen
from fleetfoot.errors import DatasetError, counted, visible

VAL_SHARE = 0.1
"""Share of the training pictures of each class that becomes the validation part by default."""

PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names that data sets give to their parts, in any case."""

MOST_NAMED = 5
"""Names that a message lists before it only counts."""


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a data set before the classes of all parts are known."""

    pictures: Pictures
    names: tuple[str, ...]
    """Classes that occur in this part, or that it has a folder for."""
    labels: npt.NDArray[np.int64]
    """Place of each picture's class in ``names``, (N,)."""


def part_of(word: str) -> str | None:
    """The part that a word names: "Valid" -> "val"; None if it names none."""
    word = word.casefold()
    return next((part for part, words in PARTS.items() if word in words), None)


def listed(names: Iterable[str], most: int = MOST_NAMED) -> str:
    """Names for a message, the first few of them.

    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    names = list(names)
    shown = ", ".join(f"'{visible(name)}'" for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def classes_of(number: int) -> str:
    """A number of classes, in words."""
    return counted(number, "class", "classes")


def assemble(
    where: str,
    layout: str,
    parts: Mapping[str, Part],
    *,
    classes: Sequence[str] | None = None,
    val_share: float | None,
    seed: int,
    notes: Sequence[str] = (),
) -> Dataset:
    """The data set of these parts.

    Args:
        where: name of the set: the path as it was given.
        classes: names of the classes in their order, if the set states it. Default: the names in
            ``train``, or in all parts if there is no such part, sorted as text.
        val_share: see ``open_dataset``.

    Raises:
        DatasetError: there are no pictures, there is only one class, or a part has a class that
            ``train`` lacks.
    """
    said = list(notes)
    if not any(len(part.pictures) for part in parts.values()):
        raise DatasetError(f"{where}: no pictures were found ({layout})")
    if classes is None:
        leading = [parts["train"]] if "train" in parts else list(parts.values())
        classes = sorted({name for part in leading for name in part.names})
        said += _of_numbers(classes)
    if len(classes) < 2:
        raise DatasetError(
            f"{where}: only one class, {listed(classes)} ({layout}); a classifier needs two or more"
        )
    said += differing_in_capitals(classes)
    for name, part in parts.items():
        said += _compared(where, name, part, classes, stated=name == "train")
    number = {name: index for index, name in enumerate(classes)}
    splits = {}
    for name, part in parts.items():
        to_number = np.array([number[one] for one in part.names], dtype=np.int64)
        splits[name] = Split(name, part.pictures, to_number[part.labels])
    if "val" in splits and val_share:
        size = counted(len(splits["val"]), "picture")
        raise DatasetError(
            f"{where} has a validation part of its own, of {size}; leave the share for validation "
            "away"
        )
    share = VAL_SHARE if val_share is None else val_share
    if "train" in splits and "val" not in splits and share:
        splits["train"], splits["val"], note = split_off(where, splits["train"], share, seed)
        layout += f"; val is a share of {share:g} of train (seed {seed})"
        said += note
    return Dataset(
        name=where, layout=layout, classes=tuple(classes), notes=tuple(said), **splits
    )  # fmt: skip


def _compared(
    where: str, name: str, part: Part, classes: Sequence[str], *, stated: bool
) -> list[str]:
    """Checks a part's classes against those of the set, and notes the classes that it lacks."""
    unknown = sorted(set(part.names).difference(classes))
    if unknown:
        spelled = {_folded(one): one for one in classes}
        alike = [(one, spelled[_folded(one)]) for one in unknown if _folded(one) in spelled]
        hint = (
            f"; '{visible(alike[0][0])}' and '{visible(alike[0][1])}' differ only in capitals or "
            "in the form of their accents: give them one name"
            if alike
            else "; give the parts the same class names, or remove these classes"
        )
        known = f"the {classes_of(len(classes))} of the set, {listed(classes)}"
        raise DatasetError(
            f"{where}: {name} has {classes_of(len(unknown))} not among {known}: "
            f"{listed(unknown)}{hint}"
        )
    present = {part.names[i] for i in np.unique(part.labels).tolist()}
    lacking = [one for one in classes if one not in present]
    if not lacking:
        return []
    effect = "the network cannot learn them" if stated else "its accuracy says nothing about them"
    return [f"{name} has no picture of {classes_of(len(lacking))}, {listed(lacking)}: {effect}"]


def _folded(name: str) -> str:
    """A name as file systems that ignore case compare it."""
    return unicodedata.normalize("NFC", name).casefold()


def differing_in_capitals(classes: Sequence[str]) -> list[str]:
    """Notes on classes that are likely one class under two names."""
    found: dict[str, list[str]] = {}
    for name in classes:
        found.setdefault(_folded(name), []).append(name)
    pairs = [names for names in found.values() if len(names) > 1]
    return [
        f"classes {listed(names)} differ only in capitals or in the form of their accents; "
        "if they are one class, give them one name"
        for names in pairs[:MOST_NAMED]
    ]


def _of_numbers(classes: Sequence[str]) -> list[str]:
    if any(re.fullmatch("[0-9]+", name) is None for name in classes):
        return []
    by_value = sorted(classes, key=int)
    if by_value == list(classes):
        return []
    first = next(i for i, (a, b) in enumerate(zip(classes, by_value, strict=True)) if a != b)
    return [
        f"class names are numbers and are sorted as text, as torchvision sorts them: class "
        f"{first} is '{classes[first]}', not '{by_value[first]}' (timm counts in the other order); "
        "names of equal length, for example '002', sort alike everywhere"
    ]


def split_off(
    where: str, train: Split, share: float, seed: int, *, name: str = "val"
) -> tuple[Split, Split, list[str]]:
    """A share of each class's pictures as a part of its own: what stays in ``train``, the new part,
    and notes. A picture's place is decided by the seed and its name, so that the split is the same
    on every machine, and nearly the same after pictures were added.

    Raises:
        ValueError: ``share`` is not between 0 and 1.
        DatasetError: no class has two pictures.
    """
    if not 0 < share < 1:
        raise ValueError(f"val_share must be below 1 and not below 0, not {share}")
    drawn = [draw(seed, train.pictures.name(index)) for index in range(len(train))]
    order = np.array(sorted(range(len(train)), key=drawn.__getitem__), dtype=np.int64)
    held = np.zeros(len(train), dtype=bool)
    alone = 0
    for label in np.unique(train.labels).tolist():
        members = order[train.labels[order] == label]
        alone += len(members) == 1
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held[members[:count]] = True
    if not held.any():
        raise DatasetError(
            f"{where}: every class has a single picture, so that none can be kept for validation; "
            "add pictures, or give a share of 0"
        )
    parts = []
    for part, chosen in ((train.name, ~held), (name, held)):
        numbers = np.flatnonzero(chosen)
        parts.append(Split(part, Chosen(train.pictures, numbers), train.labels[numbers]))
    notes = [f"{classes_of(alone)} with a single picture, which stays in train"] if alone else []
    return parts[0], parts[1], notes


def draw(seed: int, name: str) -> bytes:
    """The draw of a picture of that name: pictures with the lowest ones are held out."""
    text = f"{seed}\0{name}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=8).digest()
