"""Which output of a network is which class of a data set; and files that map classes.

ImageNet's subsets (100 of the 1,000 classes) are judged by a network of all the classes. Real
labels (Beyer et al. 2020, "Are we done with ImageNet?", https://arxiv.org/abs/2006.07159) give a
picture several right answers, or none.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fleetfoot.data.layouts.assembly import listed
from fleetfoot.errors import UnknownNameError
from fleetfoot.files import read_text
from fleetfoot.tasks.classify import Labels

Among = Literal["network", "data"]


@dataclass(frozen=True, eq=False)
class Matching:
    """The classes that pictures are judged in, and where they come from.

    >>> animals = Labels(("cat", "cow", "dog"))
    >>> match("pets", ("dog", "cat"), "net", animals).numbers.tolist()
    [2, 0]
    """

    names: tuple[str, ...]
    """Names of the classes that the network may guess. Class numbers count them."""
    numbers: npt.NDArray[np.int64]
    """Class number of each class of the data set."""
    outputs: npt.NDArray[np.int64] | None
    """The network's output of each class; None if every output is a class, in order."""
    how: str
    """What the classes were matched by, for people."""

    def judged(self, outputs: Sequence[int]) -> tuple[int, ...]:
        """Class numbers of some of the network's outputs, without those that are no class here."""
        if self.outputs is None:
            return tuple(outputs)
        places = {int(output): number for number, output in enumerate(self.outputs)}
        return tuple(places[output] for output in outputs if output in places)


def match(
    data: str,
    classes: Sequence[str],
    model: str,
    labels: Labels,
    *,
    file: Path | None = None,
    among: Among = "network",
) -> Matching:
    """Finds the output of a network for each class of a data set: by ``file`` if given, otherwise
    by name, WordNet id or number. If nothing states the names of the outputs, they are the classes
    of the data in their order.

    Args:
        data, model: names for messages.
        classes: names of the data set's classes.
        labels: names of the network's outputs.
        file: maps each class of the data to one of the network, by name, id or number: a JSON
            object, or CSV with two columns; or the network's classes in the order of the data's,
            one a line or as a JSON list.
        among: which classes the network may guess: all of its own, or only those of the data.

    Raises:
        ValueError: some class has no output; the message names both sides. Or the file cannot be
            used.
    """
    if file is not None:
        outputs, how = _by_file(data, classes, model, labels, file), f"by {file}"
    elif tuple(classes) == labels.names:
        outputs, how = list(range(len(classes))), "by name"
    elif labels.numbered:
        if len(classes) != len(labels.names):
            raise _mismatch(data, classes, model, labels, "their numbers differ")
        outputs, how = list(range(len(classes))), "in order, since nothing names the outputs"
        labels = Labels(tuple(classes))
    else:
        outputs, how = _by_name(data, classes, model, labels)
    numbers = np.array(outputs, np.int64)
    if among == "network":
        return Matching(labels.names, numbers, None, how)
    chosen, places = np.unique(numbers, return_inverse=True)
    names = tuple(labels.names[output] for output in chosen.tolist())
    return Matching(names, places.astype(np.int64), chosen, how)


def _by_name(
    data: str, classes: Sequence[str], model: str, labels: Labels
) -> tuple[list[int], str]:
    """By name or id; by number if all classes are numbers and there are as many on both sides:
    folders ``0`` to ``9`` are not the first ten classes of ImageNet."""
    digits = [name for name in classes if name.isdigit() and not labels.has_name(name)]
    if digits and (len(digits) < len(classes) or len(classes) != len(labels.names)):
        raise _mismatch(data, classes, model, labels, f"no class is named {digits[0]!r}")
    found: dict[int, str] = {}
    for name in classes:
        try:
            output = labels.index(name)
        except UnknownNameError:
            raise _mismatch(
                data, classes, model, labels, f"no class, or more than one, is named {name!r}"
            ) from None
        if output in found:
            raise _mismatch(
                data, classes, model, labels,
                f"{name!r} and {found[output]!r} are both {labels.names[output]!r}",
            )  # fmt: skip
        found[output] = name
    return list(found), "by number" if digits else "by name"


def _by_file(
    data: str, classes: Sequence[str], model: str, labels: Labels, file: Path
) -> list[int]:
    held = _read(file, "classes")
    if isinstance(held, dict):
        if missing := [name for name in classes if name not in held]:
            raise ValueError(
                f"classes: {file} maps {len(held)} classes, but not {_some(missing)} of {data}"
            )
        wanted = [held[name] for name in classes]
    else:
        if len(held) != len(classes):
            raise ValueError(
                f"classes: {file} lists {len(held)} classes, and {data} has {len(classes)}: "
                f"{_some(classes)}"
            )
        wanted = held
    return [_output(labels, one, f"classes: {file}, of {model}") for one in wanted]


def _mismatch(
    data: str, classes: Sequence[str], model: str, labels: Labels, why: str
) -> ValueError:
    named = "outputs without names" if labels.numbered else f"classes: {_some(labels.names)}"
    return ValueError(
        f"the classes of {data} are not those of {model}: {why}.\n"
        f"  {data} has {len(classes)} classes: {_some(classes)}\n"
        f"  {model} has {len(labels.names)} {named}\n"
        "--classes FILE maps the one to the other; --labels FILE names the network's outputs"
    )


def _some(names: Sequence[str]) -> str:
    return listed(names, most=4)


def _output(labels: Labels, name: object, where: str) -> int:
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise ValueError(f"{where}: {name!r} is neither a name nor a number")
    try:
        return labels.index(str(name))
    except UnknownNameError as error:
        raise ValueError(f"{where}: {error}") from None


def _read(file: Path, what: str) -> dict[str, Any] | list[Any]:
    """A JSON object or list, CSV of two columns as a dict, or the lines of a text as a list."""
    try:
        text = read_text(file, encoding="utf-8-sig")
        if text.lstrip().startswith(("{", "[")):
            held: dict[str, Any] | list[Any] = json.loads(text)
            return held
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{what}: {file} cannot be used: {error}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    rows = list(csv.reader(lines))
    if rows and all(len(row) == 2 for row in rows):
        return {name.strip(): to.strip() for name, to in rows}
    return list(lines)


Answers = Callable[[str], "frozenset[int] | None"]


def read_real_labels(file: Path, labels: Labels) -> Answers:
    """The right answers for pictures by their paths: numbers of the network's outputs; an empty set
    if no class is right; None if the file does not mention the picture.

    Args:
        file: JSON: a list with the classes of ``ILSVRC2012_val_00000001.JPEG`` and so on, as Beyer
            et al. published it, or an object from path or file name to classes, by name, id or
            number.

    Raises:
        ValueError: the file has neither form, or names a class that the network does not have.
    """
    held = _read(file, "real labels")
    where = f"real labels: {file}"
    rows = held.values() if isinstance(held, dict) else held
    if not all(isinstance(row, list) for row in rows):
        raise ValueError(f"{where} must hold a list of classes for each picture")
    known: dict[object, int] = {}
    for row in rows:
        for one in row:
            if not isinstance(one, str | int) or one not in known:
                known[one] = _output(labels, one, where)
    if isinstance(held, dict):
        by_name = {name: frozenset(known[one] for one in row) for name, row in held.items()}
        return lambda path: by_name.get(path, by_name.get(Path(path).name))
    by_number = [frozenset(known[one] for one in row) for row in held]

    def answers(path: str) -> frozenset[int] | None:
        found = re.fullmatch(r"ILSVRC2012_val_(\d{8})", Path(path).stem)
        number = int(found[1]) if found else 0
        return by_number[number - 1] if 1 <= number <= len(by_number) else None

    return answers
